# SPDX-License-Identifier: MIT
"""``noid status``, ``noid contexts``, ``noid monitor``: the state of a running daemon."""

import argparse
import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from noid.cli.leaves import add_command, add_json
from noid.cli.output import finish, say
from noid.cli.places import Count, add_socket
from noid.cli.table import SUMMARIES
from noid.constants import CONTEXTS_MAX
from noid.control.client import ask, ask_rows, stream_events
from noid.control.reports import line_of
from noid.counters import COUNTERS
from noid.text import json_line, printable

ROWS_MEASURED = 200
"""The width of columns is taken from the first rows, the heading included, up to this number."""
COUNTED = {
    ".".join((*kind.path, one.identifier)): one.description for kind in COUNTERS for one in kind
}
"""The description of each counter, by its key; counters that are 0 are shown in JSON only."""
COLUMNS = ("AID(local)", "AID(peer)", "state", "Lp(local)", "Lp(peer)", "Lsv(peer)", "name")


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``status``, ``contexts`` and ``monitor``."""
    for name, handler in (("status", status), ("contexts", contexts), ("monitor", monitor)):
        description = f"Shows {SUMMARIES[name]}."
        example = f"noid {name} --json"
        parser = add_command(commands, name, handler, example, description=description)
        add_json(parser)
        add_socket(parser)
        if name == "contexts":
            parser.add_argument(
                "--limit",
                type=Count(CONTEXTS_MAX),
                metavar="COUNT",
                help="contexts to show; default: all",
            )


def status(arguments: argparse.Namespace) -> int:
    """Prints the daemon's status."""
    answer = ask(arguments.socket, "status")
    if arguments.json:
        say(json_line(answer))
        return 0
    print_columns(_rows(answer))
    return 0


def _rows(answer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in _flat(answer):
        if key not in COUNTED:
            yield printable(key), printable(value)
        elif value != "0":
            yield key, f"{printable(value)} ({COUNTED[key]})"


def contexts(arguments: argparse.Namespace) -> int:
    """Prints the contexts, one per line."""
    with contextlib.closing(ask_rows(arguments.socket, "contexts")) as rows:
        found = itertools.islice(rows, arguments.limit)
        if arguments.json:
            _print_json_list(found)
        else:
            print_columns(itertools.chain([COLUMNS], map(_cells, found)))
    return 0


def _cells(context: dict[str, Any]) -> tuple[str, ...]:
    """The cells of a context in ``noid contexts``."""
    names = ("local_aid", "peer_aid", "state", "local_locator", "peer_locator")
    cells = (*(context[name] for name in names), str(len(context["lsv_peer"])))
    return tuple(map(printable, (*cells, context["peer_name"])))


def monitor(arguments: argparse.Namespace) -> int:
    """Prints events until the daemon stops or the reader closes the pipe."""
    return print_events(arguments, line_of)


def print_events(arguments: argparse.Namespace, as_line: Callable[[dict[str, Any]], str]) -> int:
    """Prints the events of any daemon; ``as_line`` gives the line of an event."""
    for event in stream_events(arguments.socket):
        if arguments.json:
            say(json_line(event))
        elif event["event"] != "monitoring":
            say(as_line(event))
        finish()
    return 0


def print_columns(rows: Iterator[Sequence[str]]) -> None:
    """Prints lines as they arrive, in columns as wide as the first ROWS_MEASURED rows need."""
    first = list(itertools.islice(rows, ROWS_MEASURED))
    widths = [max(map(len, column)) for column in zip(*first, strict=True)]
    for row in itertools.chain(first, rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())


def _print_json_list(values: Iterator[Any]) -> None:
    """Prints one list as its values arrive."""
    separator = "["
    for value in values:
        say(separator + json_line(value))
        separator = ","
    say("[]" if separator == "[" else "]")


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested object as rows: ``plane.kind`` and its value."""
    rows: list[tuple[str, str]] = []
    for key, inner in value.items():
        if isinstance(inner, dict):
            rows += _flat(inner, f"{prefix}{key}.")
        else:
            words = inner if isinstance(inner, list) else [] if inner is None else [inner]
            rows.append((prefix + key, " ".join(map(str, words)) or "none"))
    return rows
