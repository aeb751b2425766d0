# SPDX-License-Identifier: MIT
"""How much memory a context takes, of many that stand in one process."""

import argparse
from collections.abc import Callable

from noid.bench.encounter import Encounter
from noid.bench.memory import allocated_octets, resident_octets, traced
from noid.bench.report import Bench, Report, Watch, add_contexts
from noid.engine.host import Host
from noid.engine.state import State
from noid.errors import ShimError

WARMING_UP = 1_000
"""Contexts of a server that is thrown away, for what is made once."""
TRACED_MAX = 10_000
"""Contexts while allocations are traced, which makes everything several times slower."""
STEP = 500
"""Contexts from one word about the progress to the next."""
NOTE = (
    "the contexts of one server, ESTABLISHED, two locators at each end, all of them proven by the "
    "DNS; in the figures: everything that the engine keeps of them, tables and timers included; "
    "not in the figures: the flows, which the engine makes and the data plane keeps; resident "
    "memory, as the kernel counts it, has besides what the allocator did not give back after the "
    "set-ups; allocated memory, as Python counts it, was taken of another server, since to trace "
    f"allocations takes memory and time: of {TRACED_MAX:,} contexts at most"
)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_contexts(parser, 100_000, "the server has in the end")


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Fills a server twice: once to see the process grow, once to see what is allocated."""
    count: int = arguments.contexts
    traced_count = min(count, TRACED_MAX)
    steps = count + traced_count
    _filled(min(WARMING_UP, count), lambda done: None)
    before = resident_octets()
    server = _filled(count, lambda done: watch(done, steps))
    resident = resident_octets() - before
    del server
    with traced():
        server = _filled(traced_count, lambda done: watch(count + done, steps))
        allocated = allocated_octets()
        del server
    return Report(
        facts={
            "contexts": count,
            "resident_octets_each": round(resident / count),
            "allocated_octets_each": round(allocated / traced_count),
            "counted": NOTE,
        }
    )


def _filled(count: int, watch: Callable[[int], None]) -> Host:
    """A server with so many contexts; of the clients nothing is left.

    Raises:
        ShimError: some of them are not as they should be.
    """
    encounter = Encounter(seed=0)
    for number in range(1, count + 1):
        encounter.meet(encounter.client(number))
        if number % STEP == 0:
            watch(number)
    good = [
        one
        for one in encounter.server.contexts
        if one.state is State.ESTABLISHED and len(one.peer_verified) == len(one.own_local)
    ]
    if len(good) != count:
        raise ShimError(f"{count - len(good)} contexts are not established")
    return encounter.server


BENCH = Bench(
    name="contexts",
    summary="the memory that each of many established contexts takes",
    explanation=f"What is counted: {NOTE}.",
    example="noid bench contexts --contexts 20000 --json",
    add_options=_add_options,
    measure=measure,
)
