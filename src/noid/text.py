# SPDX-License-Identifier: MIT
"""Text of others, before it reaches a terminal, a log or JSON. Pure.

A name of the DNS, a reason out of a packet, a word of the command line or the name of a device may
hold characters that move the cursor, end a line or reverse the direction of reading. Every command
and every line of log prints through this module; a zone file takes host names only.
"""

import itertools
import json
from collections.abc import Mapping
from typing import Any

import msgspec

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def printable(text: str) -> str:
    r"""The text on one line, every character that is not printable as ``\x1b`` or ``\u202e``.

    These are the control, format, surrogate and private characters, and every separator but the
    space. A backslash stays as it is: names of the DNS are escaped with it already.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def duration(seconds: float) -> str:
    """A time that passed, in its two largest units: ``3 d 4 h``, ``5 min 10 s``, ``0.4 s``."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    left = round(seconds)
    for (large, size), (small, part) in itertools.pairwise(UNITS):
        if left >= size:
            count, rest = left // size, left % size // part
            return f"{count} {large} {rest} {small}" if rest else f"{count} {large}"
    return f"{left} s"


def json_line(value: object) -> str:
    r"""The value as one line of JSON, with ``\u`` for what is neither ASCII nor printable.

    What is not even Unicode, as an argument may be, becomes a question mark.
    """
    try:
        octets = msgspec.json.encode(value)
    except UnicodeEncodeError:
        octets = json.dumps(value, ensure_ascii=False).encode(errors="replace")
    if octets.isascii() and b"\x7f" not in octets:
        return octets.decode()
    return json.dumps(json.loads(octets)).replace("\x7f", r"\u007f")


def line_of(event: Mapping[str, Any]) -> str:
    """An event as one log line: its name, then each fact as key=value."""
    facts = " ".join(
        f"{key}={','.join(value) if isinstance(value, list) else value!s}"
        for key, value in event.items()
        if key not in ("event", "at", "at_ns", "cause")
    )
    return f"{event['event'].replace('_', ' ')}: {facts}"
