# SPDX-License-Identifier: MIT
"""Reports as people and programs read them."""

import json
import logging
import re
from typing import get_args

import pytest

from noid.constants import LOCATORS_MAX, SECOND
from noid.control.reports import (
    LEVELS,
    Event,
    context_report,
    event_of,
    pair_text,
    shares_report,
)
from noid.control.schema import ANSWER_OCTETS_MAX, ROWS_PER_LINE
from noid.counters import Drop
from noid.dns.records import Kind, Question
from noid.engine.causes import Cause
from noid.engine.events import (
    AskDns,
    CheckData,
    CheckIdle,
    DeliverToUlp,
    Dropped,
    InstallFlow,
    LocatorsVerified,
    NoteHeard,
    Output,
    PairMeasured,
    PeerDoubts,
    PeerUnable,
    ProbeStarted,
    RememberLater,
    RemoveFlow,
    SendAgain,
    SendControl,
    SourceNotCovered,
    StateChanged,
    Switched,
    UnwatchPeer,
    WatchPeer,
    WidenPath,
)
from noid.engine.state import State
from noid.identifiers import Label
from noid.shares.policy import POLICY, Standing
from noid.text import line_of
from tests.engine.network import A1, A2, B1, B2, established

REPORTS: list[tuple[Output, Event, str]] = [
    (
        StateChanged(A1, B1, State.CCR_SENT, State.ESTABLISHED, Cause.CONF_RECEIVED),
        {
            "event": "state_changed",
            "local_aid": "2001:db8:1:a::a",
            "peer_aid": "2001:db8:1:b::b",
            "old": "ccr-sent",
            "new": "established",
            "cause": "conf_received",
            "why": "CONF received",
        },
        "state changed: local_aid=2001:db8:1:a::a peer_aid=2001:db8:1:b::b "
        "old=ccr-sent new=established why=CONF received",
    ),
    (
        Switched(A1, B1, (A1, B1), (A2, B2), Cause.NOTHING_HEARD),
        {
            "event": "switched",
            "local_aid": "2001:db8:1:a::a",
            "peer_aid": "2001:db8:1:b::b",
            "old": "2001:db8:1:a::a -> 2001:db8:1:b::b",
            "new": "2001:db8:2:a::a -> 2001:db8:2:b::b",
            "cause": "nothing_heard",
            "why": "nothing heard",
        },
        "switched: local_aid=2001:db8:1:a::a peer_aid=2001:db8:1:b::b "
        "old=2001:db8:1:a::a -> 2001:db8:1:b::b new=2001:db8:2:a::a -> 2001:db8:2:b::b "
        "why=nothing heard",
    ),
    (
        ProbeStarted(A1, B1, Cause.NOTHING_HEARD, ((A1, B1), (A2, B2))),
        {
            "event": "probe_started",
            "local_aid": "2001:db8:1:a::a",
            "peer_aid": "2001:db8:1:b::b",
            "pairs": [
                "2001:db8:1:a::a -> 2001:db8:1:b::b",
                "2001:db8:2:a::a -> 2001:db8:2:b::b",
            ],
            "cause": "nothing_heard",
            "why": "nothing heard",
        },
        "probe started: local_aid=2001:db8:1:a::a peer_aid=2001:db8:1:b::b "
        "pairs=2001:db8:1:a::a -> 2001:db8:1:b::b,2001:db8:2:a::a -> 2001:db8:2:b::b "
        "why=nothing heard",
    ),
    (
        LocatorsVerified(B1, "b.example", (B1, B2)),
        {
            "event": "locators_verified",
            "peer_aid": "2001:db8:1:b::b",
            "peer_name": "b.example",
            "verified": ["2001:db8:1:b::b", "2001:db8:2:b::b"],
        },
        "locators verified: peer_aid=2001:db8:1:b::b peer_name=b.example "
        "verified=2001:db8:1:b::b,2001:db8:2:b::b",
    ),
    (
        PeerUnable(B1, Cause.NO_ANSWER_TO_INIT),
        {
            "event": "peer_unable",
            "peer_aid": "2001:db8:1:b::b",
            "cause": "no_answer_to_init",
            "why": "no answer to INIT",
        },
        "peer unable: peer_aid=2001:db8:1:b::b why=no answer to INIT",
    ),
    (
        SourceNotCovered(A2, B1),
        {
            "event": "source_not_covered",
            "source": "2001:db8:2:a::a",
            "peer_aid": "2001:db8:1:b::b",
            "why": "it is no locator of this host",
        },
        "source not covered: source=2001:db8:2:a::a peer_aid=2001:db8:1:b::b "
        "why=it is no locator of this host",
    ),
    (
        Dropped(Drop.WRONG_CHECKSUM),
        {"event": "dropped", "reason": "wrong_checksum", "why": "wrong checksum"},
        "dropped: reason=wrong_checksum why=wrong checksum",
    ),
    (
        Dropped(Drop.TRUNCATED, "truncated nonce"),
        {"event": "dropped", "reason": "truncated", "why": "truncated nonce"},
        "dropped: reason=truncated why=truncated nonce",
    ),
]
ORDERS: list[Output] = [
    SendControl(b""),
    DeliverToUlp(b""),
    WatchPeer(B1),
    UnwatchPeer(B1),
    InstallFlow(established().a.context.flow()),
    RemoveFlow(Label(1)),
    SendAgain(Label(1), b""),
    CheckData(Label(1), 2, 3),
    CheckIdle(Label(1)),
    NoteHeard(Label(1)),
    RememberLater(Label(1)),
    PairMeasured(Label(1), (A1, B1), 1),
    PeerDoubts(Label(1)),
    WidenPath(A1),
    AskDns(Question(Kind.NAMES, "b.example")),
]


@pytest.mark.parametrize(("output", "event", "line"), REPORTS)
def test_a_report_is_an_event_and_a_line(output: Output, event: Event, line: str) -> None:
    assert event_of(output) == event
    assert line_of(event) == line


@pytest.mark.parametrize("output", ORDERS)
def test_an_order_is_no_event(output: Output) -> None:
    assert event_of(output) is None


def test_every_output_is_a_report_or_an_order() -> None:
    listed = {type(output) for output, _, _ in REPORTS} | {type(output) for output in ORDERS}
    assert listed == set(get_args(Output))


def test_every_report_has_a_level() -> None:
    assert {event["event"] for _, event, _ in REPORTS} == set(LEVELS)
    assert set(LEVELS.values()) <= {logging.DEBUG, logging.INFO, logging.WARNING}


def test_the_time_of_an_event_is_not_said_again_in_its_line() -> None:
    assert line_of({"event": "dropped", "at_ns": 5, "reason": "why"}) == "dropped: reason=why"


def test_a_pair_is_written_from_source_to_destination() -> None:
    assert pair_text((A1, B2)) == "2001:db8:1:a::a -> 2001:db8:2:b::b"


def test_a_context_is_shown_with_its_sets() -> None:
    network = established()
    network.run(SECOND)
    context = network.a.context
    report = context_report(context)
    assert report == {
        "state": "established",
        "local_aid": "2001:db8:1:a::a",
        "peer_aid": "2001:db8:1:b::b",
        "peer_name": "b.example",
        "local_locator": "2001:db8:1:a::a",
        "peer_locator": "2001:db8:1:b::b",
        "local_label": context.local_label,
        "peer_label": context.peer_label,
        "ls_local": ["2001:db8:1:a::a", "2001:db8:2:a::a"],
        "lsl_peer": ["2001:db8:1:b::b", "2001:db8:2:b::b"],
        "lsr_peer": ["2001:db8:1:b::b", "2001:db8:2:b::b"],
        "lsv_peer": ["2001:db8:1:b::b", "2001:db8:2:b::b"],
        "round_trip_us": 20000,
        "peer_birthday": network.b.host.options.birthday,
    }
    sets = {key: ["x" * 39] * LOCATORS_MAX for key in report if key.startswith("ls")}
    longest = {**report, **sets, "peer_name": "x" * 255}
    assert ROWS_PER_LINE * len(json.dumps(longest)) < ANSWER_OCTETS_MAX


def test_the_keys_of_shares_are_identifiers_and_differ() -> None:
    report = shares_report(Standing(row, 1, 0, {}, {}) for row in POLICY)
    assert len(report) == len(POLICY)
    assert [key for key in report if not re.fullmatch(r"[a-z][a-z0-9_]*", key)] == []
