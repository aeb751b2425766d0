# SPDX-License-Identifier: MIT
"""``noid.sockets``, and the example of docs/monitoring.md, on hosts of the lab."""

import re
import socket
import sys
import textwrap
from pathlib import Path

import pytest

from noid import sockets
from noid.errors import PlatformError, UsageError
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.topology import locators
from tests.lab.conversations import establish_context, restart_daemons
from tests.lab.privilege import NOBODY

PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"
EXAMPLE = re.compile(r"<!-- example: sockets -->\n\n((?:    .*\n|\n)+)")
LIMIT_S = 60.0
OPT_OUT = """\
import socket, sys
from noid import sockets
with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as connection:
    sockets.opt_out(connection)
    connection.connect((sys.argv[1], 7000))
    print(sockets.context(connection) is not None)
"""
MARKED = """\
import socket
from noid import sockets
with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as connection:
    sockets.opt_out(connection)
    print(connection.getsockopt(socket.SOL_SOCKET, socket.SO_MARK))
"""


@pytest.fixture
def lab(kernel_lab: Lab) -> Lab:
    """The lab, both daemons fresh, and a context."""
    restart_daemons(kernel_lab)
    establish_context(kernel_lab)
    return kernel_lab


def command(lab: Lab, script: str, *words: str) -> list[str]:
    control = f"NOID_SOCKET={lab.control_socket('a')}"
    return ["env", control, sys.executable, "-c", script, *words]


def test_the_documented_example_names_the_uplink_before_and_after_a_switch(lab: Lab) -> None:
    found = EXAMPLE.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    first, second = (lab.plan.uplink("a", number) for number in (1, 2))
    words = command(lab, textwrap.dedent(found[1]), locators("b")[0], first)
    process = lab.spawn("a", words, name="example")
    said = f"b.example {first}\n"
    try:
        lab.wait_for("the example has a context", lambda: process.output() == said, LIMIT_S)
        lab.cut(1, Fault.CARRIER)
        try:
            whole = f"{said}{second}\n"
            lab.wait_for("it sees the switch", lambda: process.output() == whole, LIMIT_S)
        finally:
            lab.heal(1)
    finally:
        process.end()


def test_a_socket_opts_out_by_the_mark_of_the_configuration(lab: Lab) -> None:
    path = lab.directory / "marked.toml"
    path.write_text("[plane]\nmark = 77\n", encoding="utf-8")
    words = ["env", f"NOID_CONFIG={path}", sys.executable, "-c", MARKED]
    assert lab.run("a", words).stdout == "77\n"


def test_a_socket_that_opts_out_connects(lab: Lab) -> None:
    done = lab.run("a", command(lab, OPT_OUT, locators("b")[0]))
    assert done.returncode == 0, done.stderr
    refused = lab.run("a", [*NOBODY, *command(lab, OPT_OUT, locators("b")[0])])
    assert "lacking: CAP_NET_ADMIN" in refused.stderr


def test_an_uplink_that_does_not_exist_is_refused_with_those_that_do(lab: Lab) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as connection:
        with pytest.raises(UsageError, match=f"there are: {lab.plan.uplink('a', 1)}"):
            sockets.prefer(connection, "up9", control=lab.control_socket("a"))
        with pytest.raises(PlatformError, match="bind to"):  # the lab's addresses are not ours
            sockets.prefer(connection, "up1", control=lab.control_socket("a"))


def test_a_socket_without_a_context_has_none(lab: Lab) -> None:
    control = lab.control_socket("a")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        with socket.create_connection(server.getsockname()[:2]) as connection:
            assert sockets.context(connection, control=control) is None
            assert sockets.route(connection, control=control) is None
            assert sockets.wait_for_switch(connection, None, timeout_s=0.1, control=control) is None
        with pytest.raises(UsageError, match="not a connected socket"):
            sockets.context(server, control=control)
    with (
        socket.socket(socket.AF_INET) as other,
        pytest.raises(UsageError, match="not a connected socket"),
    ):
        sockets.context(other, control=control)
