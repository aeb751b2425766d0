# SPDX-License-Identifier: MIT
"""A host of a lab with an /etc of its own: programs may replace files there."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from noid.control.client import answers
from noid.lab import namespaces
from noid.lab.configuration import noid_toml, nsswitch_conf
from noid.lab.lab import Lab
from noid.lab.topology import NAME_SERVER
from noid.lab.waiting import wait_for

NOID: Final = (sys.executable, "-m", "noid")
TIMEOUT_S: Final = 60.0
PRIVATE: Final = ("unshare", "-m", "--propagation", "private")
SETUP: Final = """\
set -e
mount -t tmpfs -o size=64m tmpfs /mnt
cp -a /etc/. /mnt/ 2>/dev/null || true
umount -q /mnt/resolv.conf || true
mount --move /mnt /etc
echo ready
exec sleep infinity
"""
BEFORE: Final = f"# of the network\nnameserver {NAME_SERVER}\nsearch example\n"


class OwnEtc:
    """One host, seen by processes that share an /etc that is no other host's.

    Args:
        lab: the lab.
        host: on which host; its own daemon must not run.
    """

    def __init__(self, lab: Lab, host: str) -> None:
        self.lab = lab
        self.host = host
        self.socket = lab.directory / f"{host}.sock"
        (lab.directory / "logs" / "own-etc.log").unlink(missing_ok=True)  # of another test
        self.daemon: subprocess.Popen[bytes] | None = None
        net = namespaces.RUN_DIRECTORY / namespaces.namespace(lab.name, host)
        self._holder = subprocess.Popen(
            ["nsenter", f"--net={net}", *PRIVATE, "sh", "-c", SETUP],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._holder.stdout is not None, "we asked for a pipe"
        assert self._holder.stdout.readline() == b"ready\n"
        self.etc = Path(f"/proc/{self._holder.pid}/root/etc")
        self.resolv_conf = self.etc / "resolv.conf"
        (self.etc / "nsswitch.conf").write_text(nsswitch_conf())
        text = noid_toml(host, lab.directory, "tun").replace(f'upstream = ["{NAME_SERVER}"]\n', "")
        (self.etc / "noid.toml").write_text(
            text.replace(f'"{lab.directory}/{host}-state"', '"/etc/state"')
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)
        self._holder.kill()
        self._holder.communicate()

    def command(self, *words: str) -> list[str]:
        return ["nsenter", "-t", str(self._holder.pid), "-m", "-n", *words]

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = self.command(*words)
        return subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )

    def noid(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """One of noid's own commands, told of no file."""
        return self.run(*NOID, *words)

    def spawn(self, *words: str) -> "subprocess.Popen[bytes]":
        log = (self.lab.directory / "logs" / "own-etc.log").open("ab")
        with log:
            return subprocess.Popen(self.command(*words), stdout=log, stderr=log)

    def start(self) -> None:
        """Starts noid, told of no file, and waits until it answers."""
        self.daemon = self.spawn(*NOID, "run")
        wait_for("noid answers", lambda: answers(self.socket), TIMEOUT_S)

    def end(self, number: int) -> None:
        if self.daemon is not None:
            self.daemon.send_signal(number)
            self.daemon.wait(TIMEOUT_S)
            self.daemon = None

    def log(self) -> str:
        return (self.lab.directory / "logs" / "own-etc.log").read_text()

    def dhcp(self, servers: Sequence[str]) -> None:
        """Writes resolv.conf as dhclient does: a new file in the place of the old one."""
        fresh = self.etc / "resolv.conf.dhclient-new"
        fresh.write_text("".join(f"nameserver {one}\n" for one in servers))
        fresh.rename(self.resolv_conf)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """The disk that /etc is on has no room."""
        filler = self.etc / "filler"
        with filler.open("wb", buffering=0) as file:
            for piece in (bytes(1 << 16), b"x"):
                with contextlib.suppress(OSError):
                    while file.write(piece):
                        pass
        yield
        filler.unlink()

    def seconds_for(self, name: str) -> float:
        """How long a program waits for the addresses of a name; fails if it gets none."""
        begun = time.monotonic()
        found = self.run("getent", "hosts", name)
        seconds = time.monotonic() - begun
        assert found.returncode == 0, f"{name}: {found.stdout}{found.stderr}"
        return seconds
