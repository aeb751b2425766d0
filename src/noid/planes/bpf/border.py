# SPDX-License-Identifier: MIT
"""Loads, fills, attaches, pins and removes the programs of a border in the kernel.

They are pinned and keep running without a daemon. The next daemon puts its own programs, with
tables that are already filled, into the same BPF links [D36].
"""

import contextlib
import os
import socket
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv6Network
from pathlib import Path

from noid.constants import BORDER_PREFIXES_MAX, Codepoints
from noid.counters import BorderCounter
from noid.errors import ShimError
from noid.flows.border import Choice, Site
from noid.host.gateways import Link
from noid.host.netlink import HostNetwork
from noid.planes.bpf import border_tables as tables
from noid.planes.bpf import bpffs, libbpf
from noid.planes.bpf.attachments import Uplinks
from noid.planes.bpf.border_tables import Left
from noid.planes.bpf.loading import Programs
from noid.planes.bpf.pins import object_code, prepare_pins

OBJECT = "border.bpf.o"
LOG_NAME = "border-verifier.log"
PINNED = ("in_use", "prefixes", "border_counts")


class Tables:
    """The tables of programs that are loaded.

    Args:
        programs: they.
    """

    def __init__(self, programs: Programs) -> None:
        self.descriptors = programs.maps
        self._rows_put: set[bytes] = set()
        self._others_put: set[bytes] = set()
        self._put = b""
        self._prefixes, self._rows, self._in_use, self._others = (
            libbpf.Table(programs.maps[name], *tables.TABLES[name])
            for name in ("prefixes", "rows", "in_use", "others")
        )

    def put_site(self, site: Site) -> None:
        """Fills the tables of prefixes; those that are gone are no part of the site any more."""
        for high in self._rows_put - site.rows.keys():
            self._rows.remove(high)
        for row, prefix in enumerate(site.prefixes):
            self._prefixes.put(tables.ROW.pack(row), tables.prefix_entry(prefix))
            self._rows.put(prefix.high, tables.row_entry(row, prefix))
        self._rows_put = set(site.rows)

    def put_choice(
        self,
        site: Site,
        choice: Choice,
        *,
        handed_over: Choice | None = None,
        manual: str = "",
        failed: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """Switches: one update of one entry, unless it is the same; see ``choice_entry``."""
        entry = tables.choice_entry(
            site, choice, handed_over=handed_over, manual=manual, failed=failed
        )
        if entry != self._put:
            self._in_use.put(tables.ONLY, entry)
            self._put = entry

    def put_others(self, others: Collection[tuple[int, bytes]]) -> None:
        """Sets the other borders: the index of a LAN, and a link-layer address in it."""
        wanted = {tables.OTHER.pack(*one) for one in others}
        for key in self._others_put - wanted:
            self._others.remove(key)
        for key in wanted - self._others_put:
            self._others.put(key, b"\1")
        self._others_put = wanted

    def counters(self) -> Counter[BorderCounter]:
        """The counters of the programs since they were loaded, summed over all processors."""
        processors = libbpf.processors()
        octets_each = tables.COUNT.size * processors
        table = libbpf.Table(self.descriptors["border_counts"], tables.ROW.size, octets_each)
        found = Counter[BorderCounter]()
        for number, counter in enumerate(BorderCounter):
            octets = table.find(tables.ROW.pack(number)) or b""
            found[counter] = sum(one for (one,) in tables.COUNT.iter_unpack(octets))
        return found


def load(directory: Path, constants: bytes) -> Programs:
    """The programs, in the kernel.

    Args:
        directory: where the words of the verifier go if it refuses them.
        constants: as ``border_tables.settings`` makes them.

    Raises:
        ShimError: the kernel or the installation lacks something, or refuses.
    """
    return Programs(
        object_code(OBJECT), sizes={}, constants=constants, log_path=directory / LOG_NAME
    )


class BorderPlane:
    """What a border has in the kernel.

    Args:
        network: the host's devices.
        pins: directory on a BPF file system.
        directory: where the words of the verifier go if it refuses the programs.
        hook: ``tcx``, ``clsact`` or ``auto``.
        codepoints: the numbers of the protocol.
        mark: of packets that are refused.
        inside: further prefixes that need no uplink.

    Attributes:
        tables: those of the programs, once these are loaded.
    """

    tables: Tables

    def __init__(
        self,
        network: HostNetwork,
        pins: Path,
        *,
        directory: Path,
        hook: str,
        codepoints: Codepoints,
        mark: int,
        inside: Sequence[IPv6Network],
    ) -> None:
        self.pins = pins
        self._directory = directory
        self.uplinks = Uplinks(network, pins, hook)
        self._constants = tables.settings(codepoints, mark, inside)
        self._programs: Programs | None = None
        self._attached: dict[int, str] = {}
        self._pinned = False

    def open(self, former: Iterable[Path] = ()) -> Left:
        """Loads the programs; nothing is attached yet.

        Args:
            former: other directories in which an earlier daemon may have pinned.

        Returns:
            What an earlier daemon has left.

        Raises:
            ShimError: the kernel or the installation lacks something, or refuses.
        """
        prepare_pins(self.pins, key="border.pins")
        self._programs = load(self._directory, self._constants)
        self.tables = Tables(self._programs)
        found = map(left_in, (self.pins, *former))
        return next((one for one in found if one.prefixes), Left())

    def close(self) -> None:
        """Releases everything; pinned programs keep running."""
        self.uplinks.close()
        if self._programs is not None:
            self._programs.close()
            self._programs = None

    def attach(self, lans: Sequence[Link], uplinks: Sequence[Link]) -> None:
        """Attaches the programs to the devices that lack them, and detaches them from all others.

        Raises:
            ShimError: the kernel refuses.
        """
        wanted = {one.index: one for one in (*lans, *uplinks)}
        self._leave_others(set(wanted))
        lost = self.uplinks.lost()
        for one in wanted.values():
            if one.index in lost or self._attached.get(one.index) != one.name:
                self.uplinks.attach_own(one.index, self._programs_of(one, is_lan=one in lans))
                self._attached[one.index] = one.name
        if not self._pinned:
            self._pin()

    def is_attached(self, index: int) -> bool:
        """Whether a device has programs of this plane."""
        return index in self._attached

    def _programs_of(self, link: Link, *, is_lan: bool) -> dict[str, int]:
        assert self._programs is not None
        programs, bare = self._programs.programs, "" if link.has_ethernet else "_bare"
        if is_lan:
            self.uplinks.take_off_egress(link.index)  # it may have been an uplink
            return {"ingress": programs[f"border_leaving{bare}"]}
        return {
            "ingress": programs[f"border_arriving{bare}"],
            "egress": programs[f"border_departing{bare}"],
        }

    def _leave_others(self, wanted: set[int]) -> None:
        for path in self.pins.glob("link-*-*"):
            index = int(path.name.split("-")[1])
            if index not in wanted:
                self.uplinks.take_off(index)
                self._attached.pop(index, None)

    def _pin(self) -> None:
        assert self._programs is not None
        pinned = {_pin_of(self.pins, name): self._programs.maps[name] for name in PINNED}
        for path, descriptor in pinned.items():
            libbpf.pin(descriptor, path)
        for path in self.pins.glob("map-*"):
            if path not in pinned:
                libbpf.unpin(path)  # of another edition
        self._pinned = True


def left_in(pins: Path) -> Left:
    """What a daemon of this user has left in its pinned tables."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in ("in_use", "prefixes"):
            descriptor = libbpf.pinned(_pin_of(pins, name))
            if descriptor is None:
                return Left()
            stack.callback(os.close, descriptor)
            found.append(libbpf.Table(descriptor, *tables.TABLES[name]))
        in_use, prefixes = found
        entry = in_use.find(tables.ONLY)
        rows = [prefixes.find(tables.ROW.pack(row)) or b"" for row in range(BORDER_PREFIXES_MAX)]
        return Left() if entry is None else tables.left_in(entry, rows)


def take_down(pins: Path, devices: Collection[str], network: HostNetwork) -> Iterator[str]:
    """Removes everything that a border has left; yields a description of each object.

    Args:
        pins: where it has pinned.
        devices: its LANs and uplinks, by name.
        network: the host's devices.
    """
    for path in sorted(pins.glob("link-*-*")):
        libbpf.drop(path)
        yield f"pin {path}"
    for path in sorted(pins.glob("map-*")):  # of any edition
        libbpf.unpin(path)
        yield f"pin {path}"
    yield from leave_filters(devices, network)
    if bpffs.unmount_bpffs(pins):
        yield f"mount {pins}"
    with contextlib.suppress(OSError):  # it is gone, or has something of others in it
        pins.rmdir()


def leave_filters(devices: Collection[str], network: HostNetwork) -> Iterator[str]:
    """Removes what is attached to devices by clsact; yields a description of each.

    Args:
        devices: their names.
        network: the host's devices.
    """
    for index, device in socket.if_nameindex():
        with contextlib.suppress(ShimError):
            if device in devices and network.detach_filters(index):
                yield f"filters on {device}"


def _pin_of(pins: Path, name: str) -> Path:
    return pins / f"map-{name}-{tables.EDITION}"
