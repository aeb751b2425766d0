# SPDX-License-Identifier: MIT
"""The programs, loaded for tests: every device of theirs is the loopback."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from noid.constants import Codepoints
from noid.flows.flow import Flow
from noid.identifiers import Label
from noid.locators import Locator, parse_locator
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
A1, B1 = parse_locator("2001:db8:1::a"), parse_locator("2001:db8:1::b")


def flow_on_aids(*, silence_ns: int) -> Flow:
    """A flow that uses its AIDs as locators."""
    return Flow(
        local_aid=A1,
        peer_aid=B1,
        local_label=Label(7),
        peer_label=Label(8),
        local_locator=A1,
        peer_locator=B1,
        local_locators=frozenset({A1}),
        peer_locators=frozenset({B1}),
        verified_locators=frozenset({B1}),
        rewritable=False,
        transmits=True,
        silence_ns=silence_ns,
    )


def constants(*, mark: int = 1, referrals: bool = False, timers: bool = True) -> bytes:
    """The constants of a load."""
    devices = layout.Interfaces(*[LOOPBACK_INDEX] * 3)
    return layout.settings(
        CODEPOINTS, mark=mark, devices=devices, referrals=referrals, timers=timers
    )


def load(
    directory: Path,
    *,
    room: int = 16,
    settings: bytes = b"",
    code: bytes = b"",
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> Programs:
    """The programs, with room for so many entries in each table, or for as many as ``sizes`` says.

    Raises:
        PlatformError: the kernel refuses them.
    """
    return Programs(
        code or object_code(),
        sizes={**dict.fromkeys(TABLES, room), **sizes},
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


def own(programs: Programs, address: Locator) -> None:
    """Lets an address be one of this host."""
    table = libbpf.Table(programs.maps["ours"], *TABLES["ours"])
    assert table.put(address, layout.ROW.pack(HERE))


@contextlib.contextmanager
def loaded(
    directory: Path,
    *,
    room: int = 16,
    settings: bytes = b"",
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[Programs]:
    """The programs and two uplinks, for the time of a ``with``."""
    if os.geteuid() != 0:
        pytest.skip("needs root: loads programs into the kernel")
    found = load(directory, room=room, settings=settings, sizes=sizes)
    put_uplinks(found)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """The programs, which report strangers, and two uplinks."""
    with loaded(tmp_path, settings=constants(referrals=True)) as found:
        yield found
