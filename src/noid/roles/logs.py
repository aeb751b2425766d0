# SPDX-License-Identifier: MIT
"""The log: lines of each kind are rate limited, and the number of suppressed ones is reported.

A kind is what a line says before its first colon, together with its level. So lines that others
cause fill no disk and hide no lines of another kind.
"""

import asyncio
import logging
import os
import sys
import time
from collections import Counter
from typing import Final

from noid.roles.patience import Patience
from noid.text import printable

LINES_BURST: Final = 200
LINE_INTERVAL_S: Final = 0.2
"""Of each kind so many lines are written at once, and then one in this time."""
KINDS_MAX: Final = 64
"""Kinds with a rate of their own; further ones share one."""
KIND_CHARACTERS_MAX: Final = 60
OTHERS: Final = "other lines"
REPORT_INTERVAL_S: Final = 10.0
"""How often the number of suppressed lines is reported, while there are any."""

STANDARD_ERROR: Final = 2
PRIORITIES: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)
"""The priority of syslog(3) from each level on, the most urgent first."""

logger = logging.getLogger("noid.suppressed")


class LogLines(logging.Formatter):
    """One line for each record, with any text in it; lines of a traceback are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without the traceback."""
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback if there is one."""
        line, *traceback = super().format(record).split("\n")
        return "\n  ".join([line, *map(printable, traceback)])


class LineLimit(logging.Filter):
    """Limits the lines of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[str, Patience] = {}
        self._suppressed: Counter[str] = Counter()
        self.total = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written; counts it if not."""
        if record.name == logger.name:
            return True
        kind = self._kind_of(record)
        patience = self._kinds.setdefault(kind, Patience(LINES_BURST, LINE_INTERVAL_S))
        now_s = time.monotonic()
        if patience.wait_s(now_s) > 0:
            self._suppressed[kind] += 1
            self.total += 1
            return False
        patience.use(now_s)
        return True

    def _kind_of(self, record: logging.LogRecord) -> str:
        words = str(record.msg).partition(":")[0].partition("\n")[0][:KIND_CHARACTERS_MAX]
        kind = f"{record.levelname} {words}"
        return kind if kind in self._kinds or len(self._kinds) < KINDS_MAX else OTHERS

    def report(self) -> None:
        """Says how many lines were suppressed since the last time, if any were."""
        suppressed, self._suppressed = self._suppressed, Counter()
        if suppressed:
            each = ", ".join(f"{count} of '{kind}'" for kind, count in suppressed.most_common())
            logger.warning("suppressed %d lines: %s", suppressed.total(), each)


class JournalLines(LogLines):
    """Lines of the journal: each begins with its priority (sd-daemon(3)), not the time."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines, each with its priority."""
        priority = next(number for level, number in PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))


def is_journal(stream: int, variable: str) -> bool:
    """Whether a descriptor is the journal's, as $JOURNAL_STREAM says (systemd.exec(5))."""
    try:
        status = os.fstat(stream)
    except OSError:
        return False
    return variable == f"{status.st_dev}:{status.st_ino}"


def begin(level: int) -> LineLimit:
    """Writes the log of this process to standard error, rate limited."""
    limit = LineLimit()
    lines = logging.StreamHandler(sys.stderr)
    if is_journal(STANDARD_ERROR, os.environ.get("JOURNAL_STREAM", "")):
        lines.setFormatter(JournalLines("%(message)s"))
    else:
        lines.setFormatter(LogLines("%(asctime)s %(levelname)s %(message)s"))
    lines.addFilter(limit)
    logging.basicConfig(handlers=[lines], level=level)
    return limit


async def report_suppressed(limit: LineLimit) -> None:
    """Reports the number of suppressed lines now and then, until cancelled, and at the end."""
    try:
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            limit.report()
    finally:
        limit.report()
