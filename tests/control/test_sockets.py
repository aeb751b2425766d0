# SPDX-License-Identifier: MIT
"""``noid.sockets`` asks the daemon of the configuration, and about one context only."""

import contextlib
import socket
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest

from noid import sockets
from noid.errors import ConfigError
from tests.canned import serving

ROW: dict[str, Any] = {
    "state": "established",
    "peer_name": "b.example",
    "local_locator": "2001:db8:1::a",
    "peer_locator": "2001:db8:1::b",
    "lsv_peer": ["2001:db8:1::b"],
    "round_trip_us": 2_000,
}


@contextlib.contextmanager
def connected() -> Iterator[socket.socket]:
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as server,
        socket.create_connection(server.getsockname()[:2]) as connection,
    ):
        yield connection


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration that the environment names, whose daemon has another socket."""
    path = tmp_path / "noid.toml"
    path.write_text(f'[control]\nsocket = "{tmp_path}/other.sock"\n')
    monkeypatch.setenv("NOID_CONFIG", str(path))
    monkeypatch.delenv("NOID_SOCKET", raising=False)
    return path


def test_the_daemon_of_the_configuration_is_asked_for_one_context(config: Path) -> None:
    answer = {"context": ROW, "uplink": "up1"}
    with (
        serving(config.parent / "other.sock", {"context": lambda: answer}),
        connected() as connection,
    ):
        found = sockets.context(connection)
    assert found is not None
    assert (found.peer_name, found.round_trip_s) == ("b.example", 0.002)
    pair = IPv6Address("2001:db8:1::a"), IPv6Address("2001:db8:1::b")
    assert found.route == sockets.Route(*pair, "up1")


def test_a_socket_without_a_context_has_no_route(config: Path) -> None:
    answer = {"context": None, "uplink": ""}
    with (
        serving(config.parent / "other.sock", {"context": lambda: answer}),
        connected() as connection,
    ):
        assert sockets.route(connection) is None


def test_without_the_configuration_no_socket_opts_out_by_a_wrong_mark(config: Path) -> None:
    config.write_text("[plane]\nmark = 0\n")
    with connected() as connection, pytest.raises(ConfigError, match=r"plane\.mark"):
        sockets.opt_out(connection)
