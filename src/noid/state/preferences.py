# SPDX-License-Identifier: MIT
"""Stores which uplinks the operator prefers or avoids, in the state directory.

``noid use``, ``noid avoid`` and ``noid auto`` change it; it persists over a
restart of the daemon and of the host.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from noid.state import files
from noid.state.files import DamagedError

FILE_NAME: Final = "uplinks.json"
OCTETS_MAX: Final = 16_384
"""The maximum size of the file; a longer one is not ours."""
AVOIDED_MAX: Final = 64
"""The maximum of avoided uplinks."""
NAME_OCTETS_MAX: Final = 64
"""The maximum length of an uplink's name: an interface and a prefix."""


class Preferences(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The preferences of the operator for uplinks.

    Attributes:
        use: the preferred uplink; empty if there is none.
        avoid: the avoided uplinks, and when that ends, in seconds since 1970; None if it has no
            end.
    """

    use: str = ""
    avoid: Mapping[str, float | None] = msgspec.field(default_factory=dict)

    def at(self, now_s: float) -> "Preferences":
        """The preferences in effect at a time."""
        left = {name: at_s for name, at_s in self.avoid.items() if at_s is None or at_s > now_s}
        return msgspec.structs.replace(self, avoid=left)


def load_preferences(directory: Path) -> tuple[Preferences, str]:
    """The stored preferences, and the error of the file or an empty text."""
    effect = "no uplink is avoided"
    found, why = files.load(directory / FILE_NAME, OCTETS_MAX, _decoded, effect)
    return found or Preferences(), why


def keep_preferences(directory: Path, wanted: Preferences) -> None:
    """Stores preferences durably.

    Raises:
        PlatformError: the disk cannot be written.
    """
    files.keep(directory / FILE_NAME, msgspec.json.encode(wanted) + b"\n")


def _decoded(octets: bytes) -> Preferences:
    """Parses the content of the file.

    Raises:
        DamagedError: it is not valid.
    """
    try:
        found = msgspec.json.decode(octets, type=Preferences)
    except (ValueError, RecursionError) as error:
        raise DamagedError(str(error)) from None
    if len(found.avoid) > AVOIDED_MAX:
        raise DamagedError(f"it avoids {len(found.avoid)} uplinks")
    if not all(len(name.encode()) <= NAME_OCTETS_MAX for name in (found.use, *found.avoid)):
        raise DamagedError("the name of an uplink is too long")
    if not all(at_s is None or math.isfinite(at_s) for at_s in found.avoid.values()):
        raise DamagedError("a time out of range")
    return found
