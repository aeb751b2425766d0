# SPDX-License-Identifier: MIT
"""A context an earlier daemon left is taken up: it goes on under its label and sets [D36]."""

from dataclasses import replace

import pytest

from noid.constants import (
    CONTEXT_IDLE_TIME,
    LOST_PAIRS_KEPT_MAX,
    MILLISECOND,
    MINUTE,
    NEVER,
    PEER_UNABLE_MAX,
    PEER_UNABLE_TIME,
    SECOND,
)
from noid.counters import Drop
from noid.engine.adoption import UPDATE_NONCE_LEAP
from noid.engine.causes import Cause
from noid.engine.events import (
    ContextRestored,
    LocatorsChanged,
    SendAgain,
    StateChanged,
)
from noid.engine.history import History
from noid.engine.host import Host
from noid.engine.records import ContextRecord
from noid.engine.state import Path, State
from noid.flows.events import UnansweredPacket
from noid.identifiers import Label
from noid.locators import Locator
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    Network,
    Station,
    established,
    packet,
    unproven,
)
from tests.engine.test_data_loss import EVERY, silences, talk


def memory_of(station: Station) -> ContextRecord:
    memory = station.host.memory_of(station.context.local_label)
    assert memory is not None
    return memory


def restart(network: Network, station: Station, memory: ContextRecord) -> None:
    """Another daemon, whose plane still has the flows."""
    station.host = Host(station.host.core.options, station.random.randbytes)
    network.give(station, LocatorsChanged(station.locators))
    network.give(station, ContextRestored(memory))


def test_a_context_is_taken_up_as_it_was() -> None:
    network = established()
    before, memory = network.a.context, memory_of(network.a)
    restart(network, network.a, memory)
    after = network.a.context
    assert after is not before
    assert after.state is State.ESTABLISHED
    assert (after.local_label, after.peer_label) == (before.local_label, before.peer_label)
    assert after.peer_verified == {B1, B2}
    assert after.own_set == (A1, A2)
    assert after.flow().transmits
    assert after.verification.name == "b.example"


def test_it_is_told_as_a_change_of_state() -> None:
    network = established()
    memory = memory_of(network.a)
    network.a.outputs.clear()
    restart(network, network.a, memory)
    change = StateChanged(A1, B1, State.IDLE, State.ESTABLISHED, Cause.TAKEN_UP)
    assert change in network.a.outputs


def test_what_the_peer_found_in_the_dns_about_us_is_remembered() -> None:
    network = Network()
    del network.reverse[A2]
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.context.own_set == (A1,)
    restart(network, network.a, memory_of(network.a))
    assert network.a.context.own_set == (A1,)


def test_the_peer_believes_its_updates() -> None:
    network = established()
    restart(network, network.a, memory_of(network.a))
    assert network.a.context.update_nonce >= UPDATE_NONCE_LEAP
    network.give(network.a, LocatorsChanged((A1,)))
    network.run(1_000_000_000)
    assert network.b.context.peer_local == (A1,)
    assert network.a.context.state is State.ESTABLISHED, "acknowledged"


def test_a_pair_that_was_left_while_deprecated_is_used_again_after_a_restart() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=frozenset({A1})))
    network.run(SECOND)
    assert network.a.context.local_locator == A2
    memory = memory_of(network.a)
    network.a.host = Host(network.a.host.core.options, network.a.random.randbytes)
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=frozenset({A1})))
    network.give(network.a, ContextRestored(memory))
    network.run(SECOND)
    assert network.a.context.local_locator == A2
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.run(SECOND)
    assert network.a.context.pair == (A1, B1)


def test_an_existing_context_is_not_restored_again() -> None:
    network = established()
    before = network.a.context
    network.give(network.a, ContextRestored(memory_of(network.a)))
    assert network.a.context is before
    assert network.a.host.drops[Drop.CONTEXT_RESTORED_TWICE] == 1


def test_one_with_the_same_label_or_the_same_aids_is_in_its_way() -> None:
    network = established()
    memory = memory_of(network.a)
    for other in (replace(memory, local_label=Label(7)), replace(memory, peer_aid=B2)):
        network.give(network.a, ContextRestored(other))
    assert network.a.host.drops[Drop.CONTEXT_RESTORED_TWICE] == 2
    assert len(network.a.host.contexts) == 1


def test_a_context_with_fewer_locators_gets_the_host_locators_after_complete_ones() -> None:
    network = established()
    memory = replace(memory_of(network.a), local_label=Label(7), peer_aid=B2, own_local=(A1,))
    network.give(network.a, ContextRestored(memory))
    network.give(network.a, LocatorsChanged((A1, A2)))
    assert [set(one.own_local) for one in network.a.host.contexts] == [{A1, A2}, {A1, A2}]


def test_a_context_that_is_not_proven_is_not_remembered() -> None:
    network = unproven()
    assert network.b.host.memory_of(network.b.context.local_label) is None


def test_a_context_that_is_closing_is_not_remembered() -> None:
    network = established()
    network.kill_provider(1)
    network.kill_provider(2)
    network.run(CONTEXT_IDLE_TIME + MINUTE)
    assert network.a.context.state is State.CLOSING
    assert network.a.host.memory_of(network.a.context.local_label) is None


def test_a_context_that_is_being_set_up_is_not_remembered() -> None:
    network = Network()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    assert network.a.context.state is State.INIT_SENT
    assert network.a.host.memory_of(network.a.context.local_label) is None
    assert network.a.host.memory_of(Label(1)) is None


def test_plain_data_stays_plain_until_the_form_of_data_passes() -> None:
    network = established()
    network.drops_m6 = True
    for _ in range(80):
        network.ulp_sends(network.a, packet(A1, B1))
        network.run(SECOND // 10)
    assert not network.a.context.flow().transmits
    restart(network, network.a, memory_of(network.a))
    for _ in range(20):
        count = len(network.b.delivered)
        network.ulp_sends(network.a, packet(A1, B1))
        network.run(SECOND // 10)
        assert len(network.b.delivered) == count + 1, "none is lost"
    network.drops_m6 = False
    while not network.a.context.flow().transmits:
        network.ulp_sends(network.a, packet(A1, B1))
        network.run(SECOND)
    assert network.a.context.path is Path.STEADY


def test_what_an_earlier_version_kept_of_a_context_is_taken_up() -> None:
    network = established()
    memory = memory_of(network.a)
    assert not memory.is_plain
    restart(network, network.a, memory)
    assert network.a.context.path is Path.STEADY


def moved_by_the_peer() -> Network:
    """A is restored after a failure, and uses the second pair since b has named it."""
    network = established()
    memory = memory_of(network.a)
    network.kill_provider(1)
    restart(network, network.a, memory)
    network.give(network.b, UnansweredPacket(network.b.context.local_label, b"", SECOND))
    while network.a.context.pair != (A2, B2):
        network.run(MILLISECOND)
    return network


def test_a_packet_that_was_lost_before_the_peer_named_another_pair_is_sent_again() -> None:
    """The peer may do so before the restored context knows what was unanswered."""
    network, lost = moved_by_the_peer(), packet(A1, B1, b"lost")
    context = network.a.context
    report = UnansweredPacket(context.local_label, lost, 2 * SECOND)
    outputs = network.give(network.a, report)
    assert [one.silent_ns for one in outputs if one == SendAgain(context.local_label, lost)] == [
        2 * SECOND
    ]
    assert context.search is None, "the silence says nothing of this pair"
    network.run(SECOND)
    assert network.b.delivered[-1] == lost
    network.run(SECOND)
    network.give(network.a, report)
    assert network.a.context.path is Path.ASKING, "by now it does"


def test_a_silence_of_minutes_before_a_pair_was_used_does_not_hide_its_failure() -> None:
    network, lost = moved_by_the_peer(), packet(A1, B1, b"lost")
    network.kill_provider(2)
    context, began_ns = network.a.context, network.now_ns
    network.a.outputs.clear()
    while context.path is Path.STEADY and network.now_ns < began_ns + MINUTE:
        silent_ns = 10 * MINUTE + network.now_ns - began_ns
        network.give(network.a, UnansweredPacket(context.local_label, lost, silent_ns))
        network.run(SECOND // 10)
    assert context.path is Path.ASKING
    assert network.now_ns <= began_ns + 2 * SECOND
    sent = [one for one in network.a.outputs if isinstance(one, SendAgain)]
    assert sum(one.silent_ns > 0 for one in sent) == 1, "the plane lists all connections for that"


@pytest.mark.slow
def test_the_next_daemon_knows_that_data_is_lost_over_all_pairs() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = EVERY
    talk(network, 5 * SECOND)
    for station in network.stations:
        restart(network, station, memory_of(station))
    assert silences(network, 30 * SECOND)[0] < SECOND // 4
    network.drops_data = set()
    talk(network, 2 * PEER_UNABLE_TIME)
    assert all(one.context.flow().transmits for one in network.stations)


def test_the_next_daemon_knows_which_pairs_lose_data() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = {(A1, B1), (B1, A1)}
    talk(network, 5 * SECOND)
    restart(network, network.a, memory_of(network.a))
    network.drops_data = EVERY
    assert silences(network, 5 * SECOND)[0] < SECOND, "two reports are enough"
    assert not network.a.context.flow().transmits


@pytest.mark.slow
def test_what_the_next_daemon_is_told_of_lost_data_is_bounded() -> None:
    network = established()
    context = network.a.context
    for number in range(LOST_PAIRS_KEPT_MAX + 1):
        pair = A1, Locator(B1[:-1] + bytes([number]))
        context.note(pair, History(losses=1, lost_ns=number))
    memory = memory_of(network.a)
    assert [one.lost_ns for one in memory.lost] == [*range(LOST_PAIRS_KEPT_MAX, 0, -1)]
    late = memory.lost[0]._replace(lost_ns=NEVER)
    restart(network, network.a, replace(memory, lost=(late,), is_plain=True, plain_until_ns=NEVER))
    assert network.a.context.history_of(late.pair).lost_ns == network.now_ns
    talk(network, PEER_UNABLE_MAX + SECOND)
    assert network.a.context.flow().transmits, "no clock is that far ahead"


@pytest.mark.parametrize("is_lost", [False, True])
def test_the_next_daemon_is_told_until_when_data_goes_plainly_only_if_data_was_lost(
    is_lost: bool,
) -> None:
    """If messages are dropped as well, the next daemon finds that out by itself."""
    network = established()
    talk(network, SECOND)
    network.drops_m6, network.drops_data = not is_lost, EVERY
    talk(network, 20 * SECOND)
    assert network.a.context.path is Path.ASIDE
    memory = memory_of(network.a)
    assert memory.is_plain
    assert (memory.plain_until_ns > network.now_ns) is is_lost
