# SPDX-License-Identifier: MIT
"""The events of the history for the page: many switches for one reason are one line."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

TOGETHER_S: Final = 10.0
"""Switches between the same locators of ours within this time are one line."""
ALIKE: Final = ("old_local_locator", "new_local_locator", "why")
"""The keys that such switches have in common."""


def grouped(events: Iterable[Mapping[str, Any]], most: int) -> list[dict[str, Any]]:
    """The last events, the newest first, of which several switches may be one ``switches``.

    Args:
        events: the events, the newest first.
        most: the maximum of returned events.
    """
    found: list[dict[str, Any]] = []
    for event in events:
        if found and _is_alike(found[-1], event):
            found[-1] = _joined(found[-1])
        elif len(found) == most:
            break
        else:
            found.append(dict(event))
    return found


def _is_alike(newer: Mapping[str, Any], older: Mapping[str, Any]) -> bool:
    return (
        newer["event"] in ("switched", "switches")
        and older["event"] == "switched"
        and newer["at"] - older["at"] <= TOGETHER_S
        and all(newer[key] == older[key] for key in ALIKE)
    )


def _joined(newer: Mapping[str, Any]) -> dict[str, Any]:
    """Adds a switch to one or several."""
    kept = {key: newer[key] for key in (*ALIKE, "at")}
    return {**kept, "event": "switches", "count": newer.get("count", 1) + 1}
