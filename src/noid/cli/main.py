"""The ``noid`` command: what is typed, turned into a call, and its failure into one line.

Exit status: 0 done; 1 a clear refusal or failure, said in one line on standard error; 2 the words
of the call are off; 130 interrupted.
"""

import argparse
import os
import sys
from typing import NoReturn

from noid import __version__
from noid.cli import bench, check, doctor, inspect, lab, names, run, sim
from noid.cli.output import say
from noid.errors import ShimError
from noid.text import printable

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line; ``arguments`` without the program's name, the process's if None."""
    parsed = parser().parse_args(arguments)
    try:
        status = int(parsed.handler(parsed))
        sys.stdout.flush()
    except ShimError as error:
        say(f"noid: {error}", is_error=True)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left, as `head` does. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


class _Parser(argparse.ArgumentParser):
    """A parser that complains about words in printable characters."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Ends the program."""
        super().exit(status, message and printable(message.removesuffix("\n")) + "\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top: argparse.ArgumentParser = _Parser(
        prog="noid",
        description="IPv6 multihoming without IP identifiers: connections that outlive a provider.",
        epilog="Start with: noid lab demo",
    )
    top.add_argument("--version", action="version", version=f"noid {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    run.add_commands(commands)
    check.add_commands(commands)
    inspect.add_commands(commands)
    names.add_commands(commands)
    doctor.add_commands(commands)
    lab.add_commands(commands)
    sim.add_commands(commands)
    bench.add_commands(commands)
    return top
