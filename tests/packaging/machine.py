# SPDX-License-Identifier: MIT
"""A machine to install packages on: an overlay of this one, on a node of a lab.

What is written goes to a file system in memory, so that this machine stays as it is. The service is
started by the command lines of its unit, with what systemd would prepare for them.
"""

import hashlib
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

LIMIT_S: Final = 300.0
BUILD: Final = """
mount --make-rprivate / && mount -t tmpfs -o mode=0755 none {place}
mkdir {place}/upper {place}/work {place}/root
mount -t overlay -o lowerdir=/,upperdir={place}/upper,workdir={place}/work none {place}/root
mount --rbind /proc {place}/root/proc && mount --rbind /sys {place}/root/sys
mount --rbind /dev {place}/root/dev && mount -t tmpfs -o mode=0755 none {place}/root/run
mount -t tmpfs -o mode=0755 none {place}/root/dev/net
mknod -m 0666 {place}/root/dev/net/tun c 10 200
for name in resolv.conf nsswitch.conf; do cat /etc/$name >{place}/root/etc/$name; done
: >{place}/ready
exec sleep infinity
"""
UNIT: Final = "lib/systemd/system/noid.service"
START: Final = """
import os, socket, sys
for number, kind in ((3, socket.SOCK_DGRAM), (4, socket.SOCK_STREAM)):
    one = socket.socket(socket.AF_INET6, kind)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("::1", 53))
    if kind is socket.SOCK_STREAM:
        one.listen()
    os.dup2(one.detach(), number)
    os.set_inheritable(number, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Passes the sockets of noid.socket."""
BOOKKEEPING: Final = re.compile(
    r"var/(lib/dpkg|log|cache|backups)(/|$)|etc/[a-z]+-$"
    r"|run/(lock|mount)$|etc/\.pwd\.lock$|etc/(passwd|group|shadow|gshadow)\.lock$"
)
"""What dpkg, man-db and the tools for users keep of what they did."""


class Nodes(Protocol):
    """A lab, or another network with nodes."""

    def command(self, node: str, arguments: Sequence[str]) -> list[str]:
        """The command line that runs a command on a node."""


Place = TypeVar("Place", bound=Nodes)


class Machine(Generic[Place]):
    """The overlay.

    Args:
        lab: where.
        node: whose network it has.
        place: a directory for the overlay.
    """

    def __init__(self, lab: Place, node: str, place: Path) -> None:
        self.lab = lab
        self.place = place
        words = ["unshare", "--mount", "sh", "-ec", BUILD.format(place=place)]
        self.holder = subprocess.Popen(lab.command(node, words))
        self.until(lambda: self._seen("ready").exists())

    def close(self) -> None:
        """Removes it, with all that was written."""
        self.holder.kill()
        self.holder.wait(LIMIT_S)

    def _seen(self, path: str) -> Path:
        """A file of ours, whose mounts only the machine has."""
        return Path(f"/proc/{self.holder.pid}/root{self.place}/{path}")

    def path(self, name: str) -> Path:
        """A file of the machine, such as ``etc/noid.toml``."""
        return self._seen(f"root/{name}")

    def command(self, *words: str) -> list[str]:
        """The command line that runs a command on the machine."""
        spaces = ["nsenter", f"--target={self.holder.pid}", "--mount", "--net"]
        return [*spaces, "chroot", f"{self.place}/root", "env", "PWD=/", *words]

    def run(self, *words: str, status: int = 0) -> str:
        """Runs a command to its end, and returns what it says."""
        environment = {
            "PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND": "noninteractive",
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, env=environment, timeout=LIMIT_S
        )
        assert done.returncode == status, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def json(self, *words: str) -> Any:  # noqa: ANN401 - whatever JSON a command gives
        """What a command says as JSON."""
        return json.loads(self.run(*words))

    def until(self, condition: Callable[[], bool]) -> None:
        began_s = time.monotonic()
        while not condition():
            assert time.monotonic() - began_s < LIMIT_S, "it does not come true"
            assert self.holder.poll() is None, "the machine is gone"
            time.sleep(0.01)

    # --- files --------------------------------------------------------------------------------

    def changed(self) -> dict[str, tuple[object, ...]]:
        """What differs from this machine, but for bookkeeping: path -> mode, owner, contents."""
        upper = self._seen("upper")
        found = {}
        for path in sorted(upper.rglob("*")):
            name = str(path.relative_to(upper))
            ours, below = facts(path), facts(Path("/", name))
            if ours != below and not BOOKKEEPING.match(name):
                found[name] = ours
        for path in sorted(self.path("run").rglob("*")):
            name = str(path.relative_to(self.path("")))
            if not BOOKKEEPING.match(name):
                found[name] = facts(path)
        return found

    # --- the service --------------------------------------------------------------------------

    def unit(self, key: str) -> list[str]:
        """The values of a key of the installed unit, in order."""
        text = self.path(UNIT).read_text().replace("\\\n", " ")
        return re.findall(rf"^{key}=(.*)$", text, flags=re.MULTILINE)

    @contextmanager
    def service(self) -> "Iterator[subprocess.Popen[bytes]]":
        """Starts the service as its unit says, until the end of a ``with``."""
        process = self.start()
        try:
            yield process
        finally:
            self.stop(process)

    def start(self) -> "subprocess.Popen[bytes]":
        """Starts the service, and returns when it is ready."""
        (user,), (state,), (run) = (
            self.unit("User"),
            self.unit("StateDirectory"),
            self.unit("RuntimeDirectory"),
        )
        for directory in (f"/var/lib/{state}", f"/run/{run[0]}"):
            self.run("install", "-d", "-m", "0700", "-o", user, "-g", user, directory)
        for line in self.unit("ExecStartPre"):
            assert line.startswith("+"), "it runs as root"
            self.run(*shlex.split(line[1:]))
        (line,), (capabilities,) = self.unit("ExecStart"), self.unit("AmbientCapabilities")
        held = [f"+{one.removeprefix('CAP_').lower()}" for one in capabilities.split()]
        sets = [f"--{kind}={','.join(['-all', *held])}" for kind in ("inh-caps", "ambient-caps")]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *sets]
        words = ["/usr/bin/python3", "-c", START, *become, "--no-new-privs", *shlex.split(line)]
        process = subprocess.Popen(self.command(*words), env={"PATH": os.environ["PATH"]})
        self.until(lambda: process.poll() is not None or self._answers())
        assert process.poll() is None, "the service has ended"
        return process

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        """Ends the service as systemd does, and removes its RuntimeDirectory."""
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
        self.run("rm", "-rf", f"/run/{self.unit('RuntimeDirectory')[0]}")

    def _answers(self) -> bool:
        done = subprocess.run(self.command("noid", "status", "--json"), capture_output=True)
        return done.returncode == 0 and b'"error"' not in done.stdout


def facts(path: Path) -> tuple[object, ...]:
    """What a file is; nothing of one that is not there."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    content: object = None
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    elif stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        return ("removed",)
    return (stat.filemode(status.st_mode), status.st_uid, status.st_gid, content)
