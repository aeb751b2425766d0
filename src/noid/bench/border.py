# SPDX-License-Identifier: MIT
"""How fast packets pass a border that rewrites them, to plain packets that a router forwards."""

import argparse
from functools import partial
from typing import Final

from noid.bench.report import Bench, Report, Series, Watch, add_runs, positive
from noid.bench.twins import (
    CLIENT,
    PROGRAMS,
    SERVER,
    alternate,
    cut_segments,
    servers,
    small_packets,
    stream,
)
from noid.counters import BorderCounter
from noid.errors import PlatformError
from noid.lab import machine
from noid.lab.borders import BorderDaemon, start_borders
from noid.lab.lab import Lab
from noid.lab.topology import locators

READY_TIMEOUT_S: Final = 60.0
"""A busy machine."""
PROVIDER: Final = "isp2"
"""By which all packets leave."""
ADDRESS: Final = locators(SERVER)[1]
FORWARDED: Final = locators(CLIENT)[1], ADDRESS
"""By the route of its source, a packet between these leaves by PROVIDER, plain or in a context."""
REWRITTEN: Final = locators(CLIENT)[0], ADDRESS
"""A packet of the context between these does so because the border gives it another source."""
PAIRS: Final = (FORWARDED, REWRITTEN)
KINDS: Final = {"stream": stream, "packets": small_packets}
NOTE: Final = (
    "iperf3, what its receiver counts: one TCP stream, or UDP with 64 octets; "
    "ratios are taken turn by turn; the one to plain IPv6 contains what noid costs on the hosts"
)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser, default=7)
    parser.add_argument(
        "--kind", choices=tuple(KINDS), default="stream", help="of traffic; default: %(default)s"
    )
    parser.add_argument(
        "--seconds", type=positive, default=2, help="of each measurement; default: %(default)s"
    )
    parser.add_argument(
        "--no-offloads",
        action="store_true",
        help="with hosts whose uplinks cut no super-packets (TSO and GSO off), in both labs",
    )


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Measures in two labs in alternation.

    Raises:
        ShimError: a lab cannot be built, a measurement fails, or the border does not rewrite.
    """
    machine.check_machine(*PROGRAMS)
    measured = KINDS[arguments.kind]
    with (
        Lab.create(plane="none", sites="one") as without,
        Lab.create(plane="bpf", sites="one") as with_noid,
        servers(without, ADDRESS),
        servers(with_noid, ADDRESS),
    ):
        if arguments.no_offloads:
            cut_segments(without, with_noid)
        border = _rewriting(with_noid)
        before = border.count(BorderCounter.PACKETS_REWRITTEN)
        plain, forwarded, rewritten = alternate(
            arguments,
            watch,
            partial(measured, without, pair=FORWARDED),
            partial(measured, with_noid, pair=FORWARDED),
            partial(measured, with_noid, pair=REWRITTEN),
        )
        count = border.count(BorderCounter.PACKETS_REWRITTEN) - before
    if not count:
        raise PlatformError("noid bench border", 0, "the border rewrote no packet")
    return Report(
        series={
            "rewritten_to_forwarded": _ratios(rewritten, forwarded),
            "rewritten_to_plain": _ratios(rewritten, plain),
            "plain": Series(tuple(plain)),
            "forwarded": Series(tuple(forwarded)),
            "rewritten": Series(tuple(rewritten)),
        },
        facts={"kind": arguments.kind, "packets_rewritten": count, "counted": NOTE},
    )


def _ratios(ours: list[float], others: list[float]) -> Series:
    return Series(tuple(mine / other for mine, other in zip(ours, others, strict=True)))


def _rewriting(lab: Lab) -> BorderDaemon:
    """The border, once there is a context whose packets it rewrites, and one with others."""
    (border,) = start_borders(lab)
    pings = [lab.spawn(CLIENT, ["ping", "-n", "-i0.1", "-I", *pair]) for pair in PAIRS]
    try:
        lab.wait_for("the contexts are up", lambda: _are_complete(lab), READY_TIMEOUT_S)
        border.use(PROVIDER)
        border.await_leaves_by(PROVIDER, PROVIDER)
    finally:
        for ping in pings:
            ping.end()
    return border


def _are_complete(lab: Lab) -> bool:
    """Whether both hosts have verified both locators of the other in each context."""
    counts = [len(one["lsv_peer"]) for host in (CLIENT, SERVER) for one in lab.contexts(host)]
    return counts == [len(locators(SERVER))] * 2 * len(PAIRS)


BENCH = Bench(
    name="border",
    summary="how fast packets pass a border that rewrites them, to plain IPv6",
    explanation=(
        "Host a is in a site with a border, b is not. In one lab the border gives the packets of "
        "one context the prefix of provider 2, and forwards those of another as they are; in the "
        "other lab it is a router, and packets are plain. All packets leave by provider 2."
    ),
    example="noid bench border --kind packets --json",
    add_options=_add_options,
    measure=measure,
)
