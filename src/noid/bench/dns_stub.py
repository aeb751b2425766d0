# SPDX-License-Identifier: MIT
"""How many queries the stub resolver answers in a second: from memory, and from Unbound."""

import argparse
import asyncio
import re
import shutil
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from noid.bench.report import Bench, Report, Series, Watch, add_runs, positive
from noid.constants import Codepoints
from noid.errors import PlatformError, Unsupported
from noid.lab.resolution import LOOPBACK, ROOT_ZONE, free_port, serving
from noid.resolver.port import Server
from noid.resolver.stub import Stub
from noid.resolver.upstream import Upstream

ZONE: Final = "bench.test"
NAMES: Final = 40_000
M6_EVERY: Final = 4
"""One name in so many speaks M6."""
NAMES_IN_MEMORY: Final = 1_000
QUERIES_AT_ONCE: Final = 100
CACHED_BAR: Final = 3_000
FORWARDED_BAR: Final = 1_500
"""What is asked for; at half of each nothing may be lost."""
NOTE: Final = (
    "one process, one core, dnsperf on loopback; Unbound and NSD are processes of their own and "
    "begin each run knowing nothing; AAAA makes three queries to Unbound, of which two ask "
    "whether the name speaks M6, as one in four does"
)


class _Load(NamedTuple):
    """What dnsperf offers: the kinds asked for, from memory or not, and at most how fast."""

    kinds: tuple[str, ...]
    cached: bool
    per_second: int = 0


LOADS: Final = {
    "cached_per_second": _Load(("A", "AAAA"), cached=True),
    "forwarded_per_second": _Load(("A",), cached=False),
    "forwarded_aaaa_per_second": _Load(("AAAA",), cached=False),
}
HALVES: Final = {
    "lost_at_half_the_cached_bar": _Load(("A", "AAAA"), True, CACHED_BAR // 2),
    "lost_at_half_the_forwarded_bar": _Load(("AAAA",), False, FORWARDED_BAR // 2),
}


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser, 3)
    parser.add_argument(
        "--seconds",
        type=positive,
        default=5,
        metavar="COUNT",
        help="how long each run lasts at most; default: %(default)s",
    )
    parser.add_argument(
        "--names",
        type=positive,
        default=NAMES,
        metavar="COUNT",
        help="how many names the zone has; default: %(default)s",
    )


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Lets dnsperf ask a stub of this process, run after run."""
    if shutil.which("dnsperf") is None:
        raise Unsupported("dnsperf", "install the Debian package dnsperf")
    rates: dict[str, list[float]] = {name: [] for name in LOADS}
    done, total = 0, len(LOADS) * arguments.runs + len(HALVES)
    for _ in range(arguments.runs):
        for name, load in LOADS.items():
            rates[name].append(_run(load, arguments)[0])
            done += 1
            watch(done, total)
    facts = {name: _run(load, arguments)[1] for name, load in HALVES.items()}
    return Report(
        series={name: Series(tuple(values)) for name, values in rates.items()},
        facts={**facts, "counted": NOTE},
    )


def zone(names: int) -> str:
    """The zone of so many names."""
    lines = [ROOT_ZONE]
    for number in range(names):
        lines.append(f"h{number} A 192.0.2.1\nh{number} AAAA 2001:db8:1::{number:x}\n")
        if number % M6_EVERY == 0:
            lines.append(f"h{number} AAAA 2001:db8:2::{number:x}\nh{number} TYPE65286 \\# 0\n")
    return "".join(lines)


def _run(load: _Load, arguments: argparse.Namespace) -> tuple[float, int]:
    """Queries answered in a second, and queries lost."""
    with tempfile.TemporaryDirectory() as directory:
        count = NAMES_IN_MEMORY if load.cached else arguments.names
        questions = "".join(
            f"h{number}.{ZONE} {load.kinds[number % len(load.kinds)]}\n" for number in range(count)
        )
        path = Path(directory, "questions")
        path.write_text(questions)
        with serving(Path(directory), {ZONE: zone(arguments.names)}) as places:
            return asyncio.run(_ask(load, path, places.resolver, arguments.seconds))


async def _ask(load: _Load, path: Path, resolver: Server, seconds: int) -> tuple[float, int]:
    upstream = Upstream([resolver], Codepoints(), tuple, 0)
    stub = Stub(LOOPBACK, free_port(), upstream, lambda *_: True, tuple)
    await stub.start()
    try:
        if load.cached:
            await _dnsperf(stub.port, path, "-n", "1")
            return await _dnsperf(stub.port, path, "-l", str(seconds), *_limit(load))
        return await _dnsperf(stub.port, path, "-n", "1", "-l", str(seconds), *_limit(load))
    finally:
        await stub.stop()
        await upstream.close()


def _limit(load: _Load) -> list[str]:
    return ["-Q", str(load.per_second)] if load.per_second else []


async def _dnsperf(port: int, path: Path, *options: str) -> tuple[float, int]:
    place = ["-s", LOOPBACK, "-f", "inet6", "-p", str(port), "-d", str(path)]
    process = await asyncio.create_subprocess_exec(
        "dnsperf",
        *place,
        "-q",
        str(QUERIES_AT_ONCE),
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()
    rate = re.search(r"Queries per second: +([\d.]+)", said)
    lost = re.search(r"Queries lost: +(\d+)", said)
    if rate is None or lost is None:
        raise PlatformError("run dnsperf", process.returncode or 0, said.strip()[-200:])
    return float(rate[1]), int(lost[1])


BENCH = Bench(
    name="dns-stub",
    summary="queries the stub resolver answers in a second",
    explanation=(
        "dnsperf asks a stub in this process, which asks Unbound, which asks NSD: names that are "
        "in the stub's memory, and names that were not asked for before. Then at half of the rates "
        "that are asked for, where nothing may be lost."
    ),
    example="noid bench dns-stub --json",
    add_options=_add_options,
    measure=measure,
)
