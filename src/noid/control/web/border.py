# SPDX-License-Identifier: MIT
"""The content of the page for a border: providers as uplinks, switches, prefixes and counts."""

from collections.abc import Mapping, Sequence
from typing import Any

from noid.counters import BorderCounter

PREFIXES_SHOWN_MAX = 64
PREFIX_KEYS = ("prefix", "provider", "leaves_by")


def is_border(status: Mapping[str, Any]) -> bool:
    """Whether a status is that of a border, and not of a host."""
    return "providers" in status


def border_facts(status: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One snapshot.

    Args:
        status: as ``noid border status --json``.
        events: as ``noid border history --json``.
    """
    counters = status["counters"]
    return {
        "now": status["now"],
        "host": status["name"],
        "uplinks": [_uplink(one) for one in status["providers"]],
        "events": [_event(one) for one in events],
        "use": status["use"],
        "switches": status["switches"],
        "prefixes": [
            {key: one[key] for key in PREFIX_KEYS}
            for one in status["prefixes"][:PREFIXES_SHOWN_MAX]
        ],
        "counts": [[one.description, counters[one.identifier]] for one in BorderCounter],
        "troubles": status["troubles"],
    }


def _uplink(provider: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "uplink": provider["provider"],
        "state": "up" if provider["works"] else "down",
        "since": provider["since"],
        "reason_text": provider["why"],
        "device": provider["uplink"],
        "gateway": provider["gateway"],
        "priority": provider["priority"],
        "weight": provider["weight"],
    }


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event; the change of a provider in the form of the change of an uplink of a host."""
    if event["event"] != "provider_changed":
        return dict(event)
    kept = {key: event[key] for key in ("at", "old", "new", "lasted_s")}
    return {
        **kept,
        "event": "uplink_changed",
        "uplink": event["provider"],
        "reason_text": event["why"],
    }
