# SPDX-License-Identifier: MIT
"""How long an application waits when its provider, its access line or its uplink fails."""

import argparse
import contextlib
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from noid.bench.conversation import Conversation, Direction
from noid.bench.picture import check_matplotlib, draw
from noid.bench.report import Bench, Fact, Report, Watch, add_runs, positive
from noid.bench.silence import Observation, bins, middle, observe, summary, texts
from noid.bench.stage import READY_TIMEOUT_S, WAYS, Stage, Way, available
from noid.bench.traffic import KINDS
from noid.constants import SECOND
from noid.errors import UsageError
from noid.lab import machine
from noid.lab.faults import Fault
from noid.lab.waiting import POLL_S

Key = tuple[Fault, str, str, Way]
"""Fault, traffic, direction of the data, way."""

FAULTS: Final = tuple(one for one in Fault if one is not Fault.RA)
"""No router of this lab advertises itself."""
USUAL_FAULTS: Final = (Fault.SILENT, Fault.ACCESS, Fault.CARRIER, Fault.ADMIN, Fault.ROUTER)
ROUTER_SECONDS: Final = 62
"""The kernel takes about 38 s to detect that a router behind a switch has failed."""
ROUTER_TRAFFIC: Final = "paced"
DIRECTIONS: Final[tuple[Direction, ...]] = ("to_a", "from_a")
"""Of data over TCP: host a, whose uplink fails, receives or sends."""
BOTH: Final = "both"
TRAFFIC_BEFORE_S: Final = 1.0
PHASE_MAX_S: Final = 0.1
"""Maximum random delay of the fault, so that no timer has a fixed phase to it."""
PAUSE_NS: Final = 200_000_000
"""A conversation that is silent for this long is observed for longer."""
NOTE: Final = (
    "the longest silence in ms at the receiving application between the fault and the end of the "
    "observation; disturbed: from the fault to the end of the last silence of 50 ms or more; a "
    "conversation that is silent in the end has not survived, and its silence is a lower bound; "
    "every run starts with new daemons, an established context and verified locators"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured.

    Attributes:
        faults: the faults.
        traffic: which kinds of it.
        directions: of the data of TCP connections; datagrams have both at once.
        seconds: how long a conversation is observed after the fault, at least.
        patience_s: how long a silent one is observed.
    """

    faults: tuple[Fault, ...]
    traffic: tuple[str, ...]
    directions: tuple[Direction, ...]
    seconds: int
    patience_s: int


@dataclass(slots=True)
class Results:
    """The observations so far, and what arrived in each direction, in bins."""

    runs: dict[Key, list[Observation]] = field(default_factory=dict)
    curves: dict[Key, list[dict[Direction, list[int]]]] = field(default_factory=dict)

    def add(self, key: Key, seen: Observation, curves: dict[Direction, list[int]]) -> None:
        """Records the results of one run."""
        self.runs.setdefault(key, []).append(seen)
        self.curves.setdefault(key, []).append(curves)

    def rows(self) -> list[dict[str, Any]]:
        """One row for each combination, for programs."""
        return [{**_words(key), **summary(runs)} for key, runs in self.runs.items()]

    def table(self) -> list[dict[str, str]]:
        """One row for each combination, as text."""
        return [{**_words(key), **texts(runs)} for key, runs in self.runs.items()]

    def draw(self, directory: Path) -> None:
        """Draws the median run of every way, a file for each fault, traffic and direction."""
        directory.mkdir(parents=True, exist_ok=True)
        drawings: dict[tuple[Fault, str, Direction], dict[str, list[int]]] = {}
        for key, runs in self.runs.items():
            fault, traffic, _, way = key
            for direction, curve in self.curves[key][middle(runs)].items():
                drawings.setdefault((fault, traffic, direction), {})[way] = curve
        for (fault, traffic, direction), curves in drawings.items():
            words = (fault.value, traffic, direction.replace("_", "-"))
            packets = KINDS[traffic].datagrams
            path = directory / f"failover-{'-'.join(words)}.svg"
            draw(path, ", ".join(words), curves, packets=packets)


def _words(key: Key) -> dict[str, str]:
    """What a row is about."""
    fault, traffic, direction, way = key
    return {"fault": fault.value, "traffic": traffic, "data": direction, "plane": way}


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser, default=7)
    faults = tuple(one.value for one in FAULTS)
    usual = tuple(one.value for one in USUAL_FAULTS)
    _add_choice(parser, "fault", faults, usual)
    _add_choice(parser, "traffic", tuple(KINDS), tuple(KINDS))
    _add_choice(parser, "planes", WAYS, WAYS)
    _add_choice(parser, "data", DIRECTIONS, DIRECTIONS[:1])
    parser.add_argument(
        "--seconds",
        type=positive,
        default=3,
        help="observed after a fault, at least; default: %(default)s",
    )
    parser.add_argument(
        "--patience",
        type=positive,
        default=8,
        metavar="SECONDS",
        help="after which a silent conversation is given up; default: %(default)s",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="DIRECTORY",
        help="draws what arrived around each fault, as SVG",
    )


def _add_choice(
    parser: argparse.ArgumentParser, name: str, choices: tuple[str, ...], usual: tuple[str, ...]
) -> None:
    """Adds an option that takes some of several words, separated by commas."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        for one in found:
            if one not in choices:
                raise argparse.ArgumentTypeError(f"{one!r} is not one of {', '.join(choices)}")
        return found

    parser.add_argument(
        f"--{name}",
        type=parse,
        default=usual,
        metavar=f"{name.upper()},...",
        help=f"some of {', '.join(choices)}; default: {','.join(usual)}",
    )


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Measures every fault with every kind of traffic, alternating between the planes.

    Raises:
        ShimError: a lab cannot be built, or a conversation does not start.
    """
    machine.check_machine("ip", "nsd", "nginx")
    if arguments.plot:
        check_matplotlib()
    plan = Plan(
        faults=tuple(map(Fault, arguments.fault)),
        traffic=arguments.traffic,
        directions=arguments.data,
        seconds=arguments.seconds,
        patience_s=arguments.patience,
    )
    results = Results()
    with contextlib.ExitStack() as stack:
        stages, missing = available(arguments.planes, stack)
        if not stages:
            raise UsageError(missing)
        todo = list(_turns(plan, stages, arguments.runs))
        for done, (stage, fault, traffic, direction) in enumerate(todo):
            watch(done, len(todo))
            words = BOTH if KINDS[traffic].datagrams else direction
            seen = run(stage, plan, fault, traffic, direction, done)
            results.add((fault, traffic, words, stage.way), *seen)
        watch(len(todo), len(todo))
    if arguments.plot:
        results.draw(arguments.plot)
    facts: dict[str, Fact] = {"counted": NOTE}
    if missing:
        facts["mptcp"] = missing
    return Report(facts=facts, rows=results.rows(), table=results.table())


def _turns(
    plan: Plan, stages: list[Stage], runs: int
) -> Iterator[tuple[Stage, Fault, str, Direction]]:
    """Every combination once in each run, the stages in a different order each time."""
    for fault, traffic in itertools.product(plan.faults, plan.traffic):
        usable = [one for one in stages if _applies(fault, traffic, one.way)]
        directions = plan.directions[:1] if KINDS[traffic].datagrams else plan.directions
        for direction, number in itertools.product(directions, range(runs)):
            turn = number % max(1, len(usable))
            for stage in usable[turn:] + usable[:turn]:
                yield stage, fault, traffic, direction


def _applies(fault: Fault, traffic: str, way: Way) -> bool:
    """Whether a combination is measured: MPTCP has no datagrams, and a failed router takes long."""
    if fault is Fault.ROUTER and traffic != ROUTER_TRAFFIC:
        return False
    return way != "mptcp" or not KINDS[traffic].datagrams


def run(
    stage: Stage,
    plan: Plan,
    fault: Fault,
    traffic: str,
    direction: Direction,
    number: int,
    beside: contextlib.AbstractContextManager[object] | None = None,
) -> tuple[Observation, dict[Direction, list[int]]]:
    """One fault in one conversation; the fault is undone afterwards.

    Args:
        stage: the stage.
        plan: what is measured.
        fault: the fault.
        traffic: which kind of it.
        direction: of the data of a TCP connection.
        number: counts the runs.
        beside: entered before the fault, once every path is ready, and left after the end.

    Returns:
        What was observed, and what arrived around the fault in each direction, in bins.

    Raises:
        ShimError: the conversation does not start, or the kernel refuses.
    """
    stage.reset()
    with Conversation(stage, traffic, direction, number) as conversation:
        conversation.await_start(READY_TIMEOUT_S)
        stage.lab.wait_for(
            f"{stage.way}: every path is ready",
            lambda: stage.is_ready(conversation.port),
            READY_TIMEOUT_S,
        )
        with beside or contextlib.nullcontext():
            time.sleep(TRAFFIC_BEFORE_S + random.uniform(0, PHASE_MAX_S))
            conversation.check()
            fault_ns = stage.lab.cut(1, fault)
            try:
                end_ns = _await_end(conversation, plan, fault, fault_ns)
                connect_ms = conversation.connect_ms() if fault is Fault.ROUTER else None
            finally:
                stage.lab.heal(1)
        conversation.stop()
        arrivals = conversation.arrivals()
        losses = conversation.losses(fault_ns, end_ns)
    seen = observe(list(arrivals.values()), fault_ns, end_ns, losses, connect_ms)
    packets = KINDS[traffic].datagrams
    curves = {way: bins(one, fault_ns, packets=packets) for way, one in arrivals.items()}
    return seen, curves


def _await_end(conversation: Conversation, plan: Plan, fault: Fault, fault_ns: int) -> int:
    """Observes a conversation for as long as it should be; returns the end of that, in ns.

    One that is silent is observed until it has not been for a second, or until patience is over.
    """
    enough = ROUTER_SECONDS if fault is Fault.ROUTER else plan.seconds
    end_ns = fault_ns + enough * SECOND
    patience_ns = plan.patience_s * SECOND
    latest_ns = end_ns + patience_ns
    while (now_ns := time.monotonic_ns()) < latest_ns:
        quiet_ns = now_ns - max(fault_ns, conversation.last_ns())
        if quiet_ns > patience_ns:
            break
        if quiet_ns > PAUSE_NS:
            end_ns = max(end_ns, now_ns + SECOND)
        elif now_ns >= end_ns:
            break
        time.sleep(POLL_S)
    return now_ns


BENCH = Bench(
    name="failover",
    summary="how long an application waits when a path fails: plain TCP, MPTCP, noid",
    explanation=f"What is counted: {NOTE}.",
    example="noid bench failover --fault silent --traffic paced --planes none,bpf --runs 3 --json",
    add_options=_add_options,
    measure=measure,
)
