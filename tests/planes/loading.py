# SPDX-License-Identifier: MIT
"""The programs, loaded for tests: every device of theirs is the loopback."""

from pathlib import Path

from noid.constants import Codepoints
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import PASSING_TABLES, TABLES
from noid.planes.bpf.loading import Programs
from noid.planes.bpf.pins import object_code
from noid.planes.uplink import ETHERNET, LINK_OCTETS, RECEIVES, SENDS, Uplink

CODEPOINTS = Codepoints()
LOOPBACK_INDEX = 1
EVERY_FLAG = ETHERNET | SENDS | RECEIVES
HERE, ELSEWHERE = 1, 2
"""Rows of the table of uplinks: the device that packets are tried out on, and another."""


def constants(*, mark: int = 1, referrals: bool = False, timers: bool = True) -> bytes:
    """The constants of a load."""
    devices = layout.Interfaces(*[LOOPBACK_INDEX] * 3)
    return layout.settings(
        CODEPOINTS, mark=mark, devices=devices, referrals=referrals, timers=timers
    )


def load(directory: Path, *, room: int = 16, settings: bytes = b"", code: bytes = b"") -> Programs:
    """The programs, with room for so many entries in each table.

    Raises:
        PlatformError: the kernel refuses them.
    """
    return Programs(
        code or object_code(),
        sizes={name: room for name in TABLES},
        constants=settings or constants(),
        log_path=directory / "log",
    )


def uplink(ifindex: int, flags: int = EVERY_FLAG) -> bytes:
    """A row of the table of uplinks."""
    return layout.uplink_row(Uplink(ifindex, 1500, bytes(LINK_OCTETS), flags))


def put_uplinks(programs: Programs) -> None:
    """Lets there be two uplinks: the loopback, and a device that is not there."""
    table = libbpf.Table(programs.maps["uplinks"], *PASSING_TABLES["uplinks"])
    for row in (HERE, ELSEWHERE):
        assert table.put(layout.ROW.pack(row), uplink(row))
