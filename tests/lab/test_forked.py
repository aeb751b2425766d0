# SPDX-License-Identifier: MIT
"""A daemon that is forked is the one that a lab would have started as a program."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from noid.control.client import answers
from noid.lab import processes
from noid.lab.lab import Lab
from noid.lab.processes import Process
from tests import forked
from tests.lab.conversations import PATIENCE_S

ENTER = ["ip", "netns", "exec", "noid-x-a"]
RUN = ["-m", "noid", "run", "--config", "a.toml"]
BORDER = ["-m", "noid", "border", "run", "--config", "r.toml"]
OCTETS = 4096
SAYS = 'import json; print(json.dumps({"no": "noid"}))'


@pytest.mark.parametrize("words", [RUN, BORDER])
def test_a_daemon_is_forked(words: list[str]) -> None:
    found = forked.parsed([*ENTER, "env", sys.executable, *words])
    assert found == forked.parsed([*ENTER, sys.executable, *words])
    assert found == ("noid-x-a", words)


@pytest.mark.parametrize(
    "arguments",
    [
        [*ENTER, sys.executable, "-m", "noid", "down", "--config", "a.toml"],
        [*ENTER, sys.executable, "-c", SAYS],
        [*ENTER, "env", "PYTHONPATH=/elsewhere", sys.executable, *RUN],
        [*ENTER, "setpriv", "--reuid=7", sys.executable, *RUN],
        [*ENTER, "env", "/usr/bin/python3", *RUN],
        [sys.executable, *RUN],
        ENTER,
    ],
)
def test_everything_else_is_started_as_a_program(arguments: list[str]) -> None:
    assert forked.parsed(arguments) is None


def test_a_fork_has_the_network_the_files_and_the_environment_of_a_program(
    lab_machine: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (
        Lab.create(plane="tun") as lab,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(str(tmp_path / "manager"))
        manager.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "manager"))
        lab.stop_daemon("a")
        seen = {}
        for launch in (processes.program, forked.launch):
            monkeypatch.setattr(processes, "launch", launch)
            process = lab.start_daemon("a")
            assert isinstance(process.popen, forked.Fork) is (launch is forked.launch)
            assert lab.status("a")["pid"] == process.pid
            seen[launch] = surroundings(process)
            assert manager.recv(OCTETS) == b"READY=1"
            process.popen.send_signal(signal.SIGTERM)
            assert manager.recv(OCTETS) == b"STOPPING=1"
            assert process.popen.wait(PATIENCE_S) == 0
        assert seen[forked.launch] == seen[processes.program]
        process = lab.start_daemon("a")
        with pytest.raises(subprocess.TimeoutExpired):
            process.popen.wait(0.01)
        process.popen.kill()
        assert process.popen.wait(PATIENCE_S) == -signal.SIGKILL
        assert not answers(lab.control_socket("a"))


def test_an_answer_that_a_test_did_not_wait_for_is_not_taken_for_the_next(
    tmp_path: Path,
) -> None:
    """Those of a start that is interrupted, while the process that forks imports noid."""
    request = {"words": RUN, "environment": {}, "directory": str(tmp_path), "umask": 0o22}
    forks, before = forked.Forks(), signal.signal(signal.SIGUSR1, interrupt)
    try:
        with (tmp_path / "log").open("wb") as log:
            here = threading.get_ident()
            threading.Timer(0.05, signal.pthread_kill, [here, signal.SIGUSR1]).start()
            with pytest.raises(InterruptedError):
                forks.ask({"namespace": "noid-first", **request}, log.fileno())
            pid = forks.ask({"namespace": "noid-second", **request}, log.fileno())
        assert pid is not None
        assert forked.Fork(forks, pid).wait(PATIENCE_S) == 1
        assert "noid-second" in (tmp_path / "log").read_text()
    finally:
        signal.signal(signal.SIGUSR1, before)
        forks.close()


def interrupt(_number: int, _frame: object) -> None:
    raise InterruptedError


def surroundings(process: Process) -> dict[str, object]:
    """What a process has of its lab and of the process that has started it."""
    proc = Path(f"/proc/{process.pid}")
    names = ("resolv.conf", "nsswitch.conf", "gai.conf", "hosts")
    return {
        "network": os.readlink(proc / "ns" / "net"),
        "links": sorted(path.name for path in (proc / "root/sys/class/net").iterdir()),
        "files": {name: (proc / "root/etc" / name).read_text() for name in names},
        "directory": os.readlink(proc / "cwd"),
        "output": [os.readlink(proc / "fd" / str(number)) for number in range(3)],
        "umask": (proc / "status").read_text().split("Umask:\t")[1][:4],
        "session": os.getsid(process.pid) == process.pid,
        "signals": signals(proc),
    }


def signals(proc: Path) -> list[str]:
    """The signals that a process blocks, ignores and handles."""
    lines = (proc / "status").read_text().splitlines()
    return [line for line in lines if line.startswith("Sig") and not line.startswith("SigQ")]
