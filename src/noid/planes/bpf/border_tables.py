# SPDX-License-Identifier: MIT
"""The tables of a border's programs, as octets: what ``programs/border.h`` declares. Pure."""

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv6Network
from typing import Final, NamedTuple

from noid.constants import BORDER_INSIDE_MAX, BORDER_PREFIXES_MAX, Codepoints
from noid.flows.border import HIGH_OCTETS, NOWHERE, Choice, Site, SitePrefix

EDITION = 3
"""Of the layouts; the name of what is pinned has it."""
INSIDE = struct.Struct("=16s16s")
SETTINGS = struct.Struct(f"=IBB2x{BORDER_INSIDE_MAX * INSIDE.size}s")
PREFIX = struct.Struct(f"={HIGH_OCTETS}sIII4x")
FORMER: Final = 1 << 31
"""In the place of a row: the prefix is no longer of the site."""
NAME_OCTETS = 16
SIGNS: Final = ("gateway", "check", "bfd")
"""What a daemon cannot read from the kernel: the next one has it from the entry."""
UPLINKS = struct.Struct(f"=Q{BORDER_PREFIXES_MAX}s")
CHOICE = struct.Struct(
    f"={HIGH_OCTETS}s{UPLINKS.size}s{UPLINKS.size}sI4x{len(SIGNS)}Q{NAME_OCTETS}s"
)
LINK_OCTETS = 6
OTHER = struct.Struct(f"=I{LINK_OCTETS}s2x")
ROW = struct.Struct("=I")
ONLY = ROW.pack(0)
"""The key of the one choice."""
COUNT = struct.Struct("=Q")

TABLES = {
    "rows": (HIGH_OCTETS, ROW.size),
    "prefixes": (ROW.size, PREFIX.size),
    "in_use": (ROW.size, CHOICE.size),
    "others": (OTHER.size, 1),
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
    return PREFIX.pack(prefix.high, prefix.uplink, prefix.since_s, prefix.gone_s)


def row_entry(row: int, prefix: SitePrefix) -> bytes:
    """What stands for a prefix in the table of rows."""
    return ROW.pack(row | FORMER * bool(prefix.gone_s))


def choice_entry(
    site: Site,
    choice: Choice,
    *,
    handed_over: Choice | None = None,
    manual: str = "",
    failed: Mapping[str, Collection[str]] | None = None,
) -> bytes:
    """The entry that says which uplinks are in use.

    Args:
        site: the prefixes.
        choice: for packets of hosts.
        handed_over: for those that other borders hand over; None: there are no other borders.
        manual: the operator's choice; empty: none.
        failed: by sign, the providers whose uplinks it says are dead.
    """
    bits = (
        sum(
            1 << row
            for row, prefix in enumerate(site.prefixes)
            if prefix.provider in (failed or {}).get(sign, ())
        )
        for sign in SIGNS
    )
    ours, theirs = (
        UPLINKS.pack(one.works, bytes(one.rows).ljust(BORDER_PREFIXES_MAX, bytes((NOWHERE,))))
        for one in (choice, handed_over or choice)
    )
    has_others = handed_over is not None
    return CHOICE.pack(site.mask, ours, theirs, has_others, *bits, manual.encode())


class Left(NamedTuple):
    """What an earlier daemon has left.

    Attributes:
        manual: the operator's choice; empty: none.
        bits: the length of every prefix; 0: there are none.
        prefixes: those that it had, without the names of their providers.
        failed: by sign, the prefixes whose uplinks it says are dead.
        unused: those whose uplinks did not work, or had not been good for long enough.
    """

    manual: str = ""
    bits: int = 0
    prefixes: tuple[SitePrefix, ...] = ()
    failed: Mapping[str, frozenset[bytes]] = {}
    unused: frozenset[bytes] = frozenset()


def left_in(entry: bytes, prefixes: Iterable[bytes]) -> Left:
    """What stands in the entry of a choice, and in the rows of the table of prefixes."""
    rows = [PREFIX.unpack(one) for one in prefixes]
    mask, ours, _, _, *bits, name = CHOICE.unpack(entry)
    works, _ = UPLINKS.unpack(ours)
    return Left(
        name.rstrip(b"\0").decode("ascii", errors="replace"),
        int.from_bytes(mask, "big").bit_count(),
        tuple(
            SitePrefix(high, uplink, "", since_s=since_s, gone_s=gone_s)
            for high, uplink, since_s, gone_s in rows
            if any(high)
        ),
        {
            sign: frozenset(high for row, (high, *_) in enumerate(rows) if one >> row & 1)
            for sign, one in zip(SIGNS, bits, strict=True)
        },
        frozenset(
            high
            for row, (high, _, _, gone_s) in enumerate(rows)
            if any(high) and not gone_s and not works >> row & 1
        ),
    )
