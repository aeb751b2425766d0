# SPDX-License-Identifier: MIT
"""Attaches, pins, replaces and detaches the programs on the uplinks.

A program is attached to a device by a BPF link (tcx, XDP), whose pin keeps it attached when the
daemon has stopped, or by a filter of clsact, which stays until it is deleted. Neither changes
other programs on the device.
"""

import contextlib
import os
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from noid.errors import PlatformError, ShimError, Unsupported
from noid.host.netlink import HostNetwork
from noid.host.survey import Device
from noid.planes.bpf import libbpf
from noid.planes.bpf.bpffs import Pinned
from noid.planes.rows import CUTS_TCP, lacks
from noid.planes.uplink import CUT_TCP, SUM

GATHERS = "rx-gro"
TCX = {"egress": libbpf.TCX_EGRESS, "ingress": libbpf.TCX_INGRESS}


class _Link(NamedTuple):
    """A link that the daemon has open: what is attached by it, and where."""

    descriptor: int
    program: int
    device: int


class Uplinks:
    """The programs on the devices of one host.

    Args:
        network: the host's devices.
        pins: where links are pinned.
        hook: ``tcx``, ``clsact``, or ``auto``: the first the kernel has.
    """

    def __init__(self, network: HostNetwork, pins: Path, hook: str) -> None:
        self.network = network
        self.pins = pins
        self._pinned = Pinned(pins)
        self.hook = hook
        self.modes: dict[str, str] = {}
        self._indexes: dict[str, int] = {}
        self._links: dict[Path, _Link] = {}
        self._filters: set[tuple[int, bool]] = set()
        self._passing: dict[int, int] = {}

    def attach(self, device: Device, programs: Mapping[str, int]) -> None:
        """Attaches the programs to an uplink; they replace those of an earlier daemon.

        Raises:
            ShimError: the kernel has no hook for them, or refuses; none of ours is there then.
        """
        self._indexes[device.name] = device.index
        try:
            self.modes[device.name] = self._attach_all(device, programs)
        except ShimError as error:
            self.modes[device.name] = f"none: {error}"
            self.take_off(device.index)
            raise

    def _attach_all(self, device: Device, programs: Mapping[str, int]) -> str:
        """Attaches the programs; returns how packets pass the uplink now."""
        bare = "" if device.has_ethernet else "_bare"
        egress, ingress = programs[f"host_egress{bare}"], programs[f"host_ingress{bare}"]
        hook = self._attach(device.index, {"egress": egress, "ingress": ingress})
        said = [hook]
        if takes_early(device):
            said.append(self._attach_early(device.index, programs["host_ingress_early"]))
        else:
            self._unlink(self.pins / f"link-{device.index}-early")
        lacking = lacks(device)
        if lacking & SUM:
            said.append("summed up before")
        elif lacking & CUT_TCP:
            said.append("super-packets cut before")
        else:
            said.append("super-packets whole")
        return ", ".join(said)

    def _attach_early(self, index: int, program: int) -> str:
        try:
            self._link(index, "early", program, libbpf.XDP, flags=libbpf.XDP_NATIVE)
        except (Unsupported, PlatformError):
            return "no XDP"
        return "XDP"

    def attach_own(self, index: int, programs: Mapping[str, int]) -> None:
        """Attaches programs to a device of noid that stays: egress, ingress or both.

        Raises:
            ShimError: as ``attach``.
        """
        self._attach(index, programs)

    def attach_passing(self, index: int, where: str, program: int) -> None:
        """Attaches a program to a device of noid that is removed with this process.

        Raises:
            ShimError: as ``attach``.
        """
        if self.hook != "clsact":
            try:
                link = libbpf.attach(program, index, TCX[where])
                self._close_passing(index)
                self._passing[index] = link
                return
            except Unsupported:
                if self.hook == "tcx":
                    raise
        self._add_filter(index, where, program)

    def others(self, devices: Iterable[Device]) -> list[str]:
        """The names of uplinks that were removed, or that another device has now."""
        now = {device.name: device.index for device in devices}
        return [name for name, index in self._indexes.items() if now.get(name) != index]

    def lost_links(self) -> set[int]:
        """The indexes of the devices that lack a BPF link of noid; uses no netlink message.

        Raises:
            PlatformError: the kernel does not say.
        """
        are_pinned = self._pinned.has(self._links.keys)
        lost = {
            link.device
            for path, link in self._links.items()
            if libbpf.target(link.descriptor) != link[1:] or not (are_pinned or path.exists())
        }
        gone = (index for index, link in self._passing.items() if not libbpf.target(link)[1])
        return lost.union(gone)

    def lost(self) -> set[int]:
        """The indexes of the devices that lack one of our programs.

        Raises:
            PlatformError: the kernel does not say.
        """
        return self.lost_links() | {
            index
            for index, egress in self._filters
            if not self.network.has_filter(index, egress=egress)
        }

    def close(self) -> None:
        """Detaches the programs of devices that end with this process; pins keep the others."""
        for index in list(self._passing):
            self._close_passing(index)
        for link in self._links.values():
            os.close(link.descriptor)
        self._links.clear()

    def _close_passing(self, index: int) -> None:
        link = self._passing.pop(index, None)
        if link is not None:
            os.close(link)

    def leave(self, names: Iterable[str], *, staying: Collection[int]) -> None:
        """Detaches our programs from devices, which may have been removed.

        Args:
            names: what they were called.
            staying: indexes of the devices that are uplinks, under any name.
        """
        for name in names:
            del self.modes[name]
            index = self._indexes.pop(name)
            if index not in staying:
                self.take_off(index)

    def leave_others(self, ours: Sequence[int]) -> None:
        """Detaches the programs of an earlier daemon from devices that are not uplinks now.

        It would go on with the tables of that daemon; and a link to a device that is gone keeps
        these tables in memory.

        Args:
            ours: indexes of the devices that have programs of ours and are no uplinks.
        """
        pinned = {int(path.name.split("-")[1]) for path in self.pins.glob("link-*-*")}
        present = {index for index, _ in socket.if_nameindex()}
        for index in (pinned | present) - {*ours, *self._indexes.values()}:
            self.take_off(index)

    def take_off(self, index: int) -> None:
        """Detaches our programs from a device, by its index, as far as they are attached."""
        mine = (path for path, link in self._links.items() if link.device == index)
        for path in {*mine, *self.pins.glob(f"link-{index}-*")}:
            self._unlink(path)
        self._filters = {one for one in self._filters if one[0] != index}
        with contextlib.suppress(PlatformError):
            self.network.detach_filters(index)

    def take_off_egress(self, index: int) -> None:
        """Detaches our program from what leaves by a device, if it is there."""
        self._unlink(self.pins / f"link-{index}-egress")
        self._filters.discard((index, True))
        with contextlib.suppress(PlatformError):
            self.network.detach_egress_filter(index)

    def _attach(self, index: int, programs: Mapping[str, int]) -> str:
        """Hangs programs on a device by the hook there is, and none of ours on the other."""
        if self.hook != "clsact":
            try:
                for where, program in programs.items():
                    self._link(index, where, program, TCX[where])
                self._filters = {one for one in self._filters if one[0] != index}
                with contextlib.suppress(PlatformError):
                    self.network.detach_filters(index)
                return "tcx"
            except Unsupported:
                if self.hook == "tcx":
                    raise
        for where, program in programs.items():
            self._add_filter(index, where, program)
            self._unlink(self.pins / f"link-{index}-{where}")
        return "clsact"

    def _add_filter(self, index: int, where: str, program: int) -> None:
        egress = where == "egress"
        self._filters.add((index, egress))
        self.network.attach_filter(index, program, egress=egress)

    def _unlink(self, path: Path) -> None:
        """Detaches a link, ours or that of an earlier daemon, and removes its pin."""
        ours = self._links.pop(path, None)
        libbpf.drop(path, None if ours is None else ours.descriptor)

    def _link(self, index: int, where: str, program: int, kind: int, *, flags: int = 0) -> None:
        """Attaches by a link, or puts the program into the link that is there already.

        The daemon keeps the link open, so that the program stays though its pin is removed.
        """
        path = self.pins / f"link-{index}-{where}"
        ours = self._links.get(path)
        number = libbpf.program_id(program)
        link = libbpf.pinned(path) if ours is None else ours.descriptor
        if link is not None:
            self._links[path] = _Link(link, number, index)
            try:
                libbpf.replace(link, program)
            except PlatformError:
                # Others have detached it, or its device is gone and another has the index now.
                self._unlink(path)
                link = None
        if link is None:
            link = libbpf.attach(program, index, kind, flags=flags)
            self._links[path] = _Link(link, number, index)
        if not path.exists():
            libbpf.pin(link, path)


def takes_early(device: Device) -> bool:
    """Whether the XDP program is to be attached to a device.

    That runs before segments are put together, so it pays where this is done; but it can cost a
    device its ability to cut them, so only where there is none to lose. It does not see the tag of
    a VLAN that the device has taken off, so only where there are no VLANs.
    """
    is_cheap = GATHERS in device.features and CUTS_TCP not in device.features
    return device.has_ethernet and is_cheap and not device.has_vlans
