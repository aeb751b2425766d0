# SPDX-License-Identifier: MIT
"""``noid paths``: each uplink, its state, since when, and its traffic."""

import argparse
import datetime
import itertools
from collections.abc import Mapping
from typing import Any, Final

from noid.cli.leaves import add_command, add_json
from noid.cli.output import print_columns, say
from noid.cli.places import add_socket
from noid.control.client import ask
from noid.control.uplink_reports import reason_text
from noid.text import duration, json_line, printable

COLUMNS: Final = (
    *("uplink", "state", "since", "RTT", "loss", "share", "contexts", "received", "sent"),
    *("last switch", "reason"),
)
OCTET_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
KILO: Final = 1000


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command ``paths``."""
    parser = add_command(
        commands,
        "paths",
        paths,
        "noid paths --json",
        description=(
            "Shows each uplink of this host. An uplink is down when its link is down, its address\n"
            "or route is missing, or peers answer over other uplinks but none over it. It is\n"
            "degraded when measurements are lost, some peers do not answer over it, or nothing\n"
            "arrives over it. The column share shows how many new connections start at it, if\n"
            "weights are configured."
        ),
    )
    add_json(parser)
    add_socket(parser)


def paths(arguments: argparse.Namespace) -> int:
    """Prints the uplinks, one per line."""
    answer = ask(arguments.socket, "paths")
    if arguments.json:
        say(json_line(answer))
    elif answer["uplinks"]:
        rows = (cells(one, answer["now"]) for one in answer["uplinks"])
        print_columns(itertools.chain([COLUMNS], rows))
    else:
        say("this host has no address that can be a locator; see: noid doctor")
    return 0


def cells(uplink: Mapping[str, Any], now_s: float) -> tuple[str, ...]:
    """The cells of an uplink in ``noid paths``."""
    last = uplink["last_switches"][-1:]
    texts = (
        uplink["uplink"],
        uplink["state"],
        since(uplink["since"], now_s),
        round_trip(uplink["round_trip_us"]),
        percent(uplink["loss"]),
        percent(uplink["share"]),
        str(uplink["contexts"]),
        octets(uplink["received_octets"]),
        octets(uplink["sent_octets"]),
        clock(last[0]["at"], now_s) if last else "-",
        reason(uplink, now_s),
    )
    return tuple(map(printable, texts))


def reason(uplink: Mapping[str, Any], now_s: float) -> str:
    """Why an uplink is not up, and its marks, as text."""
    marks = [one for one in ("deprecated", "backup") if uplink[one]]
    said = preference_text(uplink.get("preference", ""), uplink.get("until"), now_s)
    return ", ".join(filter(None, [reason_text(uplink["reason"]), *marks, said])) or "-"


def preference_text(preference: str, until_s: float | None, now_s: float) -> str:
    """The preference of the operator for an uplink, as text."""
    if preference == "avoid":
        return f"avoided until {'noid auto' if until_s is None else clock(until_s, now_s)}"
    return "used before all others" if preference == "use" else ""


def clock(at_s: float, now_s: float) -> str:
    """A time of the wall clock, with the date unless it is today."""
    at, now = map(datetime.datetime.fromtimestamp, (at_s, now_s))
    return at.strftime("%H:%M:%S" if at.date() == now.date() else "%Y-%m-%d %H:%M:%S")


def since(at_s: float, now_s: float) -> str:
    """A time of the wall clock, and how long ago it is."""
    return f"{clock(at_s, now_s)} ({duration(now_s - at_s)})"


def round_trip(microseconds: int | None) -> str:
    """A round trip in ms; a dash if there is none."""
    return "-" if microseconds is None else f"{microseconds / 1000:.1f} ms"


def percent(share: float | None) -> str:
    """A share in percent; a dash if it is not known."""
    return "-" if share is None else f"{100 * share:.0f} %"


def octets(count: int) -> str:
    """A number of octets with a decimal unit."""
    value, unit = float(count), OCTET_UNITS[0]
    for unit in OCTET_UNITS:
        if value < KILO or unit == OCTET_UNITS[-1]:
            break
        value /= KILO
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
