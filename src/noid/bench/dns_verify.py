# SPDX-License-Identifier: MIT
"""How many peers are verified in a second by forward and reverse DNS [draft §3.1, D29]."""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from noid.bench.report import Bench, Report, Series, Watch, add_runs, positive
from noid.constants import Codepoints
from noid.dns.records import Kind, Question, reverse_name
from noid.dns.verification import Verification
from noid.dns.zone import forward_records
from noid.errors import PlatformError
from noid.lab.resolution import ROOT_ZONE, serving
from noid.locators import Locator, parse_locator
from noid.resolver.port import Server
from noid.resolver.upstream import Upstream

ZONE: Final = "peers.test"
PROVIDERS: Final = 4
SILENT_FIRST: Final = 0x11
"""Providers of this number and above have name servers that never answer."""
M6_RRTYPE: Final = Codepoints().m6_rrtype
PACED_PER_SECOND: Final = 150
"""Peers whose name servers answer that turn up in a second, where not all do at one time."""
NOTE: Final = (
    "one process, one core; five questions for each peer (AAAA, and PTR of four locators) to an "
    "Unbound that begins each run knowing nothing and asks NSD; one peer is verified as the "
    "initiator does it, which knows the name, the next as the responder, which knows the AID"
)
COMPARED: Final = (
    "slower: by what part, where as many peers have reverse zones whose name servers are silent. "
    "All at one time: when the last of the others is verified; an initiator's silent peer still "
    "costs the answer to its AAAA, and that alone is a fifth of a peer. Paced: the median time of "
    f"one peer, where {PACED_PER_SECOND} of the others turn up in a second"
)


class _Peers(NamedTuple):
    """Whom to verify.

    Attributes:
        well: peers whose name servers answer; they come first in number.
        silent: peers whose reverse zones' name servers do not; started alternately with the others.
        awaited: it is over when so many of the first are verified.
        responders: whether every other one is verified as a responder does it.
        per_second: of the well, so many begin in a second; 0 for all of them at one time.
    """

    well: int
    silent: int
    awaited: int
    responders: bool = True
    per_second: int = 0


class _Seconds(NamedTuple):
    """How long it took: until the last of those awaited was verified, and the median one."""

    last: float
    median: float


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser, 3)
    parser.add_argument(
        "--peers", type=positive, default=1_000, metavar="COUNT", help="default: %(default)s"
    )


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Verifies many peers, with all name servers well and with half of them silent."""
    half = max(arguments.peers // 2, 1)
    series: dict[str, list[float]] = {}
    for run in range(arguments.runs):
        watch(run, arguments.runs)
        for name, value in _measure_once(half).items():
            series.setdefault(name, []).append(value)
    watch(arguments.runs, arguments.runs)
    return Report(
        series={name: Series(tuple(values)) for name, values in series.items()},
        facts={"locators_of_each": PROVIDERS, "counted": NOTE, "compared": COMPARED},
    )


def _measure_once(half: int) -> dict[str, float]:
    alone, beside = _Peers(half, 0, half), _Peers(half, half, half)
    all_well = _Peers(2 * half, 0, half)
    last = {peers: _run(peers).last for peers in (alone, beside, all_well)}
    return {
        "peers_per_second": 2 * half / _run(all_well._replace(awaited=2 * half)).last,
        "slower_than_where_all_answer": _slower(last[beside], last[all_well]),
        "slower_than_alone": _slower(last[beside], last[alone]),
        "slower_than_alone_initiators": _slower(
            *(_run(peers._replace(responders=False)).last for peers in (beside, alone))
        ),
        "slower_than_alone_paced": _slower(
            *(_run(peers._replace(per_second=PACED_PER_SECOND)).median for peers in (beside, alone))
        ),
    }


def _slower(seconds: float, otherwise: float) -> float:
    return seconds / otherwise - 1


def _run(peers: _Peers) -> _Seconds:
    """Verifies peers in front of servers that have just been started."""
    with tempfile.TemporaryDirectory() as directory:
        zones = _zones(peers.well, peers.silent)
        silent = [name for name in zones if _is_silent(name)]
        with serving(Path(directory), zones, silent=silent) as places:
            return asyncio.run(_verify_all(places.resolver, peers))


async def _verify_all(resolver: Server, peers: _Peers) -> _Seconds:
    upstream = Upstream([resolver], Codepoints(), tuple, 0)
    tasks: dict[int, asyncio.Task[float]] = {}
    try:
        began = time.perf_counter()
        for place, number in enumerate(_order(peers)):
            if peers.per_second:
                pace = peers.per_second * (2 if peers.silent else 1)
                await asyncio.sleep(began + place / pace - time.perf_counter())
            as_responder = peers.responders and number % 2 == 1
            silent = number >= peers.well
            coroutine = _verify(upstream, number, silent=silent, as_responder=as_responder)
            tasks[number] = asyncio.create_task(coroutine)
        times = await asyncio.gather(*(tasks[number] for number in range(peers.awaited)))
        return _Seconds(time.perf_counter() - began, statistics.median(times))
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await upstream.close()


def _order(peers: _Peers) -> list[int]:
    """The numbers of the peers: one of the well, one of the silent, as they would come."""
    pairs = itertools.zip_longest(range(peers.well), range(peers.well, peers.well + peers.silent))
    return [number for pair in pairs for number in pair if number is not None]


async def _verify(upstream: Upstream, number: int, *, silent: bool, as_responder: bool) -> float:
    """Verifies one peer; returns how long that took, in seconds."""
    began = time.perf_counter()
    if as_responder:
        verification = Verification(_locators(number, silent=silent)[0], None)
    else:
        name = f"p{number}.{ZONE}"
        forward = await upstream.ask(Question(Kind.LOCATORS, name))
        verification = Verification(forward.locators[0], name, forward.locators)

    async def follow(question: Question) -> None:
        answer = await upstream.ask(question)
        await asyncio.gather(*map(follow, verification.receive(question, answer)))

    await asyncio.gather(*map(follow, verification.begin()))
    if not verification.failed and len(verification.verified) != PROVIDERS:
        raise PlatformError(
            f"verify peer {number}", 0, "the DNS of the bench is not as it was made"
        )
    return time.perf_counter() - began


def _locators(number: int, *, silent: bool) -> tuple[Locator, ...]:
    first = SILENT_FIRST if silent else 1
    return tuple(
        parse_locator(f"2001:db8:{first + index:x}::{number:x}") for index in range(PROVIDERS)
    )


def _zones(well: int, silent: int) -> dict[str, str]:
    forward = [ROOT_ZONE]
    reverse: dict[str, list[str]] = {}
    for number in range(well + silent):
        locators = _locators(number, silent=number >= well)
        records = forward_records(f"p{number}.{ZONE}", locators, M6_RRTYPE)
        forward += (record.line(3600) + "\n" for record in records)
        for locator in locators:
            name = reverse_name(locator)
            zone = ".".join(name.split(".")[-14:])
            reverse.setdefault(zone, [ROOT_ZONE]).append(f"{name}. 3600 PTR p{number}.{ZONE}.\n")
    return {ZONE: "".join(forward), **{name: "".join(lines) for name, lines in reverse.items()}}


def _is_silent(zone: str) -> bool:
    """Whether a reverse zone, of 48 bits, is one of the silent providers'."""
    digits = zone.split(".")[:4]
    return zone != ZONE and int("".join(reversed(digits)), 16) >= SILENT_FIRST


BENCH = Bench(
    name="dns-verify",
    summary="peers verified in a second by forward and reverse DNS",
    explanation=(
        "Peers with four locators each are verified against Unbound, all at one time. Then half "
        "of them have reverse zones whose name servers never answer: by what part the others are "
        "slower than where all answer, and than if they were alone; all at one time, initiators "
        "only, and where so many turn up in a second."
    ),
    example="noid bench dns-verify --json",
    add_options=_add_options,
    measure=measure,
)
