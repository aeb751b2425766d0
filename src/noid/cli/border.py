# SPDX-License-Identifier: MIT
"""``noid border``: a router of a site with several providers."""

import argparse
import asyncio
import errno
import logging
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from noid.border_config import (
    AUTOMATIC,
    DEFAULT_SOCKET,
    EVENTS_MAX,
    load_border_config,
)
from noid.cli.leaves import add_group, add_json, add_leaf
from noid.cli.output import remove_and_say, say
from noid.cli.paths import clock
from noid.cli.places import Count
from noid.control.client import ask, listens
from noid.counters import BorderCounter, counters_of
from noid.errors import ConfigError, PlatformError, UsageError
from noid.host import precise
from noid.roles import logs
from noid.roles.collecting import paused
from noid.text import duration, json_line, printable

PRIVATE: Final = 0o077
"""The umask: only the user of the daemon can access what it writes."""
RUN_EXAMPLE: Final = """\
noid border run --config /etc/noid-border.toml

A complete configuration:
  [border]
  lans = ["lan0"]
  [[border.providers]]
  name = "one"
  uplink = "wan1"
  prefixes = ["2001:db8:1::/48"]
  [[border.providers]]
  name = "two"
  uplink = "wan2"
  prefixes = ["2001:db8:2::/48"]
"""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command ``border`` with its own commands."""
    leaves = add_group(
        commands,
        "border",
        description=(
            'Runs the border of a site with several providers: packets marked "rewrite ok" leave\n'
            "through an uplink that works, with a source of the prefix of its provider. The hosts\n"
            "of the site have one address of each prefix, with the same interface identifier."
        ),
        epilog="Start with: noid border run --config FILE",
    )
    run = add_leaf(
        leaves, "run", run_border, "run the border on this router, in the foreground", RUN_EXAMPLE
    )
    run.add_argument("--config", type=Path, required=True, metavar="FILE", help="TOML file")
    summary = "show uplinks, prefixes and counters"
    _add_socket(add_leaf(leaves, "status", show_status, summary, "noid border status"))
    history = add_leaf(
        leaves,
        "history",
        show_history,
        "show the last changes of uplinks and switches",
        "noid border history --count 20",
    )
    history.add_argument("--count", type=Count(EVENTS_MAX), default=50, help="events to show")
    _add_socket(history)
    summary = "show changes of uplinks and switches as they happen, until Ctrl-C"
    _add_socket(add_leaf(leaves, "monitor", monitor, summary, "noid border monitor --json"))
    use = add_leaf(
        leaves,
        "use",
        use_provider,
        "send rewritable packets through one provider while it works",
        "noid border use two",
        f"noid border use {AUTOMATIC}",
    )
    use.add_argument("provider", metavar="PROVIDER", help=f"its name, or {AUTOMATIC}")
    _add_socket(use)
    summary = "apply changes of the configuration file, such as new prefixes, as SIGHUP does"
    _add_socket(add_leaf(leaves, "reload", reload_border, summary, "noid border reload"))
    down = add_leaf(
        leaves,
        "down",
        take_down,
        "remove programs, routes and rules, which stay when the daemon has stopped",
        "noid border down --config /etc/noid-border.toml",
    )
    down.add_argument("--config", type=Path, required=True, metavar="FILE", help="TOML file")
    add_json(down, "what was removed, for programs")


def run_border(arguments: argparse.Namespace) -> int:
    """Runs the daemon to its end."""
    path = arguments.config
    refused: list[ConfigError] = []
    first = load_border_config(path, refused.append)  # a bad lease does not keep it from starting
    os.umask(PRIVATE)
    limit = logs.begin(logging.INFO)
    left_out = [f"left out: {error}" for error in refused]
    for text in left_out:
        logging.getLogger("noid").warning("%s", text)

    async def run() -> None:
        # Imported here: only a daemon needs it.
        with paused():
            from noid.roles.border import Border
            from noid.roles.border_record import Record

        reporting = asyncio.create_task(logs.report_suppressed(limit))
        read, record = partial(load_border_config, path), Record()
        try:
            config = await Border(first, read, record, left_out).run()
            while config is not None:
                config = await Border(config, read, record).run()
        finally:
            reporting.cancel()
            await asyncio.wait([reporting])

    precise.run(run())
    return 0


def show_status(arguments: argparse.Namespace) -> int:
    """Prints the status of the daemon."""
    answer = _ask(arguments.socket, "status")
    if arguments.json:
        say(json_line(answer))
        return 0
    say(f"noid border {answer['version']}, use {answer['use']}, {answer['switches']} switches")
    _say_providers(answer["providers"], answer["now"])
    for row in answer["prefixes"]:
        new = ", is new and put into no packet yet" if row["is_new"] else ""
        way = f"leaves by {row['leaves_by'] or 'none'}{new}"
        say(f"prefix {row['prefix']} of {row['provider']} {way}")
    for prefix in answer["former"]:
        say(f"prefix {prefix} is a former one: hosts that still use it are told, or moved")
    for counter, count in counters_of(BorderCounter, answer["counters"]).items():
        say(f"{counter.description}: {count}")
    for trouble in answer["troubles"]:
        say(f"trouble: {trouble}")
    return 0


def show_history(arguments: argparse.Namespace) -> int:
    """Prints the last events, the newest last."""
    answer = _ask(arguments.socket, "history", {"count": arguments.count})
    if arguments.json:
        say(json_line(answer))
        return 0
    lines = [
        f"{clock(one['at'], answer['now'])}  {event_line(one)}"
        for one in reversed(answer["events"])
    ]
    say(*lines or ["nothing has happened yet"])
    return 0


def monitor(arguments: argparse.Namespace) -> int:
    """Prints events until the daemon stops or the reader closes the pipe."""
    # Imported here, with much of the engine: no other command of the border needs it.
    from noid.cli.history import print_events

    return print_events(arguments, event_line)


def event_line(event: Mapping[str, Any]) -> str:
    """An event of a border, for people."""
    if event["event"] == "provider_changed":
        after = f"after {duration(event['lasted_s'])}"
        change = f"{event['old']} -> {event['new']} {after}: {event['why']}"
        return printable(f"provider {event['provider']}: {change}")
    moves = (
        f"{one['prefix']} leaves by {one['new'] or 'none'}, before by {one['old'] or 'none'}"
        for one in event["prefixes"]
    )
    return printable(f"switched (use {event['use']}): {'; '.join(moves)}")


def use_provider(arguments: argparse.Namespace) -> int:
    """Selects a provider by hand, or returns to automatic selection."""
    names = [row["provider"] for row in _ask(arguments.socket, "status")["providers"]]
    wanted = arguments.provider
    if wanted not in (AUTOMATIC, *names):
        raise UsageError(f"there is no provider {wanted}; the providers are {', '.join(names)}")
    answer = _ask(arguments.socket, f"use {wanted}")
    if arguments.json:
        say(json_line(answer))
        return 0
    say(f"use {answer['use']}")
    _say_providers(answer["providers"])
    return 0


def reload_border(arguments: argparse.Namespace) -> int:
    """Makes the daemon read its configuration again; 1 if it rejects the file."""
    answer = _ask(arguments.socket, "reload")
    if arguments.json:
        say(json_line(answer))
    else:
        say("reloaded" if answer["reloaded"] else f"refused: {answer['why']}")
    return 0 if answer["reloaded"] else 1


def take_down(arguments: argparse.Namespace) -> int:
    """Removes the objects that a stopped daemon has left in the kernel."""
    from noid.host.netlink import HostNetwork
    from noid.planes.bpf.border import take_down as leave_kernel
    from noid.roles import border_host, border_placed

    config = load_border_config(arguments.config, is_checked=False)
    section = config.border
    path = Path(section.socket)
    if listens(path):
        raise UsageError(f"the border runs and has {path} open; stop it first")
    devices = {*section.lans, *(one.uplink for one in section.providers)}
    network = HostNetwork()
    try:
        removed = list(leave_kernel(Path(section.pins), devices, network))
        place = border_placed.Place.of(section)
        for one in (place, *border_placed.former_places(section, None)):
            removed += one.take_down(network)
    finally:
        network.close()
    removed += border_host.end_answer()
    return remove_and_say(arguments, removed, path)


def _add_socket(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument(
        "--socket",
        type=Path,
        default=Path(os.environ.get("NOID_BORDER_SOCKET", DEFAULT_SOCKET)),
        help=f"of the daemon; default: $NOID_BORDER_SOCKET, or {DEFAULT_SOCKET}",
    )


def _ask(path: Path, command: str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = ask(path, command, more)
    except PlatformError as error:
        if error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
            raise
        raise PlatformError(
            f"control socket {path}",
            error.errno,
            "no border answers there; start one with: noid border run --config FILE",
        ) from None
    return answer


def _say_providers(rows: list[dict[str, Any]], now_s: float | None = None) -> None:
    for row in rows:
        state = "works" if row["works"] else row["why"]
        if now_s is not None:
            state += f", since {clock(row['since'], now_s)}"
        uplink = f" on {row['uplink']}" if row["uplink"] else ""
        gateway = f" by {row['gateway']}" if row["gateway"] else ""
        say(f"provider {row['provider']}{uplink}{gateway}: {state}")
