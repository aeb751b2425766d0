# SPDX-License-Identifier: MIT
"""noid as its own user, with four capabilities and what contrib/systemd/noid.service takes away."""

import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import noid
from noid.control.client import answers, ask, ask_rows
from noid.lab.inventory import PINS
from noid.lab.lab import Lab
from noid.lab.processes import Process
from noid.lab.topology import locators
from noid.lab.waiting import wait_for
from tests.lab.conftest import PLANES, lab_machine
from tests.lab.refusals import one_line

__all__ = ["lab_machine"]
pytestmark = pytest.mark.lab

UNIT: Final = Path(__file__).parents[2] / "contrib" / "systemd" / "noid.service"
USER: Final = 64_999
STARTS_WITHIN_S: Final = 60.0
MOUNTS: Final = """
mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys
mount --bind /proc/sys/net/ipv6/conf /proc/sys/net/ipv6/conf
mount -o remount,bind,rw /proc/sys/net/ipv6/conf
mount -t tmpfs -o mode=0755 none /dev/net && mknod -m 0666 /dev/net/tun c 10 200
{opening}
exec "$0" "$@"
"""
"""What ProtectKernelTunables and ReadWritePaths make, and /dev/net/tun as udev makes it."""
READ: Final = [Path(one) for one in (sys.base_prefix, sys.prefix, Path(noid.__file__).parents[1])]
"""What a daemon reads of this tree and of the interpreter that runs the tests."""
PASS: Final = """
import os, socket, sys
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    one = socket.socket(socket.AF_INET6, kind)
    one.bind(("::1", 53))
    if kind is socket.SOCK_STREAM:
        one.listen()
    number = 3 + (kind is socket.SOCK_STREAM)
    os.dup2(one.detach(), number)
    os.set_inheritable(number, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""noid.socket: sockets for UDP and TCP, passed as descriptors 3 and 4."""
DENY: Final = """
import ctypes, os, sys
assert ctypes.CDLL(None, use_errno=True).prctl(65, 1, 0, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""MemoryDenyWriteExecute, by PR_SET_MDWE; it is inherited."""


class Sandbox:
    """noid on a, as the unit runs it.

    Args:
        lab: where; its own daemon on a has been taken down.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.home = lab.directory / "sandbox"
        self.pins = lab.directory / PINS / "sandbox"
        self.socket = self.home / "noid.sock"
        self.config = lab.directory / "sandbox.toml"
        text = (lab.directory / "a.toml").read_text()
        for key, path in (("pins", self.pins), ("socket", self.socket), ("directory", self.state)):
            text = re.sub(f'^{key} = ".*"', f'{key} = "{path}"', text, flags=re.MULTILINE)
        self.config.write_text(text)
        for directory in (self.home, self.pins):
            directory.mkdir(mode=0o700, parents=True)
            os.chown(directory, USER, USER)
        for directory in (lab.directory, lab.directory / PINS):
            directory.chmod(0o711)

    @property
    def state(self) -> Path:
        return self.home / "state"

    def opening(self) -> str:
        """The commands by which every user can read READ: some may be in a home or below one."""
        closed = {one: outermost(one) for one in READ}
        inside = {one: directory for one, directory in closed.items() if directory is not None}
        places = {one: self.lab.directory / f"read-{at}" for at, one in enumerate(inside)}
        lines = ["umask 022"]
        for one, place in places.items():
            lines.append(f"mkdir -p '{place}' && mount --bind '{one}' '{place}'")
        for directory in sorted(set(inside.values())):
            lines.append(f"mount -t tmpfs -o mode=0755 none '{directory}'")
        for one, place in places.items():
            lines.append(f"mkdir -p '{one}' && mount --move '{place}' '{one}'")
        return "\n".join(lines)

    def words(self, *capabilities: str, command: str = "run") -> list[str]:
        """A command of noid with capabilities."""
        held = ",".join(["-all", *(f"+{one.removeprefix('CAP_').lower()}" for one in capabilities)])
        user = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
        sets = [f"--{kind}={held}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
        python = [sys.executable, "-c"]
        mounts = MOUNTS.format(opening=self.opening())
        passed = ["unshare", "--mount", "sh", "-c", mounts, *python, PASS]
        noid = [sys.executable, "-m", "noid", command, "--config", str(self.config)]
        return [*passed, "setpriv", *user, *sets, *python, DENY, *noid]

    def start(self) -> Process:
        process = self.lab.spawn("a", self.words(*unit_capabilities()))
        wait_for(
            "noid answers or has ended",
            lambda: answers(self.socket) or not process.running,
            STARTS_WITHIN_S,
        )
        assert process.running, process.output()
        return process

    def down(self) -> str:
        """What ``noid down`` says, run as the same user with the same capabilities."""
        words = self.words(*unit_capabilities(), command="down")
        done = self.lab.run("a", words, timeout_s=STARTS_WITHIN_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def established(self) -> bool:
        """Whether a context with b is there."""
        rows = ask_rows(self.socket, "contexts")
        return [row["state"] for row in rows] == ["established"]

    def reaches_b(self) -> None:
        """Asserts that b is found by its name, and waits for a context."""
        done = self.lab.run("a", ["ping", "-n", "-c1", "-i0.2", "-w20", "b.example"])
        assert locators("b")[0] in done.stdout, done.stdout + done.stderr
        wait_for("there is a context", self.established, STARTS_WITHIN_S)


@pytest.fixture(scope="module", params=PLANES)
def sandbox(lab_machine: None, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Lab.create(plane=request.param) as lab:
        lab.take_noid_down("a")
        (lab.directory / PINS).mkdir(exist_ok=True)
        yield Sandbox(lab)


def outermost(path: Path) -> Path | None:
    """The outermost directory above a path that not every user can enter; None if there is none."""
    closed = [one for one in path.parents if not one.stat().st_mode & stat.S_IXOTH]
    return closed[-1] if closed else None


def unit_capabilities() -> list[str]:
    """Those of the unit."""
    (line,) = re.findall(r"^AmbientCapabilities=(.*)$", UNIT.read_text(), flags=re.MULTILINE)
    return str(line).split()


def test_the_unit_starts_noid_again_however_often_that_failed() -> None:
    """Such as at boot, while nothing names a resolver."""
    unit, service = UNIT.read_text().split("[Service]")
    assert "StartLimitIntervalSec=0" in unit.splitlines()
    assert "Restart=on-failure" in service.splitlines()


def test_the_unit_gives_four_capabilities() -> None:
    text = UNIT.read_text()
    expected = ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON"]
    assert unit_capabilities() == expected
    assert f"CapabilityBoundingSet={' '.join(expected)}\n" in text


def test_noid_runs_in_the_sandbox_and_goes_on_after_a_kill(sandbox: Sandbox) -> None:
    process = sandbox.start()
    held = Path(f"/proc/{process.pid}/status").read_text()
    assert re.findall(r"CapEff:\t0*(\w+)", held) == ["c000003000"]
    assert re.findall(r"Uid:\t(\d+)", held) == [str(USER)]
    sandbox.reaches_b()
    status = ask(sandbox.socket, "status")
    assert status["plane"]["kind"] == sandbox.lab.plane
    assert status["state"]["trouble"] == []
    modes = {stat.S_IMODE(path.stat().st_mode) for path in sandbox.state.iterdir()}
    assert modes == {0o600}
    process.popen.kill()
    process.popen.wait()
    process = sandbox.start()
    again = ask(sandbox.socket, "status")
    stays = sandbox.lab.plane == "bpf"
    assert (again["birthday"] == status["birthday"]) is stays
    sandbox.reaches_b()
    process.end()
    assert process.popen.returncode == 0, process.output()
    assert "removed" in sandbox.down()
    assert not sandbox.pins.exists() or list(sandbox.pins.iterdir()) == []
    for word in ("Traceback", " ERROR ", "denied", "refused"):
        assert word not in process.output(), process.output()


@pytest.mark.parametrize("missing", ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON"])
def test_a_missing_capability_is_named_in_one_line(sandbox: Sandbox, missing: str) -> None:
    if sandbox.lab.plane == "tun" and missing in ("CAP_BPF", "CAP_PERFMON"):
        return  # the TUN plane does without
    words = sandbox.words(*(one for one in unit_capabilities() if one != missing))
    said = one_line(sandbox.lab.run("a", words, timeout_s=STARTS_WITHIN_S))
    assert f"(lacking: {missing})" in said
