# SPDX-License-Identifier: MIT
"""Events that cannot be written to the history are written later."""

import asyncio
from pathlib import Path

import pytest

from noid.roles import reporting
from noid.roles.reporting import Reporter
from noid.state.history import FILE_NAME
from tests.waiting import until


def test_a_history_that_cannot_be_written_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "WRITE_AGAIN_S", 0.01)
    path = tmp_path / FILE_NAME
    path.touch()
    path.chmod(0o666)

    async def play() -> None:
        reporter = Reporter(lambda event: None, tmp_path / "events.d")
        reporter.open(tmp_path)
        assert "chmod 600" in reporter.troubles[0]
        path.chmod(0o600)
        await until(lambda: not reporter.troubles)
        await reporter.close()

    asyncio.run(play())
