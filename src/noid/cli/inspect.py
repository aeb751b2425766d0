# SPDX-License-Identifier: MIT
"""``noid status``, ``noid contexts``: the state of a running daemon."""

import argparse
import contextlib
import itertools
import time
from collections.abc import Iterator
from typing import Any

from noid.cli.leaves import add_command, add_json
from noid.cli.output import print_columns, say
from noid.cli.places import Count, add_socket
from noid.cli.prefer import preference_lines
from noid.cli.table import SUMMARIES
from noid.constants import CONTEXTS_MAX
from noid.control.client import ask, ask_rows
from noid.counters import COUNTERS
from noid.text import json_line, printable

COUNTED = {
    ".".join((*kind.path, one.identifier)): one.description for kind in COUNTERS for one in kind
}
"""The description of each counter, by its key; counters that are 0 are shown in JSON only."""
COLUMNS = ("AID(local)", "AID(peer)", "state", "Lp(local)", "Lp(peer)", "Lsv(peer)", "name")


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the commands ``status`` and ``contexts``."""
    for name, handler in (("status", status), ("contexts", contexts)):
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
    preferences = answer.get("preferences")
    for key, value in _flat(answer | {"preferences": None} if preferences else answer):
        if key == "preferences" and preferences:
            for line in preference_lines(preferences, time.time()):
                yield key, line
            continue
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
