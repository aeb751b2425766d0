# SPDX-License-Identifier: MIT
"""Stores the uplinks of this host and their last locators, in the state directory.

A daemon that starts while a provider is down learns of it from this file.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

from noid.errors import UsageError
from noid.locators import Locator, format_locator, is_global_unicast, parse_locator
from noid.state import files
from noid.state.files import DamagedError

FILE_NAME: Final = "known_uplinks.json"
OCTETS_MAX: Final = 262_144
"""The maximum size of the file; a longer one is not ours."""
KNOWN_MAX: Final = 64
"""The maximum of stored uplinks."""
LOCATORS_MAX: Final = 64
"""The maximum of stored locators of an uplink."""
Name = Annotated[str, msgspec.Meta(max_length=64)]


class KnownUplink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One uplink.

    Attributes:
        interface: its interface.
        locators: its last locators, as text.
        seen_s: when it last had one of them, in seconds since 1970.
        start: of the system in which it had one when uplinks had had time to appear, by
            ``system_start``; otherwise empty.
    """

    interface: Name
    locators: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=LOCATORS_MAX)]
    seen_s: float
    start: Annotated[str, msgspec.Meta(max_length=64)] = ""

    @property
    def parsed(self) -> tuple[Locator, ...]:
        """The locators."""
        return tuple(map(parse_locator, self.locators))


KnownUplinks = Mapping[str, KnownUplink]
"""Uplinks by name."""


def known_uplink(
    interface: str, locators: tuple[Locator, ...], seen_s: float, start: str
) -> KnownUplink:
    """An uplink as it is stored."""
    texts = tuple(map(format_locator, locators[:LOCATORS_MAX]))
    return KnownUplink(interface=interface, locators=texts, seen_s=seen_s, start=start)


def load_uplinks(directory: Path) -> tuple[KnownUplinks, str]:
    """The stored uplinks, and the error of the file or an empty text."""
    effect = "uplinks of an earlier daemon are not known"
    found, why = files.load(directory / FILE_NAME, OCTETS_MAX, _decoded, effect)
    return found or {}, why


def keep_uplinks(directory: Path, known: KnownUplinks) -> None:
    """Stores uplinks durably.

    Raises:
        PlatformError: the disk cannot be written.
    """
    files.keep(directory / FILE_NAME, msgspec.json.encode(known) + b"\n")


def _decoded(octets: bytes) -> KnownUplinks:
    """Parses the content of the file.

    Raises:
        DamagedError: it is not valid.
    """
    try:
        found = msgspec.json.decode(octets, type=dict[Name, KnownUplink])
        for locator in itertools.chain.from_iterable(one.parsed for one in found.values()):
            if not is_global_unicast(locator):
                raise DamagedError(f"{format_locator(locator)} is no locator")
    except (ValueError, RecursionError, UsageError) as error:
        raise DamagedError(str(error)) from None
    if len(found) > KNOWN_MAX:
        raise DamagedError(f"it has {len(found)} uplinks")
    return found
