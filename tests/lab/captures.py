# SPDX-License-Identifier: MIT
"""What tshark reads in a capture, as rows of named fields."""

import subprocess
from pathlib import Path

M6_TCP = 224
M6_ESP = 228
M6_FRAGMENT = 229
M6_ICMPV6 = 230
M6_ESCAPE = 231
CONTROL_TYPE = 200

GOOD = "1"
"""How tshark reports a checksum that is right, in the fields that end in checksum.status."""

DISSECTION = (
    *("-d", f"ip.proto=={M6_TCP},tcp"),
    *("-d", f"ip.proto=={M6_ICMPV6},icmpv6"),
    *("-o", "tcp.check_checksum:TRUE"),
    *("-o", "ipv6.defragment:FALSE"),
)

Row = dict[str, str]


def read_capture(path: Path, display_filter: str, *fields: str) -> list[Row]:
    """The packets of a capture that pass a display filter; an absent field is an empty text."""
    wanted = [word for field in fields for word in ("-e", field)]
    options = ["-T", "fields", "-E", "occurrence=f", *wanted]
    done = subprocess.run(
        ["tshark", "-r", str(path), "-n", *DISSECTION, "-Y", display_filter, *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [dict(zip(fields, line.split("\t"), strict=True)) for line in done.stdout.splitlines()]


def next_headers(path: Path, display_filter: str = "ipv6") -> set[int]:
    """The next headers of the packets that pass a display filter."""
    return {int(row["ipv6.nxt"]) for row in read_capture(path, display_filter, "ipv6.nxt")}
