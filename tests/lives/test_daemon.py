# SPDX-License-Identifier: MIT
"""Nothing of a daemon that has ended is in the life of the next one, or on the host after that."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from noid.config import Config
from noid.control.client import answers, ask
from noid.counters import PlaneCounter
from noid.lab.waiting import wait_for
from noid.roles.host import Daemon as Product
from noid.state import history, known_uplinks
from noid.state.contexts import ContextStore
from tests.lives.host import changes, host
from tests.namespaces import in_network_namespace, ip
from tests.planes.keeping import UPLINKS, make_uplinks
from tests.state.test_contexts import row

LIMIT_S = 60.0
KEPT = ("state.json", history.FILE_NAME)
"""What ``noid down`` leaves in the state directory: who the host is, and what happened to it."""
CONFIG = """\
[host]
interfaces = ["up*"]
[dns]
listen = "::1"
upstream = ["2001:db8:9::53"]
[plane]
kind = "{kind}"
pins = "{directory}/pins"
[control]
socket = "{directory}/socket"
[state]
directory = "{directory}/state"
"""


TELL = """
import asyncio, json, sys
from pathlib import Path
from noid.config import load_config
from noid.resolver.stub import Stub
from noid.roles.host import Daemon

daemon, start, told = Daemon(load_config(Path(sys.argv[1]))), Stub.start, []

def tell():
    told.append(daemon.status())

def tell_and_end():
    tell()
    daemon.stopping.set()

async def start_and_tell(*given):
    await start(*given)
    tell()
    asyncio.get_running_loop().call_soon(tell_and_end)

Stub.start = start_and_tell
asyncio.run(daemon.run())
print(json.dumps(told))
"""
"""A daemon that tells its status once the stub listens, and at the next turn of the loop."""


class Daemon:
    """A daemon of its own process, in the network namespace we are in."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.socket = directory / "socket"
        self.config = directory / "noid.toml"
        self.config.write_text(CONFIG.format(kind=kind, directory=directory))
        self.process = self._noid("run")
        wait_for(
            "noid answers",
            lambda: answers(self.socket) or self.process.poll() is not None,
            LIMIT_S,
        )
        assert self.process.poll() is None, self.process.communicate()

    def birthday(self) -> int:
        return int(ask(self.socket, "status")["birthday"])

    def another(self) -> str:
        """What a second one says, which has ended, and its child too: that has its output open."""
        arguments = [sys.executable, "-m", "noid", "run", "--config", str(self.config)]
        said = subprocess.run(arguments, capture_output=True, text=True, timeout=LIMIT_S)
        assert said.returncode == 1
        return said.stderr

    def close(self) -> None:
        """Ends it where a test has failed before it did."""
        self.process.kill()
        self.process.communicate()

    def end(self, number: signal.Signals) -> None:
        """Ends it, and takes down what it left."""
        self.process.send_signal(number)
        self.process.communicate(timeout=LIMIT_S)
        assert self.down() == 0

    def down(self) -> int:
        """The exit status of ``noid down``."""
        return self._noid("down").wait(LIMIT_S)

    def _noid(self, verb: str) -> "subprocess.Popen[bytes]":
        arguments = [sys.executable, "-m", "noid", verb, "--config", str(self.config)]
        return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def rules() -> list[str]:
    """The policy routing rules of the host."""
    shown = subprocess.run(["ip", "-6", "rule"], capture_output=True, text=True, check=True)
    return sorted(shown.stdout.splitlines())


def on_a_host(scenario: Callable[[], None]) -> None:
    def play() -> None:
        make_uplinks()
        for name in (*UPLINKS, "far1", "far2"):
            ip(f"addr flush dev {name} scope link")
        scenario()

    in_network_namespace(play)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tun", "bpf"])
def test_a_daemon_begins_with_nothing_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    directory = tmp_path
    state = directory / "state"
    state.mkdir()

    def scenario() -> None:
        before = host(directory)
        births = []
        for label, number in enumerate((signal.SIGKILL, signal.SIGTERM), start=1):
            left = ContextStore(state)
            left.keep([row(label)])
            left.close()
            with contextlib.closing(Daemon(directory, kind)) as daemon:
                births.append(daemon.birthday())
                assert list(ask(daemon.socket, "contexts")) == []
                with contextlib.closing(ContextStore(state)) as found:
                    assert found.count() == 0, "the kernel carries no flow of it"
                daemon.end(number)
        assert births[1] == (births[0] + 1) % (1 << 32)
        for kept in KEPT:
            (state / kept).unlink()
        (state / known_uplinks.FILE_NAME).unlink(missing_ok=True)  # if a daemon ran long enough
        daemon.config.unlink()
        assert changes(before, host(directory)) == {}

    on_a_host(scenario)


def test_status_says_in_one_line_that_noid_is_starting() -> None:
    one = Product(Config())
    try:
        assert one.status() == {"error": "noid is starting; ask again in a second"}
    finally:
        one.network.close()


@pytest.mark.slow
def test_status_tells_nothing_before_the_plane_has_started(tmp_path: Path) -> None:
    config = tmp_path / "noid.toml"
    config.write_text(CONFIG.format(kind="bpf", directory=tmp_path))

    def scenario() -> None:
        words = [sys.executable, "-c", TELL, str(config)]
        said = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S)
        early, first = json.loads(said.stdout)
        assert early == {"error": "noid is starting; ask again in a second"}
        assert set(first["plane"]["uplinks"]) == set(UPLINKS)
        words = [sys.executable, "-m", "noid", "down", "--config", str(config)]
        assert subprocess.run(words, stdout=subprocess.DEVNULL).returncode == 0

    on_a_host(scenario)


@pytest.mark.slow
def test_a_second_daemon_is_refused_and_takes_nothing_from_the_first(tmp_path: Path) -> None:
    def scenario() -> None:
        with contextlib.closing(Daemon(tmp_path, "bpf")) as daemon:
            before, state = rules(), (tmp_path / "state" / "state.json").read_bytes()
            assert "another noid answers there" in daemon.another()
            assert rules() == before
            assert (tmp_path / "state" / "state.json").read_bytes() == state
            restored = PlaneCounter.OBJECTS_RESTORED.identifier
            counters = ask(daemon.socket, "status")["plane"]["counters"]
            assert counters[restored] == 0, "and it has put nothing back"
            daemon.end(signal.SIGTERM)

    on_a_host(scenario)


@pytest.mark.slow
def test_nothing_is_taken_down_under_a_daemon_that_stands_still(tmp_path: Path) -> None:
    def scenario() -> None:
        with contextlib.closing(Daemon(tmp_path, "bpf")) as daemon:
            before = rules()
            daemon.process.send_signal(signal.SIGSTOP)
            assert daemon.down() == 1
            assert rules() == before
            daemon.process.send_signal(signal.SIGCONT)
            daemon.end(signal.SIGTERM)

    on_a_host(scenario)
