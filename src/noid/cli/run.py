# SPDX-License-Identifier: MIT
"""``noid run``: the daemon in the foreground; ``noid down``: removes what it leaves behind."""

import argparse
import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from noid.cli.leaves import add_command, add_json
from noid.cli.output import remove_and_say
from noid.cli.places import add_config, configuration
from noid.config import Config
from noid.config_places import ConfigReader
from noid.control.client import listens
from noid.errors import UsageError
from noid.host import precise
from noid.roles import logs
from noid.roles.collecting import paused
from noid.roles.guardian import stand_guard

PRIVATE = 0o077
"""The umask: only the user of the daemon can access what it writes."""
EXAMPLE = """\
noid run

A complete configuration (every key is optional):
  [host]
  interfaces = ["eth*"]
  [dns]
  upstream = ["2001:db8::53"]
"""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the commands ``run`` and ``down``."""
    description = "Runs the M6 shim on this host until SIGINT or SIGTERM."
    run = add_command(commands, "run", run_daemon, EXAMPLE, description=description)
    add_config(run)
    run.add_argument("--verbose", action="store_true", help="also log events of single packets")
    down = add_command(
        commands,
        "down",
        take_down,
        "noid down",
        description=(
            "Removes the programs, tables, devices, routes and rules of the kernel plane, which\n"
            "stay active after the daemon has stopped, and the files that only the next daemon\n"
            "would use. Connections continue as plain IPv6. The identity of the host, its\n"
            "birthday and its key, is kept in state.json."
        ),
    )
    add_config(down)
    add_json(down, "what was removed, for programs")


def run_daemon(arguments: argparse.Namespace) -> int:
    """Runs the daemon to its end."""
    read = ConfigReader(arguments.config)
    config = read()
    os.umask(PRIVATE)
    limit = logs.begin(logging.DEBUG if arguments.verbose else logging.INFO)
    dismiss = stand_guard(config) if config.plane.may_be_in_kernel else None
    precise.run(_run(config, limit, read))
    if dismiss is not None:
        dismiss()
    return 0


def take_down(arguments: argparse.Namespace) -> int:
    """Removes the objects that the kernel plane of a stopped daemon has left."""
    from noid.host.netlink import HostNetwork
    from noid.planes.bpf.pins import take_down as leave_kernel

    config = configuration(arguments)
    path = Path(config.control.socket)
    if listens(path):
        raise UsageError(f"noid is running and has {path} open; stop it first")
    network = HostNetwork()
    try:
        removed = list(leave_kernel(config.plane, network))
    finally:
        network.close()
    return remove_and_say(arguments, removed, *_files_left(config))


def _files_left(config: Config) -> list[Path]:
    """The files of a daemon but the one that must persist [D35]."""
    from noid.planes.bpf.plane import LOG_NAME
    from noid.state.contexts import files_of

    directory = Path(config.state.directory)
    return [*files_of(directory), directory / LOG_NAME, Path(config.control.socket)]


async def _run(config: Config, limit: logs.LineLimit, read_again: Callable[[], Config]) -> None:
    # Imported here: only a daemon needs it, and it would delay other commands by half a second.
    with paused():
        from noid.roles.host import Daemon

    reporting = asyncio.create_task(logs.report_suppressed(limit))
    try:
        await Daemon(config, read_again).run()
    finally:
        reporting.cancel()
        await asyncio.wait([reporting])
