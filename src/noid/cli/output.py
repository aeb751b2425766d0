# SPDX-License-Identifier: MIT
"""Lines that commands print."""

import argparse
import contextlib
import io
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from noid.errors import PlatformError
from noid.text import json_line, printable

ROWS_MEASURED = 200
"""The width of columns is taken from the first rows, the heading included, up to this number."""


def prepare() -> None:
    """Lets every character be printed, in any locale: what it does not have is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def finish() -> None:
    """Writes what is printed and still in memory.

    Raises:
        BrokenPipeError: the reader has closed.
        PlatformError: it cannot be written, such as on a full disk.
    """
    if sys.stdout is not None:  # the caller may have closed it
        with _writing():
            sys.stdout.flush()


def discard() -> None:
    """Discards what is printed and still in memory: Python would try to write it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(*lines: str, is_error: bool = False) -> None:
    """Prints lines on standard output, or on standard error.

    Raises:
        BrokenPipeError, PlatformError: as ``finish``.
    """
    with _writing():
        for line in lines:
            print(printable(line), file=sys.stderr if is_error else sys.stdout)


def print_columns(rows: Iterator[Sequence[str]]) -> None:
    """Prints lines as they arrive, in columns as wide as the first ROWS_MEASURED rows need."""
    first = list(itertools.islice(rows, ROWS_MEASURED))
    widths = [max(map(len, column)) for column in zip(*first, strict=True)]
    for row in itertools.chain(first, rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Discards what is printed if it cannot be written, unless the reader has closed."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard()
        raise PlatformError("standard output", error.errno or 0, str(error.strerror)) from None


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
