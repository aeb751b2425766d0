# SPDX-License-Identifier: MIT
"""`noid plain` beside a running noid: what the program sends begins no context."""

import subprocess
import sys

from noid.lab import namespaces
from noid.lab.lab import Lab
from noid.lab.topology import locators
from tests.lab.conversations import PATIENCE_S, restart_daemons

SEND = """\
import socket, sys
with socket.create_connection((sys.argv[1], 80), timeout=30) as one:
    one.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    assert one.recv(9).startswith(b"HTTP")
    while one.recv(65536):  # what came after a close would be refused by a packet without a mark
        pass
"""


def send(lab: Lab, *before: str) -> None:
    """A conversation of a with b's web server, seen by the control groups of this machine."""
    net = namespaces.RUN_DIRECTORY / namespaces.namespace(lab.name, "a")
    words = [sys.executable, "-c", SEND, locators("b")[0]]
    subprocess.run(["nsenter", f"--net={net}", *before, *words], check=True, timeout=60)


def test_a_program_that_noid_plain_runs_begins_no_context(lab: Lab) -> None:
    restart_daemons(lab)
    lab.take_noid_down("b")  # or b begins one itself, with the host that sends it plain packets
    try:
        assert lab.run("a", ["getent", "ahosts", "b.example"]).returncode == 0
        config = lab.environment("a")["NOID_CONFIG"]
        send(lab, sys.executable, "-m", "noid", "plain", "--config", config)
        assert lab.contexts("a") == []
    finally:
        lab.start_daemon("b")
    send(lab)
    lab.wait_for("a context", lambda: lab.contexts("a"), PATIENCE_S)
