# SPDX-License-Identifier: MIT
"""The peers of ``noid bench mass-failover``: one process that answers for all of them.

    python -m noid.bench.crowd MODEL

It runs on the core of a lab, behind a TUN device into which the peers' prefixes are routed. A real
engine answers the control messages, the law of the data plane carries data, and every UDP datagram
is sent back. A peer's context is made from the model when the first packet for it comes.
"""

import argparse
import contextlib
import os
import secrets
import select
import struct
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from noid.bench.adoption import label_of, like
from noid.constants import FLOW_LABEL_MASK, Codepoints
from noid.engine.events import (
    ContextRestored,
    DeliverToUlp,
    Input,
    InstallFlow,
    Output,
    RemoveFlow,
    SendControl,
    TimePassed,
)
from noid.engine.host import Host
from noid.engine.options import HostOptions
from noid.engine.records import ContextRecord
from noid.flows.events import ControlMessageReceived, SourceMoved
from noid.flows.rewrite import Arrival, Delivery, Rewriter, Watch
from noid.identifiers import NO_NONCE, Label
from noid.locators import Locator
from noid.planes.devices import open_tun
from noid.wire import ipv6
from noid.wire.slots import SLOT_ICMPV6, m6_next_headers, slot_of

DEVICE: Final = "crowd"
PRIORITY: Final = -15
"""The peers stand for other machines, which do not share a processor with the daemon. Before this
was set, contexts were silent for 5 s after the fault in some runs on a busy machine."""
PACKET_OCTETS_MAX: Final = 65_536
CODEPOINTS: Final = Codepoints()
PORTS: Final = struct.Struct("!HH")


class Crowd:
    """Every peer there is.

    Args:
        model: the context that all contexts are like, as the other host has it.
    """

    def __init__(self, model: ContextRecord) -> None:
        self.model = model
        options = HostOptions(
            codepoints=CODEPOINTS, birthday=model.peer_birthday, reset_key=secrets.token_bytes(32)
        )
        self.host = Host(options, secrets.token_bytes)
        self.rewriter = Rewriter(CODEPOINTS)
        self._watches: dict[int, Watch] = {}
        self._slots = {one: slot_of(one, CODEPOINTS) for one in m6_next_headers(CODEPOINTS)}

    def arrive(self, octets: bytes, now_ns: int) -> list[bytes]:
        """What the peer a packet is for sends because of it.

        Args:
            octets: a whole IPv6 packet.
            now_ns: the present.
        """
        label = label_of(Locator(octets[24:40]))
        answers: list[bytes] = []
        if label and self.host.context(label) is None:
            answers += self._give(ContextRestored(mirrored(like(self.model, label))), now_ns)
        slot = self._slots.get(octets[6])
        first = int.from_bytes(octets[:4], "big")
        if slot is None or (slot.number == SLOT_ICMPV6 and not first & FLOW_LABEL_MASK):
            return answers + self._control(octets, slot is not None, now_ns)
        return answers + self._data(octets, first, now_ns)

    def time_passed(self, now_ns: int) -> list[bytes]:
        """What the peers send because time has passed."""
        deadline = self.host.deadline()
        due = deadline is not None and deadline.at_ns <= now_ns
        return self._give(TimePassed(), now_ns) if due else []

    def _control(self, octets: bytes, in_slot: bool, now_ns: int) -> list[bytes]:
        payload = octets[ipv6.HEADER_OCTETS :]
        if payload[:1] != bytes((CODEPOINTS.icmpv6_type,)):
            return []
        source, destination = Locator(octets[8:24]), Locator(octets[24:40])
        return self._give(ControlMessageReceived(source, destination, in_slot, payload), now_ns)

    def _data(self, octets: bytes, first: int, now_ns: int) -> list[bytes]:
        arrival = Arrival(
            source=Locator(octets[8:24]),
            destination=Locator(octets[24:40]),
            next_header=octets[6],
            flow_label=Label(first & FLOW_LABEL_MASK),
            traffic_class=0,
            hop_limit=octets[7],
            payload=octets[ipv6.HEADER_OCTETS :],
        )
        delivery = self.rewriter.inbound(arrival)
        if not isinstance(delivery, Delivery):
            return []
        label, answers = delivery.flow.local_label, []
        followed = self._watches.setdefault(label, Watch()).received(delivery, now_ns)
        if followed is not None:
            answers = self._give(SourceMoved(label, delivery.source, followed), now_ns)
        return answers + self._echo(delivery.packet)

    def _echo(self, packet: bytes) -> list[bytes]:
        """A datagram for a peer, as the peer sends it back; nothing for other packets."""
        if packet[6] != ipv6.UDP:
            return []
        there, back = PORTS.unpack_from(packet, ipv6.HEADER_OCTETS)
        echo = (
            packet[:7]
            + b"\x40"
            + packet[24:40]
            + packet[8:24]
            + PORTS.pack(back, there)
            + packet[ipv6.HEADER_OCTETS + PORTS.size :]
        )
        flow = self.rewriter.flow_of(echo)
        return [self.rewriter.outbound(echo, flow)] if flow else []

    def _give(self, event: Input, now_ns: int) -> list[bytes]:
        return [
            packet
            for output in self.host.handle(event, now_ns)
            for packet in self._carried_out(output)
        ]

    def _carried_out(self, output: Output) -> list[bytes]:
        match output:
            case SendControl():
                return [output.packet]
            case DeliverToUlp():
                return self._echo(output.packet)
            case InstallFlow():
                self.rewriter.install(output.flow)
            case RemoveFlow():
                self.rewriter.remove(output.local_label)
            case _:
                pass
        return []


def mirrored(memory: ContextRecord) -> ContextRecord:
    """A context as its other end has it."""
    return ContextRecord(
        local_aid=memory.peer_aid,
        peer_aid=memory.local_aid,
        local_label=memory.peer_label,
        peer_label=memory.local_label,
        agreed_key=memory.agreed_key,
        peer_birthday=0,
        peer_reset_hash=bytes(len(memory.peer_reset_hash)),
        local_locator=memory.peer_locator,
        peer_locator=memory.local_locator,
        own_local=memory.peer_local,
        own_remote=None,
        told_remote=memory.remote,
        peer_local=memory.own_local,
        peer_marks=(),
        aid_proven=True,
        name="a.example",
        remote=memory.own_local,
        proven=memory.own_local,
        update_nonce=memory.peer_update_nonce,
        peer_update_nonce=memory.update_nonce,
        peer_keepalive_nonce=NO_NONCE,
        round_trip_ns=memory.round_trip_ns,
    )


def main() -> int:
    """Answers until it is terminated."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    parser = argparse.ArgumentParser(prog="noid.bench.crowd", description=__doc__)
    parser.add_argument("model", type=Path, help="file with the context all others are like")
    model = msgspec.msgpack.decode(parser.parse_args().model.read_bytes(), type=ContextRecord)
    crowd = Crowd(model)
    device = open_tun(DEVICE)
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([device], [], [], 0.05)
        if readable:
            answers = crowd.arrive(os.read(device, PACKET_OCTETS_MAX), time.monotonic_ns())
        else:
            answers = crowd.time_passed(time.monotonic_ns())
        for packet in answers:
            os.write(device, packet)


if __name__ == "__main__":
    sys.exit(main())
