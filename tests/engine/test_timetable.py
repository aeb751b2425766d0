# SPDX-License-Identifier: MIT
"""When each message leaves, over which pair and in which form, to the nanosecond.

The delays are those of docs/protocol.md with the least random factor, 0.5. A round trip takes 20
ms.
"""

from itertools import pairwise

import pytest

from noid.constants import CONTEXT_IDLE_TIME, MILLISECOND, PEER_UNABLE_TIME, SECOND
from noid.engine.causes import Cause
from noid.engine.data_loss import is_shortened
from noid.engine.events import (
    AskDns,
    LocatorsChanged,
    MeasurePairs,
    Output,
    PeerUnable,
    SendAgain,
    TimePassed,
)
from noid.engine.history import Pair
from noid.engine.lifecycle import discard
from noid.engine.state import Path, State, Timer, Trigger
from noid.engine.switching import switch
from noid.locators import Locator
from noid.wire.control import Code, Flag
from tests.engine.network import A1, A2, B1, B2, DNS_DELAY_NS, Station, packet, state_of
from tests.engine.test_limits import lose
from tests.engine.test_reachability import silence
from tests.engine.test_searching import keep_sending
from tests.engine.test_trial import unfounded
from tests.engine.timetable import Timetable

EVERY = {(one, other) for one in (A1, A2, B1, B2) for other in (A1, A2, B1, B2)}
FIRST, OTHER = (A1, B1), (A2, B2)
SHARED = [(A1, B2), (A2, B1)]
PLAIN, SLOT = False, True
Row = tuple[float, Pair, bool]


def rows(network: Timetable, station: Station, code: Code) -> list[Row]:
    """After how many ms messages of a code have left, over which pair and if in a slot."""
    return [one[:3] for one in network.sent(station, code)]


def with_one_locator_each() -> Timetable:
    """Two hosts that have no other pair than that of their AIDs."""
    network = Timetable()
    for station, locators in ((network.a, (A1,)), (network.b, (B1,))):
        station.locators = locators
        network.names[station.name] = [*locators]
        network.give(station, LocatorsChanged(locators))
    return network


def sending(network: Timetable) -> Timetable:
    """A program of a has sent to b."""
    network.resolve(network.a, network.b)
    network.begin()
    network.ulp_sends(network.a, packet(A1, B1))
    return network


def settled(network: Timetable | None = None) -> Timetable:
    """Both have a context, and neither is about to send anything."""
    network = sending(network or Timetable())
    network.run(5 * SECOND)
    for station in network.stations:
        network.give(station, TimePassed())
    network.begin()
    return network


def cut_off(network: Timetable) -> Timetable:
    """Nothing arrives from now on."""
    network.dead |= EVERY
    return network


# --- set-up and close -----------------------------------------------------------------------------


def test_an_init_is_repeated_four_times_at_doubling_intervals_in_both_forms() -> None:
    network = sending(cut_off(with_one_locator_each()))
    network.run(30 * SECOND - 1)
    expected = [
        (0, FIRST, PLAIN),
        (2_000, FIRST, SLOT),
        (6_000, FIRST, PLAIN),
        (14_000, FIRST, SLOT),
    ]
    assert rows(network, network.a, Code.INIT) == expected
    assert network.a.host.contexts != []
    network.run(1)
    assert network.a.host.contexts == []
    assert network.a.host.core.unable[B1] == network.now_ns + PEER_UNABLE_TIME
    nonces = {one[3].nonce for one in network.sent(network.a, Code.INIT)}
    assert len(nonces) == 1, "one for each destination"


def test_inits_over_several_pairs_are_250_ms_apart_and_each_round_has_the_other_form() -> None:
    network = sending(cut_off(Timetable()))
    network.run(60 * SECOND)
    pairs = [FIRST, OTHER, (A2, B1), (A1, B2)]
    starts_ms = [0, 2_750, 7_500, 16_250]
    expected = [
        (start_ms + 250 * turn, pair, bool(number % 2))
        for number, start_ms in enumerate(starts_ms)
        for turn, pair in enumerate(pairs)
    ]
    assert rows(network, network.a, Code.INIT) == expected
    assert PeerUnable(B1, Cause.NO_ANSWER_TO_INIT) in network.a.outputs


@pytest.mark.parametrize(
    ("delay_ms", "ccrs_ms", "init_ms"),
    [(10, (20, 270), 770), (200, (400, 1_200), 2_800), (1_000, (2_000, 4_000), 8_000)],
)
def test_a_ccr_is_repeated_once_in_the_other_form_and_then_the_exchange(
    delay_ms: int, ccrs_ms: tuple[int, int], init_ms: int
) -> None:
    """After 250 ms or two round trips, and twice as long, but no later than after 2 s and 4 s."""
    network = with_one_locator_each()
    network.delay_ns = delay_ms * MILLISECOND
    sending(network)
    lose(network, Code.CCR, (init_ms + 1) * MILLISECOND)
    expected = [(at_ms, FIRST, form) for at_ms, form in zip(ccrs_ms, (PLAIN, SLOT), strict=True)]
    assert rows(network, network.a, Code.CCR) == expected
    assert rows(network, network.a, Code.INIT) == [(0, FIRST, PLAIN), (init_ms, FIRST, PLAIN)]


def test_a_close_goes_over_each_pair_in_turn_and_then_in_the_other_form() -> None:
    network = cut_off(settled())
    network.run(CONTEXT_IDLE_TIME - 5 * SECOND)
    while not rows(network, network.a, Code.CLOSE):
        network.run(MILLISECOND)
    network.run(CONTEXT_IDLE_TIME)
    found = rows(network, network.a, Code.CLOSE)
    began_ms = found[0][0]
    offsets_ms = [0, 2_000, 6_000, 14_000, 30_000, 62_000, 122_000, 182_000, 242_000]
    pairs = [FIRST, OTHER, *SHARED]
    assert [(at - began_ms, pair, form) for at, pair, form in found[: len(offsets_ms)]] == [
        (at_ms, pairs[number % 4], number // 4 % 2 == 1) for number, at_ms in enumerate(offsets_ms)
    ]


# --- changes of sets ------------------------------------------------------------------------------


def test_an_update_is_repeated_at_doubling_intervals_of_two_minutes_at_most() -> None:
    network = cut_off(settled())
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=frozenset({A2})))
    network.run(400 * SECOND)
    offsets_ms = [0, 125, 375, 875, 1_875, 3_875, 7_875, 15_875, 31_875, 63_875]
    offsets_ms += [123_875, 183_875, 243_875, 303_875, 363_875]
    assert rows(network, network.a, Code.UR) == [
        (at_ms, FIRST, number % 2 == 0) for number, at_ms in enumerate(offsets_ms)
    ]


@pytest.mark.parametrize(("delay_ms", "second_ms"), [(60, 125), (100, 200)])
def test_it_is_not_repeated_before_two_round_trips(delay_ms: int, second_ms: int) -> None:
    network = with_one_locator_each()
    network.delay_ns = delay_ms * MILLISECOND
    cut_off(settled(network))
    network.give(network.a, LocatorsChanged((A1,), deprecated=frozenset({A1})))
    network.run(3 * SECOND)
    first, second, third, *_ = rows(network, network.a, Code.UR)
    assert [one[0] for one in (first, second, third)] == [0, second_ms, 3 * second_ms]


def test_an_update_alternates_between_the_pair_in_use_and_a_better_one() -> None:
    network = cut_off(settled())
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=frozenset({A1})))
    network.run(5 * SECOND)
    update = network.a.context.update
    assert update is not None
    found = [one[:3] for one in network.sent(network.a, Code.UR) if one[3].nonce == update.nonce]
    pairs, forms = [FIRST, OTHER], [SLOT, SLOT, PLAIN, PLAIN]
    offsets_ms = [0, 125, 375, 875, 1_875, 3_875]
    assert found == [
        (at_ms, pairs[number % 2], forms[number % 4]) for number, at_ms in enumerate(offsets_ms)
    ]


# --- a pair that is silent ------------------------------------------------------------------------


def asks(network: Timetable, pair: Pair) -> list[float]:
    """When requests of a in the form of data left over a pair."""
    return [at for at, one, form in rows(network, network.a, Code.UR) if one == pair and form]


def test_a_silent_pair_is_asked_eight_times_and_each_other_is_probed_once() -> None:
    network = cut_off(settled())
    network.give(network.a, silence(network.a))
    network.run(309 * MILLISECOND)
    assert asks(network, FIRST) == [0] + [25] * 7
    for pair in (OTHER, *SHARED):
        assert asks(network, pair) == [25]
    flags = [one[3].flags for one in network.sent(network.a, Code.UR)]
    assert flags == [Flag(0)] + [Flag.HEARS_NOTHING] * 10
    assert network.a.context.path is Path.SEARCHING, "since 250 ms"


def test_a_search_probes_all_pairs_each_half_second_and_ever_more_rarely_once_unwanted() -> None:
    network = cut_off(settled())
    network.give(network.a, silence(network.a))
    network.run(70 * SECOND)
    began_ms = 310
    cycles_ms = [began_ms + 500 * number for number in range(11)]
    cycles_ms += [6_310, 8_310, 12_310, 20_310, 30_310, 40_310, 50_310]
    found = rows(network, network.a, Code.UR)
    assert [at for at, _, form in found if not form] == cycles_ms, (
        "in the plain form, after the others"
    )
    for pair in (FIRST, OTHER, *SHARED):
        assert [at for at in asks(network, pair) if at > 25] == cycles_ms


def test_probes_of_very_many_pairs_leave_at_these_times() -> None:
    """Four at a time: 16 in the first second, then 64 a second; then a cycle takes four seconds."""
    network = Timetable()
    for station, first in ((network.a, A1), (network.b, B1)):
        station.locators = tuple(
            Locator(first[:5] + bytes((number,)) + first[6:]) for number in range(1, 8)
        )
        network.names[station.name] = [*station.locators]
        network.reverse |= dict.fromkeys(station.locators, station.name)
        network.give(station, LocatorsChanged(station.locators))
    settled(network)
    network.dead |= {(one, other) for one in network.a.locators for other in network.b.locators}
    network.give(network.a, silence(network.a))
    for _ in range(80):
        network.ulp_sends(network.a, packet(A1, B1, b"wanted"))
        network.run(100 * MILLISECOND)
    context = network.a.context
    times = [
        at for at, pair, form in rows(network, network.a, Code.UR) if form and pair != context.pair
    ]
    assert times[::4][:5] == [25, 85, 145, 205, 1_025], "48 other pairs"
    assert times[16:48:4] == [1_025 + 62.5 * number for number in range(8)]
    every = sorted(set(times[48:]))
    rounds = {round(later - sooner) for sooner, later in pairwise(every)}
    assert rounds == {round(4_000 / 13)}, "13 rounds of four of all 49"


def test_requests_over_a_pair_that_was_suspected_in_vain_are_twelve() -> None:
    network = settled()
    network.give(network.a, silence(network.a))
    network.run(15 * MILLISECOND)
    network.run(SECOND)
    context = network.a.context
    context.note(context.pair, context.history_of(context.pair)._replace(alarms=1))
    cut_off(network).begin()
    network.give(network.a, silence(network.a))
    network.run(200 * MILLISECOND)
    assert asks(network, FIRST) == [0] + [25] * 11


def test_packets_are_sent_again_three_times_after_a_switch() -> None:
    network = settled()
    context, label = network.a.context, network.a.context.local_label
    carry_out, again = network.carry_out, []

    def noted(station: Station, output: Output) -> None:
        if station is network.a and isinstance(output, SendAgain):
            again.append((network.now_ns - network.began_ns, output, output.silent_ns))
        carry_out(station, output)

    network.carry_out = noted  # type: ignore[method-assign]
    lost = packet(A1, B1, b"lost")
    switch(network.a.host.core, context, OTHER, Cause.NOTHING_HEARD, lost, silent_ns=7)
    network.give(network.a, TimePassed())
    network.run(SECOND)
    times_ms = [0, 40, 120, 280]
    assert again == [
        (at_ms * MILLISECOND, SendAgain(label, lost), 0 if at_ms else 7) for at_ms in times_ms
    ]
    assert context.repeating == b""
    assert context.repeats == 0


# --- better pairs ---------------------------------------------------------------------------------


def test_a_pair_that_is_said_to_be_better_is_tried_each_half_minute() -> None:
    """At first as long as a search lasts, at doubling intervals; then for 200 ms each time."""
    network = settled()
    network.dead |= {(A2, B1), (A2, B2)}
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=frozenset({A1})))
    network.run(150 * SECOND)
    first_ms = [100, 1_100, 3_100, 7_100, 15_100, 25_100, 35_100, 45_100, 55_100]
    later_ms = [75_500, 90_500, 105_500, 120_500, 135_500]
    tries = [at for at in asks(network, (A2, B1)) if at]
    assert tries == first_ms + later_ms


def test_the_pair_that_was_left_because_of_marks_is_tried_ever_more_rarely() -> None:
    network = settled()
    network.a.in_use = network.b.in_use = True
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=frozenset({A1})))
    network.run(SECOND)
    assert network.a.context.pair == OTHER
    network.dead |= {(A1, B1), (A1, B2)}
    network.begin()
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.run(2_000 * SECOND)
    tries = [at for at in asks(network, FIRST) if at > 60_000]
    intervals = [(later - sooner) / 1_000 for sooner, later in pairwise(tries)]
    assert intervals[:4] == [120, 240, 300, 300]


# --- whether the peer has the context -------------------------------------------------------------


def test_a_context_in_doubt_is_tested_four_times_in_a_second_and_then_set_up_again() -> None:
    network = settled()
    doubt = unfounded(network)
    cut_off(network).begin()
    network.give(network.a, doubt)
    network.run(SECOND)
    assert rows(network, network.a, Code.UR) == [
        (at_ms, pair, number % 2 == 0)
        for number, at_ms in enumerate((0, 250, 500, 750))
        for pair in (FIRST, OTHER)
    ]
    assert state_of(network.a) is State.INIT_SENT
    assert rows(network, network.a, Code.INIT) == [(1_000, FIRST, PLAIN)]


@pytest.mark.parametrize(("delay_ms", "after_ms"), [(375, 1_000), (400, 1_050)])
def test_a_slow_peer_gets_a_quarter_of_a_second_more_than_two_round_trips(
    delay_ms: int, after_ms: int
) -> None:
    network = with_one_locator_each()
    network.delay_ns = delay_ms // 2 * MILLISECOND + delay_ms % 2 * MILLISECOND // 2
    settled(network)
    doubt = unfounded(network)
    cut_off(network).begin()
    network.give(network.a, doubt)
    network.run(2 * SECOND)
    assert rows(network, network.a, Code.INIT)[0][0] == after_ms


def test_an_aid_that_the_peer_has_not_proven_is_asked_eight_times() -> None:
    """From each locator of ours in turn, that of the AID first, and from each in both forms."""
    network = Timetable()
    network.dead |= {(one, B1) for one in (A1, A2)}
    sending(network)
    network.run(3 * SECOND)
    assert not network.a.context.aid_proven
    network.run(40 * SECOND)
    found = [
        one[:3]
        for one in network.sent(network.a, Code.UR)
        if one[1][1] == B1 and one[3].flags == Flag.ANSWER_HERE
    ]
    began_ms = found[0][0]
    sources = [A1, A1, A2, A2] * 2
    offsets_ms = [0, 250, 750, 1_750, 3_750, 7_750, 15_750, 31_750]
    assert [(at - began_ms, pair, form) for at, pair, form in found] == [
        (at_ms, (source, B1), number % 2 == 0)
        for number, (at_ms, source) in enumerate(zip(offsets_ms, sources, strict=True))
    ]


# --- the DNS, and long packets --------------------------------------------------------------------


def test_the_dns_is_asked_again_after_a_transient_error_at_doubling_intervals() -> None:
    network = Timetable()
    network.dns_works = False
    network.a.in_use = True
    sending(network)
    asked: list[int] = []
    give = network.give

    def noted(station: Station, event: object) -> list[Output]:
        outputs = give(station, event)  # type: ignore[arg-type]
        if station is network.a and any(isinstance(one, AskDns) for one in outputs):
            asked.append((network.now_ns - network.began_ns) // MILLISECOND)
        return outputs

    network.give = noted  # type: ignore[method-assign]
    network.run(40 * SECOND)
    answered_ms = DNS_DELAY_NS // MILLISECOND
    waits = [later - sooner - answered_ms for sooner, later in pairwise(asked)]
    assert waits[:5] == [1_000, 2_000, 4_000, 8_000, 16_000]


def test_long_packets_are_tried_again_six_times_at_doubling_intervals() -> None:
    network = settled()
    network.mtu = 1_400
    assert is_shortened(network.a.host.core, network.a.context, packet(A1, B1, bytes(1_400)))
    network.give(network.a, TimePassed())
    network.run(1_300 * SECOND)
    offsets_ms = [10_000, 30_000, 70_000, 150_000, 310_000, 630_000]
    long = [(at / MILLISECOND, len(one)) for at, one in network.left if len(one) > 1_400]
    spread_ms = 0.5
    assert long == [
        (at_ms + spread_ms * (number + 1), 1_440) for number, at_ms in enumerate(offsets_ms)
    ]


# --- measurements ---------------------------------------------------------------------------------


def test_a_measurement_goes_once_over_each_pair_that_may_be_used() -> None:
    network = settled()
    label = network.a.context.local_label
    network.give(network.a, MeasurePairs(label, (FIRST, OTHER, (A1, A2), (B1, B2)), here=True))
    assert rows(network, network.a, Code.UR) == [(0, FIRST, SLOT), (0, OTHER, SLOT)]
    assert {one[3].flags for one in network.sent(network.a, Code.UR)} == {Flag.ANSWER_HERE}


def test_a_context_that_is_gone_has_no_timer() -> None:
    network = settled()
    core, context = network.a.host.core, network.a.context
    discard(core, context, Trigger.NO_ROOM, Cause.NO_ROOM)
    assert not any(core.is_timer_set(context, timer) for timer in Timer)
    keep_sending(network, SECOND)
