# SPDX-License-Identifier: MIT
"""What processes of the tests that were killed have left on the machine, and how it is removed.

Labs and other networks have the id of the process in their names that builds them; what is mounted
is below the temporary directory of the tests.
"""

import re
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Final

from noid.lab import inventory, namespaces

BUILDER: Final = re.compile(r"(?:noid-)?(?:run|guide|setup)-(\d+)-")
MOUNTS: Final = Path("/proc/self/mounts")


def remove_leftovers(pids: Collection[int], directory: Path) -> None:
    """Removes what processes have built, and unmounts what is mounted below a directory.

    Args:
        pids: of processes that have ended.
        directory: where nothing is to stay mounted.
    """
    for name in inventory.names():
        if _builder(name) in pids:
            inventory.remove(name)
    for name in _namespaces():
        if _builder(name) in pids:
            if members := _said("ip", "netns", "pids", name).split():
                _said("kill", "-9", *members)
            _said("ip", "netns", "delete", name)
    for place in sorted(mounted_below(directory), reverse=True):
        _said("umount", "--lazy", place)


def mounted_below(directory: Path) -> list[str]:
    """Where something is mounted below a directory."""
    places = [line.split()[1] for line in MOUNTS.read_text(encoding="utf-8").splitlines()]
    return [place for place in places if Path(place).is_relative_to(directory)]


def _builder(name: str) -> int | None:
    """The process that has built a lab or a namespace of this name, as far as the name says it."""
    found = BUILDER.match(name)
    return int(found[1]) if found else None


def _namespaces() -> list[str]:
    directory = namespaces.RUN_DIRECTORY
    return [path.name for path in directory.iterdir()] if directory.is_dir() else []


def _said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout
