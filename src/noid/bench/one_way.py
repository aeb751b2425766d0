# SPDX-License-Identifier: MIT
"""Datagrams in one direction: what arrives, and whether the pair in use changes [D42, D43]."""

import argparse
import itertools
import time
from dataclasses import dataclass
from typing import Any, Final, get_args

from noid.bench.conversation import Conversation, Direction
from noid.bench.report import Bench, Report, Watch, add_runs, positive
from noid.bench.silence import BEFORE_NS, Losses
from noid.bench.stage import READY_TIMEOUT_S, Stage
from noid.bench.traffic import ONE_WAY
from noid.constants import MILLISECOND, SECOND
from noid.control.client import ask
from noid.lab import machine, topology
from noid.lab.download import longest_silence_ns
from noid.lab.faults import Fault
from noid.lab.inventory import Plane
from noid.lab.lab import Lab

DIRECTION: Final[Direction] = "from_a"
PLANES: Final = tuple(one for one in get_args(Plane) if one not in ("none", "auto"))
EVENTS_MAX: Final = 1_000
"""Of the history of a daemon; a run causes few."""
NOTE: Final = (
    "host a sends UDP to host b, which sends nothing; silence: the longest time between two "
    "arrivals, from the first second on; with a cut, provider 1 of a forwards nothing from the "
    "middle of the run on, silently; lost and twice: datagrams; switches: changes of the pair in "
    "use, of both hosts; every run starts with new daemons, an established context and verified "
    "locators"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run.

    Attributes:
        rate: packets each second.
        is_cut: whether the provider fails in the middle.
        silence_ms: the longest time between two arrivals.
        losses: of the datagrams.
        switches: changes of the pair in use.
    """

    rate: int
    is_cut: bool
    silence_ms: float
    losses: Losses
    switches: int

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "packets_per_second": self.rate,
            "cut": self.is_cut,
            "silence_ms": self.silence_ms,
            "lost": self.losses.lost,
            "duplicated": self.losses.duplicated,
            "switches": self.switches,
        }

    def as_text(self) -> dict[str, str]:
        """The row as text."""
        return {
            "packets a second": str(self.rate),
            "cut": "silent" if self.is_cut else "no",
            "silence ms": f"{self.silence_ms:g}",
            "lost": str(self.losses.lost),
            "twice": str(self.losses.duplicated),
            "switches": str(self.switches),
        }


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser, default=1)
    parser.add_argument(
        "--rate",
        type=int,
        choices=tuple(ONE_WAY),
        help="packets each second; default: each of these",
    )
    parser.add_argument(
        "--seconds", type=positive, default=120, help="of each run; default: %(default)s"
    )
    parser.add_argument("--plane", choices=PLANES, default=PLANES[0], help="default: %(default)s")


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Sends at each rate, without a failure and with one.

    Raises:
        ShimError: the lab cannot be built, or the datagrams do not arrive.
    """
    machine.check_machine("ip", "nsd")
    rates = (arguments.rate,) if arguments.rate else tuple(ONE_WAY)
    todo = list(itertools.product(range(arguments.runs), rates, (False, True)))
    rows = []
    with Stage.create(arguments.plane) as stage:
        for done, (_, rate, is_cut) in enumerate(todo):
            watch(done, len(todo))
            rows.append(_run(stage, rate, arguments.seconds, done, is_cut=is_cut))
        watch(len(todo), len(todo))
    return Report(
        facts={"plane": arguments.plane, "seconds": arguments.seconds, "counted": NOTE},
        rows=[row.as_json() for row in rows],
        table=[row.as_text() for row in rows],
    )


def _run(stage: Stage, rate: int, seconds: int, number: int, *, is_cut: bool) -> Row:
    stage.reset()
    with Conversation(stage, f"one-way-{rate}", DIRECTION, number) as conversation:
        conversation.await_start(READY_TIMEOUT_S)
        stage.lab.wait_for(
            "the context is ready", lambda: stage.is_ready(conversation.port), READY_TIMEOUT_S
        )
        before = _count_switches(stage.lab)
        begin_ns = time.monotonic_ns() + BEFORE_NS
        time.sleep((BEFORE_NS / SECOND) + seconds / 2)
        if is_cut:
            stage.lab.cut(1, Fault.SILENT)
        try:
            time.sleep(seconds / 2)
            conversation.check()
            end_ns = time.monotonic_ns()
            switches = _count_switches(stage.lab) - before
        finally:
            if is_cut:
                stage.lab.heal(1)
        conversation.stop()
        arrivals = conversation.arrivals()[DIRECTION]
        losses = conversation.losses(begin_ns, end_ns)[DIRECTION]
    silence_ns = longest_silence_ns(arrivals, begin_ns, end_ns)
    return Row(
        rate=rate,
        is_cut=is_cut,
        silence_ms=round(silence_ns / MILLISECOND, 1),
        losses=losses,
        switches=switches,
    )


def _count_switches(lab: Lab) -> int:
    """How often the contexts of both hosts have changed their pair, as the hosts' history says."""
    events = [
        event
        for host in topology.HOSTS
        for event in ask(lab.control_socket(host), "history", {"count": EVENTS_MAX})["events"]
    ]
    return sum(event.get("switches", event["event"] == "switched") for event in events)


BENCH = Bench(
    name="one-way",
    summary="what arrives of datagrams in one direction, with and without a failure",
    explanation=f"What is counted: {NOTE}.",
    example="noid bench one-way --rate 50 --seconds 20 --json",
    add_options=_add_options,
    measure=measure,
)
