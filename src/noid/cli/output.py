# SPDX-License-Identifier: MIT
"""Lines that commands print."""

import argparse
import sys
from pathlib import Path

from noid.text import json_line, printable


def say(*lines: str, is_error: bool = False) -> None:
    """Prints lines on standard output, or on standard error."""
    for line in lines:
        print(printable(line), file=sys.stderr if is_error else sys.stdout)


def remove_and_say(arguments: argparse.Namespace, removed: list[str], *files: Path) -> int:
    """Removes files, and prints what ``noid down`` has removed, as text or JSON."""
    for file in files:
        if file.exists():
            file.unlink(missing_ok=True)
            removed.append(f"file {file}")
    if arguments.json:
        say(json_line({"removed": removed}))
    else:
        say(*[f"removed {one}" for one in removed] or ["there was nothing to remove"])
    return 0
