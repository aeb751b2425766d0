# SPDX-License-Identifier: MIT
"""How long traffic waits when very many contexts lose their uplink at once."""

import argparse
import contextlib
import itertools
import random
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from noid.bench.adoption import (
    HOST,
    PEER_PREFIXES,
    SPARE,
    labels_beside,
    like,
    make_room,
    multiply,
    take_up,
)
from noid.bench.crowd import DEVICE
from noid.bench.report import Bench, Report, Series, Watch, add_contexts, positive
from noid.bench.silence import Observation, observe, read_records
from noid.constants import CONTEXTS_MAX, SECOND
from noid.control.client import ask
from noid.engine.records import ContextRecord
from noid.errors import PlatformError, UsageError
from noid.identifiers import Label
from noid.lab import machine, namespaces
from noid.lab.configuration import METRICS
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.processes import Process

CORE: Final = "core"
PORT: Final = 7
ASK_EVERY_S: Final = 0.05
ANSWER_TIMEOUT_S: Final = 60.0
START_TIMEOUT_S: Final = 60.0
"""A busy machine."""
FAULTS: Final = tuple(one.value for one in (Fault.CARRIER, Fault.ADMIN, Fault.ACCESS, Fault.SILENT))
BEFORE_S: Final = 1.0
AFTER_S: Final = 10
POLL_S: Final = 0.05
NOTE: Final = (
    "a real daemon and the plane in the kernel on a host of a lab, whose contexts are all on the "
    "uplink that fails; a process behind the providers answers for every peer; some "
    "of the contexts, chosen at random, carry 50 UDP packets a second each way; the longest "
    "silence of each after the fault, and how long the daemon takes to answer `noid status`, "
    "`noid paths` and a request for its metrics then, asked by turns"
)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_contexts(parser, 100_000, "are on the uplink")
    parser.add_argument(
        "--samples",
        type=positive,
        default=8,
        metavar="COUNT",
        help="contexts that carry traffic; default: %(default)s",
    )
    parser.add_argument(
        "--fault",
        choices=FAULTS,
        default=FAULTS[0],
        help="what happens to the uplink; default: %(default)s",
    )
    parser.add_argument(
        "--patience",
        type=positive,
        default=30,
        metavar="SECONDS",
        help="after which silent traffic is given up; default: %(default)s",
    )
    parser.add_argument(
        "--after",
        type=positive,
        default=AFTER_S,
        metavar="SECONDS",
        help="how long it is measured after the fault, at least; default: %(default)s",
    )


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Cuts the carrier of an uplink with very many contexts.

    Raises:
        ShimError: a lab cannot be built, or the traffic does not start.
    """
    total: int = arguments.contexts
    if total + SPARE > CONTEXTS_MAX:
        raise UsageError(f"--contexts: a host has no more than {CONTEXTS_MAX - SPARE:,} beside one")
    if arguments.samples >= total:
        raise UsageError("--samples: fewer than --contexts")
    machine.check_machine("ip", "nsd", "nginx")
    with Lab.create(plane="bpf") as lab:
        make_room(lab, total + SPARE)
        lab.kill_daemon(HOST)
        model = multiply(lab, total)
        crowd = _start_crowd(lab, model)
        taken = take_up(lab, total, watch)
        chosen = random.sample(
            list(itertools.islice(labels_beside(model), total - 1)), arguments.samples
        )
        samples = [Sample(lab, model, label) for label in chosen]
        lab.wait_for(
            "every sample gets answers",
            lambda: all(one.last_ns() for one in samples),
            START_TIMEOUT_S,
        )
        time.sleep(BEFORE_S)
        with _times_of_answers(lab) as answers:
            fault_ns = lab.cut(1, Fault(arguments.fault), HOST)
            end_ns = _await_end(samples, fault_ns, arguments)
        if not crowd.running:
            words = crowd.output().splitlines() or ["it said nothing"]
            raise PlatformError("the peers", crowd.popen.returncode, words[-1])
        found = [one.observe(fault_ns, end_ns) for one in samples]
    return _report(found, answers, fault_ns, total, Fault(arguments.fault), taken)


class Sample:
    """Traffic on one of the contexts.

    Args:
        lab: the lab.
        model: the context it is like.
        label: its label.
    """

    def __init__(self, lab: Lab, model: ContextRecord, label: Label) -> None:
        peer = like(model, label).peer_aid
        self.path: Path = lab.directory / f"sample-{label}"
        words = [sys.executable, "-m", "noid.bench.traffic", "client", "udp", "in"]
        words += [
            "--address",
            str(IPv6Address(peer)),
            "--port",
            str(PORT),
            "--record",
            str(self.path),
        ]
        self.process: Process = lab.spawn(HOST, words)

    def last_ns(self) -> int:
        """When the last answer arrived; 0 if none has.

        Raises:
            PlatformError: the program has ended.
        """
        if not self.process.running:
            words = self.process.output().splitlines() or ["it said nothing"]
            raise PlatformError("traffic", self.process.popen.returncode, words[-1])
        arrivals = read_records(self.path.read_bytes()) if self.path.exists() else []
        return arrivals[-1].at_ns if arrivals else 0

    def observe(self, fault_ns: int, end_ns: int) -> Observation:
        """The silence that its program observed."""
        return observe([read_records(self.path.read_bytes())], fault_ns, end_ns, {})


def _start_crowd(lab: Lab, model: ContextRecord) -> Process:
    """The process that answers for the peers, once there are routes to it."""
    path = lab.directory / "model"
    path.write_bytes(msgspec.msgpack.encode(model))
    process = lab.spawn(CORE, [sys.executable, "-m", "noid.bench.crowd", str(path)])
    lab.wait_for("the peers are there", lambda: "ready" in process.output(), START_TIMEOUT_S)
    commands = [["link", "set", DEVICE, "up"]]
    for prefix in PEER_PREFIXES:
        words = [prefix[at : at + 4] for at in range(0, len(prefix), 4)]
        commands.append(["-6", "route", "add", f"{':'.join(words)}::/48", "dev", DEVICE])
    for command in commands:
        done = lab.run(CORE, ["ip", *command])
        if done.returncode != 0:
            raise PlatformError(f"ip {' '.join(command)}", done.returncode, done.stderr.strip())
    return process


class Answered(NamedTuple):
    """One answer of the daemon.

    Attributes:
        what: what was asked for.
        asked_ns: when it was asked.
        took_s: how long it took.
        octets: its length, if it is known.
    """

    what: str
    asked_ns: int
    took_s: float
    octets: int


@contextlib.contextmanager
def _times_of_answers(lab: Lab) -> Iterator[list[Answered]]:
    """Asks the daemon again and again: for its status, its uplinks and its metrics."""
    found: list[Answered] = []
    over = threading.Event()
    questions: dict[str, Callable[[], int]] = {
        "status": partial(_ask, lab, "status"),
        "paths": partial(_ask, lab, "paths"),
        "metrics": _fetch_metrics,
    }

    def ask_on() -> None:
        for what in itertools.cycle(questions):
            if over.wait(ASK_EVERY_S):
                return
            asked_ns, octets = time.monotonic_ns(), 0
            with contextlib.suppress(OSError, PlatformError):
                octets = questions[what]()
            took_s = (time.monotonic_ns() - asked_ns) / SECOND
            found.append(Answered(what, asked_ns, took_s, octets))

    inside = partial(namespaces.inside, namespaces.namespace(lab.name, HOST), ask_on)
    thread = threading.Thread(target=inside, name="answers", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def _ask(lab: Lab, command: str) -> int:
    ask(lab.control_socket(HOST), command)
    return 0


def _fetch_metrics() -> int:
    with urllib.request.urlopen(f"http://{METRICS}/metrics", timeout=ANSWER_TIMEOUT_S) as answer:
        return len(answer.read())


def _await_end(samples: list[Sample], fault_ns: int, arguments: argparse.Namespace) -> int:
    """Waits at least until all samples receive answers again; returns when it ends, in ns."""
    after_s, patience_s = arguments.after, arguments.patience
    resumed = False
    while (now_ns := time.monotonic_ns()) < fault_ns + max(patience_s, after_s) * SECOND:
        resumed = all(now_ns - one.last_ns() < SECOND // 2 for one in samples)
        if resumed and now_ns > fault_ns + after_s * SECOND:
            break
        time.sleep(POLL_S)
    return now_ns


def _report(
    found: list[Observation],
    answers: list[Answered],
    fault_ns: int,
    total: int,
    fault: Fault,
    taken: Report,
) -> Report:
    after = [one for one in answers if one.asked_ns + one.took_s * SECOND >= fault_ns]
    series = {"silence_milliseconds": Series(tuple(one.silence_ms for one in found))}
    for what in dict.fromkeys(one.what for one in after):
        took = tuple(round(one.took_s * 1000, 1) for one in after if one.what == what)
        series[f"{what}_milliseconds"] = Series(took)
    return Report(
        series=series,
        facts={
            "contexts": total,
            "fault": fault.value,
            "samples_that_continued": sum(one.survived for one in found),
            "octets_of_metrics": max((one.octets for one in answers), default=0),
            "seconds_to_take_up": taken.facts["seconds_to_take_up"],
            "counted": NOTE,
        },
    )


BENCH = Bench(
    name="mass-failover",
    summary="how long traffic waits when very many contexts lose their uplink at once",
    explanation=f"What is counted: {NOTE}.",
    example="noid bench mass-failover --contexts 20000 --json",
    add_options=_add_options,
    measure=measure,
)
