# SPDX-License-Identifier: MIT
"""Formats facts of the engine and the daemon as JSON objects and log lines."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from noid.constants import NO_USER
from noid.control.uplinks import TEXTS, Change, Health
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.events import (
    Dropped,
    LocatorsVerified,
    Output,
    PeerUnable,
    ProbeStarted,
    SourceNotCovered,
    StateChanged,
    Switched,
)
from noid.locators import LOCATOR_OCTETS, Locator, format_locator
from noid.shares.policy import LOCAL_USER, Standing
from noid.text import duration

Event = dict[str, Any]
LOCATOR_BITS = 8 * LOCATOR_OCTETS

LEVELS = {
    "state_changed": logging.DEBUG,
    "switched": logging.DEBUG,
    "probe_started": logging.DEBUG,
    "locators_verified": logging.DEBUG,
    "peer_unable": logging.DEBUG,
    "source_not_covered": logging.WARNING,
    "dropped": logging.DEBUG,
}
"""The log level of each event: events of single contexts and packets are DEBUG; for states of
uplinks, see ``uplink_line``."""


def pair_text(pair: tuple[Locator, Locator]) -> str:
    """A pair of locators as text."""
    return f"{format_locator(pair[0])} -> {format_locator(pair[1])}"


def event_of(output: Output) -> Event | None:
    """The event that an output reports, or None if the output is an order."""
    match output:
        case StateChanged():
            return {
                "event": "state_changed",
                "local_aid": format_locator(output.local_aid),
                "peer_aid": format_locator(output.peer_aid),
                "old": output.old.value,
                "new": output.new.value,
                **_cause(output.why),
            }
        case Switched():
            return {
                "event": "switched",
                "local_aid": format_locator(output.local_aid),
                "peer_aid": format_locator(output.peer_aid),
                "old": pair_text(output.old),
                "new": pair_text(output.new),
                **_cause(output.why),
            }
        case ProbeStarted():
            return {
                "event": "probe_started",
                "local_aid": format_locator(output.local_aid),
                "peer_aid": format_locator(output.peer_aid),
                "pairs": [pair_text(pair) for pair in output.pairs],
                **_cause(output.why),
            }
        case LocatorsVerified():
            return {
                "event": "locators_verified",
                "peer_aid": format_locator(output.peer_aid),
                "peer_name": output.name,
                "verified": [format_locator(locator) for locator in output.verified],
            }
        case PeerUnable():
            return {
                "event": "peer_unable",
                "peer_aid": format_locator(output.peer_aid),
                **_cause(output.why),
            }
        case SourceNotCovered():
            return {
                "event": "source_not_covered",
                "source": format_locator(output.source),
                "peer_aid": format_locator(output.peer_aid),
                "why": "it is no locator of this host",
            }
        case Dropped():
            why = output.text or output.reason.description
            return {"event": "dropped", "reason": output.reason.identifier, "why": why}
        case _:
            return None


def _cause(cause: Cause) -> Event:
    """A cause for programs and for people."""
    return {"cause": cause.identifier, "why": cause.value}


def uplink_line(change: Change) -> tuple[int, str]:
    """A change of an uplink as one log line, and its level."""
    if change.new is Health.UP:
        before = f"it was {change.old} for {duration(change.lasted_s)}"
        return logging.INFO, f"uplink {change.uplink} is up: {before}"
    return logging.WARNING, f"uplink {change.uplink} is {change.new}: {TEXTS[change.reason]}"


def shares_report(standings: Iterable[Standing]) -> dict[str, dict[str, Any]]:
    """The largest users of shared tables and rates, as ``noid status --json`` shows them.

    The keys are the names of the rows, written as identifiers.
    """
    return {
        one.row.name.lower().replace(" ", "_"): {
            "limit": one.limit,
            "used": one.used,
            "largest": _largest(one),
        }
        for one in standings
    }


def _largest(standing: Standing) -> dict[str, int]:
    """Counts by local user or by prefix, as text."""
    if standing.row.user == LOCAL_USER:
        return {_user(user): count for user, count in standing.regions.items()}
    return _prefixes(standing.largest, 48) | _prefixes(standing.regions, 32)


def _user(user: int) -> str:
    return "unknown user" if user == NO_USER else f"user {user}"


def _prefixes(counts: Mapping[int, int], bits: int) -> dict[str, int]:
    """Counts by prefix, as text."""

    def text(user: int) -> str:
        address = Locator((user << LOCATOR_BITS - bits).to_bytes(LOCATOR_OCTETS, "big"))
        return f"{format_locator(address)}/{bits}"

    return {text(user): count for user, count in counts.items()}


def context_report(context: Context) -> dict[str, Any]:
    """One context as ``noid contexts --json`` shows it; the sets have the draft's meaning."""
    return {
        "state": context.state.value,
        "local_aid": format_locator(context.local_aid),
        "peer_aid": format_locator(context.peer_aid),
        "peer_name": context.verification.name,
        "local_locator": format_locator(context.local_locator),
        "peer_locator": format_locator(context.peer_locator),
        "local_label": context.local_label,
        "peer_label": context.peer_label,
        "ls_local": [format_locator(locator) for locator in context.own_set],
        "lsl_peer": [format_locator(locator) for locator in context.peer_local],
        "lsr_peer": [format_locator(locator) for locator in context.peer_remote],
        "lsv_peer": [
            format_locator(locator)
            for locator in context.peer_set
            if locator in context.peer_verified
        ],
        "round_trip_us": context.round_trip_ns // 1000,
        "peer_birthday": context.peer_birthday,
    }
