# SPDX-License-Identifier: MIT
"""Real name servers on loopback ports: NSD, which knows zones, and Unbound, which asks it.

For the tests of the DNS part and its benches. Unbound has no other servers: a name in no zone does
not exist. Nothing of the machine's own servers is touched, and all of it ends with the block.
"""

import contextlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import dns.exception
import dns.message
import dns.query

from noid.errors import PlatformError, Unsupported
from noid.lab import processes
from noid.lab.configuration import nsd_conf, zone_path

LOOPBACK: Final = "::1"
START_S: Final = 60.0
"""A busy machine; a server that ends is noticed at once."""
PORTS: Final = range(15_000, 32_000)
"""Below those that the kernel gives to clients, which may take a free one at any moment."""
PORT_TRIES_MAX: Final = 64
ROOT_ZONE: Final = "@ 60 SOA ns. root. 1 3600 600 86400 60\n@ 60 NS ns.\nns AAAA ::1\n"
DIRECTORIES: Final = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


Place = tuple[str, int]
"""Where a server listens: address and port."""


class Resolution(NamedTuple):
    """Where the two servers listen."""

    authority: Place
    resolver: Place


def free_port() -> int:
    """A port that is free on loopback for UDP and TCP at this moment.

    Raises:
        PlatformError: there is none.
    """
    for _ in range(PORT_TRIES_MAX):
        port = secrets.choice(PORTS)
        with (
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as datagrams,
            socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as stream,
            contextlib.suppress(OSError),
        ):
            datagrams.bind((LOOPBACK, port))
            stream.bind((LOOPBACK, port))
            return port
    raise PlatformError("find a port", 0, "none of loopback is free for both UDP and TCP")


@contextlib.contextmanager
def serving(
    directory: Path,
    zones: Mapping[str, str],
    *,
    anchors: Sequence[str] = (),
    silent: Sequence[str] = (),
) -> Iterator[Resolution]:
    """NSD with zones and Unbound in front of it, for as long as the block lasts.

    Args:
        directory: for their files.
        zones: name of each without the final dot, and its master file.
        anchors: DS or DNSKEY records of the zones that are to be validated.
        silent: zones whose name server never answers.

    Raises:
        Unsupported: a server is not installed.
        PlatformError: one of them does not start.
    """
    unbound = _program("unbound")
    with contextlib.ExitStack() as stack:
        unread = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        unread.bind((LOOPBACK, 0))
        authority = stack.enter_context(knowing(directory, {"": ROOT_ZONE, **zones}))
        resolver = (LOOPBACK, free_port())
        (directory / "anchors").write_text("".join(f"{anchor}\n" for anchor in anchors))
        asked = dict.fromkeys(["", *zones], authority[1])
        asked.update(dict.fromkeys(silent, int(unread.getsockname()[1])))
        configuration = directory / "unbound.conf"
        configuration.write_text(_unbound_conf(directory, resolver[1], asked))
        _start(stack, directory, [unbound, "-d", "-c", str(configuration)], resolver)
        yield Resolution(authority, resolver)


@contextlib.contextmanager
def knowing(
    directory: Path, zones: Mapping[str, str], place: Place | None = None
) -> Iterator[Place]:
    """NSD with zones while the block runs; other arguments and errors are those of ``serving``.

    Args:
        directory: for its files.
        zones: name of each without the final dot, and its master file.
        place: where it listens; on some port of loopback if None.
    """
    nsd = _program("nsd")
    place = place or (LOOPBACK, free_port())
    for zone, text in zones.items():
        zone_path(directory, zone).write_text(f"$ORIGIN {zone}.\n{text}")
    configuration = directory / "nsd.conf"
    configuration.write_text(nsd_conf(directory, place, zones))
    with contextlib.ExitStack() as stack:
        _start(stack, directory, [nsd, "-d", "-c", str(configuration)], place)
        yield place


def _program(name: str) -> str:
    path = shutil.which(name, path=DIRECTORIES)
    if path is None:
        raise Unsupported(name, f"install the Debian package {name}")
    return path


def _start(
    stack: contextlib.ExitStack, directory: Path, arguments: list[str], place: Place
) -> None:
    """Starts a server and waits until it answers."""
    name = Path(arguments[0]).name
    log_path = directory / f"{name}.log"
    process = processes.start(arguments, sequence=0, name=name, node="", log_path=log_path)
    stack.callback(process.end)
    query = dns.message.make_query(".", "SOA")
    deadline = time.monotonic() + START_S
    while process.running and time.monotonic() < deadline:
        try:
            dns.query.udp(query, place[0], port=place[1], timeout=0.2)
        except (OSError, dns.exception.DNSException):
            time.sleep(0.02)
        else:
            return
    raise PlatformError(f"start {name}", 0, process.output().strip() or "it does not answer")


def _unbound_conf(directory: Path, port: int, zones: Mapping[str, int]) -> str:
    kept = "".join(f'  local-zone: "{zone}." transparent\n' for zone in zones if zone)
    entries = "".join(
        f'stub-zone:\n  name: "{zone}."\n  stub-addr: {LOOPBACK}@{asked}\n  stub-prime: no\n'
        for zone, asked in zones.items()
    )
    return f"""\
server:
  interface: {LOOPBACK}@{port}
  do-ip4: no
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: "{directory}/unbound.pid"
  use-syslog: no
  module-config: "validator iterator"
  trust-anchor-file: "{directory}/anchors"
  access-control: ::1 allow
  do-not-query-localhost: no
  qname-minimisation: no
  rrset-roundrobin: no
  num-threads: 1
{kept}remote-control:
  control-enable: no
{entries}"""
