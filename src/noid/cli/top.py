# SPDX-License-Identifier: MIT
"""``noid top``: the uplinks of this host, live, on a terminal."""

import argparse
import sys

from noid.cli.leaves import add_command
from noid.cli.places import add_socket
from noid.cli.table import SUMMARIES
from noid.errors import Unsupported


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command ``top``."""
    example = "noid top\n\nFor programs: noid paths --json"
    description = f"Shows {SUMMARIES['top']}; q or Ctrl-C ends it."
    add_socket(add_command(commands, "top", top, example, description=description))


def top(arguments: argparse.Namespace) -> int:
    """Shows the uplinks until the user has enough.

    Raises:
        Unsupported: textual is not installed, or standard output is no terminal.
        PlatformError: no daemon answers.
    """
    from noid.control.client import ask

    try:
        from noid.cli.live import Top
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "textual":
            raise
        needs = "it needs textual: pip install 'noid-m6[top]'"
        raise Unsupported("noid top", needs) from None
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Unsupported("noid top", "it needs a terminal; for programs: noid paths --json")
    ask(arguments.socket, "paths")
    Top(arguments.socket).run()
    return 0
