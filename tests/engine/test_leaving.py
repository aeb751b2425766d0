# SPDX-License-Identifier: MIT
"""Locators whose owner calls them deprecated or broken are left in time [D20, D25]."""

import pytest

from noid.constants import BETTER_PAIR_INTERVAL_MAX, MILLISECOND, MINUTE, SECOND
from noid.engine.causes import Cause
from noid.engine.events import LocatorsChanged, ProbeStarted, SendControl, Switched
from noid.engine.history import Pair
from noid.engine.state import Path, State
from noid.flows.events import LongUnproven
from noid.locators import Locator
from noid.wire.options import LocatorFlag
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    DELAY_NS,
    X1,
    Network,
    Station,
    established,
    packet,
)
from tests.engine.test_reachability import reports, silence

NONE: frozenset[Locator] = frozenset()
ONE = frozenset({A1})


def path_of(station: Station) -> Path:
    """What a station believes of its pair in use."""
    return station.context.path


def pairs_of(station: Station) -> set[Pair]:
    """The pairs over which a station sent something lately."""
    sent = [one.packet for one in station.outputs if isinstance(one, SendControl)]
    return {(Locator(one[8:24]), Locator(one[24:40])) for one in sent}


@pytest.mark.parametrize(("deprecated", "broken"), [(ONE, NONE), (NONE, ONE)])
def test_both_ends_switch_from_our_deprecated_locator(
    deprecated: frozenset[Locator], broken: frozenset[Locator]
) -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), deprecated, broken))
    network.run(100 * MILLISECOND)
    assert network.a.context.local_locator == A2
    assert network.b.context.peer_locator == A2
    assert network.a.context.state is network.b.context.state is State.ESTABLISHED


@pytest.mark.parametrize("answers", [True, False])
def test_a_locator_is_replaced_while_its_pair_is_asked_for_a_proof(answers: bool) -> None:
    network = established()
    network.run(SECOND)
    network.give(network.a, LongUnproven(network.a.context.local_label))
    assert path_of(network.a) is Path.ASKING
    if not answers:
        network.kill_provider(1)
    network.give(network.a, LocatorsChanged((A1, A2), NONE, ONE))
    assert path_of(network.a) is Path.LEAVING
    network.run(4 * DELAY_NS)
    assert network.a.context.local_locator == A2
    assert path_of(network.a) is not Path.LEAVING


def test_what_says_that_a_link_is_gone_does_not_go_by_that_link() -> None:
    network = established()
    network.a.outputs.clear()
    network.give(network.a, LocatorsChanged((A1, A2), broken=ONE))
    assert {source for source, _ in pairs_of(network.a)} == {A2}
    flags = LocatorFlag.LOCAL | LocatorFlag.BROKEN
    network.run(20 * MILLISECOND)
    assert network.b.context.marks_of(A1) | LocatorFlag.LOCAL == flags


def test_an_update_about_a_better_locator_alternates_with_the_old_pair() -> None:
    network = Network()
    network.give(network.a, LocatorsChanged((A1,)))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=ONE))
    network.run(20 * MILLISECOND)
    assert network.b.context.peer_acceptable == {A1, A2}
    network.run(MINUTE)
    assert network.a.context.local_locator == A2
    assert network.b.context.peer_locator == A2


def test_an_aid_that_has_left_the_host_is_left() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A2,)))
    network.run(100 * MILLISECOND)
    assert network.a.context.pair[0] == A2
    assert network.b.context.peer_locator == A2
    network.ulp_sends(network.b, packet(B1, A1, b"to the AID"))
    network.run(20 * MILLISECOND)
    assert network.a.delivered[-1] == packet(B1, A1, b"to the AID")


def test_silence_of_a_broken_pair_does_not_delay_the_answer_of_another_pair() -> None:
    network = established()
    network.dead |= {(B1, A1), (A1, B1), (B2, A1), (A1, B2)}
    network.give(network.a, LocatorsChanged((A1, A2), broken=ONE))
    network.run(DELAY_NS + MILLISECOND)  # by when b knows
    network.give(network.b, silence(network.b))
    network.run(2 * DELAY_NS)  # what b asked at once is answered
    assert network.b.context.peer_locator == A2


@pytest.mark.parametrize("waits_ns", [MILLISECOND, 30 * MILLISECOND])
def test_a_mark_ends_the_wait_for_a_pair_that_is_suspected_already(waits_ns: int) -> None:
    network = established()
    network.dead |= {(B1, A1), (A1, B1), (B2, A1), (A1, B2)}
    network.give(network.b, silence(network.b))
    network.run(waits_ns)  # asking; in doubt
    assert path_of(network.b) is (Path.ASKING if waits_ns < DELAY_NS else Path.DOUBTING)
    network.give(network.a, LocatorsChanged((A1, A2), broken=ONE))
    network.run(DELAY_NS + MILLISECOND)  # by when b knows
    network.run(2 * DELAY_NS)  # what b asked at once is answered
    assert network.b.context.peer_locator == A2


def test_a_mark_of_ours_ends_the_wait_for_a_pair_that_is_suspected_already() -> None:
    network = established()
    network.dead |= {(B1, A1), (A1, B1), (B2, A1), (A1, B2)}
    network.give(network.a, silence(network.a))
    network.run(MILLISECOND)
    network.give(network.a, LocatorsChanged((A1, A2), broken=ONE))
    network.run(2 * DELAY_NS)
    assert network.a.context.local_locator == A2


def test_while_no_other_pair_answers_the_pair_in_use_stays() -> None:
    network = established()
    network.dead |= {(A2, B1), (A2, B2)}
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=ONE))
    network.run(3 * SECOND)
    assert network.a.context.pair == (A1, B1)
    network.dead.clear()
    network.run(5 * SECOND)
    assert network.a.context.local_locator == A2


def test_where_everything_is_to_be_left_nothing_is() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=frozenset({A1, A2})))
    network.run(SECOND)
    assert network.a.context.pair == (A1, B1)
    assert network.a.context.state is State.ESTABLISHED


def test_what_is_broken_is_left_for_what_is_deprecated() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=frozenset({A2}), broken=ONE))
    network.run(SECOND)
    assert network.a.context.local_locator == A2
    assert network.b.context.peer_locator == A2


def test_in_doubt_a_pair_that_is_to_be_left_is_asked_as_well() -> None:
    network = established()
    network.dead |= {(A2, B1), (A2, B2)}
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=ONE))
    network.run(10 * SECOND)
    network.a.outputs.clear()
    network.give(network.a, silence(network.a))
    network.run(SECOND)
    assert (A1, B1) in pairs_of(network.a)
    assert network.a.context.search is None, "the pair in use answers"


def test_what_comes_back_is_said_and_nothing_moves() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), broken=ONE))
    network.run(SECOND)
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.run(SECOND)
    assert network.b.context.peer_marks == ()
    assert network.a.context.local_locator == A2
    assert network.b.context.pair[0] in (B1, B2)


@pytest.mark.parametrize(("deprecated", "broken"), [(ONE, NONE), (NONE, ONE)])
def test_no_new_connection_starts_at_a_deprecated_locator_of_the_peer(
    deprecated: frozenset[Locator], broken: frozenset[Locator]
) -> None:
    network = established()
    assert network.b.host.working((A1, A2)) == (A1, A2)
    network.give(network.a, LocatorsChanged((A1, A2), deprecated, broken))
    network.run(100 * MILLISECOND)
    assert network.b.host.working((A1, A2)) == (A2,)
    assert network.b.host.working((A1,)) == (A1,), "better than none"


def test_nor_where_a_context_had_to_be_left_or_the_dns_knows_better() -> None:
    network = established()
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    assert network.a.context.pair == (A2, B2)
    assert network.a.host.working((B1, B2, X1)) == (B2,)


@pytest.mark.parametrize(
    "marked", [LocatorsChanged((A1, A2), deprecated=ONE), LocatorsChanged((A1, A2), backup=ONE)]
)
def test_the_pair_that_was_left_is_used_again_by_both_ends(marked: LocatorsChanged) -> None:
    network = established()
    network.give(network.a, marked)
    network.run(SECOND)
    assert network.a.context.local_locator == network.b.context.peer_locator == A2
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.run(SECOND)
    assert (network.a.context.pair, network.b.context.pair) == ((A1, B1), (B1, A1))
    network.run(10 * MINUTE)
    assert network.a.context.left_pair is network.b.context.left_pair is None


def test_a_pair_that_was_left_and_does_not_work_is_tried_ever_less_often() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), backup=ONE))
    network.run(SECOND)
    network.kill_provider(1)
    network.give(network.a, LocatorsChanged((A1, A2)))
    for _ in range(12):  # packets now and then, so that the context is not closed as idle
        network.run(BETTER_PAIR_INTERVAL_MAX // 2)
        network.ulp_sends(network.a, packet(A1, B1))
        network.ulp_sends(network.b, packet(B1, A1))
    for station in network.stations:
        station.outputs.clear()
    for _ in range(20):
        network.run(BETTER_PAIR_INTERVAL_MAX // 2)
        network.ulp_sends(network.a, packet(A1, B1))
        network.ulp_sends(network.b, packet(B1, A1))
    for station in network.stations:
        probes = [one for one in station.outputs if isinstance(one, ProbeStarted)]
        tries = sum(one.why is Cause.BETTER_PAIR for one in probes)
        assert 10 * 2 // 3 <= tries <= 10 * 2
        assert reports(station, Switched) == []
    network.dead.clear()
    network.run(BETTER_PAIR_INTERVAL_MAX * 3 // 2 + SECOND)
    assert (network.a.context.pair, network.b.context.pair) == ((A1, B1), (B1, A1))


def test_a_backup_that_failed_is_not_returned_to_without_the_mark() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), backup=frozenset({A1, A2})))
    network.run(SECOND)
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    assert network.a.context.local_locator == network.b.context.peer_locator == A2
    network.dead.clear()
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.run(10 * MINUTE)
    assert network.a.context.local_locator == network.b.context.peer_locator == A2


def test_a_pair_that_was_deprecated_is_used_again_though_the_aids_are_those_of_a_backup() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), backup=ONE))
    network.run(SECOND)
    used = network.a.context.pair
    network.give(network.b, LocatorsChanged((B1, B2), deprecated=frozenset({used[1]})))
    network.run(SECOND)
    assert network.a.context.local_locator == A2
    assert network.a.context.pair != used
    network.give(network.b, LocatorsChanged((B1, B2)))
    network.run(SECOND)
    assert network.a.context.pair == used


def test_a_pair_that_was_left_is_not_used_again_before_it_works() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=ONE))
    network.run(SECOND)
    network.kill_provider(1)
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.run(5 * MINUTE)
    assert (network.a.context.local_locator, network.b.context.peer_locator) == (A2, A2)
    network.dead.clear()
    network.run(5 * MINUTE)
    assert (network.a.context.pair, network.b.context.pair) == ((A1, B1), (B1, A1))


def test_a_pair_that_was_left_because_it_broke_is_not_returned_to() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), broken=ONE))
    network.run(SECOND)
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.run(5 * MINUTE)
    assert network.a.context.local_locator == network.b.context.peer_locator == A2


def test_another_mark_repeats_no_request_before_an_answer_is_due() -> None:
    network = established()
    network.kill_provider(2)
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=ONE))
    search = network.a.context.search
    assert search is not None
    asked = list(search.probes)
    assert asked
    network.run(2 * MILLISECOND)
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=ONE, broken=ONE))
    assert network.a.context.search is search
    assert list(search.probes) == asked
    network.run(SECOND)
    assert len(search.probes) > len(asked)
