# SPDX-License-Identifier: MIT
"""``noid report``: what helps to find a fault, in one archive, without names and addresses."""

import argparse
import contextlib
import io
import itertools
import os
import platform
import secrets
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from noid import __version__
from noid.cli import doctor
from noid.cli.leaves import add_command, add_json
from noid.cli.names import DNS_PORT
from noid.cli.output import say
from noid.cli.places import add_config, add_socket, configuration
from noid.config import Config
from noid.control.client import ask, ask_rows
from noid.control.schema import Row
from noid.counters import COUNTERS
from noid.doctor.kernel import features
from noid.doctor.pseudonyms import KEY_OCTETS, Pseudonyms, without_secrets
from noid.errors import PlatformError, ShimError
from noid.text import json_line, printable

CONTEXTS_MAX: Final = 200
EVENTS_MAX: Final = 500
LOG_LINES_MAX: Final = 1_000
LOG_OCTETS_MAX: Final = 1 << 20
COMMAND_S: Final = 20.0
MODE: Final = 0o600
LIBRARIES: Final = ("dnspython", "msgspec", "prometheus-client", "pyroute2", "textual")
OS_RELEASE: Final = Path("/etc/os-release")
UNIT: Final = "noid"
MANIFEST: Final = "README.txt"
HIDDEN: Final = """\
Names, addresses and link-layer addresses are replaced by others: the same by the same, and what
shares a prefix or a domain still does. Names of interfaces and times are as they were.
"""
SHOWN: Final = "Names and addresses are as they were (--plain).\n"
NEVER: Final = "Keys, tokens, labels and birthdays are not in it.\n"


class Part(NamedTuple):
    """One file of the archive.

    Attributes:
        name: its name.
        about: what is in it, for people.
        collect: gives it, as text or as a value of JSON.
    """

    name: str
    about: str
    collect: Callable[[], object]


class Daemon:
    """The daemon, which is not asked again after it has not answered: it may be stuck.

    Args:
        path: its control socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._trouble: PlatformError | None = None

    def answer(self, command: str, arguments: Mapping[str, Any] | None = None) -> object:
        """The answer to a command.

        Raises:
            PlatformError: it does not answer, or has not.
        """
        with self._noted():
            return ask(self.path, command, arguments)

    def rows(self, command: str, count: int) -> list[Row]:
        """The first rows of the answer to a command; raises as ``answer``."""
        with self._noted(), contextlib.closing(ask_rows(self.path, command)) as rows:
            return list(itertools.islice(rows, count))

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        if self._trouble is not None:
            raise self._trouble
        try:
            yield
        except PlatformError as error:
            self._trouble = error
            raise


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command ``report``."""
    parser = add_command(
        commands,
        "report",
        report,
        "noid report",
        "noid report --log /var/log/noid.log --output /tmp/a.tar.gz",
        description=(
            "Collects what helps to find a fault in a .tar.gz: versions, kernel, configuration,\n"
            "status, paths, contexts, history, doctor and log. Names and addresses are replaced\n"
            "by pseudonyms; keys are never in it. Run it as root, so that the doctor can look."
        ),
    )
    add_config(parser)
    add_socket(parser)
    parser.add_argument(
        "--plain", action="store_true", help="leave names and addresses as they are"
    )
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="log of noid; default: the journal of its unit"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: noid-report-TIME.tar.gz, here"
    )
    add_json(parser)


def report(arguments: argparse.Namespace) -> int:
    """Writes the archive, and prints what it contains."""
    config = _configuration(arguments)
    found = [(one, without_secrets(_collected(one))) for one in parts(arguments, config)]
    pseudonyms = None if arguments.plain else _pseudonyms(config, found)
    files = [(one, _text(value, pseudonyms).encode()) for one, value in found]
    now = time.strftime("%Y%m%d-%H%M%S")
    path = arguments.output or Path(f"noid-report-{now}.tar.gz")
    listed = "".join(f"{one.name:16}{len(octets):8} octets  {one.about}\n" for one, octets in files)
    intro = f"noid report, {now}\n\n{SHOWN if arguments.plain else HIDDEN}{NEVER}\n{listed}"
    try:
        write(path, {MANIFEST: intro.encode(), **{one.name: octets for one, octets in files}})
    except OSError as error:
        say(f"noid: {path}: {error.strerror}; name another file with --output", is_error=True)
        return 1
    if arguments.json:
        contents = [
            {"name": one.name, "octets": len(data), "about": one.about} for one, data in files
        ]
        say(json_line({"file": str(path), "plain": arguments.plain, "contents": contents}))
    else:
        say(
            *intro.rstrip("\n").splitlines(),
            "",
            f"written: {path}; look through it before you send it",
        )
    return 0


def parts(arguments: argparse.Namespace, config: Config) -> Iterator[Part]:
    """Everything that is collected, in the order of the archive."""
    daemon = Daemon(arguments.socket)
    yield Part("versions.json", "noid, Python, kernel, distribution, libraries", _versions)
    yield Part("kernel.json", "what the data plane needs of the kernel", features)
    yield Part("config.json", "the configuration, defaults included", lambda: _built_in(config))
    yield Part("status.json", "noid status, counters included", lambda: daemon.answer("status"))
    yield Part("counters.json", "what each counter counts", _counters)
    yield Part("paths.json", "noid paths", lambda: daemon.answer("paths"))
    yield Part(
        "contexts.json",
        f"noid contexts, the first {CONTEXTS_MAX}",
        lambda: daemon.rows("contexts", CONTEXTS_MAX),
    )
    yield Part(
        "history.json",
        f"noid history, the last {EVENTS_MAX}",
        lambda: daemon.answer("history", {"count": EVENTS_MAX}),
    )
    yield Part("doctor.json", "noid doctor", lambda: _examined(arguments))
    yield Part("log.txt", f"the last {LOG_LINES_MAX} lines of the log", lambda: _log(arguments.log))


def write(path: Path, files: dict[str, bytes]) -> None:
    """Writes an archive that only its owner can read, and that names no user.

    Raises:
        OSError: the system refuses, or the file is there.
    """
    with (
        open(path, "xb", opener=lambda name, flags: os.open(name, flags, MODE)) as file,
        tarfile.open(fileobj=file, mode="w:gz") as archive,
    ):
        for name, octets in files.items():
            about = tarfile.TarInfo(f"noid-report/{name}")
            about.size, about.mode, about.mtime = len(octets), MODE, int(time.time())
            archive.addfile(about, io.BytesIO(octets))


def _configuration(arguments: argparse.Namespace) -> Config:
    """The configuration of the host; the defaults if it is refused (the doctor says why)."""
    try:
        return configuration(arguments)
    except ShimError:
        return Config()


def _collected(part: Part) -> object:
    """The content of a part, or the error that it fails with."""
    try:
        return part.collect()
    except (ShimError, OSError, subprocess.SubprocessError) as error:
        return {"error": str(error)}


def _text(value: object, pseudonyms: Pseudonyms | None) -> str:
    if pseudonyms is not None:
        value = pseudonyms.of_value(value)
    if isinstance(value, str):
        return value
    return msgspec.json.format(json_line(value).encode()).decode() + "\n"


def _pseudonyms(config: Config, found: list[tuple[Part, object]]) -> Pseudonyms:
    """A key of its own for each report, and the names that are known."""
    names = {config.host.name, socket.gethostname(), socket.getfqdn()}
    for part, value in found:
        if part.name == "contexts.json" and isinstance(value, list):
            names |= {str(one["peer_name"]) for one in value}
    sections = _built_in(config)
    del sections["uplinks"]  # whose keys the operator has chosen
    keys = {f"{name}.{key}" for name, section in sections.items() for key in section}
    keys |= _counters().keys()
    return Pseudonyms(secrets.token_bytes(KEY_OCTETS), names - {"localhost"}, keys)


def _built_in(config: Config) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = msgspec.to_builtins(config)
    return found


def _versions() -> dict[str, Any]:
    release = OS_RELEASE.read_text(encoding="utf-8", errors="replace").splitlines()
    return {
        "noid": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "distribution": next((one for one in release if one.startswith("PRETTY_NAME=")), ""),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _counters() -> dict[str, str]:
    return {
        ".".join((*kind.path, one.identifier)): one.description for kind in COUNTERS for one in kind
    }


def _examined(arguments: argparse.Namespace) -> list[dict[str, str]]:
    asked = argparse.Namespace(config=arguments.config, name="", resolver=None, port=DNS_PORT)
    return [doctor.as_json(one) for one in doctor.findings(asked)]


def _log(path: Path | None) -> str:
    """The last lines of the log, without those of other programs."""
    if path is not None:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_OCTETS_MAX))
            text = file.read().decode(errors="replace")
    elif shutil.which("journalctl"):
        words = ["journalctl", "-u", UNIT, "-n", str(LOG_LINES_MAX), "--no-pager", "--no-hostname"]
        done = subprocess.run(
            [*words, "-o", "short-iso"], capture_output=True, timeout=COMMAND_S, check=False
        )
        text = done.stdout.decode(errors="replace")[-LOG_OCTETS_MAX:]
    else:
        return "there is no journal; name the file of the log: noid report --log FILE\n"
    return "".join(f"{printable(line)}\n" for line in text.splitlines()[-LOG_LINES_MAX:])
