# SPDX-License-Identifier: MIT
"""What the shell is asked about a context, and what it asks the kernel for that."""

import asyncio
import os
from pathlib import Path
from typing import cast

import pytest

from noid.constants import DATA_ASKED_WAIT, NEVER
from noid.dns.records import Answer, Question
from noid.engine.events import CheckData, CheckIdle, DataHasCome, IdleChecked, Input, Output
from noid.host.connections import Connections
from noid.planes.base import DataPlane
from noid.roles import driver
from noid.roles.driver import EngineDriver
from tests.engine.network import Station, established

LISTED = b"  sl  local_address remote_address st ...\n"


async def nothing_known(question: Question) -> Answer:
    raise AssertionError(question)


def ignore(one: Output | int) -> None:
    """Reports and labels are of no concern here."""


class Recorded(EngineDriver):
    """A driver that keeps what it tells the engine."""

    def __init__(self, station: Station) -> None:
        super().__init__(
            station.host, ask=nothing_known, report=ignore, changed=ignore, renewed=ignore
        )
        self.plane = cast(DataPlane, station.datapath)
        self.told: asyncio.Queue[Input] = asyncio.Queue()

    def handle(self, event: Input) -> None:
        """Keeps the event."""
        self.told.put_nowait(event)


def test_a_peer_that_asks_about_data_does_not_wait_for_the_list_of_connections(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = tmp_path / "tcp6"
    os.mkfifo(table)  # a kernel that never ends its list
    monkeypatch.setattr(driver, "Connections", lambda: Connections([table]))
    station = established().b
    label = station.context.local_label

    async def run() -> tuple[Input, Input]:
        one = Recorded(station)
        one.carry_out(CheckIdle(label))
        one.carry_out(CheckData(label, NEVER, 0))  # none has come since then
        one.carry_out(CheckData(label, -1, DATA_ASKED_WAIT, by_peer=True))
        try:
            asked = await asyncio.wait_for(one.told.get(), 10)
        finally:
            await asyncio.to_thread(table.write_bytes, LISTED)
        return asked, await asyncio.wait_for(one.told.get(), 10)

    received_ns = station.datapath.received_ns(label)
    asked, idle = asyncio.run(run())
    assert asked == DataHasCome(label, -1, by_peer=True)
    assert idle == IdleChecked(label, received_ns, in_use=False), "that one did ask the kernel"
