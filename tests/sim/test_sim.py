# SPDX-License-Identifier: MIT
"""The simulator: same seed, same run; seeds and attacks pass; a broken engine is found out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from noid.cli.main import main, parser
from noid.engine.events import Input, Output
from noid.engine.host import Host
from noid.engine.options import HostOptions
from noid.engine.secrets import Entropy, HostKeys, Opened
from noid.errors import UsageError
from noid.sim.coverage import every_entry
from noid.sim.families import FAMILIES
from noid.sim.runs import Run, play, play_again
from noid.sim.scenarios import SCENARIOS, SWARM
from noid.sim.world import World
from noid.wire.options import Cookie

SEEDS = (*range(1, 13), 58, 298, 3810, 4588, 8758, 10838, 11357, 13539)
DIRECTED = [name for name in SCENARIOS if name != SWARM]
DIGEST_OF_SEED_5 = """
from noid.sim.scenarios import SCENARIOS
from noid.sim.world import World
world = World(5)
SCENARIOS["swarm"].play(world)
print(world.trace.digest())
"""


class Gullible(HostKeys):
    """Keys that open whatever they are shown."""

    def opens(self, cookie: Cookie, state: bytes, now_ns: int) -> Opened | None:
        return Opened(self.pair(now_ns), now_ns)


def gullible(options: HostOptions, entropy: Entropy) -> Host:
    """A host that believes every cookie [D8]."""
    host = Host(options, entropy)
    host.inspection.use_keys(Gullible(entropy))
    return host


class Forgetful(Host):
    """A host whose packets of programs make it raise, now and then."""

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        assert not self.contexts, "one too many"
        return super().handle(event, now_ns)


def traced(seed: int) -> World:
    world = World(seed)
    SCENARIOS[SWARM].play(world)
    return world


def verdict(run: Run) -> str:
    return f"{run.violation}\n{run.faults}\n{run.ladder}\n{run.command}"


@pytest.mark.slow
def test_the_same_seed_gives_the_same_trace_byte_for_byte() -> None:
    one, other = traced(5), traced(5)
    assert one.trace.lines == other.trace.lines
    assert one.trace.digest() == other.trace.digest() != traced(6).trace.digest()


@pytest.mark.slow
@pytest.mark.parametrize("hashing", ["0", "1"])
def test_the_trace_depends_on_nothing_but_the_seed(hashing: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hashing, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(
        [sys.executable, "-c", DIGEST_OF_SEED_5],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == traced(5).trace.digest()


def test_the_swarm_is_held_against_the_laws() -> None:
    assert play(1).judged


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_some_random_seeds_break_no_law(seed: int) -> None:
    run = play(seed)
    assert not run.violation, verdict(run)


@pytest.mark.slow
@pytest.mark.parametrize("name", DIRECTED)
def test_every_scenario_ends_as_it_should(name: str) -> None:
    run = play(1, name)
    known = SCENARIOS[name].known
    if known and run.violation:
        pytest.xfail(known)
    assert not known, f"{name} passes now: it is not known to fail any more"
    assert not run.violation, verdict(run)


@pytest.mark.slow
def test_a_host_that_believes_every_cookie_is_found_out() -> None:
    run = play(1, "altered-ccr", gullible)
    assert "altered CCRs make nothing" in run.violation


def test_an_engine_that_raises_is_found_out() -> None:
    run = play(1, "blackhole", Forgetful)
    assert "handle() never raises" in run.violation
    assert "one too many" in run.violation


def test_a_failure_says_how_to_play_it_again_and_shows_the_end() -> None:
    run = play(3, "blackhole", Forgetful)
    assert run.command == "noid sim run --seed 3 --scenario blackhole"
    assert "INIT" in run.ladder
    assert "VIOLATION" in run.ladder.splitlines()[-1]


def test_what_was_drawn_is_said() -> None:
    assert play(3).faults.startswith("hosts=")


@pytest.mark.slow
def test_the_command_answers_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "run", "--scenario", "blackhole", "--seeds", "2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"] == answer["runs"] == answer["seeds"] == 2
    assert answer["failed"] == answer["known_to_fail"] == []
    assert answer["events"] > 100
    assert answer["faults"]["unreachable"] > 0
    assert answer["law"]["entries"] == len(every_entry())
    assert len(answer["law"]["never"]) == answer["law"]["entries"] - answer["law"]["covered"]


def test_the_command_lists_scenarios_and_knows_no_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["sim", "run", "--scenario", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in SCENARIOS)
    with pytest.raises(UsageError):
        main_unguarded("nonsense")


def main_unguarded(scenario: str) -> None:
    """The command without the catcher that makes one line of an error."""
    parsed = parser().parse_args(["sim", "run", "--scenario", scenario])
    parsed.handler(parsed)


def test_histories_that_were_written_down_are_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "histories"
    histories = [FAMILIES["cuts-1x2"].history(number).encode() for number in (0, 1)]
    path.write_bytes(b"\n".join(histories) + b"\n")
    assert main(["sim", "run", "--history", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] == 2
    path.write_bytes(b'{"seed": "nonsense"}')
    parsed = parser().parse_args(["sim", "run", "--history", str(path)])
    with pytest.raises(UsageError, match="histories"):
        parsed.handler(parsed)


def test_a_history_that_fails_says_how_to_play_it_again() -> None:
    run = play_again(FAMILIES["cuts-1x2"].history(0), "kept.json", Forgetful)
    assert run.command == "noid sim run --history kept.json"
    assert "one too many" in run.violation
