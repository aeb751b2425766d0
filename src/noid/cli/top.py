# SPDX-License-Identifier: MIT
"""``noid top``: the uplinks of this host, live, on a terminal."""

import argparse

from noid.cli.places import add_socket
from noid.cli.table import SUMMARIES
from noid.errors import Unsupported


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``top``."""
    parser = commands.add_parser(
        "top",
        help=SUMMARIES["top"],
        description=f"Shows {SUMMARIES['top']}; q ends it.",
        epilog="example:\n  noid top\n\nFor programs: noid paths --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_socket(parser)
    parser.set_defaults(handler=top)


def top(arguments: argparse.Namespace) -> int:
    """Shows the uplinks until the user has enough.

    Raises:
        Unsupported: textual is not installed.
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
    ask(arguments.socket, "paths")
    Top(arguments.socket).run()
    return 0
