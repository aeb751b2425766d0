# SPDX-License-Identifier: MIT
"""What the daemon tells the service manager, on a real socket."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from noid.host.notify import notify, ping_interval_s, ping_watchdog
from tests.lives.test_daemon import CONFIG, LIMIT_S, on_a_host

PERIOD_US = 200_000
PING = b"WATCHDOG=1"


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a service manager, and the environment that names it."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(path)
        one.settimeout(LIMIT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
            monkeypatch.delenv(name, raising=False)
        yield one


def test_the_manager_gets_the_words(manager: socket.socket) -> None:
    notify("READY=1\nSTATUS=so")
    assert manager.recv(100) == b"READY=1\nSTATUS=so"


def test_an_abstract_address_begins_with_an_at_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"noid-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(f"\0{name}")
        one.settimeout(LIMIT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify("READY=1")
        assert one.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "/does/not/exist"])
def test_without_a_manager_nothing_happens(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")


def test_a_manager_that_does_not_read_delays_nothing(manager: socket.socket) -> None:
    for _ in range(1000):  # more than the queue of a socket holds
        notify("WATCHDOG=1")
    assert manager.recv(100) == PING


@pytest.mark.parametrize(
    ("microseconds", "pid", "interval_s"),
    [
        ("3000000", None, 1.5),
        ("3000000", "this", 1.5),
        ("3000000", "1", None),
        ("0", None, None),
        ("", None, None),
        ("soon", None, None),
        ("\u0663", None, None),
    ],
)
def test_a_ping_is_sent_twice_in_each_period_of_this_process(
    microseconds: str, pid: str | None, interval_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "this" else pid)
    assert ping_interval_s() == interval_s


def test_without_a_watchdog_there_are_no_pings(manager: socket.socket) -> None:
    asyncio.run(asyncio.wait_for(ping_watchdog(), LIMIT_S))
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


@pytest.mark.slow
def test_a_daemon_says_ready_pings_the_watchdog_and_says_stopping(
    manager: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", str(PERIOD_US))
    config = tmp_path / "noid.toml"
    config.write_text(CONFIG.format(kind="tun", directory=tmp_path))

    def use() -> None:
        words = [sys.executable, "-m", "noid", "run", "--config", str(config)]
        with subprocess.Popen(words) as process:
            try:
                assert manager.recv(100) == b"READY=1"
                assert [manager.recv(100) for _ in range(3)] == [PING] * 3
                process.terminate()
                after = manager.recv(100)
                while after == PING:
                    after = manager.recv(100)
                assert after == b"STOPPING=1"
                assert process.wait(LIMIT_S) == 0
            finally:
                process.kill()

    on_a_host(use)
