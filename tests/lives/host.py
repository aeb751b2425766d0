# SPDX-License-Identifier: MIT
"""What a host has at one moment, as far as a part of noid may change it."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Final

from tests.planes.foreign import hanging
from tests.planes.keeping import elsewhere
from tests.umask import umask

IP: Final = {
    "links": "-d link show",
    "addresses": "-6 addr show",
    "rules": "-6 rule show",
    "routes": "-6 route show table all",
    "neighbours": "-6 neigh show nud permanent",
}
OTHERS: Final = {"qdiscs": "tc -j qdisc show", "nftables": "nft -j list ruleset"}
VOLATILE: Final = frozenset({"handle", "expires", "num_tx_queues", "metainfo"})
Host = dict[str, object]


def host(*directories: Path) -> Host:
    """What there is in the network namespace we are in, and in some directories.

    Args:
        directories: whose files count; they need not be there.
    """
    found: Host = {name: _sorted(_output(command)) for name, command in OTHERS.items()}
    found |= {name: _sorted(_output(f"ip -j {command}")) for name, command in IP.items()}
    found["programs"] = elsewhere(_programs)
    found["files"] = [path for one in directories for path in _files(one)]
    found["descriptors"] = _descriptors()
    found["umask"] = umask()
    found["tasks"] = _tasks()
    found["threads"] = sorted(one.name for one in threading.enumerate() if one.name == "netlink_0")
    return found


def changes(before: Host, after: Host) -> dict[str, tuple[object, object]]:
    """What is other than before: what is gone, and what is new."""
    return {
        name: _difference(before[name], after[name])
        for name in before
        if before[name] != after[name]
    }


def _difference(before: object, after: object) -> tuple[object, object]:
    if isinstance(before, list) and isinstance(after, list):
        return [one for one in before if one not in after], [
            one for one in after if one not in before
        ]
    return before, after


def _output(command: str) -> str:
    return subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout


def _sorted(text: str) -> list[str]:
    """The entries of an answer in JSON, each as a text."""
    entries = json.loads(text or "[]")
    if isinstance(entries, dict):
        entries = entries["nftables"]
    return sorted(json.dumps(_steady(one), sort_keys=True) for one in entries)


def _steady(thing: object) -> object:
    """Without what changes by itself."""
    if isinstance(thing, dict):
        return {key: _steady(value) for key, value in thing.items() if key not in VOLATILE}
    return [_steady(one) for one in thing] if isinstance(thing, list) else thing


def _programs() -> list[str]:
    devices = (name for _, name in socket.if_nameindex())
    return sorted(
        f"{side} of {name}: {found}"
        for name in devices
        for side in ("egress", "ingress")
        if any(found := hanging(name, side))
    )


def _files(directory: Path) -> list[str]:
    return sorted(str(path) for path in directory.rglob("*"))


def _tasks() -> list[str]:
    """What goes on in this loop, besides the task that asks."""
    with contextlib.suppress(RuntimeError):  # there is no loop
        others = asyncio.all_tasks() - {asyncio.current_task()}
        return sorted(getattr(one.get_coro(), "__qualname__", "") for one in others)
    return []


def _descriptors() -> dict[str, int]:
    """What this process has open, by kind."""
    kinds: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of this very directory
            kinds[os.readlink(f"/proc/self/fd/{number}").partition(":[")[0]] += 1
    return dict(kinds)
