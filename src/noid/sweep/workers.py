"""Who plays the chunks: processes of this machine, or the workers of a Dask cluster."""

import concurrent.futures
import os
from collections.abc import Callable, Iterator
from typing import Any

from noid.errors import Unsupported, UsageError
from noid.sweep.work import Chunk, Outcome, carry_out

AHEAD_EACH = 4
"""Chunks handed out to each worker before the first of them is done."""
CONNECT_S = 10

Play = Callable[[list[Chunk]], Iterator[Outcome]]


def on_this_machine(processes: int) -> tuple[int, Play]:
    """Processes of this machine.

    Args:
        processes: how many; 0 for as many as there are cores.

    Returns:
        How many there are, and what lets them play, in any order.
    """
    count = processes or os.cpu_count() or 1

    def play(chunks: list[Chunk]) -> Iterator[Outcome]:
        with concurrent.futures.ProcessPoolExecutor(count) as pool:
            # All are handed over at once: a chunk is a few numbers.
            waiting = [pool.submit(carry_out, chunk) for chunk in chunks]
            try:
                for one in concurrent.futures.as_completed(waiting):
                    yield one.result()
            finally:
                for one in waiting:
                    one.cancel()

    return count, play


def on_cluster(address: str) -> tuple[int, Play]:
    """The workers of a Dask cluster, which have noid installed.

    Args:
        address: of its scheduler, such as ``tcp://192.0.2.1:8786``.

    Raises:
        Unsupported: the library is not installed.
        UsageError: nothing answers there, or it has no workers.
    """
    try:
        import distributed
    except ImportError:
        raise Unsupported("--cluster", "Dask: pip install 'noid[sweep]'") from None
    try:
        client: Any = distributed.Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler at {address}: {error}") from None
    count = sum(client.nthreads().values())
    if not count:
        client.close()
        raise UsageError(f"the scheduler at {address} has no workers; start: dask worker {address}")

    def play(chunks: list[Chunk]) -> Iterator[Outcome]:
        upcoming = iter(chunks)
        first = [one for one, _ in zip(upcoming, range(AHEAD_EACH * count), strict=False)]
        running = distributed.as_completed(
            [client.submit(carry_out, chunk, pure=False) for chunk in first]
        )
        try:
            for one in running:
                yield one.result()
                following = next(upcoming, None)
                if following is not None:
                    running.add(client.submit(carry_out, following, pure=False))
        finally:
            client.close()

    return count, play
