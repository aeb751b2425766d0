# SPDX-License-Identifier: MIT
r"""The protocol of the control socket, which ``noid status`` and other commands use.

One JSON value a line over a unix stream socket. A client sends ``{"command": NAME}`` and gets one
object back; or, where there may be very many rows (``contexts``), arrays of rows, the last of them
empty, until the client closes; or, from ``monitor``, an object for each event until either side
closes. An object with the single key ``error`` is a refusal. A command is not carried out if its
client has closed before its turn: it may have timed out and reported a failure. Any program can use
it:

    printf '{"command":"status"}\n' | socat - UNIX:/run/noid/noid.sock
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

REQUEST_OCTETS_MAX = 4096
ROWS_PER_LINE = 200
"""The maximum of rows in one line."""
LINE_S = 0.002
"""How long rows of one line are made, before other events. In one turn of the loop of events, one
line is made for all clients together."""
ANSWER_OCTETS_MAX = 1 << 20
"""The maximum of a line of an answer: ROWS_PER_LINE rows with the longest names fit."""
MONITOR = "monitor"
"""The command whose answer is events."""

Row = dict[str, Any]
Answer = Row | Iterator[Row]
Handler = Callable[[], Answer]
RequestHandler = Callable[[Row], Awaitable[Row]]
"""Answers a command that has arguments (further keys of its object), or takes some time."""


def refusal_of(answer: Any) -> str:
    """Why the daemon refuses; empty if it does not."""
    if isinstance(answer, dict) and set(answer) == {"error"}:
        return str(answer["error"])
    return ""
