# SPDX-License-Identifier: MIT
"""Sockets of a service manager are taken by the process they are for, and checked."""

import socket
import subprocess
import sys

PROGRAM = """
import os, sys
from noid.host.activation import passed_sockets
from noid.errors import PlatformError
os.dup2(int(sys.argv[2]), 3)
os.closerange(4, 64)
if sys.argv[1] != "other":
    os.environ["LISTEN_PID"] = str(os.getpid())
try:
    print([one.getsockname()[1] for one in passed_sockets()], passed_sockets())
except PlatformError as error:
    print(error)
"""


def run(which: str, count: str) -> tuple[str, int]:
    """What a process prints to which a socket is passed as descriptor 3, and the socket's port."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        one.bind(("::1", 0))
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, which, str(one.fileno())],
            env={"LISTEN_PID": "1", "LISTEN_FDS": count},
            pass_fds=[one.fileno()],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip(), one.getsockname()[1]


def test_a_socket_is_taken_once() -> None:
    said, port = run("own", "1")
    assert said == f"[{port}] []"


def test_sockets_of_another_process_are_left() -> None:
    said, _ = run("other", "1")
    assert said == "[] []"


def test_a_count_that_is_none_means_no_sockets() -> None:
    said, _ = run("own", "many")
    assert said == "[] []"


def test_what_is_no_socket_is_refused_in_one_line() -> None:
    said, _ = run("own", "2")
    assert said.startswith("LISTEN_FDS: ")
    assert "\n" not in said
