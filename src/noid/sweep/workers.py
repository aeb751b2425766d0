# SPDX-License-Identifier: MIT
"""Who does the work: processes of this machine, or the workers of a Dask cluster."""

import argparse
import concurrent.futures
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from noid.bench.report import positive
from noid.errors import Unsupported, UsageError

AHEAD_EACH = 4
"""Items handed out to each worker before the first of them is done."""
CONNECT_S = 10
ALLOCATED_MAX = 100_000
"""Objects that a worker allocates before it looks for cycles among them."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[list[Item]], Iterator[Result]]
"""Does a list of items and yields the result of each, in any order."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say who does the work."""
    parser.add_argument(
        "--processes", type=positive, default=0, metavar="N", help="default: one a core"
    )
    parser.add_argument(
        "--cluster", metavar="ADDRESS", help="of a Dask scheduler, whose workers have noid"
    )


def chosen(
    arguments: argparse.Namespace, function: Callable[[Item], Result]
) -> tuple[int, Work[Item, Result]]:
    """The workers that the options name; see ``on_cluster`` and ``on_this_machine``."""
    if arguments.cluster:
        return on_cluster(arguments.cluster, function)
    return on_this_machine(arguments.processes, function)


def on_this_machine(
    processes: int, function: Callable[[Item], Result]
) -> tuple[int, Work[Item, Result]]:
    """Processes of this machine.

    Args:
        processes: how many; 0 for as many as there are cores.
        function: what is done with each item.

    Returns:
        How many there are, and what lets them work.
    """
    count = processes or os.cpu_count() or 1

    def work(items: list[Item]) -> Iterator[Result]:
        with concurrent.futures.ProcessPoolExecutor(count, initializer=_undisturbed) as pool:
            # All are handed over at once: an item is a few numbers.
            waiting = [pool.submit(function, item) for item in items]
            try:
                for one in concurrent.futures.as_completed(waiting):
                    yield one.result()
            finally:
                for one in waiting:
                    one.cancel()

    return count, work


def on_cluster(
    address: str, function: Callable[[Item], Result], *, connect_s: float = CONNECT_S
) -> tuple[int, Work[Item, Result]]:
    """The workers of a Dask cluster, which have noid installed.

    Args:
        address: of its scheduler, such as ``tcp://192.0.2.1:8786``.
        function: what is done with each item.
        connect_s: how long the scheduler has to answer.

    Raises:
        Unsupported: the library is not installed.
        UsageError: nothing answers there, or it has no workers.
    """
    try:
        import distributed
    except ImportError:
        raise Unsupported("--cluster", "Dask: pip install 'noid-m6[sweep]'") from None
    try:
        client: Any = distributed.Client(address, timeout=connect_s)
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler at {address}: {error}") from None
    count = sum(client.nthreads().values())
    if not count:
        client.close()
        raise UsageError(f"the scheduler at {address} has no workers; start: dask worker {address}")

    def work(items: list[Item]) -> Iterator[Result]:
        upcoming = iter(items)
        first = [one for one, _ in zip(upcoming, range(AHEAD_EACH * count), strict=False)]
        running = distributed.as_completed(
            [client.submit(function, item, pure=False) for item in first]
        )
        try:
            for one in running:
                yield one.result()
                following = next(upcoming, None)
                if following is not None:
                    running.add(client.submit(function, following, pure=False))
        finally:
            client.close()

    return count, work


def _undisturbed() -> None:
    """Makes a worker finish its chunk after SIGINT, and rarely collect cyclic garbage.

    Reference counting frees most objects of a run. A worker ends with the process that it works
    for, also if a signal ended that: otherwise it waits for work without an end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()
    gc.set_threshold(ALLOCATED_MAX)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
