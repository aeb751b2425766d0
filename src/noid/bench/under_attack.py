# SPDX-License-Identifier: MIT
"""How long failover and stub take while a host is attacked on all sides [D46]."""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from noid.bench.failover import Plan, run
from noid.bench.memory import PAGE_OCTETS
from noid.bench.report import Bench, Fact, Report, Series, Watch, add_runs
from noid.bench.stage import Stage
from noid.errors import PlatformError
from noid.lab import machine, topology
from noid.lab.configuration import ZONE
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.processes import Process

VICTIM: Final = topology.HOSTS[0]
RATES: Final = {"inits": 30_000, "strangers": 30_000, "requests": 1_500}
"""Packets of each kind in a second."""
SLOW_NAMES: Final = 500
"""Names without an answering server that a local user queries per second."""
NAMES: Final = 100_000
SLOW_LABEL_OCTETS: Final = 8
AT_ONCE: Final = 5_000
"""Queries that the local user leaves open."""
READY_S: Final = 60.0
"""A busy machine."""
PLAN: Final = Plan(
    faults=(Fault.SILENT,), traffic=("paced",), directions=("to_a",), seconds=3, patience_s=20
)
NOTE: Final = (
    "a paced stream to a, whose provider 1 forwards nothing any more, silently; under attack: "
    f"{RATES['inits']:,} INITs and {RATES['strangers']:,} packets with unknown labels a second "
    f"from everywhere, {RATES['requests']:,} URs a second that are not authentic from the peer's "
    f"locators, {SLOW_NAMES} names without an answer a second asked by a local user; the rates "
    "that were reached are those the machine allows: processor_percent is the part of a core that "
    "the flood got; the stub is asked by another user for names that are new to it; victim and "
    "attackers share the machine"
)


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Lets the provider fail with and without the attack, in alternation.

    Raises:
        ShimError: the lab cannot be built, or a program is missing.
    """
    machine.check_machine("ip", "nsd", "nft", "dnsperf")
    series: dict[str, list[float]] = {}
    facts: dict[str, Fact] = {}
    with Stage.create("bpf") as stage, tempfile.TemporaryDirectory() as directory:
        slow_names = Path(directory, "names")
        slow_names.write_text("".join(f"s{number:07}.{ZONE} AAAA\n" for number in range(NAMES)))
        Path(directory).chmod(0o755)
        _silence(stage.lab)
        for number in range(2 * arguments.runs):
            watch(number, 2 * arguments.runs)
            attack = _Attack(stage.lab, slow_names if number % 2 else None)
            seen, _ = run(stage, PLAN, Fault.SILENT, "paced", "to_a", number, attack.going_on())
            kind = "attacked" if number % 2 else "calm"
            for name, value in (
                ("gap_milliseconds", seen.silence_ms),
                ("stub_milliseconds", attack.stub_ms),
                ("growth_octets", attack.growth_octets),
            ):
                series.setdefault(f"{kind}_{name}", []).append(value)
            if number % 2:
                facts |= attack.rates
                facts["stub_unanswered"] = attack.unanswered
    watch(2 * arguments.runs, 2 * arguments.runs)
    return Report(
        series={name: Series(tuple(values)) for name, values in series.items()},
        facts={**facts, "counted": NOTE},
    )


class _Attack:
    """The attack during one failover.

    Attributes:
        stub_ms: the median of the stub's answers.
        unanswered: of the questions whose answers were timed.
        growth_octets: by how much the victim's daemon grew.
        rates: packets in a second, by kind, and the processor time that sending them took.
    """

    def __init__(self, lab: Lab, slow_names: Path | None) -> None:
        self.lab = lab
        self.slow_names = slow_names
        self.stub_ms = 0.0
        self.unanswered = 0
        self.growth_octets = 0
        self.rates: dict[str, int] = {}

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Attacks while the block runs."""
        before = _resident_octets(self.lab)
        client = _program(self.lab, VICTIM, "ask", "--name", ZONE)
        attackers = self._attackers() if self.slow_names is not None else []
        try:
            yield
        finally:
            self.growth_octets = _resident_octets(self.lab) - before
            for one in (client, *attackers):
                one.end()
        answers = _said(client)
        self.stub_ms, self.unanswered = answers["median_ms"] or float("inf"), answers["unanswered"]
        if attackers:
            self.rates = _said(attackers[0])

    def _attackers(self) -> list[Process]:
        label = self.lab.contexts(VICTIM)[0]["local_label"]
        words = [word for name, rate in RATES.items() for word in (f"--{name}", str(rate))]
        flood = _program(self.lab, "core", "flood", *words, "--label", str(label))
        place = ("-s", "::1", "-f", "inet6", "-d", str(self.slow_names))
        load = ("-Q", str(SLOW_NAMES), "-q", str(AT_ONCE), "-t", "5", "-l", "600")
        return [flood, self.lab.spawn(VICTIM, ["dnsperf", *place, *load])]


def _program(lab: Lab, node: str, *words: str) -> Process:
    process = lab.spawn(node, [sys.executable, "-m", "noid.bench.assault", *words])
    lab.wait_for(f"{words[0]} is ready", lambda: "ready" in process.output(), READY_S)
    return process


def _said(process: Process) -> dict[str, Any]:
    """The last line of a program: what it did."""
    found: dict[str, Any] = json.loads(process.output().splitlines()[-1])
    return found


def _resident_octets(lab: Lab) -> int:
    pid = lab.status(VICTIM)["pid"]
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE_OCTETS


def _silence(lab: Lab) -> None:
    """The name server answers nothing about names of eight octets that begin with s."""
    octets = [bytes((SLOW_LABEL_OCTETS, ord(letter))).hex() for letter in "sS"]
    rules = "\n".join(f"udp dport 53 @th,160,16 0x{one} drop" for one in octets)
    hook = "type filter hook input priority 0;"
    text = f"table ip6 slow {{\nchain in {{\n{hook}\n{rules}\n}}\n}}"
    done = lab.run("dns", ["nft", text])
    if done.returncode != 0:
        raise PlatformError("nft on dns", done.returncode, done.stderr.strip())


BENCH = Bench(
    name="under-attack",
    summary="how long a failover takes while a host is attacked on all sides",
    explanation=f"What is counted: {NOTE}.",
    example="noid bench under-attack --runs 3 --json",
    add_options=add_runs,
    measure=measure,
)
