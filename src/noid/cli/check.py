# SPDX-License-Identifier: MIT
"""``noid check`` validates the configuration file; ``noid reload`` applies it to the daemon."""

import argparse
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from noid.cli.leaves import add_command, add_json
from noid.cli.output import say
from noid.cli.places import add_socket
from noid.config import Config, examine, unmatched_globs
from noid.config_places import USUAL_CONFIG, config_file, named_config
from noid.config_text import read_text
from noid.control.client import ask
from noid.dns.records import canonical_name
from noid.dns.zone import HOST_NAME, is_host_name
from noid.errors import ConfigError
from noid.host.scripts import daemons_user, scripts_in
from noid.text import json_line

RELOAD_TIMEOUT_S: Final = 10.0


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the commands ``check`` and ``reload``."""
    check = add_command(
        commands,
        "check",
        check_file,
        "noid check",
        "noid check new.toml --json",
        description=(
            "Validates the configuration file. Prints the key, the reason and a remedy for each\n"
            "problem. Exit status 0 if noid accepts the file, even with warnings; else 1."
        ),
    )
    check.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=Path,
        default=named_config(),
        help=f"default: $NOID_CONFIG, or {USUAL_CONFIG} if it exists",
    )
    add_json(check)
    reload = add_command(
        commands,
        "reload",
        reload_daemon,
        "noid reload",
        description=(
            "Makes the running daemon read its configuration file again, as SIGHUP does.\n"
            "Prints which changes are applied and which need a restart. A rejected file changes\n"
            "nothing."
        ),
    )
    add_json(reload)
    add_socket(reload)


def check_file(arguments: argparse.Namespace) -> int:
    """Prints what is wrong with a file; 1 if the daemon would refuse it."""
    path = config_file(arguments.file)
    found = [] if path is None else list(_problems(path))
    is_refused = any(is_fatal for is_fatal, _ in found)
    if arguments.json:
        entries = [_as_json(one, is_fatal=is_fatal) for is_fatal, one in found]
        name = None if path is None else str(path)
        say(json_line({"file": name, "ok": not is_refused, "problems": entries}))
        return int(is_refused)
    for is_fatal, one in found:
        say(f"{'wrong' if is_fatal else 'warning':8}{one}")
        if one.remedy:
            say(f"        remedy: {one.remedy}")
    if path is None:
        say(f"{USUAL_CONFIG}: does not exist; noid runs with defaults")
    elif not is_refused:
        say(f"{path}: ok")
    return int(is_refused)


def _problems(path: Path) -> Iterator[tuple[bool, ConfigError]]:
    """Each problem of a file, and whether it is refused for it."""
    try:
        text = read_text(path)
    except ConfigError as error:
        yield True, error
        return
    refused, config = examine(text, origin=str(path))
    yield from ((True, one) for one in refused)
    names = [name for _, name in socket.if_nameindex()]
    yield from ((False, one) for one in unmatched_globs(config, names))
    keys = {one.key for one in refused}
    if keys.isdisjoint({"events.directory", "control.socket"}):
        yield from ((False, one) for one in _script_problems(config))
    if "state.directory" not in keys:
        path = Path(config.state.directory)
        there = next(filter(os.path.exists, (path, *path.parents)), Path())
        if not os.path.isdir(there):
            why = f"{str(there)!r} is not a directory"
            yield True, ConfigError("state.directory", why, "name another one")
    name = canonical_name(config.host.name)
    if name and not is_host_name(name):
        why = f"{name!r} is not a host name; {HOST_NAME}"
        yield False, ConfigError("host.name", why, 'such as: name = "a.example"')


def _script_problems(config: Config) -> Iterator[ConfigError]:
    """Files for events that are not run."""
    directory = Path(config.events.directory)
    for one in scripts_in(directory, daemons_user(Path(config.control.socket)))[1]:
        why = f"{one.what}: {one.why}"
        yield ConfigError("events.directory", why, one.fix or f"ls -ld {directory}/*")


def _as_json(problem: ConfigError, *, is_fatal: bool) -> dict[str, object]:
    return {
        "key": problem.key,
        "reason": problem.why,
        "remedy": problem.remedy,
        "refused": is_fatal,
    }


def reload_daemon(arguments: argparse.Namespace) -> int:
    """Lets the daemon read its file again, and prints what has changed."""
    answer = ask(arguments.socket, "reload", timeout_s=RELOAD_TIMEOUT_S)
    if arguments.json:
        say(json_line(answer))
        return 0
    say(*(f"applied: {key}" for key in answer["applied"]))
    say(*(f"needs a restart: {key}" for key in answer["restart"]))
    say(*(f"warning: {text}" for text in answer["warnings"]))
    if not answer["applied"] and not answer["restart"]:
        say("nothing has changed")
    return 0
