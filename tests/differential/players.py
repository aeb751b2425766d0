# SPDX-License-Identifier: MIT
"""Those who judge a generated packet: the law, the programs, the stack's raw sockets, the second.

Every player says the outcome by the name of ``Outcome``, and what is restored or held.
"""

import contextlib
import os
import select
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from noid.config import Plane
from noid.flows.clock import FlowClock
from noid.flows.rewrite import Rewriter
from noid.flows.verdict import Outcome, Verdict, arrival_of, judge
from noid.identifiers import Label
from noid.locators import Locator, format_locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import TABLES
from noid.planes.receivers import receive, receiver
from noid.wire import ipv6
from noid.wire.slots import m6_next_headers
from tests.differential.packets import CODEPOINTS, ETHERNET, OWN, Frame, flows
from tests.interop.arriving import Known
from tests.interop.arriving import judge as judge_second
from tests.namespaces import ip, wait_for_links
from tests.planes.loading import HERE, constants, load, put_uplinks

PASS, DROP, REDIRECT = 0xFFFFFFFF, 2, 7
SENT_AGAIN = "sent again"
"""What the slow path must never make of a packet from the network."""
WINDOW = layout.COUNT.size * 2
USER = layout.COUNT.size * 2
SENTINEL_LABEL = 0x7FFFF
PATIENCE_S = 20.0
TRIES = 6
LINK = bytes((2, 0, 0, 0, 0, 1))


class Result(NamedTuple):
    """What a player says.

    Attributes:
        outcome: a value of ``Outcome``, or SENT_AGAIN.
        packet: what is restored or held; empty otherwise.
    """

    outcome: str
    packet: bytes = b""


NOT_M6 = Result(Outcome.NOT_M6.value)
DROPPED = Result(Outcome.DROPPED.value)


def result_of(verdict: Verdict) -> Result:
    packet = verdict.delivery.packet if verdict.delivery is not None else b""
    return Result(verdict.outcome.value, packet)


def rewriter() -> Rewriter:
    """The contexts of the host, as noid keeps them."""
    made = Rewriter(CODEPOINTS)
    for flow in flows():
        made.install(flow)
    return made


class Law:
    """noid.flows.verdict, which the planes in Python run."""

    def __init__(self) -> None:
        self.rewriter = rewriter()

    def play(self, frame: Frame) -> Result:
        if frame.is_tagged or frame.packet[24:40] not in OWN:
            return NOT_M6
        return result_of(judge(self.rewriter, arrival_of(frame.packet, self.rewriter.numbers)))


class Kernel:
    """The programs, and what the daemon makes of what they hand over."""

    def __init__(self, directory: Path) -> None:
        self.programs = load(directory, settings=constants(mark=1), room=64)
        put_uplinks(self.programs)
        self.rewriter = rewriter()
        maps = self.programs.maps
        tables = {name: libbpf.Table(maps[name], *sizes) for name, sizes in TABLES.items()}
        for address in OWN:
            tables["ours"].put(address, layout.ROW.pack(HERE))
        for flow in flows():
            key = layout.label_key(flow.local_label)
            entry, far = layout.inbound_entries(flow, HERE, FlowClock())
            tables["inbound"].put(key, entry)
            if far:
                tables["far"].put(key, far)
        self.windows = libbpf.Table(maps["windows"], 4, WINDOW)
        self.users = libbpf.Table(maps["users"], USER, WINDOW)
        self.played = 0

    def play(self, frame: Frame) -> Result:
        if len(frame.packet) < ipv6.HEADER_OCTETS:
            return NOT_M6  # BPF_PROG_TEST_RUN refuses it; the program could not read a header
        self.played += 1
        if self.played % 20 == 0:  # rates and shares are not what is compared
            for kind in layout.ReportKind:
                self.windows.put(kind.to_bytes(4, sys.byteorder), bytes(WINDOW))
            for user in list(self.users.keys()):
                self.users.remove(user)
        verdict, after = self.programs.try_out("host_ingress", frame.octets)
        if verdict == DROP:
            return DROPPED
        if verdict == REDIRECT:
            return self._slowly(frame.packet)
        return NOT_M6 if after == frame.octets else restored(after)

    def _slowly(self, packet: bytes) -> Result:
        arrival = arrival_of(packet, self.rewriter.numbers)
        if arrival is None:
            return Result(SENT_AGAIN)
        return result_of(judge(self.rewriter, arrival))

    def early(self, frame: Frame) -> Result:
        """The program that runs before the stack: restored, or NOT_M6 for untouched."""
        if len(frame.packet) < ipv6.HEADER_OCTETS:
            return NOT_M6
        _, after = self.programs.try_out("host_ingress_early", frame.octets)
        return NOT_M6 if after == frame.octets else restored(after)

    def close(self) -> None:
        self.programs.close()


def restored(octets: bytes) -> Result:
    """A frame with a restored packet; what is behind its end is the stack's to cut off."""
    packet = octets[len(ETHERNET) :]
    end = ipv6.HEADER_OCTETS + int.from_bytes(packet[4:6], "big")
    return Result(Outcome.RESTORED.value, packet[:end])


class Second:
    """The second implementation, which says no traffic class and no hop limit."""

    def __init__(self) -> None:
        self.own = {format_locator(one) for one in OWN}
        self.contexts: dict[int, Known] = {
            flow.local_label: Known(
                own=set(map(format_locator, flow.local_locators)),
                peers=set(map(format_locator, flow.peer_locators)),
                holds=flow.holds,
            )
            for flow in flows()
        }

    def play(self, frame: Frame) -> tuple[str, tuple[int, bytes] | None]:
        if frame.is_tagged:
            return NOT_M6.outcome, None
        return judge_second(frame.packet, self.own, self.contexts)


class Stack:
    """The raw sockets of the plane in user space, behind the stack of the kernel.

    What the stack drops by itself is NOT_M6 here. Needs a network namespace of its own.
    """

    def __init__(self) -> None:
        # Each processor has its own queue: from another one, a sentinel may overtake its frame.
        self.processors = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(self.processors)})
        ip("link add up1 type veth peer name far1")
        ip(f"link set up1 address {LINK.hex(':')}")
        for name in ("lo", "up1", "far1"):
            ip(f"link set {name} up")
        for address in OWN:
            ip(f"addr add {format_locator(address)}/128 dev up1 nodad")
        wait_for_links("up1", "far1")
        self.rewriter = rewriter()
        self.link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.link.bind(("far1", 0))
        self.numbers = m6_next_headers(CODEPOINTS)
        pairs = [(receiver(number), number) for number in self.numbers]
        self.sockets = {one.fileno(): (one, number) for one, number in pairs}
        self.sentinels = self.sockets[min(self.sockets)]
        self.poll = select.epoll()
        for descriptor in self.sockets:
            self.poll.register(descriptor, select.EPOLLIN)
        header = ipv6.Header(
            source=Locator(bytes.fromhex("20010db8000900cc") + bytes(7) + b"\x01"),
            destination=OWN[0],
            next_header=self.sentinels[1],
            payload_octets=0,
            flow_label=Label(SENTINEL_LABEL),
        )
        self.sentinel = ETHERNET + header.encode()

    def play(self, frame: Frame) -> Result:
        for _ in range(TRIES):
            result = self._try(frame)
            if result is not None:
                return result
        raise AssertionError("the sentinel does not come")

    def _try(self, frame: Frame) -> Result | None:
        """What becomes of a frame; None if the kernel has lost it, as it may on a busy machine."""
        for octets in (frame.octets, self.sentinel):
            with contextlib.suppress(OSError):  # longer than the link's MTU
                self.link.send(LINK + octets[6:])
        found: list[Result] = []
        while True:
            ready = self.poll.poll(PATIENCE_S)
            if not ready:
                return None
            is_over = False
            for descriptor, _ in ready:
                for arrival in self._arrivals(descriptor):
                    if arrival == SENTINEL_LABEL:
                        is_over = True
                    elif isinstance(arrival, Result):
                        found.append(arrival)
            if is_over:
                return found[0] if found else NOT_M6

    def _arrivals(self, descriptor: int) -> Iterator[Result | int]:
        one, number = self.sockets[descriptor]
        while (arrival := receive(one, number)) is not None:
            if getattr(arrival, "flow_label", 0) == SENTINEL_LABEL:
                yield SENTINEL_LABEL
            else:
                yield result_of(judge(self.rewriter, arrival))

    def close(self) -> None:
        os.sched_setaffinity(0, self.processors)
        self.poll.close()
        self.link.close()
        for one, _ in self.sockets.values():
            one.close()


PLAYER_OF: dict[Plane, type] = {"bpf": Kernel, "tun": Law}
"""Who judges a packet as each plane does."""
