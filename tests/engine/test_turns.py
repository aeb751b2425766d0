# SPDX-License-Identifier: MIT
"""With very many contexts no event takes long: changes for all contexts are done in batches."""

from dataclasses import replace

from noid.constants import CONTEXTS_PER_TURN, SECOND, TIMERS_PER_TURN
from noid.engine.events import (
    ContextRestored,
    InstallFlow,
    LocatorsChanged,
    Output,
    SendControl,
    TimePassed,
)
from noid.engine.state import Path, Timer
from noid.flows.events import UlpPacketSeen, UnansweredPacket
from noid.identifiers import Label
from noid.locators import Locator
from tests.engine.network import A1, A2, B1, Network, established, packet

CROWD = 3 * max(CONTEXTS_PER_TURN, TIMERS_PER_TURN)


def crowded() -> Network:
    """Station a with very many contexts, whose peers do not answer."""
    network = established()
    model = network.a.host.memory_of(network.a.context.local_label)
    assert model is not None
    for number in range(100, 99 + CROWD):
        aid = Locator(B1[:8] + number.to_bytes(8, "big"))
        one = replace(model, local_label=Label(number), peer_aid=aid, peer_locator=aid)
        one = replace(one, peer_local=(aid,), remote=(aid,), proven=(aid,))
        network.give(network.a, ContextRestored(one))
    assert len(network.a.host.contexts) == CROWD
    return network


def told(outputs: list[Output]) -> set[int]:
    """The labels of the contexts whose planes hear of their new locators."""
    return {one.flow.local_label for one in outputs if isinstance(one, InstallFlow)}


def is_due(network: Network) -> bool:
    deadline = network.a.host.deadline()
    return deadline is not None and deadline.at_ns <= network.now_ns


def turns(network: Network) -> list[list[Output]]:
    """Everything that there is to do by now."""
    done = []
    while is_due(network):
        done.append(network.give(network.a, TimePassed()))
    return done


def test_new_locators_are_told_of_so_many_contexts_at_a_time() -> None:
    network = crowded()
    first = network.give(network.a, LocatorsChanged((A1,)))
    every = [told(outputs) for outputs in (first, *turns(network))]
    assert max(map(len, every)) == CONTEXTS_PER_TURN
    assert sum(map(len, every)) == CROWD == len(set().union(*every))
    assert all(context.own_local == (A1,) for context in network.a.host.contexts)


def test_a_context_that_loses_packets_is_processed_before_its_batch() -> None:
    network = crowded()
    network.give(network.a, LocatorsChanged((A2,)))
    last = network.a.host.contexts[-1]
    assert not last.own_marks
    event = UnansweredPacket(last.local_label, packet(last.local_aid, last.peer_aid), SECOND)
    outputs = network.give(network.a, event)
    assert told(outputs) == {last.local_label}
    assert any(isinstance(one, SendControl) and one.packet[8:24] == A2 for one in outputs)


def test_what_is_undone_before_its_turn_is_not_told() -> None:
    network = crowded()
    network.give(network.a, LocatorsChanged((A1,)))
    network.give(network.a, LocatorsChanged((A1, A2)))
    outputs = [one for outputs in turns(network) for one in outputs]
    assert told(outputs) <= {
        context.local_label for context in network.a.host.contexts[:CONTEXTS_PER_TURN]
    }
    assert all(context.own_local == (A1, A2) for context in network.a.host.contexts)


def test_so_many_timers_expire_at_a_time() -> None:
    network = crowded()
    network.now_ns += SECOND
    turns(network)  # the DNS has been asked about all of them
    network.give(network.a, LocatorsChanged((A1,)))
    turns(network)
    network.now_ns += 10 * SECOND
    sent = [sum(isinstance(one, SendControl) for one in outputs) for outputs in turns(network)]
    assert max(sent) == TIMERS_PER_TURN
    assert sum(sent) >= CROWD


def test_a_program_that_waits_for_a_pair_is_served_before_the_timers_of_others() -> None:
    network = crowded()
    turns(network)
    last = network.a.host.contexts[-1]
    event = UnansweredPacket(last.local_label, packet(last.local_aid, last.peer_aid), SECOND)
    network.give(network.a, event)
    while last.path is not Path.SEARCHING:
        network.now_ns += SECOND // 100
        turns(network)
    network.now_ns += 10 * SECOND
    outputs = network.give(network.a, UlpPacketSeen(event.packet))
    probed = [one.packet[24:40] for one in outputs if isinstance(one, SendControl)]
    assert last.peer_locator in probed


def test_a_timer_that_is_due_and_wanted_at_once_keeps_its_place() -> None:
    network = crowded()
    turns(network)
    core = network.a.host.core
    first, second = network.a.host.contexts[:2]
    for one in (first, second, first):
        core.now_ns += 1
        core.set_timer(one, Timer.IDLE, 0)
    upcoming = core.next_timer()
    assert upcoming is not None
    assert upcoming[1] == (first, Timer.IDLE)


def test_data_leaves_in_the_form_of_data_while_nothing_answers_if_the_aid_is_broken() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), broken=frozenset({A1})))
    context = network.a.context
    event = UnansweredPacket(context.local_label, packet(A1, B1), SECOND)
    network.give(network.a, event)
    while context.path is not Path.SEARCHING:
        network.now_ns += SECOND // 100
        turns(network)
    assert context.flow().transmits
    network.give(network.a, LocatorsChanged((A1, A2)))
    assert context.path is Path.SEARCHING
    assert not context.flow().transmits
