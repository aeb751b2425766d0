# SPDX-License-Identifier: MIT
"""An earlier observer sends the CCR of a deleted context again, while its cookie is valid [D8].

The peer no longer has that context, so one that the CCR made would lose data for a second.
"""

import pytest

from noid.constants import COOKIE_LIFETIME, ENDED_MAX, MILLISECOND, SECOND
from noid.counters import Drop
from noid.engine.events import TimePassed
from noid.engine.quarantine import Quarantine
from noid.engine.secrets import Side
from noid.engine.state import State
from noid.identifiers import Label, Token
from noid.wire import ipv6
from noid.wire.control import Code, decode_message
from tests.engine.network import A1, B1, Network, Station, begun, packet, state_of

GAP = 20 * MILLISECOND
PEER = Side(A1, Label(5), Token(6), bytes(32))


def seen(network: Network, code: Code) -> bytes:
    """The first packet of the trace that has a control message of a code."""
    for one in network.trace:
        header = ipv6.Header.decode(one)
        if header.next_header == ipv6.ICMPV6:
            ends = header.source, header.destination
            if decode_message(one[ipv6.HEADER_OCTETS :], *ends, in_slot=False).code is code:
                return one
    raise AssertionError(code)


def delete(network: Network, station: Station) -> None:
    """The context of a station gives way to that of another peer."""
    station.host.inspection.evict(station.context)
    network.give(station, TimePassed())


def deleted() -> tuple[Network, bytes]:
    """A network whose context has been set up and deleted within a second, and its CCR."""
    network = begun()
    network.run(200 * MILLISECOND)
    ccr = seen(network, Code.CCR)
    delete(network, network.a)
    delete(network, network.b)
    network.run(200 * MILLISECOND)
    assert network.a.host.contexts == network.b.host.contexts == []
    return network, ccr


def drops(station: Station) -> int:
    return station.host.drops.get(Drop.CCR_OF_DELETED_CONTEXT, 0)


@pytest.mark.parametrize("turns", [1, 20])
def test_a_ccr_of_a_deleted_context_makes_no_other_one(turns: int) -> None:
    network, ccr = deleted()
    network.a.delivered.clear()
    for _ in range(turns):
        network.arrive(ccr)
        for _ in range(int(SECOND / GAP)):
            network.ulp_sends(network.b, packet(B1, A1))
            network.run(GAP)
    network.run(SECOND)
    assert network.b.host.contexts == []
    assert drops(network.b) == turns
    assert len(network.a.delivered) == turns * int(SECOND / GAP), "all travel plain"


def test_it_does_not_complete_a_set_up_of_this_host() -> None:
    network, ccr = deleted()
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    network.arrive(ccr)
    assert state_of(network.b) is State.INIT_SENT
    network.run(200 * MILLISECOND)
    assert state_of(network.a) is state_of(network.b) is State.ESTABLISHED
    assert network.b.context.agreed_key == network.a.context.agreed_key


def test_the_same_host_sets_another_context_up_at_once() -> None:
    network, _ = deleted()
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(200 * MILLISECOND)
    assert state_of(network.a) is state_of(network.b) is State.ESTABLISHED
    assert not drops(network.b)


def test_a_ccr_with_a_later_cookie_counts() -> None:
    """A peer that has not heard the CLOSE begins again with the same label, token and key."""
    network = begun()
    network.run(200 * MILLISECOND)
    before = network.b.context
    delete(network, network.b)
    network.run(MILLISECOND)
    for _ in range(100):
        network.ulp_sends(network.a, packet(A1, B1))
        network.run(GAP)
    assert state_of(network.b) is State.ESTABLISHED
    assert network.b.context.peer_token == before.peer_token
    assert not drops(network.b)


def test_set_ups_are_remembered_while_their_cookies_are_valid() -> None:
    quarantine = Quarantine()
    for now_ns in (SECOND, 2 * SECOND):
        quarantine.end(PEER, now_ns)
        assert quarantine.deleted_ns(PEER) == now_ns
    for age_ns, is_remembered in ((COOKIE_LIFETIME, True), (COOKIE_LIFETIME + 1, False)):
        quarantine.end(PEER._replace(token=Token(age_ns)), 2 * SECOND + age_ns)
        assert (quarantine.deleted_ns(PEER) >= 0) is is_remembered


def test_the_number_of_set_ups_that_are_remembered_is_bounded() -> None:
    quarantine = Quarantine()
    for token in range(ENDED_MAX + 1):
        quarantine.end(PEER._replace(token=Token(token)), SECOND)
    first, *others = [
        quarantine.deleted_ns(PEER._replace(token=Token(one))) for one in range(ENDED_MAX)
    ]
    assert first < 0
    assert min(others) == SECOND
