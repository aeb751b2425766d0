# SPDX-License-Identifier: MIT
"""A local user asks as each of its subordinate user ids, as containers have them (subuid(5)) [D46].

Each would have the share of a user, so that others would be the largest users.
"""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from noid.counters import StubCounter
from noid.host import subordinates
from noid.resolver import turns
from noid.resolver.service import LIMITS
from tests.attacks.test_local_users import SLOW, VICTIM, Local, attacked
from tests.waiting import LIMIT_S, until

FIRST, COUNT = 100_000, 65_536

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sockets of other users need root")


def test_the_ids_of_one_user_do_not_end_the_queries_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "subuid"
    path.write_text(f"mallory:{FIRST}:{COUNT}\n")
    monkeypatch.setattr(subordinates, "SUBUID", path)

    async def scenario(local: Local) -> list[bool]:
        with contextlib.ExitStack() as open_:
            victim = [open_.enter_context(local.datagrams(VICTIM)) for _ in range(3)]
            names = [f"mine{number}.{SLOW}" for number in range(3)]
            waiting = [
                asyncio.create_task(local.ask(client, name))
                for client, name in zip(victim, names, strict=True)
            ]
            await until(lambda: {*names} <= {*local.asked})
            for user in range(FIRST, FIRST + LIMITS.answered):
                await local.ask_slow_names(open_.enter_context(local.datagrams(user)), 2)
            await until(lambda: local.counters[StubCounter.OVERFLOW] >= LIMITS.answered // 2)
            done = [one.done() for one in waiting]
            for one in waiting:
                one.cancel()
            return done

    none_is_slow = turns.PROGRAMS._replace(slow_s=LIMIT_S)  # and is given up for that
    assert attacked(scenario, none_is_slow) == [False] * 3
