# SPDX-License-Identifier: MIT
"""In which order pairs of locators are tried [D20]."""

from noid.constants import MINUTE, SECOND
from noid.engine.events import LocatorsChanged
from noid.engine.history import History, Pair
from noid.engine.selection import alternatives, better_pairs, standing
from noid.engine.state import Path, State
from noid.flows.events import LongUnproven, UnansweredPacket
from noid.locators import Locator
from noid.wire.options import LocatorEntry, LocatorFlag
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    X1,
    Network,
    established,
    packet,
    state_of,
    unproven,
)


def test_what_shares_no_locator_with_the_pair_in_use_comes_first() -> None:
    context = established().a.context
    assert context.pair == (A1, B1)
    assert alternatives(context) == [(A2, B2), (A1, B2), (A2, B1)]


def test_a_backup_is_left_although_the_only_locator_of_the_other_end_is_a_backup_too() -> None:
    context = established().a.context
    both = (LocatorEntry(A1, LocatorFlag.BACKUP), LocatorEntry(A2, LocatorFlag.BACKUP))
    context.own_marks, context.peer_marks = both, (LocatorEntry(B1, LocatorFlag.BACKUP),)
    assert better_pairs(context) == [(A2, B2), (A1, B2)]


def test_among_those_what_was_heard_of_later_comes_first() -> None:
    context = established().a.context
    context.history = {(A2, B1): History(9_000_000_000), (A1, B2): History(5_000_000_000)}
    assert alternatives(context) == [(A2, B2), (A2, B1), (A1, B2)]


def test_pairs_heard_in_the_same_second_are_ordered_by_round_trip_time() -> None:
    context = established().a.context
    context.history = {
        (A1, B2): History(5_000_000_000, round_trip_ns=30),
        (A2, B1): History(5_900_000_000, round_trip_ns=20),
    }
    assert alternatives(context) == [(A2, B2), (A2, B1), (A1, B2)]
    context.history = {
        (A1, B2): History(5_000_000_000),
        (A2, B1): History(5_900_000_000, round_trip_ns=20),
    }
    assert alternatives(context) == [(A2, B2), (A2, B1), (A1, B2)], "one was never measured"


def marked(flags: dict[Locator, int]) -> list[Pair]:
    """The alternatives where these locators have these flags, a's or b's."""
    context = established().a.context
    entries = tuple(LocatorEntry(*one) for one in flags.items())
    context.own_marks = tuple(one for one in entries if one.locator in (A1, A2))
    context.peer_marks = tuple(one for one in entries if one.locator in (B1, B2))
    return alternatives(context)


def test_what_is_said_of_either_end_counts_before_everything_else() -> None:
    for flag in (LocatorFlag.BROKEN, LocatorFlag.DEPRECATED, LocatorFlag.BACKUP):
        assert marked({A2: flag}) == [(A1, B2), (A2, B2), (A2, B1)]
        assert marked({B2: flag}) == [(A2, B1), (A2, B2), (A1, B2)]


def test_broken_is_worse_than_deprecated_and_that_than_a_backup() -> None:
    broken, deprecated = LocatorFlag.BROKEN, LocatorFlag.DEPRECATED
    backup = LocatorFlag.BACKUP
    assert marked({A2: broken, B2: deprecated | backup})[0] == (A1, B2)
    assert marked({A2: deprecated, B2: backup})[0] == (A1, B2)
    assert marked({A2: deprecated | backup, B2: broken})[0] == (A2, B1)


def test_nothing_is_better_than_a_pair_of_which_nothing_is_said() -> None:
    context = established().a.context
    assert standing(context, context.pair) == (False, False, False)
    assert better_pairs(context) == []


def test_only_what_stands_better_is_taken_instead() -> None:
    context = established().a.context
    context.own_marks = (LocatorEntry(A1, LocatorFlag.DEPRECATED),)
    context.peer_marks = (LocatorEntry(B2, LocatorFlag.DEPRECATED),)
    assert better_pairs(context) == [(A2, B1)]


def test_a_connection_may_start_at_any_locator_that_is_not_deprecated() -> None:
    network = established()
    context = network.a.context
    for flag in (LocatorFlag.BROKEN, LocatorFlag.DEPRECATED):
        context.peer_marks = (LocatorEntry(B2, flag),)
        assert network.a.host.working((B1, B2)) == (B1,)
    context.peer_marks = (LocatorEntry(B2, LocatorFlag.BACKUP),)
    assert network.a.host.working((B1, B2)) == (B1, B2)


def test_no_connection_begins_at_an_aid_that_its_context_had_to_leave() -> None:
    network = Network()
    network.b.locators = (B1, B2, X1)
    network.names["b.example"], network.reverse[X1] = [B1, B2, X1], "b.example"
    network.give(network.b, LocatorsChanged(network.b.locators))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.host.working((B1, B2, X1)) == (B1, B2, X1)
    network.a.context.peer_locator = B2
    assert network.a.host.working((B1, B2, X1)) == (B2, X1)


def test_a_peer_answers_by_m6_once_its_context_is_established() -> None:
    network = Network()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    assert network.a.host.answering((B2, B1)) == ()
    network.run(SECOND)
    assert network.a.host.answering((B2, B1)) == (B1,)
    assert network.b.host.answering((A2, A1)) == (A1,)


def test_a_peer_that_is_asked_for_a_proof_is_known_to_answer() -> None:
    network = established()
    network.give(network.a, LongUnproven(network.a.context.local_label))
    assert network.a.context.path is Path.ASKING
    assert network.a.host.answering((B1, B2)) == (B1,)


def test_a_peer_that_is_silent_or_provisional_is_not_known_to_answer() -> None:
    assert unproven().b.host.answering((A1, A2)) == ()
    network = established()
    label = network.a.context.local_label
    for number in (1, 2):
        network.kill_provider(number)
    network.give(network.a, UnansweredPacket(label, packet(A1, B1), SECOND))
    assert network.a.context.path is Path.ASKING
    assert network.a.host.answering((B1, B2)) == ()
    network.run(10 * MINUTE)
    assert state_of(network.a) is State.ESTABLISHED
    assert network.a.host.answering((B1, B2)) == ()


def test_a_peer_that_is_reached_plainly_is_not_known_to_answer() -> None:
    network = established()
    network.a.context.path = Path.SEARCHING
    assert network.a.host.answering((B1, B2)) == ()
