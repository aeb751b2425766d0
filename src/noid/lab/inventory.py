# SPDX-License-Identifier: MIT
"""What a lab has on the machine, and its removal by its name alone.

Everything of a lab carries its name and is in three places: the network namespaces
``noid-NAME-NODE``, the directories of that name under /etc/netns, and /run/noid-lab/NAME. So a lab
whose program was killed can be removed as well as any other.
"""

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from noid.config import PlaneKind
from noid.errors import UsageError
from noid.lab import namespaces, processes
from noid.lab.sites import Sites
from noid.lab.topology import ALL_NODES
from noid.lab.variants import Variant

Plane = Literal["none", PlaneKind]

DIRECTORY: Final = Path("/run/noid-lab")
NAME_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
PINS: Final = "pins"
"""Where in the directory of a lab the data planes in the kernel are pinned."""
GROUPS: Final = "groups"
"""Where in the directory of a lab the control groups are mounted."""
STRANGER_ROUNDS_MAX: Final = 5
"""Repetitions of the search for processes that were started during the search before."""


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """The recorded facts about a lab.

    Attributes:
        name: its name.
        plane: the data plane of its hosts.
        variant: which network it is.
        sites: where its borders are; None: there are none.
        content_octets: size of the file b serves; 0 until it is complete.
        content_sha256: its hash in hexadecimal.
    """

    name: str
    plane: Plane
    variant: Variant = "plain"
    sites: Sites | None = None
    content_octets: int = 0
    content_sha256: str = ""


def claim(description: Description) -> Path:
    """Creates the directory of a lab, which must not exist yet, and returns it.

    Raises:
        UsageError: the name cannot be one, or is taken.
    """
    directory = directory_of(description.name)
    try:
        _make(directory)
    except FileExistsError:
        raise UsageError(
            f"lab {description.name!r} is already up, or was left behind; "
            f"remove it with: noid lab down --name {description.name}"
        ) from None
    for part in ("processes", "logs"):
        (directory / part).mkdir()
    write_description(description)
    return directory


def _make(directory: Path) -> None:
    """Makes a directory; another program may remove its parent at the same time.

    Raises:
        FileExistsError: it is there.
    """
    while True:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            directory.mkdir()
            return


def directory_of(name: str) -> Path:
    """Where the files of a lab are.

    Raises:
        UsageError: the name cannot be one.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a lab; take up to 32 of a-z, 0-9 and -, not - at first"
        )
    return DIRECTORY / name


def write_description(description: Description) -> None:
    """Writes the description of a lab atomically."""
    path = directory_of(description.name) / "lab.json"
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(description))
    fresh.rename(path)


def read_description(name: str) -> Description:
    """The description of a lab.

    Raises:
        UsageError: there is no such lab.
    """
    path = directory_of(name) / "lab.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Description)
    except (OSError, msgspec.DecodeError):
        raise UsageError(
            f"lab {name!r} is not up; build it with: noid lab up --name {name}"
        ) from None


def names() -> list[str]:
    """The names of all labs, also of those that were removed in part."""
    found = {path.name for path in DIRECTORY.glob("*")} if DIRECTORY.is_dir() else set()
    return sorted(name for name in found if NAME_PATTERN.fullmatch(name))


def survey(name: str) -> dict[str, Any]:
    """The state of a lab: its plane, its network, its namespaces and its processes.

    Raises:
        UsageError: the name cannot be one.
    """
    directory = directory_of(name)
    plane: Plane | None
    variant: Variant | None
    sites: Sites | None
    try:
        description = read_description(name)
        plane, variant, sites = description.plane, description.variant, description.sites
    except UsageError:
        plane = variant = sites = None
    return {
        "name": name,
        "plane": plane,
        "variant": variant,
        "sites": sites,
        "directory": str(directory),
        "nodes": namespaces.present(name, ALL_NODES),
        "processes": [
            {
                "name": record.name,
                "node": record.node,
                "pid": record.pid,
                "running": processes.is_running(record),
            }
            for record in processes.read_records(directory / "processes")
        ],
    }


def remove(name: str) -> bool:
    """Removes a lab: its processes, all at the same time, its namespaces and its files.

    Every step is taken, also after one that failed.

    Returns:
        Whether there was anything.

    Raises:
        UsageError: the name cannot be one.
        PlatformError: something would not go.
    """
    directory = directory_of(name)
    there = directory.exists() or bool(namespaces.present(name, ALL_NODES))
    records = processes.read_records(directory / "processes")
    with contextlib.ExitStack() as steps:
        steps.callback(shutil.rmtree, directory, ignore_errors=True)
        for mounted in (PINS, GROUPS):
            steps.callback(unmount, directory / mounted)
        steps.callback(namespaces.remove, name, tuple(reversed(ALL_NODES)))
        steps.callback(_end_strangers, name)
        steps.callback(processes.end_processes, records)
    with contextlib.suppress(OSError):
        DIRECTORY.rmdir()  # only if this was the last
    return there


def unmount(directory: Path) -> None:
    """Unmounts a file system of a lab, if there is one, with all that is pinned on it."""
    if directory.is_mount():
        subprocess.run(["umount", str(directory)], check=False)


def _end_strangers(name: str) -> None:
    """Ends the processes that still run on the nodes: those of our programs and those of users."""
    for _ in range(STRANGER_ROUNDS_MAX):
        members = namespaces.members(name, ALL_NODES)
        members.pop(os.getpid(), None)
        found = [
            processes.record_of(pid, sequence=0, name=f"process {pid} on {node}", node=node)
            for pid, node in members.items()
        ]
        strangers = [record for record in found if record is not None]
        if not strangers:
            return
        processes.end_processes(strangers)
