# SPDX-License-Identifier: MIT
"""The trace of a run: stored as values, and formatted only when it is printed."""

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

from noid.constants import MILLISECOND, SECOND
from noid.locators import Locator
from noid.sim.parcel import SLOTS, is_control, is_data, label_of, labels_said
from noid.wire import ipv6
from noid.wire.control import Code, Flag

COLUMN = 22
LADDER_LINES = 60


class Line(NamedTuple):
    """One thing that happened.

    Attributes:
        at_ns: its time.
        source: name of the node it began at.
        target: name of the node it reaches; empty for what happens inside one node.
        packet: the packet; empty for a remark.
        fate: the remark, or the fate of the packet.
        delay_ns: how long the packet travels; negative if it does not arrive.
    """

    at_ns: int
    source: str
    target: str
    packet: bytes
    fate: str
    delay_ns: int

    @property
    def text(self) -> str:
        """A description for people."""
        return self.fate if self.delay_ns < 0 else f"{milliseconds(self.delay_ns)} {self.fate}"


@dataclass(slots=True)
class Trace:
    """Every line of a run.

    Attributes:
        names: locator -> the short name it is shown by.
        lines: the fields of each ``Line``, in order, as tuples, which the garbage collector
            ignores.
    """

    names: dict[Locator, str] = field(default_factory=dict)
    lines: list[tuple[int, str, str, bytes, str, int]] = field(default_factory=list)

    def packet(
        self, at_ns: int, source: str, target: str, packet: bytes, fate: str, delay_ns: int
    ) -> None:
        """Records a packet and its fate; see ``Line``."""
        self.lines.append((at_ns, source, target, packet, fate, delay_ns))

    def remark(self, at_ns: int, source: str, text: str) -> None:
        """Records what happens inside a node, or to the world."""
        self.lines.append((at_ns, source, "", b"", text, -1))

    def digest(self) -> str:
        """A hash of the trace, equal for equal runs."""
        total = hashlib.blake2b(digest_size=16)
        for line in map(Line._make, self.lines):
            head = f"{line.at_ns} {line.source} {line.target} {line.text} "
            total.update(head.encode() + line.packet + b"\n")
        return total.hexdigest()

    def ladder(self, nodes: list[str], lines_max: int = LADDER_LINES) -> str:
        """The last lines as a ladder diagram, one column for each node."""
        shown = map(Line._make, self.lines[-lines_max:])
        head = " " * 12 + "".join(name.ljust(COLUMN) for name in nodes)
        return "\n".join([head.rstrip(), *(self._rung(line, nodes) for line in shown)])

    def _rung(self, line: Line, nodes: list[str]) -> str:
        at = f"{line.at_ns / SECOND:10.3f}s "
        width = COLUMN * len(nodes)
        if not line.packet:
            at_node = nodes.index(line.source) if line.source in nodes else 0
            return at + _poles(width, len(nodes), at_node) + f"* {line.source}: {line.text}"
        row = list(_poles(width, len(nodes), len(nodes)))
        source = nodes.index(line.source) if line.source in nodes else -1
        target = nodes.index(line.target) if line.target in nodes else -1
        what = self.describe(line.packet)
        if source >= 0 and target >= 0 and source != target:
            left, right = sorted((source * COLUMN, target * COLUMN))
            inner = f" {what} "[: right - left - 3].center(right - left - 1, "-")
            row[left + 1 : right] = inner
            row[right - 1 if target > source else left + 1] = ">" if target > source else "<"
            what = ""
        ends = self._ends(line.packet)
        return (at + "".join(row) + f" {what} {ends} {line.text}".replace("  ", " ")).rstrip()

    def _ends(self, packet: bytes) -> str:
        source, destination = Locator(packet[8:24]), Locator(packet[24:40])
        return f"{self._name(source)}>{self._name(destination)}"

    def _name(self, locator: Locator) -> str:
        return self.names.get(locator) or locator.hex()[-6:]

    def describe(self, packet: bytes) -> str:
        """What a packet is, in a few words."""
        if is_control(packet):
            message = packet[ipv6.HEADER_OCTETS :]
            code = message[1]
            name = Code(code).name if code in Code.__members__.values() else f"code {code}"
            sender, receiver = labels_said(message)
            nonce = int.from_bytes(message[8:16], "big") & 0xFFFF
            marks = "" if SLOTS[packet[6]] is None else "~"
            marks += "" if message[4] in (ipv6.NO_NEXT_HEADER, ipv6.IPV6) else "+"
            marks += "!" if int.from_bytes(message[6:8], "big") & Flag.HEARS_NOTHING else ""
            return f"{name}{marks} {sender:x}/{receiver:x} {nonce:x}"
        if is_data(packet):
            return f"data {label_of(packet):05x}"
        if packet[6] == ipv6.ICMPV6 and packet[ipv6.HEADER_OCTETS] < 128:
            return f"icmp {packet[ipv6.HEADER_OCTETS]}/{packet[ipv6.HEADER_OCTETS + 1]}"
        return "plain"


def _poles(width: int, count: int, until: int) -> str:
    row = [" "] * width
    for index in range(count):
        row[index * COLUMN] = "|"
    return "".join(row[: until * COLUMN] if until < count else row)


def milliseconds(delay_ns: int) -> str:
    """A delay as the ladder writes it."""
    return f"+{delay_ns // MILLISECOND} ms"
