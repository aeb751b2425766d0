# SPDX-License-Identifier: MIT
"""A host with two uplinks in a network namespace, and an /etc/network and a /run of its own."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

LIMIT_S: Final = 60.0
PREFIXES: Final = {"eth0": "2001:db8:1:a", "eth1": "2001:db8:2:a"}
NUMBERS: Final = itertools.count()
SOMEWHERE: Final = "2001:db8:ffff::1"
KERNELS: Final = re.compile("^fe80|^multicast|table local")
"""Routes that the kernel adds when an address is found to be unique."""
NOID: Final = (sys.executable, "-m", "noid")


INSIDE: Final = """
mount --make-rprivate /
mount --bind {place}/run /run
mount --bind {place}/etc/network /etc/network
mount --bind {place}/etc/networkd /etc/systemd/network
[ ! -e /etc/resolv.conf ] || mount --bind {place}/etc/resolv.conf /etc/resolv.conf
exec "$@"
"""


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
        self.programs = directory / "programs"
        self.programs.mkdir()
        scripts = [f"etc/network/if-{one}.d" for one in ("pre-up", "up", "down", "post-down")]
        for place in ("run", "etc/network/interfaces.d", "etc/networkd", *scripts):
            (directory / place).mkdir(parents=True)
        # That of this machine names resolvers that no packet reaches from here.
        (directory / "etc" / "resolv.conf").touch()

    def command(self, *words: str) -> list[str]:
        """A command as it is run there, with files under /run and /etc that are its own."""
        script = INSIDE.format(place=self.directory)
        mounts = ("unshare", "-m", "sh", "-euc", script, "sh")
        programs = ("env", f"PATH={self.programs}:{os.environ['PATH']}")
        return ["ip", "netns", "exec", self.name, *mounts, *programs, *words]

    def create(self) -> None:
        """The namespace with its links, as after a boot."""
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.ip("link set lo up")
        for device in PREFIXES:
            self.ip(f"link add {device} type veth peer name far-{device}")
            self.ip(f"link set far-{device} up")

    def delete(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def reboot(self) -> None:
        """What is not in a file is lost."""
        self.delete()
        shutil.rmtree(self.directory / "run")
        (self.directory / "run").mkdir()
        self.create()

    def run(self, *words: str, good: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words),
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
        """The device through which a packet from a source leaves for the Internet."""
        answer = self.run("ip", "-j", "-6", "route", "get", SOMEWHERE, "from", source).stdout
        return str(json.loads(answer)[0]["dev"])

    def snapshot(self) -> dict[str, Any]:
        """Everything that set-up may change: files, rules and routes."""
        paths = [
            one for one in self.directory.rglob("*") if self.journal not in (one, *one.parents)
        ]
        return {
            "files": {
                str(one): (one.lstat().st_mode, one.read_bytes() if one.is_file() else b"")
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
def fresh(directory: Path) -> Iterator[Host]:
    """A host that has just been booted, and that nothing has configured."""
    host = Host(f"noid-setup-{os.getpid()}-{next(NUMBERS)}", directory)
    host.create()
    try:
        yield host
    finally:
        host.delete()


@contextmanager
def two_uplinks(directory: Path) -> Iterator[Host]:
    """A host with a default route by each of two uplinks, and none by source."""
    with fresh(directory) as host:
        for metric, (device, prefix) in enumerate(PREFIXES.items(), 1):
            host.ip(f"link set {device} up")
            host.ip(f"address add {prefix}::a/64 dev {device} nodad")
            host.ip(f"-6 route add default via {prefix}::1 dev {device} metric {metric}")
        yield host
