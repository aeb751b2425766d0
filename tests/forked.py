# SPDX-License-Identifier: MIT
"""Daemons of labs as forks of a process that has imported noid.

Of the processor time that a daemon needs until it answers, nine tenths are imports. Each process of
``make test`` that runs labs beside others therefore has a child that imports noid once. For a
daemon, the child forks; the fork does what ``ip netns exec`` does, and runs ``python -m noid`` with
the arguments and the environment of the daemon. Only its command line in /proc is another one.

Tests that run alone, and the commands of ``noid lab``, start noid as its users do.
"""

import atexit
import ctypes
import functools
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from noid.lab import processes
from noid.lab.namespaces import ETC_DIRECTORY, RUN_DIRECTORY
from noid.roles.guardian import DESCRIPTORS, FIRST
from tests.umask import umask

FORKED: Final = (["-m", "noid", "run"], ["-m", "noid", "border", "run"])
"""What is forked; everything else is started as a program."""
IMPORTED: Final = (
    *("noid.cli.run", "noid.roles.host", "noid.roles.metrics"),
    *("noid.cli.border", "noid.roles.border"),
)
NET_NAMESPACE, MOUNT_NAMESPACE = 0x40000000, 0x00020000
MOUNT_BIND, MOUNT_RECURSIVELY, MOUNT_SLAVE = 0x1000, 0x4000, 0x80000
UNMOUNT_LAZILY = 2
REQUEST_OCTETS: Final = 1 << 18


class Words(NamedTuple):
    """A command line of a lab that runs noid in a network namespace.

    Attributes:
        namespace: its name.
        words: the arguments of Python.
    """

    namespace: str
    words: list[str]


def parsed(arguments: Sequence[str]) -> Words | None:
    """The command line of a daemon; None if it is another one, or sets variables."""
    head, namespace, rest = list(arguments[:3]), arguments[3:4], list(arguments[4:])
    if head != ["ip", "netns", "exec"] or not rest:
        return None
    rest = rest[1:] if rest[0] == "env" else rest
    words = rest[1:]
    if rest[0] != sys.executable or not any(words[: len(one)] == one for one in FORKED):
        return None
    return Words(namespace[0], words)


class Fork:
    """A daemon, with what the tests use of ``subprocess.Popen``.

    Args:
        forks: the process that has forked it.
        pid: its process id.
    """

    def __init__(self, forks: "Forks", pid: int) -> None:
        self.pid = pid
        self.returncode: int | Any = None
        self._forks = forks

    def poll(self) -> int | None:
        """Its exit status, or minus the signal that has ended it; None if it has not ended."""
        if self.returncode is None:
            self.returncode = self._forks.ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits until it has ended."""
        if self.poll() is None:
            handle = os.pidfd_open(self.pid)  # nothing but our own question lets it go
            try:
                ready, _, _ = select.select([handle], [], [], timeout)
            finally:
                os.close(handle)
            if not ready:
                raise subprocess.TimeoutExpired("noid", timeout or 0)
        found = self.poll()
        assert found is not None
        return found

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """The process that forks, and the other end of its socket."""

    def __init__(self) -> None:
        self._here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(there.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                start_new_session=True,
                cwd=Path(__file__).parent.parent,
            )
        self._lock, self._asked = threading.Lock(), 0

    def ask(self, request: Mapping[str, object], *descriptors: int) -> int | None:
        """Sends a request, with descriptors, and returns the answer.

        A test that takes too long may have left the answer to an earlier request unread.
        """
        with self._lock:
            self._asked += 1
            octets = json.dumps({"number": self._asked, **request}).encode()
            socket.send_fds(self._here, [octets], descriptors)
            number, found = json.loads(self._here.recv(REQUEST_OCTETS))
            while number != self._asked:
                number, found = json.loads(self._here.recv(REQUEST_OCTETS))
        return None if found is None else int(found)

    def close(self) -> None:
        """Ends it; what it has forked runs on."""
        self._here.close()
        self._process.wait()


def fork_daemons() -> None:
    """Lets labs of this process have daemons that are forks."""
    processes.launch = launch


def launch(
    arguments: Sequence[str], log: IO[bytes], environment: Mapping[str, str] | None
) -> processes.Handle:
    """Forks a daemon, and starts any other program; see ``processes.program``."""
    found = parsed(arguments)
    if found is None:
        return processes.program(arguments, log, environment)
    forks = _forks()
    request = {
        "namespace": found.namespace,
        "words": found.words,
        "environment": dict(os.environ if environment is None else environment),
        "directory": str(Path.cwd()),
        "umask": umask(),
    }
    pid = forks.ask(request, log.fileno())
    assert pid is not None
    return Fork(forks, pid)


@functools.cache
def _forks() -> Forks:
    """The one of this process of tests, started when the first daemon is."""
    forks = Forks()
    atexit.register(forks.close)
    return forks


# --- the process that forks -----------------------------------------------------------------------


def main() -> None:
    """Answers requests until the other end is closed; in a fork, runs noid."""
    for module in IMPORTED:
        importlib.import_module(module)
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        found = _serve(requests)
    if found is not None:
        _become(found[0], found[1])
        runpy.run_module("noid", run_name="__main__", alter_sys=True)


def _serve(requests: socket.socket) -> tuple[dict[str, Any], int] | None:
    """Returns in a fork, with its request and the descriptor of its log, and None at the end."""
    while True:
        octets, descriptors, _, _ = socket.recv_fds(requests, REQUEST_OCTETS, 1)
        if not octets:
            return None
        request = json.loads(octets)
        if "ended" in request:
            requests.send(json.dumps([request["number"], _status(request["ended"])]).encode())
            continue
        (log,) = descriptors
        pid = os.fork()
        if not pid:
            return request, log
        os.close(log)
        requests.send(json.dumps([request["number"], pid]).encode())


def _status(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _become(request: dict[str, Any], log: int) -> None:
    """Makes this fork what the program would be that a lab starts."""
    os.setsid()
    for standard in (1, 2):
        os.dup2(log, standard)
    os.closerange(FIRST, DESCRIPTORS)
    os.umask(request["umask"])
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    _enter(request["namespace"])
    sys.argv[1:] = request["words"][2:]  # without -m noid


def _enter(namespace: str) -> None:
    """What ``ip netns exec`` does: the network, /sys of it, and the files of it in /etc."""
    handle = os.open(RUN_DIRECTORY / namespace, os.O_RDONLY)
    _call("setns", handle, NET_NAMESPACE)
    os.close(handle)
    _call("unshare", MOUNT_NAMESPACE)
    _mount("none", "/", None, MOUNT_SLAVE | MOUNT_RECURSIVELY)
    _call("umount2", b"/sys", UNMOUNT_LAZILY)
    _mount(namespace, "/sys", "sysfs", 0)
    directory = ETC_DIRECTORY / namespace
    for path in directory.iterdir() if directory.is_dir() else ():
        _mount(str(path), f"/etc/{path.name}", "none", MOUNT_BIND)


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    _call("mount", source.encode(), target.encode(), kind and kind.encode(), flags, None)


def _call(function: str, *arguments: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
