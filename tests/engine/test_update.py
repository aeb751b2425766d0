# SPDX-License-Identifier: MIT
"""How Update Requests are acknowledged, and in which form [draft §7.8, D20]."""

import pytest

from noid.constants import MILLISECOND, MINUTE, SECOND
from noid.engine.events import InstallFlow, LocatorsChanged, SendControl
from noid.engine.history import Pair
from noid.engine.state import Trigger
from noid.engine.update import send_update
from noid.flows.events import ControlMessageReceived
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import Code
from noid.wire.slots import SLOT_ICMPV6
from tests.engine.network import A1, A2, B1, B2, CODEPOINTS, X1, Network, Station, established
from tests.engine.test_conformance_setup import sent_by
from tests.engine.test_reachability import silence

REWRITABLE = CODEPOINTS.rewritable_first + SLOT_ICMPV6
FIXED = CODEPOINTS.fixed_first + SLOT_ICMPV6


def forms(station: Station, code: Code) -> list[int]:
    """The next headers of what a station sent of one kind."""
    sent = [one.packet for one in station.outputs if isinstance(one, SendControl)]
    return [one[6] for one in sent if one[ipv6.HEADER_OCTETS + 1] == code]


def pairs(station: Station, code: Code) -> list[Pair]:
    return [(header.source, header.destination) for header, _ in sent_by(station, code)]


@pytest.mark.parametrize(("locators", "slot"), [((A1, A2), REWRITABLE), ((A1,), FIXED)])
def test_an_acknowledgement_has_the_form_of_the_request(
    locators: tuple[Locator, ...], slot: int
) -> None:
    network = established()
    network.give(network.a, LocatorsChanged(locators))
    network.run(1000 * MILLISECOND)
    network.a.outputs.clear()
    network.give(network.b, silence(network.b))
    assert set(forms(network.b, Code.UR)) == {REWRITABLE}
    network.run(15 * MILLISECOND)
    assert forms(network.a, Code.UA) == [slot]
    network.a.outputs.clear()
    network.dead.add((B1, A1))
    network.give(network.b, LocatorsChanged((B1,)))
    network.run(20 * MILLISECOND)
    network.dead.clear()
    network.run(SECOND // 2)
    assert forms(network.a, Code.UA)[:1] == [ipv6.ICMPV6]


def test_who_cannot_be_rewritten_sends_what_must_not_be() -> None:
    network = established()
    network.give(network.b, LocatorsChanged((B1,)))
    network.run(1000 * MILLISECOND)
    network.b.outputs.clear()
    network.give(network.b, silence(network.b))
    assert FIXED in forms(network.b, Code.UR)
    assert REWRITABLE not in forms(network.b, Code.UR)


def from_unproven() -> Network:
    """Host b probes a from a locator that a has been told of, and the DNS does not know."""
    network = established()
    network.b.locators = (B1, B2, X1)
    network.give(network.b, LocatorsChanged((B1, B2, X1)))
    network.run(1000 * MILLISECOND)
    assert network.a.context.peer_acceptable == {B1, B2, X1}
    assert X1 not in network.a.context.peer_verified
    network.a.outputs.clear()
    network.b.context.own_remote = None
    network.b.context.local_locator = X1
    network.dead |= {(one, two) for one in (B1, B2) for two in (A1, A2)}
    network.dead |= {(one, two) for one in (A1, A2) for two in (B1, B2)}
    network.dead |= {(X1, A2)}
    return network


def test_a_request_from_an_unproven_locator_is_answered_only_over_the_pair_in_use() -> None:
    network = from_unproven()
    network.give(network.b, silence(network.b))
    network.run(20 * MILLISECOND)
    assert set(pairs(network.a, Code.UA)) == {(A1, B1)}


def test_a_request_says_both_labels_and_both_birthdays() -> None:
    network = established()
    network.give(network.b, silence(network.b))
    network.run(15 * MILLISECOND)
    for station, peer, code in (
        (network.b, network.a, Code.UR),
        (network.a, network.b, Code.UA),
    ):
        for _, message in sent_by(station, code):
            assert message.context.sender_label == station.context.local_label
            assert message.context.receiver_label == peer.context.local_label
            assert message.context.sender_birthday == station.host.core.options.birthday
            assert message.context.receiver_birthday == peer.host.core.options.birthday


def test_an_update_with_unchanged_sets_does_not_change_the_plane() -> None:
    network = established()
    core = network.b.host.core
    for _ in range(2):  # the first tells what b has found in the DNS, which a did not know
        network.a.outputs.clear()
        send_update(core, network.b.context, Trigger.LOCATORS_CHANGED)
        outputs, core.outputs = core.outputs, []
        for output in outputs:
            network.carry_out(network.b, output)
        network.run(100 * MILLISECOND)
    assert sent_by(network.a, Code.UA)
    assert not any(isinstance(one, InstallFlow) for one in network.a.outputs)


def test_new_sets_are_sent_once_and_not_with_later_updates() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1,)))
    network.run(1000 * MILLISECOND)
    assert not network.a.context.untold
    assert len(sent_by(network.a, Code.UR)) == 1


def test_updates_alternate_between_the_pair_in_use_and_the_best_other() -> None:
    network = established()
    a3 = Locator(A2[:5] + bytes([3]) + A2[6:])
    network.kill_provider(1)
    network.kill_provider(2)
    network.give(network.a, LocatorsChanged((A1, A2, a3), deprecated=frozenset({A1})))
    update = network.a.context.update
    assert update is not None
    network.run(60_000 * MILLISECOND)
    ways = [
        header.source
        for header, message in sent_by(network.a, Code.UR)
        if message.nonce == update.nonce
    ]
    assert ways[:4] == [A1, A2, A1, A2]


def test_a_request_that_comes_again_is_no_reason_to_look_for_another_pair() -> None:
    network = established()
    every = {(one, other) for one in (A1, A2, B1, B2) for other in (A1, A2, B1, B2)}
    network.dead = every - {(A1, B1), (B1, A1)}
    network.give(network.b, LocatorsChanged((B1, B2), deprecated=frozenset({B1})))
    network.run(MINUTE + 10 * SECOND)  # until the search for another pair is given up
    assert network.a.context.search is None
    last = next(
        one.packet[ipv6.HEADER_OCTETS :]
        for one in reversed(network.b.outputs)
        if isinstance(one, SendControl)
        and one.packet[ipv6.HEADER_OCTETS + 1] == Code.UR
        and one.packet[8:40] == B1 + A1
    )
    network.a.outputs.clear()
    network.give(network.a, ControlMessageReceived(B1, A1, True, last))
    assert pairs(network.a, Code.UA)[0] == (A1, B1)
    assert pairs(network.a, Code.UR) == []
