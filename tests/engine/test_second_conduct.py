# SPDX-License-Identifier: MIT
"""A context that is set up again does what it did when it was first set up, in any circumstances.

``test_second_lives`` compares what contexts have. What a host counts for a context elsewhere may
also survive the first life, such as how often something was asked: then it is not asked again.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

from noid.constants import MILLISECOND, MINUTE, SECOND
from noid.engine.events import SendControl
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import Code, Flag, decode_message
from tests.engine.network import A1, B1, Network, Station, packet
from tests.engine.test_second_lives import lose_locator, reboot, regain_locators, silence

LIVES: Final = 3
WITHIN_NS: Final = MINUTE
OBSERVED_NS: Final = 2 * MINUTE


class Said(NamedTuple):
    """A message of a host, without what differs between any two."""

    code: Code
    flags: Flag
    source: Locator
    destination: Locator


def said_in(octets: bytes) -> Said:
    header = ipv6.Header.decode(octets)
    ends = header.source, header.destination
    in_slot = header.next_header != ipv6.ICMPV6
    message = decode_message(octets[ipv6.HEADER_OCTETS :], *ends, in_slot=in_slot)
    return Said(message.code, message.flags, *ends)


def a_begins(network: Network) -> None:
    network.ulp_sends(network.a, packet(A1, B1))


def b_begins(network: Network) -> None:
    network.ulp_sends(network.b, packet(B1, A1))


def nothing(network: Network) -> None:
    """All is well."""


def dead_aid(network: Network) -> None:
    """Provider 1 is dead, by which the AIDs are reached."""
    network.kill_provider(1)


def no_dns(network: Network) -> None:
    network.dns_works = False


def lost_data(network: Network) -> None:
    """Data in the form of M6 is lost over the pair of the AIDs."""
    network.drops_data = {(A1, B1), (B1, A1)}


def lost_messages(network: Network) -> None:
    """No packet in the form of M6 arrives."""
    network.drops_m6 = True


def no_event(network: Network) -> None:
    """Nothing happens once the context is set up."""


def packets_unanswered(network: Network) -> None:
    silence(network, network.a)


def other_locators(network: Network) -> None:
    for change in (lose_locator, regain_locators):
        change(network, network.a)
        network.run(SECOND)


def provider_dies(network: Network) -> None:
    network.kill_provider(1)
    silence(network, network.a)


def one_way_data(network: Network) -> None:
    for _ in range(10):
        network.ulp_sends(network.b, packet(B1, A1, protocol=ipv6.UDP))
        network.run(100 * MILLISECOND)


Act = Callable[[Network], None]
CIRCUMSTANCES: Final[list[Act]] = [nothing, dead_aid, no_dns, lost_data, lost_messages]
EVENTS: Final[list[Act]] = [
    no_event, packets_unanswered, other_locators, provider_dies, one_way_data,
]  # fmt: skip


def set_up(network: Network, circumstances: Act, begin: Act) -> None:
    """Both hosts know each other, and have no context that the other has, too."""
    network.dead.clear()
    network.dns_works, network.drops_m6, network.drops_data = True, False, set()
    circumstances(network)
    for station, peer in ((network.a, network.b), (network.b, network.a)):
        network.resolve(station, peer)
    since_ns, end_ns = network.now_ns, network.now_ns + WITHIN_NS
    begin(network)
    while not is_set_up(network.a, since_ns) and network.now_ns < end_ns:
        network.run(10 * MILLISECOND)
        begin(network)


def is_set_up(station: Station, since_ns: int) -> bool:
    return any(one.is_settled and one.established_ns >= since_ns for one in station.host.contexts)


def conduct(network: Network, event: Act) -> set[Said]:
    """What a says by itself once the context is set up, apart from requests without a flag.

    Whether one of these comes first depends on what is known of the paths.
    """
    network.a.outputs.clear()
    event(network)
    network.run(OBSERVED_NS)
    sent = (one.packet for one in network.a.outputs if isinstance(one, SendControl))
    return {one for one in map(said_in, sent) if one.flags or one.code not in (Code.UR, Code.UA)}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("begin", [a_begins, b_begins])
@pytest.mark.parametrize("circumstances", CIRCUMSTANCES)
def test_a_context_that_is_set_up_again_does_what_it_did_first(
    circumstances: Act, begin: Act, event: Act
) -> None:
    network = Network()
    lives: list[set[Said]] = []
    for _ in range(LIVES):
        set_up(network, circumstances, begin)
        lives.append(conduct(network, event))
        reboot(network, network.b)
    first, *others = lives
    assert [first - other for other in others] == [set()] * (LIVES - 1)
