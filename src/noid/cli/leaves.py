# SPDX-License-Identifier: MIT
"""How a command is declared, such as ``noid status`` or ``noid border use``."""

import argparse
from collections.abc import Callable

from noid.cli.table import SUMMARIES


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    handler: Callable[[argparse.Namespace], int],
    *examples: str,
    description: str = "",
) -> argparse.ArgumentParser:
    """Adds a command of ``noid`` itself, with its summary from the table; else as ``add_leaf``."""
    return add_leaf(commands, name, handler, SUMMARIES[name], *examples, description=description)


def add_group(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    *,
    description: str,
    epilog: str,
) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    """Adds a command of ``noid`` that has commands below it, and returns where those are added."""
    group = commands.add_parser(
        name,
        help=SUMMARIES[name],
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return group.add_subparsers(metavar="COMMAND", required=True)


def add_leaf(
    leaves: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    handler: Callable[[argparse.Namespace], int],
    summary: str,
    *examples: str,
    description: str = "",
) -> argparse.ArgumentParser:
    """Adds a command with a summary and examples.

    Args:
        leaves: the commands beside it.
        name: its name.
        handler: runs it; returns the exit status.
        summary: what it does, without a capital and a full stop.
        examples: each as typed; the last may have more text below.
        description: what it does, in whole sentences; the summary, if empty.
    """
    made = leaves.add_parser(
        name,
        help=summary,
        description=description or f"{summary[0].upper()}{summary[1:]}.",
        epilog="\n  ".join(("example:", *examples)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(handler=handler)
    return made


def add_json(parser: argparse.ArgumentParser, text: str = "JSON, for programs") -> None:
    """Adds the option ``--json``."""
    parser.add_argument("--json", action="store_true", help=text)
