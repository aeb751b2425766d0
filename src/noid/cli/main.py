# SPDX-License-Identifier: MIT
"""The ``noid`` command: parses the command line, calls the handler, prints errors in one line.

Exit status: 0 success; 1 an error, printed in one line on standard error; 2 a wrong command line;
130 interrupted.
"""

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from noid import __version__
from noid.cli.output import discard, finish, prepare, say
from noid.cli.table import MODULES, SUMMARIES
from noid.errors import ConfigError, ShimError, Unsupported
from noid.text import printable

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line.

    Args:
        arguments: the words after the program's name; those of the process if None.
    """
    words = sys.argv[1:] if arguments is None else arguments
    prepare()
    try:
        command = _command(words)
        top = parser(command)
        if command and command not in SUMMARIES:
            top.error(_unknown(command))
        parsed = top.parse_args(words)
        status = int(parsed.handler(parsed))
        finish()
    except ShimError as error:
        remedy = error.remedy if isinstance(error, ConfigError) else ""
        say(f"noid: {error}" + f"; {remedy}" * bool(remedy), is_error=True)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        discard()  # the reader closed the pipe, as `head` does
        return 1
    return status


def _unknown(word: str) -> str:
    """Why a word is no command, and the nearest one."""
    near = difflib.get_close_matches(word, SUMMARIES, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"there is no command {word!r}; {hint}See: noid --help"


class _Parser(argparse.ArgumentParser):
    """A parser whose error messages have printable characters only."""

    def parse_known_args(  # type: ignore[override] # of its forms, those that are used here
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuses words that it does not know: argparse leaves those of a command to the top."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Ends the program, after what it has printed is written."""
        finish()
        super().exit(status, message and printable(message.removesuffix("\n")) + "\n")


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The command line.

    Args:
        command: the only command whose options are needed; those of all commands if None.

    Raises:
        Unsupported: the command needs a library that is not installed.
    """
    top: argparse.ArgumentParser = _Parser(
        prog="noid",
        description=(
            "IPv6 multihoming without IP identifiers: connections survive a provider failure."
        ),
        epilog="Start with: noid lab demo",
    )
    top.add_argument("--version", action="version", version=f"noid {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for module, names in MODULES.items():
        if command is None or command in names:
            _add_commands(module, commands)
        else:
            for name in names:
                commands.add_parser(name, help=SUMMARIES[name])
    return top


def _command(words: list[str]) -> str:
    """The command among the words of a call; empty if there is none."""
    return next((word for word in words if not word.startswith("-")), "")


def _add_commands(
    name: str, commands: "argparse._SubParsersAction[argparse.ArgumentParser]"
) -> None:
    try:
        module = importlib.import_module(f"noid.cli.{name}")
    except ModuleNotFoundError as error:
        library = error.name or ""
        if library.partition(".")[0] == "noid":
            raise
        needs = f"it needs {library}: pip install 'noid-m6[testbed]'"
        raise Unsupported(f"noid {name}", needs) from None
    module.add_commands(commands)
