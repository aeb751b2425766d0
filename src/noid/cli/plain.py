# SPDX-License-Identifier: MIT
"""``noid plain``: a program that bypasses the shim."""

import argparse
import os
import pwd
import subprocess
from typing import Any, Final

from noid.cli.leaves import add_command
from noid.cli.output import say
from noid.cli.places import add_config, configuration
from noid.errors import UsageError
from noid.planes.bpf.plain import bypassing

NOT_FOUND: Final = 127
NOT_RUN: Final = 126


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command ``plain``."""
    plain = add_command(
        commands,
        "plain",
        run_plain,
        "noid plain curl -6 https://b.example",
        "noid plain --user alice firefox",
        description=(
            "Runs a program whose sockets, and those of its children, bypass the shim: its\n"
            "packets are sent as without noid. The exit status is that of the program, 127 if\n"
            "there is no such program, or 126 if it cannot be run. Needs root."
        ),
    )
    add_config(plain)
    plain.add_argument("--user", metavar="NAME", help="run the program as this user")
    plain.add_argument(
        "command", metavar="COMMAND", nargs=argparse.REMAINDER, help="the command and its arguments"
    )


def run_plain(arguments: argparse.Namespace) -> int:
    """Runs the program; returns its exit status, as env(1), 128 and the signal if one ended it."""
    words = arguments.command[arguments.command[:1] == ["--"] :]
    if not words:
        raise UsageError("name the program: noid plain COMMAND")
    mark = configuration(arguments).plane.mark
    try:
        identity = _identity(arguments.user)
        with bypassing(mark):
            status = subprocess.run(words, check=False, **identity).returncode
    except LookupError:
        raise UsageError(f"--user: there is no user {arguments.user}") from None
    except OSError as error:
        say(f"noid: {words[0]}: {error.strerror}", is_error=True)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUN
    return status if status >= 0 else 128 - status


def _identity(user: str | None) -> dict[str, Any]:
    """User, groups and environment of the program, as runuser has them.

    Raises:
        LookupError: there is no such user.
    """
    if user is None:
        return {}
    one = pwd.getpwnam(user)
    return {
        "user": one.pw_uid,
        "group": one.pw_gid,
        "extra_groups": os.getgrouplist(user, one.pw_gid),
        "env": {**os.environ, "HOME": one.pw_dir, "USER": user, "LOGNAME": user},
    }
