# SPDX-License-Identifier: MIT
"""The tables of a border's programs, as octets: what ``programs/border.h`` declares. Pure."""

import struct
from collections.abc import Sequence
from ipaddress import IPv6Network

from noid.constants import BORDER_INSIDE_MAX, BORDER_PREFIXES_MAX, Codepoints
from noid.flows.border import HIGH_OCTETS, NOWHERE, Choice, Site, SitePrefix

EDITION = 1
"""Of the layouts; the name of what is pinned has it."""
INSIDE = struct.Struct("=16s16s")
SETTINGS = struct.Struct(f"=IBB2x{BORDER_INSIDE_MAX * INSIDE.size}s")
PREFIX = struct.Struct(f"={HIGH_OCTETS}sI4x")
NAME_OCTETS = 16
CHOICE = struct.Struct(f"={HIGH_OCTETS}sQ{BORDER_PREFIXES_MAX}s{NAME_OCTETS}s")
ROW = struct.Struct("=I")
COUNT = struct.Struct("=Q")

TABLES = {
    "rows": (HIGH_OCTETS, ROW.size),
    "prefixes": (ROW.size, PREFIX.size),
    "choices": (ROW.size, CHOICE.size),
}
"""The octets of their keys and values."""


def settings(codepoints: Codepoints, mark: int, inside: Sequence[IPv6Network]) -> bytes:
    """The constants of a load."""
    entries = b"".join(
        INSIDE.pack(one.network_address.packed, one.netmask.packed) for one in inside
    )
    room = entries.ljust(BORDER_INSIDE_MAX * INSIDE.size, b"\0")
    return SETTINGS.pack(mark, codepoints.rewritable_first, len(inside), room)


def prefix_entry(prefix: SitePrefix) -> bytes:
    """A row of the table of prefixes."""
    return PREFIX.pack(prefix.high, prefix.uplink)


def choice_entry(site: Site, choice: Choice, manual: str) -> bytes:
    """The one entry that says which uplink is in use."""
    rows = bytes(choice.rows).ljust(BORDER_PREFIXES_MAX, bytes((NOWHERE,)))
    return CHOICE.pack(site.mask, choice.works, rows, manual.encode())


def manual_of(entry: bytes) -> str:
    """The operator's choice in such an entry; empty: none."""
    name = CHOICE.unpack(entry)[3].rstrip(b"\0")
    return str(name.decode("ascii", errors="replace"))
