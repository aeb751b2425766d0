# SPDX-License-Identifier: MIT
"""Locators that are to be used only where no other works [D20, D22]."""

import pytest

from noid.constants import (
    BETTER_PAIR_FIRST,
    BETTER_PAIR_INTERVAL,
    BETTER_PAIR_PATIENCE,
    MILLISECOND,
    MINUTE,
    SECOND,
)
from noid.engine.causes import Cause
from noid.engine.events import LocatorsChanged, ProbeStarted, Switched
from noid.engine.history import Pair
from noid.engine.selection import is_set_aside
from noid.engine.state import State, Timer
from noid.locators import Locator
from noid.wire.control import Code
from noid.wire.ipv6 import ICMPV6
from noid.wire.options import LocatorFlag
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    Network,
    established,
    packet,
    receive,
    state_of,
)
from tests.engine.test_reachability import reports, silence

ROUND_TRIP = 25 * MILLISECOND


def kept_back(*locators: Locator, seed: int = 1) -> Network:
    """Two hosts with a context; these locators of a are for the worst case."""
    network = Network(seed)
    network.give(network.a, LocatorsChanged((A1, A2), backup=frozenset(locators)))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(100 * MILLISECOND)
    return network


@pytest.mark.parametrize("told_by_initiator", [True, False])
def test_the_peer_knows_the_backup_mark_once_the_context_exists(told_by_initiator: bool) -> None:
    network = Network()
    network.give(network.a, LocatorsChanged((A1, A2), backup=frozenset({A2})))
    initiator, responder = network.a, network.b
    if not told_by_initiator:
        initiator, responder = responder, initiator
    network.resolve(initiator, responder)
    network.ulp_sends(initiator, packet(initiator.locators[0], responder.locators[0]))
    network.run(100 * MILLISECOND)
    assert network.b.context.marks_of(A2) == LocatorFlag.BACKUP
    assert network.b.context.marks_of(A1) == 0


def test_a_backup_is_chosen_last() -> None:
    network = kept_back(A2)
    network.kill_provider(1)
    network.dead -= {(A1, B2), (B2, A1)}
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    assert network.b.context.pair == (B2, A1)


def test_a_backup_is_used_where_no_other_works() -> None:
    network = kept_back(A2)
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    assert network.b.context.pair == (B2, A2)
    assert network.a.context.pair == (A2, B2)


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_backup_is_left_when_another_works_again(seed: int) -> None:
    network = kept_back(A2, seed=seed)
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    network.run(10 * MINUTE)
    assert network.b.context.pair == (B2, A2)
    network.dead.clear()
    network.run(BETTER_PAIR_INTERVAL * 3 // 2 + ROUND_TRIP)
    assert network.b.context.peer_locator == A1
    assert network.a.context.local_locator == A1


def test_a_pair_that_starts_as_a_backup_is_soon_replaced() -> None:
    network = kept_back(A1)
    assert network.a.context.pair == (A1, B1)
    network.run(BETTER_PAIR_FIRST * 3 // 2 + ROUND_TRIP)
    assert network.a.context.local_locator == A2
    assert network.b.context.peer_locator == A2


def test_what_becomes_a_backup_is_left_at_once() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), backup=frozenset({A1})))
    network.run(3 * ROUND_TRIP)
    assert network.a.context.local_locator == A2
    assert network.b.context.peer_locator == A2


def test_while_no_other_works_one_is_tried_now_and_then_and_not_for_long() -> None:
    network = kept_back(A2)
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    network.run(MINUTE)
    for station in network.stations:
        station.outputs.clear()
    network.trace.clear()
    network.run(20 * BETTER_PAIR_INTERVAL)
    for station in network.stations:
        tries = len(reports(station, ProbeStarted))
        assert 20 * 2 // 3 <= tries <= 20 * 2
        assert reports(station, Switched) == []
        assert state_of(station) is State.ESTABLISHED
    rounds = 1 + BETTER_PAIR_PATIENCE // (50 * MILLISECOND)
    assert len(network.trace) <= 2 * 40 * rounds * 3


def test_a_try_says_nothing_of_silence() -> None:
    network = kept_back(A2)
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    network.run(10 * SECOND)
    network.a.outputs.clear()
    network.b.outputs.clear()
    network.run(2 * BETTER_PAIR_INTERVAL)
    outputs = (*network.a.outputs, *network.b.outputs)
    whys = {one.why for one in outputs if isinstance(one, ProbeStarted)}
    assert whys == {Cause.BETTER_PAIR}


def test_on_a_pair_like_any_other_nothing_is_tried() -> None:
    network = kept_back(A2)
    core = network.a.host.core
    assert not core.is_timer_set(network.a.context, Timer.BETTER)
    network.give(network.a, LocatorsChanged((A1, A2), backup=frozenset({A1, A2})))
    network.run(SECOND)
    assert not core.is_timer_set(network.a.context, Timer.BETTER)
    assert network.a.context.pair == (A1, B1)


def test_a_host_tries_its_backup_last_when_it_has_no_context_yet() -> None:
    a3 = Locator(A2[:5] + bytes([3]) + A2[6:])
    network = Network()
    network.a.locators = (A1, A2, a3)
    network.give(network.a, LocatorsChanged((A1, A2, a3), backup=frozenset({A2})))
    network.kill_provider(1)
    network.dead |= {(A2, B2), (B2, A2)}
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(3 * SECOND)
    sources = [one[8:24] for one in network.trace if one[6] == ICMPV6 and one[41] == Code.INIT]
    assert list(dict.fromkeys(sources)) == [A1, a3]


@pytest.mark.parametrize(
    ("left", "mark", "is_backup"),
    [((A2, B2), False, False), ((A2, B2), True, True), (None, False, True)],
)
def test_the_first_pair_that_was_left_is_returned_to_unless_it_is_a_backup(
    left: Pair | None, mark: bool, is_backup: bool
) -> None:
    network = established()
    backups = frozenset({A2}) if mark else frozenset()
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=frozenset({A1}), backup=backups))
    context = network.a.context
    context.left_pair = left
    assert is_set_aside(context, (A1, B1), Cause.OWN_LOCATORS_BETTER) is is_backup


def test_a_request_over_a_better_pair_has_it_tried_for_as_long_as_it_is_tried_now_and_then() -> (
    None
):
    network = kept_back(A2)
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    network.run(10 * SECOND)
    context = network.b.context
    assert context.pair == (B2, A2)
    if context.search is not None:
        network.run(SECOND)
    assert context.search is None
    message = network.a.request(network.a.context.update_nonce + 1)
    network.b.outputs.clear()
    receive(network, network.b, message, A1, B1)
    (started,) = reports(network.b, ProbeStarted)
    assert isinstance(started, ProbeStarted)
    assert started.why is Cause.PEER_USES_BETTER_PAIR
    search = network.b.context.search
    assert search is not None
    assert search.until_ns == network.now_ns + BETTER_PAIR_PATIENCE
