# SPDX-License-Identifier: MIT
"""``noid web``: a page that shows uplinks, contexts and failovers, live."""

import argparse
import asyncio
import ipaddress
import signal
from pathlib import Path
from typing import Final

from noid.cli.leaves import add_command
from noid.cli.output import finish, say
from noid.cli.places import add_socket, port
from noid.control.client import ask
from noid.control.web.server import serve

LISTEN: Final = "[::1]:9470"


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command ``web``."""
    parser = add_command(
        commands,
        "web",
        web,
        "noid web --listen 127.0.0.1:9470",
        "noid web --socket /run/noid-border/border.sock",
        description=(
            "Serves a read-only page, live, until Ctrl-C. It needs no rights but access to the\n"
            "socket of the daemon. Every user who reaches the address can read the page.\n"
            "With the socket of a border it shows the border."
        ),
    )
    parser.add_argument(
        "--listen",
        type=listen,
        default=listen(LISTEN),
        metavar="ADDRESS:PORT",
        help=f"where the page is; default: {LISTEN}",
    )
    add_socket(parser)


def listen(text: str) -> tuple[str, int]:
    """An address and a port, as an argument; port 0 is one that is free."""
    address, _, number = text.rpartition(":")
    is_bracketed = address.startswith("[") and address.endswith("]")
    bare = address[1:-1] if is_bracketed else address
    try:
        is_address = (ipaddress.ip_address(bare).version == 6) == is_bracketed
    except ValueError:
        is_address = False
    if not is_address:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address and a port, such as {LISTEN} or 127.0.0.1:9470"
        )
    return bare, 0 if number == "0" else port(number)


def web(arguments: argparse.Namespace) -> int:
    """Serves the page until the user has enough.

    Raises:
        PlatformError: no daemon answers, or the port cannot be opened.
    """
    ask(arguments.socket, "status")
    address, number = arguments.listen
    asyncio.run(_web(address, number, arguments.socket))
    return 0


async def _web(address: str, number: int, socket: Path) -> None:
    server = await serve(address, number, socket)
    say(f"noid web: {server.url}")
    finish()
    ended = asyncio.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(one, ended.set)
    try:
        await ended.wait()
    finally:
        await server.stop()
