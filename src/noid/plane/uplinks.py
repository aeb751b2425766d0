"""The programs on the uplinks: attached, kept alive, replaced and taken away.

A program hangs on a device by a link of the kernel's (tcx, XDP), whose pin keeps it there when the
daemon is gone, or by a filter of clsact, which stays by itself. Either leaves other programs on the
device as they are.
"""

import contextlib
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from noid.errors import PlatformError, ShimError, Unsupported
from noid.netlink import HostNetwork
from noid.plane import layout, libbpf
from noid.plane.rows import CUTS_TCP, lacks
from noid.survey import Device

GATHERS = "rx-gro"
TCX = {"egress": libbpf.TCX_EGRESS, "ingress": libbpf.TCX_INGRESS}


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
        self.hook = hook
        self.modes: dict[str, str] = {}
        self._indexes: dict[str, int] = {}
        self._ethernet: dict[str, bool] = {}
        self._passing: list[int] = []

    def attach(self, device: Device, programs: Mapping[str, int]) -> None:
        """Puts the programs on an uplink, in the place of those that are there.

        Raises:
            ShimError: the kernel has no hook for them, or refuses; none of ours is there then.
        """
        if self._indexes.get(device.name, device.index) != device.index:
            self.leave([device.name])  # another device has the name now
        self._indexes[device.name] = device.index
        self._ethernet[device.name] = device.has_ethernet
        try:
            self.modes[device.name] = self._attach_all(device, programs)
        except ShimError as error:
            self.modes[device.name] = f"none: {error}"
            self._take_off(device.index)
            raise

    def _attach_all(self, device: Device, programs: Mapping[str, int]) -> str:
        """Does so, and says how packets pass the uplink now."""
        bare = "" if device.has_ethernet else "_bare"
        egress, ingress = programs[f"host_egress{bare}"], programs[f"host_ingress{bare}"]
        hook = self._attach(device.index, {"egress": egress, "ingress": ingress})
        said = [hook]
        if device.has_ethernet and GATHERS in device.features and CUTS_TCP not in device.features:
            # XDP runs before segments are put together, so it pays where that is done; but it can
            # cost a device its ability to cut them, so only where there is none to lose.
            try:
                early = programs["host_ingress_early"]
                self._link(device.index, "early", early, libbpf.XDP, flags=libbpf.XDP_NATIVE)
                said.append("XDP")
            except (Unsupported, PlatformError):
                said.append("no XDP")
        else:
            (self.pins / f"link-{device.index}-early").unlink(missing_ok=True)
        lacking = lacks(device)
        if lacking & layout.SUM:
            said.append("summed up before")
        elif lacking & layout.CUT_TCP:
            said.append("super-packets cut before")
        else:
            said.append("super-packets whole")
        return ", ".join(said)

    def attach_own(self, index: int, programs: Mapping[str, int]) -> None:
        """Puts programs on a device of ours that stays, egress, ingress or both.

        Raises:
            ShimError: as ``attach``.
        """
        self._attach(index, programs)

    def attach_passing(self, index: int, where: str, program: int) -> None:
        """Puts a program on a device of ours that goes with this process.

        Raises:
            ShimError: as ``attach``.
        """
        if self.hook != "clsact":
            try:
                self._passing.append(libbpf.attach(program, index, TCX[where]))
                return
            except Unsupported:
                if self.hook == "tcx":
                    raise
        self.network.attach_filter(index, program, egress=where == "egress")

    def lost(self, programs: Mapping[str, int]) -> list[str]:
        """The uplinks that lack one of our programs, which others have taken off.

        Args:
            programs: those that ``attach`` was given.
        """
        return [
            name
            for name, index in self._indexes.items()
            if not self.modes[name].startswith("none") and not self._has_all(name, index, programs)
        ]

    def _has_all(self, name: str, index: int, programs: Mapping[str, int]) -> bool:
        bare = "" if self._ethernet[name] else "_bare"
        wanted = {where: programs[f"host_{where}{bare}"] for where in TCX}
        if self.modes[name].startswith("clsact"):
            return all(self.network.has_filter(index, egress=where == "egress") for where in wanted)
        try:
            return all(
                libbpf.program_id(program) in libbpf.attached(index, TCX[where])
                for where, program in wanted.items()
            )
        except PlatformError:
            return True  # the device is gone, and so we are told

    def close(self) -> None:
        """Takes the programs off devices that go with this process."""
        for link in self._passing:
            os.close(link)
        self._passing.clear()

    def leave(self, names: Iterable[str]) -> None:
        """Takes our programs off devices, whether these are still there or not."""
        for name in names:
            del self.modes[name], self._ethernet[name]
            self._take_off(self._indexes.pop(name))

    def leave_others(self, ours: Sequence[int]) -> None:
        """Takes off what an earlier daemon left on devices that are no uplinks now.

        It would go on with the tables of that daemon; and a link to a device that is gone keeps
        these tables in memory.

        Args:
            ours: indexes of the devices that have programs of ours and are no uplinks.
        """
        pinned = {int(path.name.split("-")[1]) for path in self.pins.glob("link-*-*")}
        present = {index for index, _ in socket.if_nameindex()}
        for index in (pinned | present) - {*ours, *self._indexes.values()}:
            self._take_off(index)

    def _take_off(self, index: int) -> None:
        for path in self.pins.glob(f"link-{index}-*"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(PlatformError):
            self.network.detach_filters(index)

    def _attach(self, index: int, programs: Mapping[str, int]) -> str:
        """Hangs programs on a device by the hook there is, and none of ours on the other."""
        if self.hook != "clsact":
            try:
                for where, program in programs.items():
                    self._link(index, where, program, TCX[where])
                with contextlib.suppress(PlatformError):
                    self.network.detach_filters(index)
                return "tcx"
            except Unsupported:
                if self.hook == "tcx":
                    raise
        for where, program in programs.items():
            self.network.attach_filter(index, program, egress=where == "egress")
            (self.pins / f"link-{index}-{where}").unlink(missing_ok=True)
        return "clsact"

    def _link(self, index: int, where: str, program: int, kind: int, *, flags: int = 0) -> None:
        """Attaches by a link, or puts the program into the link that is pinned already."""
        path = self.pins / f"link-{index}-{where}"
        old = libbpf.pinned(path)
        if old is not None:
            try:
                libbpf.replace(old, program)
                return
            except PlatformError:
                pass  # its device is gone, and another has the index now
            finally:
                os.close(old)
            path.unlink(missing_ok=True)
        link = libbpf.attach(program, index, kind, flags=flags)
        try:
            libbpf.pin(link, path)
        finally:
            os.close(link)
