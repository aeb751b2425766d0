# SPDX-License-Identifier: MIT
"""How the tests of interoperability run the second implementation, and look at noid."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query

from noid.lab import configuration, namespaces, topology
from noid.lab.lab import Lab

ROOT = Path(__file__).parents[2]
A1, A2 = topology.locators("a")
B1, B2 = topology.locators("b")
PATIENCE_S = 60.0
CLOSED_WITHIN_S = 60.0
NAME_SERVER = "::1"
DNS_PORT = 53

Event = dict[str, Any]


class Program:
    """A second implementation as it runs on a: it takes commands and tells events."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pending = b""
        self.events: list[Event] = []

    def do(self, what: str, **details: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": what, **details}).encode() + b"\n")
        self.process.stdin.flush()

    def expect(self, event: str, *, within_s: float = PATIENCE_S, **details: object) -> Event:
        """The first event not yet expected that is like this, waited for if need be."""
        wanted = {"event": event, **details}
        deadline = time.monotonic() + within_s
        while True:
            for number, told in enumerate(self.events):
                if wanted.items() <= told.items():
                    return self.events.pop(number)
            assert self.read(deadline - time.monotonic()), f"no {wanted} among {self.events}"

    def read(self, timeout_s: float) -> bool:
        """Reads events; false if none came in time."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if timeout_s <= 0 or not selector.select(timeout_s):
                return False
        octets = os.read(self.process.stdout.fileno(), 1 << 16)
        *lines, self.pending = (self.pending + octets).split(b"\n")
        self.events += map(json.loads, lines)
        return octets != b""

    def initiate(self, **details: object) -> Event:
        """Has the second implementation set up a context; the CONF it got."""
        self.do("initiate", **details)
        self.expect("CC")
        return self.expect("CONF")


@contextlib.contextmanager
def running(lab: Lab, module: str, *arguments: str) -> Iterator[Program]:
    """A second implementation on a; the context that it has at the end is closed behind it."""
    command = lab.command("a", [sys.executable, "-m", module, *arguments])
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT) as process:
        program = Program(process)
        program.expect("ready")
        try:
            yield program
        except BaseException:
            process.kill()
            raise
        program.do("hush")
        lab.wait_for("b has no context", lambda: close(lab, program), CLOSED_WITHIN_S)
        assert not [event for event in program.events if event["event"] == "malformed"]
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0


def close(lab: Lab, program: Program) -> bool:
    """Closes the context that noid has, if it has one; whether it had none.

    What a program on b still sends makes a new one.
    """
    if not lab.contexts("b"):
        return True
    program.do("close")
    with contextlib.suppress(AssertionError):
        program.expect("CLOSEACK", within_s=1.0, authentic=True)
    return False


def context_of(lab: Lab, *, within_s: float = PATIENCE_S, **details: object) -> Event:
    """The only context of b, once it is like this."""
    wanted = {"state": "established", **details}.items()

    def look() -> list[Event]:
        found = lab.contexts("b")
        return found if len(found) == 1 and wanted <= found[0].items() else []

    return lab.wait_for(f"b has one context like {dict(wanted)}", look, within_s)[0]


def verified(lab: Lab, *, within_s: float = PATIENCE_S) -> Event:
    """The only context of b, once the DNS has confirmed both locators of a."""
    return context_of(lab, within_s=within_s, lsl_peer=[A1, A2], lsv_peer=[A1, A2])


@contextlib.contextmanager
def ping(lab: Lab, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program on b that resolves the name of a and talks to it, until the block ends."""
    words = ["ping", "-q", "-i", "0.2", "-W", "1", *options, "a.example"]
    with subprocess.Popen(lab.command("b", words), stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextlib.contextmanager
def name_server(lab: Lab, directory: Path, records: Sequence[str]) -> Iterator[str]:
    """A name server on a that knows these records alone; the address it listens on."""
    zone = "$ORIGIN .\n$TTL 60\n@ SOA ns. root. 1 3600 600 86400 60\n@ NS ns.\nns AAAA ::1\n"
    text = zone + "\n".join(records) + "\n"
    configuration.zone_path(directory, "").write_text(text, encoding="utf-8")
    path = directory / "nsd.conf"
    path.write_text(configuration.nsd_conf(directory, (NAME_SERVER, DNS_PORT), [""]))
    server = lab.spawn("a", ["nsd", "-d", "-c", str(path)], name=f"nsd-{directory.name}")

    def answers() -> bool:
        try:
            dns.query.udp(dns.message.make_query(".", "SOA"), NAME_SERVER, timeout=0.2)
        except (OSError, dns.exception.DNSException):
            return False
        return True

    inside = namespaces.namespace(lab.name, "a")
    try:
        lab.wait_for("NSD answers", lambda: namespaces.inside(inside, answers), PATIENCE_S)
        yield NAME_SERVER
    finally:
        server.end()


def forward(name: str, *addresses: str) -> list[str]:
    """The records of a name that speaks M6."""
    return [f"{name}. TYPE65286 \\# 0", *(f"{name}. AAAA {address}" for address in addresses)]


def backward(address: str, *names: str) -> list[str]:
    """The PTR records of an address."""
    return [f"{IPv6Address(address).reverse_pointer}. PTR {name}." for name in names]
