# SPDX-License-Identifier: MIT
"""The event loop with exact timers waits for files and times as any other."""

import asyncio
import socket
import subprocess
import sys
import time

import pytest

from noid.host.precise import EARLY_S, ROUGH_S, PreciseSelector, run, until_next


def test_a_file_that_is_ready_ends_the_wait() -> None:
    near, far = socket.socketpair()
    with near, far, PreciseSelector() as selector:
        selector.register(near, 1)
        assert selector.select(ROUGH_S / 100) == []
        far.send(b"x")
        for timeout_s in (0, ROUGH_S / 2, 600, None):
            ((key, _),) = selector.select(timeout_s)
            assert key.fileobj is near


def test_no_timer_expires_early() -> None:
    for timeout_s in (0.0003, 0.0024, 0.12):
        with PreciseSelector() as selector:
            begun_s = time.monotonic()
            selector.select(timeout_s)
            assert time.monotonic() - begun_s >= timeout_s


def test_a_program_runs_to_its_end() -> None:
    ended = []

    async def main() -> None:
        await asyncio.sleep(0.001)
        ended.append(True)

    run(main())
    assert ended


TIME_SUSPENDED_S = 90_000
TELL_TIME = """\
import asyncio, time
from noid.host.precise import run

async def main():
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await asyncio.sleep(0.01)
    print(loop.time() - time.monotonic(), loop.time() - began_s)

run(main())
"""


def test_time_goes_on_while_the_machine_is_suspended() -> None:
    """In a time namespace the time since boot is ahead, as after it was suspended so long."""
    words = ["unshare", "--time", "--boottime", str(TIME_SUSPENDED_S), sys.executable, "-c"]
    done = subprocess.run([*words, TELL_TIME], capture_output=True, text=True, check=True)
    ahead_s, slept_s = map(float, done.stdout.split())
    assert ahead_s >= TIME_SUSPENDED_S - 1
    assert 0.01 <= slept_s < TIME_SUSPENDED_S


@pytest.mark.parametrize(
    ("now_s", "next_s"),
    [(10.0, 10.5), (10.3, 10.5), (10.499, 11.0), (10.5 - EARLY_S / 2, 11.0), (10.501, 11.0)],
)
def test_what_is_woken_a_little_early_does_not_look_twice(now_s: float, next_s: float) -> None:
    assert now_s + until_next(0.5, now_s) == pytest.approx(next_s)
