# SPDX-License-Identifier: MIT
"""The health of uplinks, by what the host and its peers say."""

from collections.abc import Callable

import pytest

from noid.control.uplink_reports import change_event, uplink_report
from noid.control.uplinks import (
    LOSS_DEGRADED,
    LOST_MIN,
    PARTLY_SILENT_ROUNDS,
    SAMPLES_MAX,
    SAMPLES_MIN,
    SETTLING_S,
    SWITCHES_SHOWN_MAX,
    TEXTS,
    UPLINKS_MAX,
    Asked,
    Change,
    Health,
    Reason,
    Sighting,
    Switch,
    Uplinks,
)
from noid.locators import Locator, parse_locator
from tests.contents import differences
from tests.engine.network import A1, A2, B1, B2

MS = 1_000_000
BOTH = Asked({A1: 20 * MS, A2: 30 * MS}, frozenset())
FIRST_SILENT = Asked({A2: 30 * MS}, frozenset({A1}))
NO_ANSWER = Asked({}, frozenset({A1, A2}))


def sighting(name: str, *locators: Locator, **facts: object) -> Sighting:
    plain = Sighting(name, is_up=True, carries=True, locators=locators)
    return plain._replace(**facts)  # type: ignore[arg-type] # facts of a sighting


UP1, UP2 = sighting("up1", A1), sighting("up2", A2)


def two() -> Uplinks:
    uplinks = Uplinks()
    assert uplinks.see([UP1, UP2], 100.0) == []
    return uplinks


def state(uplinks: Uplinks, name: str = "up1") -> tuple[Health, Reason]:
    return uplinks.by_name[name].health, uplinks.by_name[name].reason


def loss(uplinks: Uplinks) -> float | None:
    return uplinks.by_name["up1"].loss


def test_an_uplink_with_a_locator_is_up_since_it_was_seen() -> None:
    uplinks = two()
    assert state(uplinks) == state(uplinks, "up2") == (Health.UP, Reason.NONE)
    assert uplinks.by_name["up1"].since_s == 100.0


def test_a_lost_carrier_is_a_change_and_its_return_another() -> None:
    uplinks = two()
    (change,) = uplinks.lose("up1", is_up=True, now_s=160.0)
    assert change == Change(160.0, "up1", Health.UP, Health.DOWN, Reason.NO_CARRIER, 60.0)
    assert uplinks.lose("up1", is_up=True, now_s=161.0) == []
    (change,) = uplinks.see([UP1, UP2], 170.0)
    assert change == Change(170.0, "up1", Health.DOWN, Health.UP, Reason.NONE, 10.0)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ([UP2], Reason.INTERFACE_DOWN),
        ([sighting("up1", A1, is_up=False, carries=False), UP2], Reason.INTERFACE_DOWN),
        ([sighting("up1", A1, carries=False), UP2], Reason.NO_CARRIER),
        ([sighting("up1", carries=False), UP2], Reason.NO_CARRIER),
        ([sighting("up1"), UP2], Reason.NO_ADDRESS),
        ([sighting("up1", A1, broken=frozenset({A1})), UP2], Reason.NO_ROUTE),
    ],
)
def test_what_the_host_says_is_believed_at_once(seen: list[Sighting], reason: Reason) -> None:
    uplinks = two()
    (change,) = uplinks.see(seen, 110.0)
    assert (change.uplink, change.new, change.reason) == ("up1", Health.DOWN, reason)
    assert uplinks.judge([BOTH], 111.0) == [], "no answer says otherwise"
    (change,) = uplinks.see([UP1, UP2], 120.0)
    assert change.new is Health.UP


def test_another_reason_for_the_same_state_is_no_change() -> None:
    uplinks = two()
    uplinks.lose("up1", is_up=True, now_s=110.0)
    assert uplinks.lose("up1", is_up=False, now_s=111.0) == []
    assert state(uplinks) == (Health.DOWN, Reason.INTERFACE_DOWN)
    assert uplinks.by_name["up1"].since_s == 110.0


def test_an_uplink_over_which_no_peer_answers_is_down_until_one_does() -> None:
    uplinks = two()
    (change,) = uplinks.judge([FIRST_SILENT, FIRST_SILENT], 110.0)
    assert (change.uplink, change.new, change.reason) == ("up1", Health.DOWN, Reason.SILENT)
    assert uplinks.see([UP1, UP2], 111.0) == [], "the host sees no fault"
    (change,) = uplinks.judge([BOTH, FIRST_SILENT], 112.0)
    assert change.new is Health.UP


def test_a_peer_that_answers_over_no_uplink_is_not_counted() -> None:
    uplinks = two()
    assert uplinks.judge([NO_ANSWER] * 4, 110.0) == []
    assert state(uplinks) == (Health.UP, Reason.NONE)


def test_a_sample_that_was_repeated_counts_as_lost() -> None:
    uplinks = two()
    assert uplinks.sample(A1, 20 * MS, 110.0, is_lost=True) == []
    assert list(uplinks.by_name["up1"].samples) == [False]


def test_an_uplink_is_degraded_after_some_peers_do_not_answer_twice() -> None:
    uplinks = two()
    for _ in range(PARTLY_SILENT_ROUNDS - 1):
        assert uplinks.judge([BOTH, FIRST_SILENT], 110.0) == []
    (change,) = uplinks.judge([BOTH, FIRST_SILENT], 111.0)
    assert (change.new, change.reason) == (Health.DEGRADED, Reason.PARTLY_SILENT)
    (change,) = uplinks.judge([BOTH, BOTH], 112.0)
    assert change.new is Health.UP


def test_an_uplink_with_loss_is_degraded_until_the_loss_is_half_of_the_limit() -> None:
    uplinks = two()
    for number in range(1, SAMPLES_MIN):
        uplinks.sample(A1, 20 * MS, 110.0, is_lost=number < LOST_MIN)
    assert loss(uplinks) is None
    assert uplinks.sample(A1, 20 * MS, 111.0, is_lost=False) == [], "two may be lost by chance"
    (change,) = uplinks.sample(A1, 20 * MS, 111.0, is_lost=True)
    assert loss(uplinks) == LOST_MIN / (SAMPLES_MIN + 1)
    assert (change.new, change.reason) == (Health.DEGRADED, Reason.LOSS)
    changes: list[Change] = []
    while not changes:
        changes = uplinks.sample(A1, 20 * MS, 113.0, is_lost=False)
    assert changes[0].new is Health.UP
    assert (uplinks.by_name["up1"].loss or 0.0) < LOSS_DEGRADED / 2


def test_loss_is_that_of_the_last_measurements() -> None:
    uplinks = two()
    for _ in range(SAMPLES_MAX + 1):
        uplinks.sample(A1, 20 * MS, 110.0, is_lost=False)
    assert len(uplinks.by_name["up1"].samples) == SAMPLES_MAX


def test_round_trips_are_smoothed() -> None:
    uplinks = two()
    uplinks.sample(A1, 20 * MS, 110.0, is_lost=False)
    assert uplinks.by_name["up1"].round_trip_ns == 20 * MS
    uplinks.sample(A1, 100 * MS, 111.0, is_lost=False)
    assert uplinks.by_name["up1"].round_trip_ns == 30 * MS


def test_the_prefixes_of_two_providers_on_one_interface_are_two_uplinks() -> None:
    uplinks = Uplinks()
    uplinks.see([sighting("eth0", A1, A2)], 100.0)
    assert list(uplinks.by_name) == ["eth0/2001:db8:1:a", "eth0/2001:db8:2:a"]
    assert uplinks.judge([FIRST_SILENT], 101.0)[0].uplink == "eth0/2001:db8:1:a"


def test_an_uplink_stays_what_it_is_when_another_prefix_comes_and_goes() -> None:
    """Renumbering, and a private prefix of the router: the interface has two uplinks for a time."""
    uplinks = Uplinks()
    uplinks.see([sighting("eth0", A1)], 0)
    one = uplinks.by_name["eth0"]
    assert uplinks.see([sighting("eth0", A2, A1)], 1) == []
    named, other = (f"eth0/2001:db8:{number}:a" for number in (1, 2))
    assert uplinks.by_name == {named: one, other: uplinks.of(A2)}
    assert (one.name, one.since_s) == (named, 0)
    (change,) = uplinks.see([sighting("eth0", A1)], 2)
    assert (change.uplink, change.new) == (other, Health.DOWN)
    assert uplinks.by_name["eth0"] is one


def test_the_number_of_uplinks_is_limited_and_the_longest_missing_is_removed() -> None:
    uplinks = Uplinks()
    for number in range(2 * UPLINKS_MAX):
        one = parse_locator(f"2001:db8:1:{number:x}::1")
        uplinks.see([sighting(f"up{number}", one)], 100.0 + number)
    assert len(uplinks.by_name) == UPLINKS_MAX
    assert f"up{2 * UPLINKS_MAX - 1}" in uplinks.by_name
    many = [
        sighting(f"eth{number}", parse_locator(f"2001:db8:{number:x}::1"))
        for number in range(2 * UPLINKS_MAX)
    ]
    uplinks.see(many, 500.0)
    assert len(uplinks.by_name) == UPLINKS_MAX


@pytest.mark.parametrize("seen", [[UP1, UP2], [UP2]], ids=["there", "missing"])
def test_an_uplink_that_is_not_kept_is_not_judged_any_more(seen: list[Sighting]) -> None:
    uplinks = two()
    uplinks.see(seen, 101.0)
    uplinks.keep(lambda one: one.name == "up2")
    assert list(uplinks.by_name) == ["up2"]
    assert uplinks.judge([FIRST_SILENT], 102.0) == []
    assert uplinks.of(A1) is None


def test_an_uplink_whose_address_is_on_another_one_now_is_no_uplink_any_more() -> None:
    uplinks = two()
    assert [one.uplink for one in uplinks.see([UP2], 101.0)] == ["up1"]
    assert uplinks.see([sighting("up1"), UP2, sighting("br0", A1)], 102.0) == []
    assert list(uplinks.by_name) == ["up2", "br0"]
    assert uplinks.of(A1) is uplinks.by_name["br0"]


def test_a_switch_counts_for_the_uplink_left_and_for_the_one_taken() -> None:
    uplinks = two()
    switch = Switch(110.0, B1, (A1, B1), (A2, B2), "nothing heard")
    for _ in range(SWITCHES_SHOWN_MAX + 1):
        uplinks.switched(switch)
    assert uplinks.by_name["up1"].switches_from == SWITCHES_SHOWN_MAX + 1
    assert uplinks.by_name["up2"].switches_to == SWITCHES_SHOWN_MAX + 1
    assert len(uplinks.by_name["up1"].last) == SWITCHES_SHOWN_MAX
    uplinks.switched(switch._replace(new=(A1, B2)))
    assert uplinks.by_name["up1"].switches_to == 0, "the peer's locator alone is another"


def test_a_report_has_every_key_from_the_start() -> None:
    uplink = two().by_name["up1"]
    assert uplink_report(uplink, {A1: 3}, {"up1": (10, 20)}) == {
        "uplink": "up1",
        "interface": "up1",
        "locators": ["2001:db8:1:a::a"],
        "state": "up",
        "since": 100.0,
        "reason": "",
        "deprecated": False,
        "backup": False,
        "preference": "",
        "until": None,
        "priority": 1,
        "weight": None,
        "share": None,
        "round_trip_us": None,
        "loss": None,
        "contexts": 3,
        "received_octets": 10,
        "sent_octets": 20,
        "switches_from": 0,
        "switches_to": 0,
        "last_switches": [],
    }


def test_a_change_is_an_event() -> None:
    change = Change(160.5, "up1", Health.UP, Health.DOWN, Reason.NO_CARRIER, 60.0)
    assert change_event(change) == {
        "event": "uplink_changed",
        "at": 160.5,
        "uplink": "up1",
        "old": "up",
        "new": "down",
        "reason": "no_carrier",
        "lasted_s": 60.0,
    }


def test_every_reason_has_a_text_for_people() -> None:
    assert set(TEXTS) == set(Reason)


def test_silence_just_after_a_link_returned_is_ignored() -> None:
    uplinks = two()
    uplinks.lose("up1", is_up=True, now_s=110.0)
    uplinks.see([UP1, UP2], 120.0)
    assert uplinks.judge([FIRST_SILENT], 120.0 + SETTLING_S / 2) == []
    (change,) = uplinks.judge([FIRST_SILENT], 120.0 + SETTLING_S)
    assert change.reason is Reason.SILENT


def test_silence_counts_although_the_clock_was_set_back_after_a_link_returned() -> None:
    uplinks = two()
    uplinks.lose("up1", is_up=True, now_s=7200.0)
    uplinks.see([UP1, UP2], 7201.0)
    (change,) = uplinks.judge([FIRST_SILENT], 3600.0)
    assert (change.reason, change.lasted_s) == (Reason.SILENT, 0.0)


INBOUND_DEAD = Asked(
    {A1: 20 * MS, A2: 30 * MS}, frozenset(), returned=frozenset({A2}), unreturned=frozenset({A1})
)
RETURNED = BOTH._replace(returned=frozenset({A1, A2}))


def test_an_uplink_over_which_nothing_arrives_is_degraded_until_an_answer_returns() -> None:
    uplinks = two()
    (change,) = uplinks.judge([INBOUND_DEAD], 110.0)
    assert (change.uplink, change.new) == ("up1", Health.DEGRADED)
    assert state(uplinks) == (Health.DEGRADED, Reason.INBOUND_SILENT)
    assert uplinks.judge([BOTH], 111.0) == [], "peers without the flag say nothing of it"
    assert uplinks.sample(A1, 20 * MS, 112.0, is_lost=False, returned=False) == []
    (change,) = uplinks.sample(A1, 20 * MS, 113.0, is_lost=False)
    assert change.new is Health.UP


def test_one_peer_whose_answer_returns_is_enough() -> None:
    uplinks = two()
    assert uplinks.judge([INBOUND_DEAD, RETURNED], 110.0) == []
    assert state(uplinks) == (Health.UP, Reason.NONE)


def test_an_uplink_that_sends_again_and_receives_nothing_is_degraded() -> None:
    uplinks = two()
    uplinks.judge([FIRST_SILENT], 110.0)
    (change,) = uplinks.judge([INBOUND_DEAD], 111.0)
    assert (change.old, change.new) == (Health.DOWN, Health.DEGRADED)
    assert change.reason is Reason.INBOUND_SILENT


# --- a second life --------------------------------------------------------------------------------

KEPT = frozenset(
    {"since_s", "settled_s", "round_trip_ns", "switches_from", "switches_to", "last", "is_there"}
)
"""Counts and times, and the round trip, which is measured again."""
OUTAGES: dict[str, Callable[[Uplinks], object]] = {
    "carrier": lambda uplinks: uplinks.lose("up1", is_up=True, now_s=200.0),
    "interface": lambda uplinks: uplinks.lose("up1", is_up=False, now_s=200.0),
    "device": lambda uplinks: uplinks.see([UP2], 200.0),
    "route": lambda uplinks: uplinks.see([UP1._replace(broken=frozenset({A1})), UP2], 200.0),
    "silence": lambda uplinks: uplinks.judge([FIRST_SILENT], 200.0),
}
"""Each ends the first uplink."""
HISTORIES: dict[str, Callable[[Uplinks], object]] = {
    "loss": lambda uplinks: [
        uplinks.sample(A1, 20 * MS, 150.0, is_lost=number % 2 == 0) for number in range(SAMPLES_MAX)
    ],
    "partly silent": lambda uplinks: uplinks.judge([BOTH, FIRST_SILENT], 150.0),
    "inbound silent": lambda uplinks: uplinks.judge([INBOUND_DEAD], 150.0),
}
"""What was found of it before."""


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("outage", OUTAGES)
def test_an_uplink_that_is_back_after_any_outage_is_as_a_new_one(outage: str, history: str) -> None:
    """What was found before an outage does not make its second life worse."""
    uplinks, new = two(), two().by_name["up1"]
    HISTORIES[history](uplinks)
    assert differences(uplinks.by_name["up1"], new, without=KEPT), "it has a history"
    OUTAGES[outage](uplinks)
    assert state(uplinks)[0] is Health.DOWN
    uplinks.see([UP1, UP2], 300.0)
    if outage == "silence":
        uplinks.judge([RETURNED], 300.0)
    assert differences(uplinks.by_name["up1"], new, without=KEPT) == {}
