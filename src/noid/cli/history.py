# SPDX-License-Identifier: MIT
"""``noid monitor``: events; ``noid history``: past ones; ``noid ping``: measures every pair now."""

import argparse
import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from noid.cli.leaves import add_command, add_json
from noid.cli.output import finish, print_columns, say
from noid.cli.paths import clock, percent, round_trip
from noid.cli.places import Count, add_socket
from noid.cli.table import SUMMARIES
from noid.control.client import ask, stream_events
from noid.control.uplink_reports import reason_text
from noid.state.history import EVENTS_MAX
from noid.text import duration, json_line, line_of, printable

SHOWN: Final = 50
PAGE: Final = 1_000
"""Events to ask for at one time: a daemon sends no more."""
TIMES: Final = 5
TIMES_MAX: Final = 100_000
INTERVAL_S: Final = 1.0
COLUMNS: Final = ("local locator", "peer locator", "sent", "loss", "min", "mean", "max", "")


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the commands ``monitor``, ``history`` and ``ping``."""
    _command(commands, "monitor", monitor, "noid monitor --json")
    history = _command(commands, "history", show_history, "noid history --count 20")
    history.add_argument("--count", type=Count(EVENTS_MAX), default=SHOWN, help="events to show")
    ping = _command(commands, "ping", show_ping, "noid ping b.example --count 10")
    ping.add_argument("peer", metavar="PEER", help="name, AID or locator of a peer with a context")
    ping.add_argument("--count", type=Count(TIMES_MAX), default=TIMES, help="times to ask")


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    handler: Callable[[argparse.Namespace], int],
    example: str,
) -> argparse.ArgumentParser:
    description = f"Shows {SUMMARIES[name]}."
    parser = add_command(commands, name, handler, example, description=description)
    add_json(parser)
    add_socket(parser)
    return parser


def monitor(arguments: argparse.Namespace) -> int:
    """Prints events until the daemon stops or the reader closes the pipe."""
    return print_events(arguments, monitor_line)


def monitor_line(event: dict[str, Any]) -> str:
    """An event for people: an uplink as in ``noid history``, another one with each of its facts."""
    if event["event"] == "uplink_changed":
        return f"{_subject(event)}: {_change(event)}"
    return line_of(event)


def print_events(arguments: argparse.Namespace, as_line: Callable[[dict[str, Any]], str]) -> int:
    """Prints the events of any daemon; ``as_line`` gives the line of an event without its time."""
    for event in stream_events(arguments.socket):
        if arguments.json:
            say(json_line(event))
        elif event["event"] == "monitoring":
            if sys.stdout is not None and sys.stdout.isatty():
                say("waiting for events; Ctrl-C ends", is_error=True)
        else:
            now_s = time.time()
            say(f"{clock(event.get('at', now_s), now_s)}  {as_line(event)}")
        finish()
    return 0


def show_history(arguments: argparse.Namespace) -> int:
    """Prints the most recent events, the newest last."""
    answer = _history(arguments)
    if arguments.json:
        say(json_line(answer))
        return 0
    rows = [history_cells(one, answer["now"]) for one in reversed(answer["events"])]
    if rows:
        print_columns(iter(rows))
    else:
        say("nothing has happened yet")
    return 0


def _history(arguments: argparse.Namespace) -> dict[str, Any]:
    """The events of all answers, the newest first, and the time of the first answer."""
    count, events = arguments.count, []
    answer = first = ask(arguments.socket, "history", {"count": min(count, PAGE)})
    events += answer["events"]
    while answer.get("before") and (left := count - len(events)) > 0:
        older = {"count": min(left, PAGE), "before": answer["before"]}
        answer = ask(arguments.socket, "history", older)
        events += answer["events"]
    return {"now": first["now"], "events": events}


def history_cells(event: Mapping[str, Any], now_s: float) -> tuple[str, str, str]:
    """The cells of an event: time, subject, change."""
    cells = clock(event["at"], now_s), _subject(event), _change(event)
    return printable(cells[0]), printable(cells[1]), printable(cells[2])


def _subject(event: Mapping[str, Any]) -> str:
    """What an event is about."""
    match event.get("event"):
        case "uplink_changed":
            return f"uplink {event['uplink']}"
        case "switched":
            return f"peer {event['peer_aid']}"
        case _:
            return ""


def _change(event: Mapping[str, Any]) -> str:
    """What has changed, and why."""
    match event.get("event"):
        case "uplink_changed":
            reason = f": {reason_text(event['reason'])}" if event["reason"] else ""
            return f"{event['old']} -> {event['new']} after {duration(event['lasted_s'])}{reason}"
        case "switched":
            old = f"{event['old_local_locator']} -> {event['old_peer_locator']}"
            new = f"{event['new_local_locator']} -> {event['new_peer_locator']}"
            return f"from {old} to {new}: {event['why']}"
        case _:
            return f"{event.get('switches', 0)} more switches at that time"


@dataclass(slots=True)
class Tally:
    """What one pair has answered so far.

    Attributes:
        sent: requests.
        in_use: whether the context uses the pair.
        round_trips: of the answers, in microseconds.
    """

    sent: int = 0
    in_use: bool = False
    round_trips: list[int] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Share of requests without an answer."""
        return 1 - len(self.round_trips) / self.sent


Tallies = dict[tuple[str, str], Tally]


def show_ping(arguments: argparse.Namespace) -> int:
    """Sends the requests, until Ctrl-C at most, and prints the results of each pair."""
    tallies: Tallies = {}
    with contextlib.suppress(KeyboardInterrupt):
        for number in range(arguments.count):
            began_s = time.monotonic()
            add(tallies, ask(arguments.socket, "ping", {"peer": arguments.peer})["pairs"])
            if number + 1 < arguments.count:
                time.sleep(max(0.0, began_s + INTERVAL_S - time.monotonic()))
    if arguments.json:
        say(json_line([ping_row(pair, one) for pair, one in tallies.items()]))
    elif tallies:
        print_columns(itertools.chain([COLUMNS], map(_ping_cells, map(_row, tallies.items()))))
    return 0 if any(one.round_trips for one in tallies.values()) else 1


def add(tallies: Tallies, pairs: list[dict[str, Any]]) -> None:
    """Takes the answers of one time."""
    for one in pairs:
        tally = tallies.setdefault((one["local_locator"], one["peer_locator"]), Tally())
        tally.sent += 1
        tally.in_use = one["in_use"]
        if one["round_trip_us"] is not None:
            tally.round_trips.append(one["round_trip_us"])


def _row(item: tuple[tuple[str, str], Tally]) -> dict[str, Any]:
    return ping_row(*item)


def ping_row(pair: tuple[str, str], tally: Tally) -> dict[str, Any]:
    """A pair as ``noid ping --json`` has it."""
    trips = tally.round_trips
    return {
        "local_locator": pair[0],
        "peer_locator": pair[1],
        "in_use": tally.in_use,
        "sent": tally.sent,
        "received": len(trips),
        "loss": round(tally.loss, 4),
        "round_trip_min_us": min(trips, default=None),
        "round_trip_mean_us": sum(trips) // len(trips) if trips else None,
        "round_trip_max_us": max(trips, default=None),
    }


def _ping_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    trips = (row[f"round_trip_{one}_us"] for one in ("min", "mean", "max"))
    return (
        row["local_locator"],
        row["peer_locator"],
        str(row["sent"]),
        percent(row["loss"]),
        *map(round_trip, trips),
        "in use" if row["in_use"] else "",
    )
