# SPDX-License-Identifier: MIT
"""A machine to install packages on: an overlay of this one or another, on a node of a lab.

What is written goes to a file system in memory, so that this machine stays as it is. /run and /tmp
are its own: what other tests write to /tmp of this machine would change below the overlay, which
overlayfs does not allow. The service is started by the command lines of its unit, with what systemd
would prepare for them.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from noid.lab.waiting import wait_for

LIMIT_S: Final = 300.0
BUILD: Final = """
mount --make-rprivate / && mount -t tmpfs -o mode=0755 none {place}
mkdir {place}/upper {place}/work {place}/root
mount -t overlay -o lowerdir={below},upperdir={place}/upper,workdir={place}/work none {place}/root
mount --rbind /proc {place}/root/proc && mount --rbind /sys {place}/root/sys
mount --rbind /dev {place}/root/dev && mount -t tmpfs -o mode=0755 none {place}/root/run
mount -t tmpfs -o mode=1777 none {place}/root/tmp
mount -t tmpfs -o mode=0755 none {place}/root/dev/net
mknod -m 0666 {place}/root/dev/net/tun c 10 200
for name in resolv.conf nsswitch.conf; do cat /etc/$name >{place}/root/etc/$name; done
: >{place}/ready
exec sleep infinity
"""
OWN: Final = ("run", "tmp")
"""Directories that are not of the overlay, and are empty at first."""
UNITS: Final = ("etc/systemd/system", "lib/systemd/system")
"""Where systemd looks for units, in this order."""
SEARCHED: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where it looks for a command."""
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
PACKAGE: Final = "tmp/noid.deb"
NOTICES: Final = "run/notices"
NOTICE_OCTETS: Final = 4096
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
        lab: the lab.
        node: whose network it has.
        place: a directory for the overlay.
        below: the root directory of the system below it.
    """

    def __init__(self, lab: Place, node: str, place: Path, below: Path = Path("/")) -> None:
        self.lab = lab
        self.place = place
        self.below = below
        words = ["unshare", "--mount", "sh", "-ec", self.script()]
        self.holder = subprocess.Popen(lab.command(node, words))
        self.until(lambda: self._seen("ready").exists())
        self.notices = self._service_manager()

    def script(self) -> str:
        """The commands that make it, and stay."""
        return BUILD.format(place=self.place, below=self.below)

    def close(self) -> None:
        """Removes it, with all that was written."""
        self.notices.close()
        self.holder.kill()
        self.holder.wait(LIMIT_S)

    def _seen(self, path: str) -> Path:
        """A file of ours, whose mounts only the machine has."""
        return Path(f"/proc/{self.holder.pid}/root{self.place}/{path}")

    def path(self, name: str) -> Path:
        """A file of the machine, such as ``etc/noid.toml``."""
        return self._seen(f"root/{name}")

    def command(self, *words: str, online: bool = False) -> list[str]:
        """The command line that runs a command on the machine.

        Args:
            words: the command.
            online: whether it has the network of this machine, to fetch packages.
        """
        spaces = ["nsenter", f"--target={self.holder.pid}", "--mount", "--net"][
            : 3 if online else 4
        ]
        return [*spaces, "chroot", f"{self.place}/root", "env", "PWD=/", *words]

    def run(self, *words: str, status: int = 0) -> str:
        """Runs a command to its end, and returns what it says."""
        environment = {
            "PATH": SEARCHED,
            "DEBIAN_FRONTEND": "noninteractive",
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, env=environment, timeout=LIMIT_S
        )
        assert done.returncode == status, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def install(self, package: Path) -> None:
        """Installs a package that is not on the machine."""
        path = self.path(PACKAGE)
        path.write_bytes(package.read_bytes())
        self.run("dpkg", "--install", f"/{PACKAGE}")
        path.unlink()

    def json(self, *words: str) -> Any:  # noqa: ANN401 - whatever JSON a command gives
        """What a command says as JSON."""
        return json.loads(self.run(*words))

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits until a condition holds, for as long as the machine is there."""
        wait_for(
            "the machine does what it is to do",
            lambda: condition() or self.holder.poll() is not None,
            LIMIT_S,
        )
        assert self.holder.poll() is None, "the machine is gone"

    # --- files --------------------------------------------------------------------------------

    def changed(self) -> dict[str, tuple[object, ...]]:
        """What differs from the system below, but for bookkeeping: mode, owner, contents."""
        upper = self._seen("upper")
        found = {}
        for path in sorted(upper.rglob("*")):
            name = str(path.relative_to(upper))
            ours, below = facts(path), facts(self.below / name)
            if ours != below and not BOOKKEEPING.match(name):
                found[name] = ours
        for path in sorted(path for own in OWN for path in self.path(own).rglob("*")):
            name = str(path.relative_to(self.path("")))
            if not BOOKKEEPING.match(name):
                found[name] = facts(path)
        return found

    # --- the service --------------------------------------------------------------------------

    def unit(self, key: str, name: str = "noid.service") -> list[str]:
        """The values of a key of an installed unit, in order."""
        places = (self.path(f"{place}/{name}") for place in UNITS)
        text = next(path for path in places if path.exists()).read_text().replace("\\\n", " ")
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
        for line in self.unit("ExecStart", "noid-pins.service"):
            self.run(*shlex.split(line))
        (line,), (capabilities,) = self.unit("ExecStart"), self.unit("AmbientCapabilities")
        held = [f"+{one.removeprefix('CAP_').lower()}" for one in capabilities.split()]
        sets = [f"--{kind}={','.join(['-all', *held])}" for kind in ("inh-caps", "ambient-caps")]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *sets]
        words = ["/usr/bin/python3", "-c", START, *become, "--no-new-privs", *shlex.split(line)]
        environment = {"PATH": SEARCHED, "NOTIFY_SOCKET": f"/{NOTICES}"}
        self._is_ready()  # takes what an earlier daemon has said
        process = subprocess.Popen(self.command(*words), env=environment)
        self.until(lambda: process.poll() is not None or self._is_ready())
        assert process.poll() is None, "the service has ended"
        return process

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        """Ends the service as systemd does, and removes its RuntimeDirectory."""
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
        self.run("rm", "-rf", f"/run/{self.unit('RuntimeDirectory')[0]}")

    def _service_manager(self) -> socket.socket:
        """The socket that hears what the service says to systemd.

        Asking it in a loop would take a processor from the download whose gaps are measured.
        """
        one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        path = self.path(NOTICES)
        directory = os.open(path.parent, os.O_DIRECTORY)
        one.bind(f"/proc/self/fd/{directory}/{path.name}")  # the path itself may be too long
        os.close(directory)
        path.chmod(0o666)
        return one

    def _is_ready(self) -> bool:
        """Whether the service has said so since it was asked last."""
        said = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                said += self.notices.recv(NOTICE_OCTETS) + b"\n"
        return b"READY=1" in said.splitlines()


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
