# SPDX-License-Identifier: MIT
"""The log is rate limited by kind, and reports what it left out."""

import asyncio
import contextlib
import logging
import os
from pathlib import Path

import pytest

from noid.roles.logs import (
    KINDS_MAX,
    LINES_BURST,
    OTHERS,
    JournalLines,
    LineLimit,
    is_journal,
    report_suppressed,
)

MANY = 3 * LINES_BURST


def record(message: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("noid", level, "", 0, message, (), None)


def passed(limit: LineLimit, message: str, count: int = MANY) -> int:
    return sum(limit.filter(record(message)) for _ in range(count))


def test_a_flood_of_one_kind_leaves_the_lines_of_others() -> None:
    limit = LineLimit()
    assert LINES_BURST <= passed(limit, "state changed: peer_aid=2001:db8::1") < MANY
    assert limit.filter(record("peer unable: peer_aid=2001:db8::1"))
    assert limit.filter(record("state changed: trouble", logging.WARNING))


def test_the_number_of_suppressed_lines_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    limit = LineLimit()
    suppressed = MANY - passed(limit, "state changed: x")
    limit.report()
    limit.report()
    (line,) = (one.getMessage() for one in caplog.records)
    assert line == f"suppressed {suppressed} lines: {suppressed} of 'INFO state changed'"
    assert limit.total == suppressed


def test_kinds_that_never_end_share_a_rate(caplog: pytest.LogCaptureFixture) -> None:
    limit = LineLimit()
    count = sum(limit.filter(record(f"kind {number}: x")) for number in range(KINDS_MAX + MANY))
    assert KINDS_MAX + LINES_BURST <= count < KINDS_MAX + MANY
    limit.report()
    assert OTHERS in caplog.text


def test_what_is_still_unreported_at_the_end_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    limit = LineLimit()
    passed(limit, "one: x")

    async def run() -> None:
        task = asyncio.create_task(report_suppressed(limit))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert "suppressed" in caplog.text
    assert all(limit.filter(one) for one in caplog.records), "the report itself is not suppressed"


def test_lines_for_the_journal_have_a_priority_and_no_time() -> None:
    lines = JournalLines("%(message)s")
    record = logging.LogRecord("noid", logging.WARNING, "", 0, "first\nsecond", None, None)
    assert lines.format(record).startswith("<4>first")
    record.levelno = logging.INFO
    assert lines.format(record).startswith("<6>")


def test_the_journal_is_known_by_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("wb") as stream:
        status = os.fstat(stream.fileno())
        assert is_journal(stream.fileno(), f"{status.st_dev}:{status.st_ino}")
        assert not is_journal(stream.fileno(), f"{status.st_dev}:{status.st_ino + 1}")
        assert not is_journal(stream.fileno(), "")
    assert not is_journal(-1, "1:2")
