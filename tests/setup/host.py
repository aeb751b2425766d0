# SPDX-License-Identifier: MIT
"""A host with two uplinks in a network namespace, and an /etc/network and a /run of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

LIMIT_S: Final = 60.0
PREFIXES: Final = {"eth0": "2001:db8:1:a", "eth1": "2001:db8:2:a"}
SOMEWHERE: Final = "2001:db8:ffff::1"
KERNELS: Final = re.compile("^fe80|^multicast|table local")
"""Routes that the kernel adds when an address is found to be unique."""
NOID: Final = (sys.executable, "-m", "noid")


class Host:
    """The namespace.

    Args:
        name: of the namespace.
        directory: for the files that it writes.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.config = directory / "noid.toml"
        self.journal = directory / "journal"
        self.directory = directory

    def run(self, *words: str, good: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *words],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert not good or done.returncode == 0, done.stdout + done.stderr
        return done

    def ip(self, words: str) -> str:
        return self.run("ip", *words.split()).stdout

    def setup(
        self, *words: str, good: bool = True, doctor: bool = False
    ) -> subprocess.CompletedProcess[str]:
        places = ("--config", str(self.config), "--journal", str(self.journal))
        examined = () if doctor else ("--no-doctor",)
        return self.run(*NOID, "setup", *places, *words, *examined, good=good)

    def leaves_by(self, source: str) -> str:
        """The device by which a packet from a source leaves for the wide world."""
        answer = self.run("ip", "-j", "-6", "route", "get", SOMEWHERE, "from", source).stdout
        return str(json.loads(answer)[0]["dev"])

    def snapshot(self) -> dict[str, Any]:
        """Everything that set-up may change: files, rules and routes."""
        paths = [
            one for one in self.directory.rglob("*") if self.journal not in (one, *one.parents)
        ]
        return {
            "files": {
                str(one): (one.stat().st_mode, one.read_bytes() if one.is_file() else b"")
                for one in paths
            },
            "rules": self.run("ip", "-6", "rule").stdout,
            "routes": [
                line
                for line in self.run(
                    "ip", "-6", "route", "show", "table", "all"
                ).stdout.splitlines()
                if not KERNELS.search(line)
            ],
        }


def address(device: str) -> str:
    return f"{PREFIXES[device]}::a"


@contextmanager
def two_uplinks(directory: Path, tag: str) -> Iterator[Host]:
    """A host with a default route by each of two uplinks, and none by source."""
    name = f"noid-setup-{os.getpid()}-{tag}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    host = Host(name, directory)
    try:
        host.run("ip", "link", "set", "lo", "up")
        for metric, (device, prefix) in enumerate(PREFIXES.items(), 1):
            host.ip(f"link add {device} type veth peer name far-{device}")
            host.run("ip", "link", "set", device, "up")
            host.run("ip", "link", "set", f"far-{device}", "up")
            host.ip(f"address add {prefix}::a/64 dev {device} nodad")
            route = f"default via {prefix}::1 dev {device} metric {metric}"
            host.ip(f"-6 route add {route}")
        yield host
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
