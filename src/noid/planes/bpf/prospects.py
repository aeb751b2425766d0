# SPDX-License-Identifier: MIT
"""Which data plane this host would get, and how packets would pass each uplink, as text.

Queries the kernel, and loads the programs for a moment without attaching them. Changes nothing.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from noid.config import PlaneSection
from noid.constants import Codepoints
from noid.errors import ShimError
from noid.host.survey import Device
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.attachments import takes_early
from noid.planes.bpf.carried import TABLES
from noid.planes.bpf.features import explained
from noid.planes.bpf.loading import Programs
from noid.planes.bpf.pins import object_code
from noid.planes.bpf.plane import LOG_NAME
from noid.planes.privileges import CAPABILITIES, lacking
from noid.planes.rows import CUTS_TCP, cutting_queues, lacks
from noid.planes.uplink import CUT_TCP, SUM

FEW = 16
"""Entries in the tables of the programs that are loaded for a moment."""


class Prospect(NamedTuple):
    """A property of the future data plane.

    Attributes:
        what: the subject, such as an uplink.
        good: whether there is no problem; None if unknown, or if the result works less well.
        text: what the host would get, and why.
        fix: the remedy; empty if none is needed.
    """

    what: str
    good: bool | None
    text: str
    fix: str = ""


def prospects(
    section: PlaneSection, codepoints: Codepoints, devices: Sequence[Device], directory: Path
) -> Iterator[Prospect]:
    """What a daemon would get on this host.

    Args:
        section: the ``[plane]`` of the configuration.
        codepoints: the code points in use.
        devices: the uplinks.
        directory: the state directory, for the log of the verifier if it rejects the programs.
    """
    if not section.may_be_in_kernel:
        yield Prospect("plane", True, f'in user space: plane.kind is "{section.kind}"')
        return
    missing = lacking()
    if missing:
        text = f"the check needs {', '.join(CAPABILITIES)}; lacking: {', '.join(missing)}"
        yield Prospect("plane", None, text, "run it as root")
        return
    try:
        _load(section, codepoints, directory)
        hook = _hook(section.hook, devices)
    except ShimError as error:
        must = section.kind == "bpf"
        fix = 'or use the plane in user space: [plane] kind = "tun"'
        instead = "none" if must else "in user space"
        yield Prospect("plane", False if must else None, f"{instead}: {error}", fix)
        return
    yield Prospect("plane", True, f"in the kernel, by {hook}: the kernel accepts the programs")
    for device in devices:
        yield Prospect(f"uplink {device.name}", True, f"{hook}, {_way(device)}")


def _load(section: PlaneSection, codepoints: Codepoints, directory: Path) -> None:
    with explained():
        Programs(
            object_code(),
            sizes=dict.fromkeys(TABLES, FEW),
            constants=layout.settings(
                codepoints,
                mark=section.mark,
                devices=layout.Interfaces(1, 1, 1),
                referrals=True,
                timers=False,
            ),
            log_path=directory / LOG_NAME,
        ).close()


def _hook(wanted: str, devices: Sequence[Device]) -> str:
    """The hook that the programs would be attached to on the uplinks."""
    if wanted == "clsact":
        return wanted
    if not devices:
        return "the available hook"
    if libbpf.has_tcx(devices[0].index):
        return "tcx"
    if wanted == "tcx":
        raise libbpf.no_tcx()
    return "clsact"


def _way(device: Device) -> str:
    """How super-packets would pass an uplink, and why."""
    lacking_here = lacks(device)
    if lacking_here & SUM:
        return "packets summed up before: it does that only for protocols it knows"
    if lacking_here & CUT_TCP:
        early = ", restored by XDP if its driver can" if takes_early(device) else ""
        queues = " ".join(sorted(cutting_queues(device)))
        why = f"tc qdisc {queues}" if CUTS_TCP in device.features else f"{CUTS_TCP} is off"
        return f"super-packets cut before: {why}{early}"
    return f"super-packets whole: {CUTS_TCP} is on"
