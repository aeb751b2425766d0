# SPDX-License-Identifier: MIT
"""A sweep plays every history once, keeps what came of it, and goes on where it was."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import distributed
import pytest

from noid.cli.main import main
from noid.cli.sweep import INTERRUPTED
from noid.engine.events import Input, Output
from noid.engine.host import Host
from noid.errors import UsageError
from noid.flows.events import UnansweredPacket
from noid.lab.waiting import wait_for
from noid.sim.families import FAMILIES
from noid.sim.history import decode
from noid.sim.laws import LIVENESS
from noid.sim.runs import SHARES
from noid.sim.shrink import violation_of
from noid.sweep import workers
from noid.sweep.results import PLAYED, Results, fingerprint
from noid.sweep.work import Chunk, Found, Outcome, Totals, carry_out, chunks
from noid.sweep.workers import on_cluster, on_this_machine
from tests.test_architecture import COMMON, ROOMS

FEW = [Chunk("lost-update", (3, 4)), Chunk("cuts-1x2", (0, 1)), Chunk("blackhole", (1,))]
RUNS = 5
WAIT_S = 60.0


class Deaf(Host):
    """A host that is never told that nothing answers."""

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        return [] if isinstance(event, UnansweredPacket) else super().handle(event, now_ns)


def test_every_history_of_an_exhaustive_family_is_played_once() -> None:
    numbers = [number for chunk in chunks(100, ("lost-setup",)) for number in chunk.numbers]
    assert numbers == list(range(FAMILIES["lost-setup"].count))


def test_of_cuts_that_differ_in_order_alone_one_is_played() -> None:
    family = FAMILIES["cuts-1x3"]
    first = set(family.numbers())
    assert len(first) == 40  # of 64: the second and third locator of b may change places
    for number in range(family.count):
        ways = [number >> 2 * at & 3 for at in range(3)]
        turned = ways[0] | ways[2] << 2 | ways[1] << 4
        assert {number, turned} & first


def test_the_seeds_are_shared_among_what_is_drawn() -> None:
    drawn = [chunk for chunk in chunks(1_000) if chunk.scenario in SHARES]
    count = sum(len(chunk.numbers) for chunk in drawn)
    assert 1_000 <= count <= 1_000 + len(SHARES)


def test_a_scenario_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="no scenario 'nonsense'"):
        chunks(1, ("nonsense",))


@pytest.mark.slow
def test_what_violates_a_law_is_kept_with_its_shortest_history() -> None:
    outcome = carry_out(Chunk("cuts-2x2", (3,)), Deaf)
    (found,) = outcome.found
    history = decode(found.history.encode())
    assert LIVENESS in found.violation
    assert violation_of(history, Deaf)[0] == LIVENESS
    assert len(history.steps) == 1
    with_results = Results(":memory:")
    with_results.keep(outcome)
    assert list(with_results.violations()) == [found]
    with_results.close()


@pytest.mark.slow
def test_a_sweep_that_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    path = str(tmp_path / "results.sqlite")
    results = Results(path)
    results.keep(carry_out(FEW[0]))
    results.close()
    again = Results(path)
    missing = again.missing(FEW)
    assert missing == FEW[1:]
    for chunk in missing:
        again.keep(carry_out(chunk))
    totals = again.totals()
    again.close()
    at_once = Totals()
    for chunk in FEW:
        at_once.add(carry_out(chunk).totals)
    assert totals.runs == at_once.runs == RUNS
    assert (totals.events, totals.seen) == (at_once.events, at_once.seen)
    assert (totals.judged, totals.injected) == (at_once.judged, at_once.injected)
    assert totals.by_scenario == at_once.by_scenario


def sweeping(path: Path, processes: int) -> "subprocess.Popen[str]":
    """A long sweep, of which a chunk is in its results."""
    command = [sys.executable, "-m", "noid", "sim", "sweep", "--scenario", "cuts-2x3"]
    running = subprocess.Popen(
        [*command, "--processes", str(processes), "--results", str(path)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    while running.poll() is None and not kept(path):
        time.sleep(0.05)
    return running


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_a_sweep_that_a_signal_ends(
    tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "results.sqlite"
    running = sweeping(path, 2)
    tasks = Path(f"/proc/{running.pid}/task").iterdir()
    workers_of = {one for task in tasks for one in (task / "children").read_text().split()}
    assert len(workers_of) == 2
    try:
        running.send_signal(number)
        assert running.wait() == -number
        wait_for("no worker runs", lambda: not any(map(is_running, workers_of)), WAIT_S)
        assert kept(path)
    finally:
        for one in filter(is_running, workers_of):
            os.kill(int(one), signal.SIGKILL)
        running.communicate()


def is_running(process: str) -> bool:
    """Whether a process does anything; one that has ended may wait for its parent."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@pytest.mark.slow
def test_an_interrupt_ends_a_sweep_and_keeps_what_was_played(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    running = sweeping(path, 1)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == INTERRUPTED, said
    assert f"interrupted; the finished runs are in {path}" in said
    assert "Traceback" not in said
    assert kept(path)


def kept(path: Path) -> int:
    """How many chunks are in a file of results, if it is one already."""
    if not path.exists():
        return 0
    with sqlite3.connect(path) as file:
        tables = file.execute("SELECT name FROM sqlite_master WHERE name = 'chunks'").fetchall()
        count: int = file.execute("SELECT count(*) FROM chunks").fetchone()[0] if tables else 0
    return count


def test_results_of_other_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    Results(str(path)).close()
    with sqlite3.connect(path) as file:
        file.execute("UPDATE sweep SET fingerprint = 'of old'")
    with pytest.raises(UsageError, match="results of other code; remove it"):
        Results(str(path))


def test_a_file_that_has_no_results_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader, this is no database. " * 50)
    with pytest.raises(UsageError, match="name another file with --results"):
        Results(str(path))


def test_the_fingerprint_is_of_the_code() -> None:
    assert fingerprint() == fingerprint()
    assert len(fingerprint()) == 16


def test_the_fingerprint_covers_every_room_that_a_run_depends_on() -> None:
    rooms, found = {"sim"}, set[str]()
    while rooms:
        found |= rooms
        rooms = {other for one in rooms for other in ROOMS[one].imports} - found
    files = {f"{name}.py" for name in COMMON}
    assert set(PLAYED) == files | found


def played(count_and_play: tuple[int, workers.Work[Chunk, Outcome]]) -> list[Outcome]:
    count, play = count_and_play
    assert count >= 1
    return sorted(play(FEW), key=lambda one: one.chunk.scenario)


def expected() -> list[Outcome]:
    return sorted(map(carry_out, FEW), key=lambda one: one.chunk.scenario)


def same(one: list[Outcome], other: list[Outcome]) -> bool:
    for outcome in (*one, *other):
        outcome.totals.seconds = 0.0
    return one == other


@pytest.mark.slow
def test_processes_of_this_machine_play_the_same() -> None:
    assert same(played(on_this_machine(2, carry_out)), expected())


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the library's own
def test_a_cluster_plays_the_same() -> None:
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        assert same(played(on_cluster(cluster.scheduler_address, carry_out)), expected())


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_cluster_without_workers_is_refused() -> None:
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        pytest.raises(UsageError, match="has no workers; start: dask worker"),
    ):
        on_cluster(cluster.scheduler_address, carry_out)


@pytest.mark.slow
def test_where_no_scheduler_answers_that_is_said() -> None:
    with pytest.raises(UsageError, match="no Dask scheduler at"):
        on_cluster("tcp://127.0.0.1:1", carry_out, connect_s=0.2)


@pytest.mark.slow
def test_the_command_says_what_was_covered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "results.sqlite")
    arguments = ["sim", "sweep", "--seeds", "2", "--scenario", "cuts-1x2", "--results", path]
    assert main([*arguments, "--processes", "1", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["runs"] == FAMILIES["cuts-1x2"].count
    assert first["violations"] == []
    assert first["coverage"]["histories"] == first["runs"]
    assert first["coverage"]["law_entries"] > 10
    assert first["coverage"]["judged"][LIVENESS] > 0
    assert first["events_per_second_and_core"] > 0
    assert main([*arguments, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["coverage"] == first["coverage"]
    assert main(arguments) == 0
    assert "16, 0 failed" in capsys.readouterr().out


def test_a_violation_is_printed_with_what_plays_it_again() -> None:
    assert Found("cuts-2x2", 3, "liveness: no", "", "").command == (
        "noid sim run --seed 3 --scenario cuts-2x2"
    )
