# SPDX-License-Identifier: MIT
"""``noid use``, ``noid avoid``, ``noid auto``: set which uplinks the daemon prefers."""

import argparse
import re
import time
from typing import Any, Final

from noid.cli.leaves import add_command, add_json
from noid.cli.output import say
from noid.cli.paths import clock
from noid.cli.places import add_socket
from noid.cli.table import SUMMARIES
from noid.control.client import ask
from noid.text import json_line, printable

SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
PERIOD: Final = re.compile(r"(?:\d{1,6}[smhd])+", re.ASCII)
PART: Final = re.compile(r"(\d+)([smhd])", re.ASCII)
DESCRIPTIONS: Final = {
    "use": (
        "The locators of all other uplinks become backups: peers and this host use them only\n"
        "if no pair over UPLINK works. Connections switch after the new pair has answered. The\n"
        "setting survives restarts and ends with noid use, noid avoid or noid auto. Until then\n"
        "priorities have no effect; peers that are pinned keep their uplink."
    ),
    "avoid": (
        "The locators of the uplink become deprecated: each connection switches to another pair\n"
        "after that pair has answered. The uplink can be unplugged when noid paths shows no\n"
        "context over it. The setting survives restarts and ends with noid auto or after --for."
    ),
    "auto": (
        "Cancels noid use and noid avoid: priorities, weights and backups of the configuration\n"
        "apply again. Connections that noid avoid moved return after the uplink has answered, and\n"
        "so do those that noid use moved away from the uplink at which they were opened."
    ),
}


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the commands ``use``, ``avoid`` and ``auto``."""
    _command(commands, "use", "noid use eth1")
    avoid = _command(commands, "avoid", "noid avoid eth0 --for 2h")
    avoid.add_argument(
        "--for",
        dest="for_s",
        type=period,
        metavar="TIME",
        help="how long, such as 90s, 30m, 2h or 1d12h; default: until noid auto",
    )
    _command(commands, "auto", "noid auto")


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, example: str
) -> argparse.ArgumentParser:
    description = f"{SUMMARIES[name].capitalize()}.\n\n{DESCRIPTIONS[name]}"
    parser = add_command(commands, name, prefer, example, description=description)
    if name != "auto":
        parser.add_argument("uplink", metavar="UPLINK", help="its name in noid paths")
    add_json(parser)
    add_socket(parser)
    parser.set_defaults(request=name, for_s=None, uplink="")
    return parser


def period(text: str) -> int:
    """A time such as ``2h`` or ``1d12h``, in seconds."""
    seconds = 0
    if PERIOD.fullmatch(text):
        seconds = sum(int(count) * SECONDS[unit] for count, unit in PART.findall(text))
    if not seconds:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; write 90s, 30m, 2h or 1d12h")
    return seconds


def prefer(arguments: argparse.Namespace) -> int:
    """Sends the setting to the daemon, and prints the settings in effect."""
    request = {"uplink": arguments.uplink, "for_s": arguments.for_s}
    answer = ask(arguments.socket, arguments.request, request)
    if arguments.json:
        say(json_line(answer))
        return 0
    say(*preference_lines(answer, time.time()))
    return 0


def preference_lines(answer: dict[str, Any], now_s: float) -> list[str]:
    """The settings in effect, one uplink per line."""
    lines = []
    if answer["use"]:
        lines.append(f"{answer['use']} is used before all others until noid auto")
    for one in answer["avoid"]:
        until_s = one["until"]
        until = "noid auto" if until_s is None else clock(until_s, now_s)
        lines.append(f"{one['uplink']} is avoided until {until}")
    lines = lines or ["no preference is set: uplinks are used as configured"]
    lines += map(_configured, answer["configured"])
    lines += [f"warning: {one}" for one in answer.get("warnings", ())]
    return list(map(printable, lines))


def _configured(uplink: dict[str, Any]) -> str:
    """What the configuration says of an uplink."""
    words = [f"priority {uplink['priority']}"]
    if uplink["weight"] is not None:
        words.append(f"weight {uplink['weight']}")
    if uplink["backup"]:
        words.append("backup")
    return f"{uplink['uplink']} is configured with {', '.join(words)}"
