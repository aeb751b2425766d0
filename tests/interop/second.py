# SPDX-License-Identifier: MIT
"""A second implementation of the protocol, written from docs/protocol.md and nothing else.

It shares no line with noid: the standard library is all it needs, and it runs as a program of its
own that the test talks to in lines of JSON, commands in and events out. It keeps one context, asks
no DNS, and repeats nothing: its network loses nothing. What a peer must answer it answers unasked.

Sections in brackets are those of docs/protocol.md.
"""

import secrets
import sys
import time
from dataclasses import replace
from typing import Any

from tests.interop.context import Context, Speaker
from tests.interop.node import Node, tell
from tests.interop.octets import (
    CHECKSUM_OFFSETS,
    DISCARDED,
    ICMPV6,
    M6_NEXT_HEADERS,
    NO_REWRITE,
    NOTHING,
    REWRITE_OK,
    UDP,
    Code,
    Labels,
    Malformed,
    Message,
    Option,
    Packet,
    checksum,
    control_message,
    control_packet,
    data_payload,
    ulp_payload,
    with_checksum,
)


class Second(Speaker):
    """One end of one context, and the sockets it needs.

    Args:
        locators: its own, all of the node it runs on; the first is its AID.
        peer_locators: the other end's, as the DNS has them; the first is its AID.
    """

    def __init__(self, locators: list[str], peer_locators: list[str]) -> None:
        super().__init__(locators, peer_locators)
        self.crossing = False
        self.rides: dict[str, tuple[int, bytes]] = {}
        self.brought: dict[bytes, float] = {}
        self.lost = self.context
        self.node = Node(locators)

    def run(self) -> None:
        """Carries out commands and answers packets until the commands end."""
        self.node.run(self.receive, self.obey)

    # --- commands ---------------------------------------------------------------------------------

    def obey(self, command: dict[str, Any]) -> None:
        context = self.context
        source = command.get("source", context.local)
        destination = command.get("destination", context.peer)
        rewritable = command.get("rewritable", False)
        match command["do"]:
            case "initiate":
                if not command.get("again"):
                    self.context = context = Context(local=context.local, peer=context.peer)
                context.state = "init-sent"
                unknown = command.get("unknown_options", {})
                extra = {int(kind): bytes.fromhex(value) for kind, value in unknown.items()}
                init = self.init()
                init = replace(init, options={**init.options, **extra})
                self.rides = {}
                if "on" in command:
                    self.rides[command["on"]] = riding(command)
                self.send(self.ridden(init), source, destination, rewritable=rewritable)
            case "cross":
                self.crossing = True
            case "data":
                slot = command.get("slot")
                self.send_data(*riding(command), source, destination, slot=slot)
            case "update":
                self.locators = command.get("locators", self.locators)
                context.update_nonce = command.get("nonce", context.update_nonce + 1)
                update = self.update(command.get("flags", 0))
                if "payload" in command:
                    protocol, payload = riding(command)
                    update = replace(update, protocol=protocol, piggyback=payload)
                key = command.get("key")
                key = self.key if key is None else bytes.fromhex(key)
                self.send(update.signed(key), source, destination, rewritable=rewritable)
            case "close":
                context.state = "closing"
                context.nonce = secrets.randbits(64)
                close = self.message(Code.CLOSE, context.nonce, {Option.CONTEXT: self.labels})
                self.send(close.signed(self.key), source, destination)
            case "forget":
                self.lost = context
                self.context = Context(local=context.local, peer=context.peer)
                self.birthday = (self.birthday + command.get("birthdays", 1)) % 2**32
                if command.get("reset_key_too"):
                    self.reset_key = secrets.token_bytes(16)
            case "hush":
                pass  # it sends nothing unsolicited
            case "remember":
                self.context = self.lost
            case other:
                raise ValueError(other)

    def send(
        self, message: Message, source: str, destination: str, *, rewritable: bool = False
    ) -> None:
        base = REWRITE_OK if rewritable else 0
        self.node.transmit(control_packet(message, source, destination, base=base))

    def send_data(
        self,
        protocol: int,
        payload: bytes,
        source: str,
        destination: str,
        *,
        slot: int | None = None,
    ) -> None:
        """Sends a packet of a ULP, in a slot that may be a wrong one."""
        if slot is None:
            slot, payload = data_payload(protocol, payload)
        base = REWRITE_OK if len(self.locators) > 1 else NO_REWRITE
        self.node.transmit(
            Packet(
                source=source,
                destination=destination,
                next_header=base + slot,
                label=self.context.peer_label,
                payload=payload,
            )
        )

    def ridden(self, message: Message) -> Message:
        """A message with the packet that a command wants on it, if any."""
        protocol, payload = self.rides.get(Code(message.code).name, (NOTHING, b""))
        return replace(message, protocol=protocol, piggyback=payload)

    # --- what arrives -----------------------------------------------------------------------------

    def receive(self, packet: Packet) -> None:
        try:
            control = control_message(packet)
            if control is not None:
                self.receive_control(packet, *control)
            elif packet.next_header in M6_NEXT_HEADERS:
                self.receive_data(packet)
            elif packet.next_header == ICMPV6 and packet.payload[0] == 129:
                tell("plain", source=packet.source, payload=packet.payload.hex())
        except Malformed as malformed:
            tell("malformed", why=str(malformed), octets=packet.payload.hex())

    def receive_data(self, packet: Packet) -> None:
        context = self.context
        known = context.state != "idle" and packet.label == context.label
        protocol, payload = ulp_payload(packet.next_header % 8, packet.payload)
        right = protocol not in CHECKSUM_OFFSETS or not checksum(
            context.peer, context.local, protocol, payload
        )
        tell(
            "data",
            known=known,
            source=packet.source,
            destination=packet.destination,
            next_header=packet.next_header,
            protocol=protocol,
            payload=payload.hex(),
            checksum_ok=right,
        )
        if known:
            self.deliver(protocol, payload, packet.destination, packet.source)
        else:
            self.complain(packet, packet.label)

    def deliver(self, protocol: int, payload: bytes, source: str, destination: str) -> None:
        """What is above: it sends echo requests and datagrams back where they came from."""
        context = self.context
        if protocol == ICMPV6 and payload[0] == 128:
            payload = bytes((129,)) + payload[1:]
        elif protocol == UDP:
            payload = payload[2:4] + payload[0:2] + payload[4:]
        else:
            return
        payload = with_checksum(context.local, context.peer, protocol, payload)
        self.send_data(protocol, payload, source, destination)

    def complain(self, packet: Packet, label: int) -> None:
        self.send(self.complaint(packet, label), packet.destination, packet.source)

    def receive_control(self, packet: Packet, message: Message, base: int) -> None:
        authentic = self.authenticity(message)
        tell(Code(message.code).name, **self.details(packet, message))
        # Answers go back by the way their questions came.
        way = packet.destination, packet.source
        ours = (message.receiver, message.sender) == (self.context.local, self.context.peer)
        match message.code:
            case Code.INIT if ours:
                self.on_init(message, way)
            case Code.CC if ours:
                self.on_cc(message, way)
            case Code.CCR if ours:
                self.on_ccr(message, way)
            case Code.CONF if ours:
                self.on_conf(message)
            case Code.UR if ours and authentic and self.means_us(message):
                self.on_update(message, way)
            case Code.UR if message.labels.receiver != self.context.label:
                self.complain(packet, message.labels.receiver)
            case Code.CLOSE if ours:
                self.on_close(message, way, authentic is True)
            case Code.CLOSEACK if ours and self.context.state == "closing":
                if message.nonce == self.context.nonce and authentic:
                    self.context.state = "idle"

    def on_init(self, message: Message, way: tuple[str, str]) -> None:
        if self.crossing:
            # Both speak first: each INIT is answered by a CONF, and nothing else is needed [§6].
            self.crossing = False
            self.context.state = "init-sent"
            self.send(self.init(), *way)
            self.note_peer(message)
            self.send(self.conf(message.nonce).signed(self.key), *way)
            return
        context = self.context
        context.cookie = secrets.token_bytes(40)
        answer = self.check(message, context.token, context.cookie, context.public)
        # There is no context yet to send an answer of the ULP in: what rides here is discarded.
        self.send(replace(answer, flags=DISCARDED if message.piggyback else 0), *way)

    def on_cc(self, message: Message, way: tuple[str, str]) -> None:
        context = self.context
        theirs, ours = message.tokens
        known = (message.nonce, ours, message.labels.receiver)
        if context.state != "init-sent" or known != (context.nonce, context.token, context.label):
            return
        context.peer_token, context.peer_public = theirs, message.public
        context.peer_birthday = message.labels.sender_birthday
        context.peer_locators = message.locators(Option.SENDERS_LOCATORS)
        context.state = "ccr-sent"
        self.send(self.ridden(self.check_reply(message)), *way)

    def on_ccr(self, message: Message, way: tuple[str, str]) -> None:
        context = self.context
        _, ours = message.tokens
        if message.options[Option.COOKIE] != context.cookie or ours != context.token:
            return
        self.note_peer(message)
        context.state = "established"
        self.send(self.conf(message.nonce).signed(self.key), *way)
        if message.piggyback:
            self.deliver(message.protocol, message.piggyback, *way)

    def on_conf(self, message: Message) -> None:
        context = self.context
        _, ours = message.tokens
        known = (message.nonce, ours, message.labels.receiver)
        if known == (context.nonce, context.token, context.label) and self.authenticity(message):
            self.note_peer(message)
            context.state = "established"

    def on_update(self, message: Message, way: tuple[str, str]) -> None:
        context = self.context
        if message.nonce > context.greatest_nonce:
            context.greatest_nonce = message.nonce
            context.peer_locators = message.locators(Option.SENDERS_LOCATORS)
        self.send(self.acknowledgement(message), *way)
        if message.piggyback and not self.brought_lately(message.piggyback):
            self.deliver(message.protocol, message.piggyback, *way)

    def brought_lately(self, payload: bytes) -> bool:
        """Whether another probe has brought a packet within the last second [§9]."""
        now = time.monotonic()
        lately = now - self.brought.get(payload, now - 2) < 1
        self.brought[payload] = now
        return lately

    def on_close(self, message: Message, way: tuple[str, str], authentic: bool) -> None:
        labels = message.labels
        own = Labels(sender=labels.receiver, receiver=labels.sender).encode()
        answer = self.message(Code.CLOSEACK, message.nonce, {Option.CONTEXT: own})
        if self.means_us(message) and authentic:
            answer = answer.signed(self.key)
            self.context.state = "idle"
        elif self.means_us(message) and self.context.state != "idle":
            return
        self.send(answer, *way)


def riding(command: dict[str, Any]) -> tuple[int, bytes]:
    """The packet a command speaks of: its protocol and its octets."""
    return command["protocol"], bytes.fromhex(command["payload"])


def main() -> None:
    own, peer = (argument.split(",") for argument in sys.argv[1:])
    Second(own, peer).run()


if __name__ == "__main__":
    main()
