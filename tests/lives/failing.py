# SPDX-License-Identifier: MIT
"""Lets any call into the system fail once: which calls there are is seen while a part works.

A call is known by the lines of noid from which it is made, and by its name, whatever of other
libraries stands in between. Calls into the netlink library fail as a whole, calls of libbpf by what
they return.
"""

import contextlib
import ctypes
import errno
import io
import os
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

import pyroute2
import pytest
from pyroute2.netlink.exceptions import NetlinkError

import noid
from noid.planes.bpf import libbpf

NOID: Final = str(Path(noid.__file__).parent)
PYROUTE2: Final = str(Path(pyroute2.__file__).parent)
MODULES: Final = frozenset({"posix", "_socket", "fcntl", "_posixsubprocess", "io", "_io"})
KINDS: Final = (socket.socket, sqlite3.Connection, io.IOBase)
NO_BUFFERS: Final = errno.ENOBUFS, os.strerror(errno.ENOBUFS)
ACCESSORS: Final = frozenset(
    {"__getattr__", "__getitem__", "get", "__enter__", "__exit__", "close"}
)
HARMLESS: Final = frozenset(
    {"close", "fspath", "fileno", "getpid", "strerror", "inet_pton", "inet_ntop", "gettimeout"}
    | {"setblocking", "umask", "geteuid", "getuid", "detach", "stat", "lstat", "listdir"}
    | {"scandir", "readlink", "waitpid", "poll", "cpu_count", "urandom", "getcwd", "fstat"}
    | {"sched_getaffinity", "uname", "flush", "fsencode", "WIFSTOPPED", "waitstatus_to_exitcode"}
    | {"isatty", "seekable", "readable", "writable", "tell", "readall", "readinto", "readline"}
    | {"getvalue", "getbuffer", "get_inheritable", "set_inheritable", "gethostname", "dup"}
    | {"recv", "recvfrom_into", "if_nameindex", "kill", "decode", "encode", "getsockname"}
    | {"htons", "open_code", "_path_normpath", "text_encoding", "__exit__", "__enter__"}
    | {"getpeername", "getsockopt", "getdefaulttimeout", "listen"}
)
"""What cannot fail, what only looks, and what lets go."""
DEPTH: Final = 2
LETTING_GO: Final = frozenset({"bpf_object__close", "ring_buffer__free"})
ANSWERS: Final = frozenset(
    {"bpf_object__next_map", "bpf_object__next_program", "bpf_map__name", "bpf_program__name"}
    | {"bpf_map__fd", "bpf_program__fd", "ring_buffer__epoll_fd", "libbpf_num_possible_cpus"}
    | {"libbpf_set_print", "bpf_map__set_max_entries", "bpf_map__set_initial_value"}
    | {"libbpf_probe_bpf_map_type", "libbpf_probe_bpf_helper", "bpf_prog_query"}
)
"""Functions of libbpf that ask the library itself, or what the kernel can do."""


class Call(NamedTuple):
    """One place from which noid calls the system.

    Attributes:
        places: the lines of noid that led there, the nearest first; one of each of two files.
        name: of the function.
    """

    places: tuple[str, ...]
    name: str


@dataclass
class Calls:
    """The calls that are made, of which one may fail.

    Attributes:
        failing: the one that fails the first time it is made; None lets all succeed.
        made: those that were made, each once.
        failed: whether the one that is to fail has failed.
    """

    failing: Call | None = None
    made: list[Call] = field(default_factory=list)
    failed: bool = False

    def make(self, frame: FrameType | None, name: str) -> bool:
        """Notes a call; returns whether it is to fail."""
        places = _places(frame)
        if not places:
            return False
        call = Call(places, name)
        if call not in self.made:
            self.made.append(call)
        if call != self.failing or self.failed:
            return False
        self.failed = True
        return True

    def look(self, frame: FrameType, event: str, argument: object) -> None:
        """What Python calls whenever a function is called."""
        if self.failed:
            sys.setprofile(None)
        elif event == "c_call":
            name = getattr(argument, "__name__", "")
            if name not in HARMLESS and _is_system(argument) and self.make(frame, name):
                raise _failure(argument)
        elif event == "call" and _begins_netlink(frame):
            name = frame.f_code.co_name
            if name not in ACCESSORS and self.make(frame.f_back, f"netlink {name}"):
                is_new = name == "__init__"
                raise OSError(*NO_BUFFERS) if is_new else NetlinkError(*NO_BUFFERS)


class Library:
    """libbpf, one function of which may fail."""

    def __init__(self, real: ctypes.CDLL, calls: Calls) -> None:
        self.real = real
        self.calls = calls

    def __getattr__(self, name: str) -> object:
        function = getattr(self.real, name)
        if name in LETTING_GO | ANSWERS:
            return function

        def call(*arguments: object) -> object:
            if not self.calls.make(sys._getframe(1), name):
                return function(*arguments)
            ctypes.set_errno(errno.ENOBUFS)
            return None if function.restype is ctypes.c_void_p else -errno.ENOBUFS

        return call


@contextlib.contextmanager
def watched(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sees the calls of this thread, and of threads that start while the block runs."""
    library = libbpf.library
    with monkeypatch.context() as patched:
        patched.setattr(libbpf, "library", lambda: Library(library(), calls))
        threading.setprofile(calls.look)
        sys.setprofile(calls.look)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


def _places(frame: FrameType | None) -> tuple[str, ...]:
    """The lines of noid that are nearest, of two files; none in what a test itself calls."""
    found: dict[str, int] = {}
    while frame is not None and len(found) < DEPTH:
        path = frame.f_code.co_filename
        if path.startswith(NOID):
            found.setdefault(Path(path).name, frame.f_lineno)
        elif not found and (path.startswith(PYROUTE2) or "/tests/" in path):
            return ()
        frame = frame.f_back
    return tuple(f"{name}:{line}" for name, line in found.items())


def _begins_netlink(frame: FrameType) -> bool:
    back = frame.f_back
    return (
        frame.f_code.co_filename.startswith(PYROUTE2)
        and back is not None
        and back.f_code.co_filename.startswith(NOID)
    )


def _is_system(function: object) -> bool:
    if getattr(function, "__module__", None) in MODULES:
        return True
    return isinstance(getattr(function, "__self__", None), KINDS)


def _failure(function: object) -> Exception:
    if isinstance(getattr(function, "__self__", None), sqlite3.Connection):
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        return error
    number = errno.ENOSPC if getattr(function, "__name__", "") == "write" else errno.ENOBUFS
    return OSError(number, os.strerror(number))
