# SPDX-License-Identifier: MIT
"""Damaged or odd state files, and a disk that takes nothing, do not prevent the start [D49]."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from noid.constants import LOCATORS_MAX, Codepoints
from noid.control.client import answers, ask
from noid.engine.events import ContextRestored, InstallFlow, LocatorsChanged, Output, TimePassed
from noid.engine.host import Host
from noid.engine.options import HostOptions
from noid.engine.records import ContextRecord
from noid.flows.clock import FlowClock
from noid.identifiers import Label
from noid.lab.waiting import wait_for
from noid.planes.bpf import layout
from noid.state.contexts import decoded, files_of
from noid.state.identity import FILE_NAME
from tests.lives.test_daemon import CONFIG, LIMIT_S, on_a_host
from tests.planes.loading import CODEPOINTS, HERE
from tests.state.test_contexts import A1, A2, B1, B2, memory

ROWS: Final = 1_500
DEADLINES: Final = 6
NUMBERS: Final = (0, 1, 255, (1 << 20) - 1, 1 << 20, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1)
NAMES: Final = ("", "x", "." * 255, "a..b", "\x1b[31m", "é" * 100, "b.example", "x" * 254)
LOCATORS: Final = (
    *(A1, A2, B1, B2),
    bytes(16),
    b"\xff" * 16,
    b"\xfe\x80" + bytes(14),
    bytes(15) + b"\1",
    b"\xfe",
)
READ_ONLY: Final = 'mount -t tmpfs -o ro,mode=0700 none {place} && exec "$0" "$@"'


# --- rows that the file may have ------------------------------------------------------------------


def changed(chance: random.Random, value: object) -> object:
    """Something else of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return chance.choice(NUMBERS)
        case str():
            return chance.choice(NAMES)
        case bytes():
            return chance.choice((*LOCATORS, chance.randbytes(32)))
    count = chance.randrange(LOCATORS_MAX + 2)
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return tuple((chance.choice(LOCATORS), chance.choice((0, 0x90, 255))) for _ in range(count))
    return tuple(chance.choice(LOCATORS) for _ in range(count))


def odd_rows(chance: random.Random) -> Iterator[ContextRecord]:
    """ContextStore that are read, whatever was changed in them."""
    names = [field.name for field in fields(ContextRecord)]
    for _ in range(ROWS):
        changes: dict[str, Any] = {
            name: changed(chance, getattr(memory(Label(1)), name))
            for name in chance.sample(names, chance.choice((1, 1, 2, 3)))
        }
        found = decoded(Label(1), msgspec.msgpack.encode(replace(memory(Label(1)), **changes)))
        if found is not None:
            yield found


def take_up(found: ContextRecord, chance: random.Random) -> list[Output]:
    """What an engine does with a context in its first time."""
    options = HostOptions(codepoints=Codepoints(), birthday=1, reset_key=bytes(32))
    engine = Host(options, chance.randbytes)
    now_ns = 1_000_000_000
    engine.handle(LocatorsChanged((A1, A2)), now_ns)
    outputs = engine.handle(ContextRestored(found), now_ns)
    for _ in range(DEADLINES):
        deadline = engine.deadline()
        if deadline is None:
            break
        now_ns = max(now_ns, deadline.at_ns)
        outputs += engine.handle(TimePassed(), now_ns)
    return outputs


def test_any_row_that_is_read_can_be_taken_up() -> None:
    chance = random.Random(11)
    count = 0
    for found in odd_rows(chance):
        for output in take_up(found, chance):
            if isinstance(output, InstallFlow):
                layout.outbound_entry(output.flow, HERE, CODEPOINTS, FlowClock())
                layout.inbound_entries(output.flow, HERE, FlowClock())
        count += 1
    assert count > ROWS // 4


# --- a daemon that starts -------------------------------------------------------------------------


def started(directory: Path, *prefix: str) -> tuple[dict[str, Any], str]:
    """The status and the log of a daemon that starts, and is ended."""
    config, place = directory / "noid.toml", directory / "socket"
    config.write_text(CONFIG.format(kind="tun", directory=directory))
    words = [*prefix, sys.executable, "-m", "noid", "run", "--config", str(config)]
    with (directory / "log").open("w+") as log:
        process = subprocess.Popen(words, stderr=log)
        try:
            wait_for("noid answers", lambda: answers(place) or process.poll() is not None, LIMIT_S)
            status = ask(place, "status") if process.poll() is None else {}
        finally:
            process.terminate()
            process.wait(LIMIT_S)
        log.seek(0)
        return status, log.read()


@pytest.mark.lab
@pytest.mark.slow
def test_a_daemon_starts_with_damaged_files_and_reports_once(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / FILE_NAME).write_text("[" * 4_000)
    database, log, _ = files_of(state)
    database.write_bytes(random.Random(1).randbytes(9_000))
    os.mkfifo(log)
    for path in (state / FILE_NAME, database):
        path.chmod(0o600)

    def scenario() -> None:
        status, first = started(tmp_path)
        trouble = status["state"]["trouble"]
        assert len(trouble) == 2, first
        for path in (state / FILE_NAME, database):
            assert sum(f"{path} " in line for line in trouble) == 1, trouble
        assert first.count("damaged") >= 2
        for path in (state / FILE_NAME, database):
            assert first.count(f"{path} ") == 1, first
        again, second = started(tmp_path)
        assert again["state"]["trouble"] == []
        assert "damaged" not in second
        assert again["birthday"] == (status["birthday"] + 1) % (1 << 32)

    on_a_host(scenario)


@pytest.mark.lab
@pytest.mark.slow
def test_a_daemon_starts_on_a_read_only_disk_and_reports_it(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()

    def scenario() -> None:
        mount = READ_ONLY.format(place=state)
        status, log = started(tmp_path, "unshare", "--mount", "sh", "-c", mount)
        trouble = json.dumps(status["state"]["trouble"])
        assert "Read-only file system" in trouble
        assert "random birthday" in trouble
        assert "contexts will not outlive the daemon" in trouble
        assert "Traceback" not in log

    on_a_host(scenario)


@pytest.mark.lab
@pytest.mark.slow
def test_a_directory_that_others_can_write_is_refused_in_one_line(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)

    def scenario() -> None:
        status, log = started(tmp_path)
        assert status == {}
        assert log == (
            f"noid: state file {state}: can be written by others (mode 0777); "
            f"remove it, or check its contents, then: chmod 700 {state}\n"
        )

    on_a_host(scenario)
