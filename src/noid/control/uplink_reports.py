# SPDX-License-Identifier: MIT
"""Formats uplinks, their changes and the switches of contexts as JSON [docs/json.md]."""

from collections.abc import Mapping
from typing import Any

from noid.control.uplinks import TEXTS, Change, Reason, Switch, Uplink
from noid.locators import Locator, format_locator


def switch_report(switch: Switch) -> dict[str, Any]:
    """A switch as JSON."""
    return {
        "at": round(switch.at_s, 3),
        "peer_aid": format_locator(switch.peer_aid),
        "old_local_locator": format_locator(switch.old[0]),
        "old_peer_locator": format_locator(switch.old[1]),
        "new_local_locator": format_locator(switch.new[0]),
        "new_peer_locator": format_locator(switch.new[1]),
        "why": switch.why,
    }


def uplink_report(
    uplink: Uplink, contexts: Mapping[Locator, int], octets: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    """An uplink as ``noid paths --json`` shows it.

    Args:
        uplink: the uplink.
        contexts: the number of contexts that send from each of our locators.
        octets: all octets received and sent by each interface; see docs/json.md.
    """
    received, sent = octets.get(uplink.interface, (0, 0))
    return {
        "uplink": uplink.name,
        "interface": uplink.interface,
        "locators": [format_locator(one) for one in uplink.locators],
        "state": uplink.health.value,
        "since": round(uplink.since_s, 3),
        "reason": uplink.reason.value,
        "deprecated": uplink.deprecated,
        "backup": uplink.backup,
        "preference": uplink.preference,
        "until": None if uplink.until_s is None else round(uplink.until_s, 3),
        "priority": uplink.priority,
        "weight": uplink.weight,
        "share": uplink.share,
        "round_trip_us": uplink.round_trip_ns // 1000 or None,
        "loss": uplink.loss,
        "contexts": sum(contexts.get(one, 0) for one in uplink.locators),
        "received_octets": received,
        "sent_octets": sent,
        "switches_from": uplink.switches_from,
        "switches_to": uplink.switches_to,
        "last_switches": [switch_report(one) for one in uplink.last],
    }


def change_event(change: Change) -> dict[str, Any]:
    """A change as JSON, for monitors, scripts in events.d and ``noid history``."""
    return {
        "event": "uplink_changed",
        "at": round(change.at_s, 3),
        "uplink": change.uplink,
        "old": change.old.value,
        "new": change.new.value,
        "reason": change.reason.value,
        "lasted_s": round(change.lasted_s, 3),
    }


def reason_text(identifier: str) -> str:
    """A reason as text; an unknown reason of a newer daemon is returned unchanged."""
    try:
        return TEXTS[Reason(identifier)]
    except ValueError:
        return identifier
