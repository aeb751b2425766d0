# SPDX-License-Identifier: MIT
"""nftables of this host: changed by the program nft, and traced while it decides on packets.

Rules are changed and read through ``nft``; nothing here knows what the packets are for.
"""

import contextlib
import json
import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from noid.errors import PlatformError
from noid.host.programs import find_program

NFT_SECONDS: Final = 5
READ_OCTETS: Final = 65_536
TRACE_OCTETS_MAX: Final = 4 << 20
"""Output of one trace that is kept; what follows is discarded."""
TRACE_SECONDS: Final = 3.0
CONNTRACK_PRIORITY: Final = -200
"""Chains up to this priority see packets before the kernel knows their connection."""

_LINE = re.compile(r"trace id (?P<id>\S+) (?P<chain>\S+ \S+ \S+) (?P<rest>.*?)\s*$")
_DROPPED = re.compile(r"rule (?P<rule>.*) \(verdict drop\)$|policy drop$")
_COUNTER = re.compile(r"(counter) packets \d+ bytes \d+")
_DEVICE = re.compile(r'\b[io]if "([^"]+)"')
_ADDRESSES = re.compile(r"ip6 saddr (\S+) ip6 daddr (\S+)")
_PROTOCOL = re.compile(r"ip6 nexthdr (\S+)")
_NUMBERS: Final = {"tcp": 6, "udp": 17, "ipv6-icmp": 58, "icmpv6": 58}
"""Protocols that nft prints by name, of those that are tried."""
_TYPE = re.compile(r"icmpv6 type (\d+)")


@dataclass(frozen=True, slots=True)
class Drop:
    """What dropped a packet.

    Attributes:
        chain: family, table and name of the chain.
        rule: the rule as nft prints it, or ``policy drop``.
    """

    chain: str
    rule: str


@dataclass(frozen=True, slots=True)
class Traced:
    """A packet as a trace shows it, to compare with what was sent.

    Attributes:
        device: where it came in or was about to leave.
        source: its source address, as nft prints it.
        destination: its destination address.
        protocol: its next header.
        icmpv6_type: of an ICMPv6 message; -1 for other protocols.
    """

    device: str
    source: str
    destination: str
    protocol: int
    icmpv6_type: int = -1


def run(text: str, *options: str) -> str:
    """Carries out commands of nft; returns its output.

    Args:
        text: the commands.
        options: of the program.

    Raises:
        Unsupported: nft is not installed.
        PlatformError: nft refuses.
    """
    return _call(*options, "-f", "-", text=text)


def sees_connections(chain: str) -> bool:
    """Whether rules of a chain can match ``ct state``; assumed of chains that others jump to.

    Args:
        chain: family, table and name.
    """
    family, table, name = chain.split()
    if family == "netdev":
        return False
    for entry in listed("list chains"):
        found = entry.get("chain", {})
        if (found.get("family"), found.get("table"), found.get("name")) == (family, table, name):
            return int(found.get("prio", 0)) > CONNTRACK_PRIORITY
    return True


def insert(rule: str) -> str:
    """Inserts a rule; returns the command that deletes it.

    Args:
        rule: family, table, chain, and the rule.

    Raises:
        ShimError: as ``run``.
    """
    said = run(f"insert rule {rule}\n", "--echo", "--handle")
    family, table, chain, _ = rule.split(maxsplit=3)
    handle = said.rpartition("# handle ")[2].split()[0]
    return f"delete rule {family} {table} {chain} handle {handle}"


def listed(command: str) -> list[dict[str, Any]]:
    """What a command lists, as the objects of libnftables-json(5).

    Raises:
        ShimError: as ``run``.
    """
    said = json.loads(_call("--json", "--numeric", command))
    entries: list[dict[str, Any]] = said["nftables"]
    return entries


@dataclass(slots=True)
class Trace:
    """The decisions of the host's rules on packets that have ``meta nftrace`` set."""

    process: "subprocess.Popen[bytes]"
    output: bytearray = field(default_factory=bytearray)

    def wait_for(self, sign: str, provoke: Callable[[], None]) -> bool:
        """Repeats a packet until the trace shows a text; all earlier output has been read then.

        Args:
            sign: a text of the trace.
            provoke: sends a packet that makes nft print it.

        Returns:
            Whether it came.
        """
        begin = len(self.output)
        until_s = time.monotonic() + TRACE_SECONDS
        while time.monotonic() < until_s:
            provoke()
            if not self._read(0.1):
                return False
            if self.output.find(sign.encode(), begin) >= 0:
                return True
        return False

    def _read(self, wait_s: float) -> bool:
        """Takes what nft has printed; returns whether it still runs."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while select.select([descriptor], [], [], wait_s)[0]:
            octets = os.read(descriptor, READ_OCTETS)
            if not octets:
                return False
            self.output += octets[: TRACE_OCTETS_MAX - len(self.output)]
            wait_s = 0
        return True

    def drops(self, *, except_table: str) -> dict[Traced, Drop]:
        """The packets that were dropped so far, and what dropped each; some of them passed before.

        Args:
            except_table: name of a table whose decisions do not count.
        """
        packets: dict[str, list[Traced]] = {}
        found: dict[Traced, Drop] = {}
        for text in self.output.decode(errors="replace").splitlines():
            line = _LINE.match(text)
            if line is None:
                continue
            name, chain, rest = line["id"], line["chain"], line["rest"]
            if rest.startswith("packet: "):
                if (packet := _packet(rest)) is not None:
                    packets.setdefault(name, []).append(packet)
            elif dropped := _DROPPED.match(rest):
                # A later packet in the same memory has the same number, also after one that passed.
                alike = packets.pop(name, [])
                if chain.split()[1] != except_table:
                    rule = _COUNTER.sub(r"\1", dropped["rule"] or "policy drop")
                    found |= {packet: found.get(packet) or Drop(chain, rule) for packet in alike}
        return found


@contextlib.contextmanager
def tracing() -> Iterator[Trace]:
    """Watches decisions while the block runs.

    Raises:
        Unsupported: nft is not installed.
    """
    arguments = [find_program("nft"), "monitor", "trace"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield Trace(process)
    finally:
        process.kill()
        process.communicate()


def _call(*arguments: str, text: str = "") -> str:
    try:
        done = subprocess.run(
            [find_program("nft"), *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=NFT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PlatformError("nft", 0, str(error)) from None
    if done.returncode:
        why = next(iter(done.stderr.splitlines()), f"exit status {done.returncode}")
        raise PlatformError("nft", 0, why.partition("Error: ")[2] or why)
    return done.stdout


def _packet(text: str) -> Traced | None:
    device, addresses = _DEVICE.search(text), _ADDRESSES.search(text)
    protocol, kind = _PROTOCOL.search(text), _TYPE.search(text)
    if device is None or addresses is None or protocol is None:
        return None
    name = protocol[1]
    number = _NUMBERS.get(name, int(name) if name.isdecimal() else -1)
    icmpv6_type = int(kind[1]) if kind is not None else -1
    return Traced(device[1], addresses[1], addresses[2], number, icmpv6_type)
