"""How many peers are verified in a second by forward and reverse DNS [draft §3.1, D29]."""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Final

from noid.bench.report import Bench, Report, Series, Watch, add_runs, positive
from noid.constants import Codepoints
from noid.dns.records import Kind, Question, reverse_name
from noid.dns.resolvers import Server
from noid.dns.upstream import Upstream
from noid.dns.verification import Verification
from noid.dns.zone import forward_records
from noid.errors import PlatformError
from noid.lab.resolution import ROOT_ZONE, serving
from noid.locators import Locator, parse_locator

ZONE: Final = "peers.test"
PROVIDERS: Final = 4
SILENT_FIRST: Final = 0x11
"""Providers of this number and above have name servers that never answer."""
M6_RRTYPE: Final = Codepoints().m6_rrtype
NOTE: Final = (
    "one process, one core; all peers at one time, five questions each (AAAA, and PTR of four "
    "locators) to an Unbound that begins each run knowing nothing and asks NSD"
)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser, 3)
    parser.add_argument(
        "--peers", type=positive, default=1_000, metavar="COUNT", help="default: %(default)s"
    )


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Verifies many peers, with all name servers well and with half of them silent."""
    half = arguments.peers // 2
    rates, slowed, beside = [], [], []
    for run in range(arguments.runs):
        watch(run, arguments.runs)
        rates.append(arguments.peers / _run(arguments.peers, 0, arguments.peers))
        all_well_s, alone_s, half_silent_s = (
            _run(2 * half, 0, half),
            _run(half, 0, half),
            _run(half, half, half),
        )
        slowed.append(half_silent_s / all_well_s - 1)
        beside.append(half_silent_s / alone_s - 1)
    watch(arguments.runs, arguments.runs)
    return Report(
        series={
            "peers_per_second": Series(tuple(rates)),
            "slower_than_where_all_answer": Series(tuple(slowed)),
            "slower_than_alone": Series(tuple(beside)),
        },
        facts={"locators_of_each": PROVIDERS, "counted": NOTE},
    )


def _run(well: int, silent: int, awaited: int) -> float:
    """Seconds until the last of the first so many peers is verified.

    Args:
        well: peers whose name servers answer.
        silent: peers whose reverse zones' name servers do not, in turn with the others.
        awaited: every second one of all is; those that answer, where some do not.
    """
    with tempfile.TemporaryDirectory() as directory:
        zones = _zones(well, silent)
        deaf = [name for name in zones if _is_silent(name)]
        with serving(Path(directory), zones, silent=deaf) as places:
            return asyncio.run(_verify_all(places.resolver, well, silent, awaited))


async def _verify_all(resolver: Server, well: int, silent: int, awaited: int) -> float:
    upstream = Upstream([resolver], Codepoints(), tuple, 0)
    count = well + silent
    # The silent begin where the well end; one of these, one of those, as they would come.
    numbers = [index // 2 + (index % 2) * (count // 2) for index in range(count - count % 2)]
    try:
        began = time.perf_counter()
        tasks = {n: asyncio.create_task(_verify(upstream, n)) for n in numbers or range(count)}
        await asyncio.gather(*(task for number, task in tasks.items() if number < awaited))
        seconds = time.perf_counter() - began
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        return seconds
    finally:
        await upstream.close()


async def _verify(upstream: Upstream, number: int) -> None:
    """One peer, as the initiator does it."""
    name = f"p{number}.{ZONE}"
    forward = await upstream.ask(Question(Kind.LOCATORS, name))
    verification = Verification(forward.locators[0], name, forward.locators)

    async def follow(question: Question) -> None:
        answer = await upstream.ask(question)
        await asyncio.gather(*map(follow, verification.receive(question, answer)))

    await asyncio.gather(*map(follow, verification.begin()))
    if not verification.failed and len(verification.verified) != PROVIDERS:
        raise PlatformError(f"verify {name}", 0, "the DNS of the bench is not what it should be")


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
        "slower than where all answer, and than if they were alone."
    ),
    example="noid bench dns-verify --json",
    add_options=_add_options,
    measure=measure,
)
