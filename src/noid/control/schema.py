# SPDX-License-Identifier: MIT
r"""What is said on the control socket, by which ``noid status`` and its like reach the daemon.

One JSON value a line over a unix stream socket. A client sends ``{"command": NAME}`` and gets one
object back; or, where there may be very many rows (``contexts``), arrays of rows, the last of them
empty; or, from ``monitor``, an object for each event until either side closes. An object with the
single key ``error`` is a refusal. Any program can use it:

    printf '{"command":"status"}\n' | socat - UNIX:/run/noid/noid.sock
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

REQUEST_OCTETS_MAX = 4096
ROWS_PER_LINE = 200
"""Rows that are made and sent at once, some ten milliseconds' work; then the event loop goes on."""
ANSWER_OCTETS_MAX = 1 << 20
"""Of a line of an answer: ROWS_PER_LINE rows stay below, even with the longest names."""
MONITOR = "monitor"
"""The command whose answer is events."""

Row = dict[str, Any]
Answer = Row | Iterator[Row]
Handler = Callable[[], Answer]
RequestHandler = Callable[[Row], Awaitable[Row]]
"""Answers a command that has arguments, which are further keys of its object, or takes a while."""


def refusal_of(answer: Any) -> str:
    """Why the daemon refuses; empty if it does not."""
    if isinstance(answer, dict) and set(answer) == {"error"}:
        return str(answer["error"])
    return ""
