"""A second implementation of the protocol, written from docs/protocol.md and nothing else.

It shares no line with noid: the standard library is all it needs, and it runs as a program of its
own that the test talks to in lines of JSON, commands in and events out. It keeps one context, asks
no DNS, and repeats nothing: its network loses nothing. What a peer must answer it answers unasked.

Sections in brackets are those of docs/protocol.md.
"""

import hashlib
import json
import secrets
import selectors
import socket
import struct
import sys
import time
from dataclasses import dataclass, field, replace
from typing import Any

from tests.interop.octets import (
    CHECKSUM_OFFSETS,
    CONTROL_TYPE,
    DISCARDED,
    ICMPV6,
    IN_LSL,
    IN_LSR,
    IPV6_OCTETS,
    M6_NEXT_HEADERS,
    MESSAGE_OCTETS_MAX,
    NO_AID,
    NO_REWRITE,
    NOTHING,
    REWRITE_OK,
    SLOTS,
    UDP,
    Code,
    Labels,
    LocatorSet,
    Malformed,
    Message,
    Option,
    Packet,
    checksum,
    control_packet,
    data_payload,
    encode_locators,
    packed,
    ulp_payload,
    with_checksum,
)


@dataclass(slots=True, kw_only=True)
class Context:
    """What one end knows of the other [§1]."""

    local: str
    peer: str
    state: str = "idle"
    label: int = field(default_factory=lambda: 1 + secrets.randbelow(0xFFFFF))
    token: bytes = field(default_factory=lambda: secrets.token_bytes(8))
    nonce: int = field(default_factory=lambda: secrets.randbits(64))
    update_nonce: int = 0
    greatest_nonce: int = 0
    cookie: bytes = b""
    peer_label: int = 0
    peer_token: bytes = bytes(8)
    peer_birthday: int = 0
    peer_reset_token: bytes = b""
    peer_locators: LocatorSet = field(default_factory=dict)


class Second:
    """One end of one context, and the sockets it needs.

    Args:
        locators: its own, all of the node it runs on; the first is its AID.
        peer_locators: the other end's, as the DNS has them; the first is its AID.
    """

    def __init__(self, locators: list[str], peer_locators: list[str]) -> None:
        self.locators: LocatorSet = dict.fromkeys(locators, IN_LSL)
        self.lsr: LocatorSet = dict.fromkeys(peer_locators, IN_LSR)
        self.birthday = secrets.randbits(32)
        self.reset_key = secrets.token_bytes(16)
        self.crossing = False
        self.rides: dict[str, tuple[int, bytes]] = {}
        self.brought: dict[bytes, float] = {}
        self.context = self.lost = Context(local=locators[0], peer=peer_locators[0])
        # The packets themselves are read from below the stack, for their flow labels.
        self.packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86DD))
        # A protocol somebody listens to is not refused with a parameter problem.
        raw = (socket.AF_INET6, socket.SOCK_RAW)
        self.listeners = [socket.socket(*raw, protocol) for protocol in M6_NEXT_HEADERS]
        self.senders = {locator: socket.socket(*raw, socket.IPPROTO_RAW) for locator in locators}
        for locator, sender in self.senders.items():
            sender.bind((locator, 0))

    def run(self) -> None:
        """Carries out commands and answers packets until the commands end."""
        with open(0, "rb", buffering=0) as commands, selectors.DefaultSelector() as selector:
            selector.register(self.packets, selectors.EVENT_READ)
            selector.register(commands, selectors.EVENT_READ)
            tell("ready")
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self.packets:
                        octets, address = self.packets.recvfrom(65536)
                        if address[2] != socket.PACKET_OUTGOING:
                            self.receive(Packet.decode(octets))
                    else:
                        line = commands.readline()
                        if not line:
                            return
                        self.obey(json.loads(line))

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
            case "remember":
                self.context = self.lost
            case other:
                raise ValueError(other)

    def send(
        self, message: Message, source: str, destination: str, *, rewritable: bool = False
    ) -> None:
        self.transmit(control_packet(message, source, destination, rewritable=rewritable))

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
        self.transmit(
            Packet(
                source=source,
                destination=destination,
                next_header=base + slot,
                label=self.context.peer_label,
                payload=payload,
            )
        )

    def transmit(self, packet: Packet) -> None:
        self.senders[packet.source].sendto(packet.encode(), (packet.destination, 0))

    # --- messages ---------------------------------------------------------------------------------

    @property
    def key(self) -> bytes:
        """Of what this end sends."""
        return self.context.token + self.context.peer_token

    @property
    def peer_key(self) -> bytes:
        """Of what the other end sends."""
        return self.context.peer_token + self.context.token

    @property
    def labels(self) -> bytes:
        return Labels(
            sender=self.context.label,
            receiver=self.context.peer_label,
            sender_birthday=self.birthday,
            receiver_birthday=self.context.peer_birthday,
        ).encode()

    def message(self, code: Code, nonce: int, options: dict[Option, bytes]) -> Message:
        return Message(
            code=code,
            nonce=nonce,
            sender=self.context.local,
            receiver=self.context.peer,
            options={int(kind): value for kind, value in options.items()},
        )

    def ridden(self, message: Message) -> Message:
        """A message with the packet that a command wants on it, if any."""
        protocol, payload = self.rides.get(Code(message.code).name, (NOTHING, b""))
        return replace(message, protocol=protocol, piggyback=payload)

    def init(self) -> Message:
        options = {
            Option.CONTEXT: self.labels,
            Option.SENDERS_LOCATORS: encode_locators(self.locators),
            Option.RECEIVERS_LOCATORS: encode_locators(self.lsr),
            Option.TOKENS: self.context.token + self.context.peer_token,
        }
        return self.message(Code.INIT, self.context.nonce, options)

    def conf(self, nonce: int) -> Message:
        options = {
            Option.CONTEXT: self.labels,
            Option.SENDERS_LOCATORS: encode_locators(self.locators),
            Option.TOKENS: self.context.token + self.context.peer_token,
            Option.RESET_TOKEN: self.reset_token(self.context.label, self.context.peer),
        }
        return self.message(Code.CONF, nonce, options)

    def update(self, flags: int) -> Message:
        options = {
            Option.CONTEXT: self.labels,
            Option.SENDERS_LOCATORS: encode_locators(self.locators),
            Option.RECEIVERS_LOCATORS: encode_locators(self.lsr),
        }
        return replace(self.message(Code.UR, self.context.update_nonce, options), flags=flags)

    def reset_token(self, label: int, locator: str) -> bytes:
        octets = struct.pack("!I", label) + packed(locator)
        return hashlib.blake2b(octets, digest_size=16, key=self.reset_key).digest()

    # --- what arrives -----------------------------------------------------------------------------

    def receive(self, packet: Packet) -> None:
        if packet.destination not in self.senders:
            return
        rewritten = {base + SLOTS[ICMPV6] for base in (REWRITE_OK, NO_REWRITE)}
        plain = packet.next_header == ICMPV6 and packet.payload[:1] == bytes((CONTROL_TYPE,))
        try:
            if plain or (packet.next_header in rewritten and packet.label == 0):
                self.receive_control(packet, rewritable=not plain)
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
        """UC, whose sender has no AIDs to name [§10]."""
        labels = Labels(receiver=label, sender_birthday=self.birthday)
        complaint = Message(
            code=Code.UC,
            nonce=secrets.randbits(64),
            sender=NO_AID,
            receiver=NO_AID,
            options={
                Option.CONTEXT: labels.encode(),
                Option.RESET_TOKEN: self.reset_token(label, packet.source),
            },
            protocol=41,
        )
        room = MESSAGE_OCTETS_MAX - IPV6_OCTETS - len(complaint.encode())
        complaint = replace(complaint, piggyback=packet.encode()[:room])
        self.send(complaint, packet.destination, packet.source)

    def receive_control(self, packet: Packet, *, rewritable: bool) -> None:
        message = Message.decode(packet.payload)
        addresses = packet.source, packet.destination
        if rewritable:
            addresses = message.sender, message.receiver
        if checksum(*addresses, ICMPV6, packet.payload):
            raise Malformed("checksum")
        authentic = None
        if Option.AUTHENTICATION in message.options:
            signature = message.options[Option.AUTHENTICATION]
            authentic = signature == message.signature(self.peer_key)
        self.tell_message(packet, message, rewritable, authentic)
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
                if message.nonce == self.context.nonce and authentic is not False:
                    self.context.state = "idle"

    def tell_message(
        self, packet: Packet, message: Message, rewritable: bool, authentic: bool | None
    ) -> None:
        labels = message.labels
        tell(
            Code(message.code).name,
            source=packet.source,
            destination=packet.destination,
            rewritable=rewritable,
            authentic=authentic,
            nonce=message.nonce,
            flags=message.flags,
            sender=message.sender,
            receiver=message.receiver,
            sender_label=labels.sender,
            receiver_label=labels.receiver,
            sender_birthday=labels.sender_birthday,
            receiver_birthday=labels.receiver_birthday,
            senders_locators=message.locators(Option.SENDERS_LOCATORS),
            receivers_locators=message.locators(Option.RECEIVERS_LOCATORS),
            reset_token=message.options.get(Option.RESET_TOKEN, b"").hex(),
            protocol=message.protocol,
            piggyback=message.piggyback.hex(),
            own_label=self.context.label,
            own_nonce=self.context.nonce,
        )

    def means_us(self, message: Message) -> bool:
        labels = message.labels
        expected = self.context.peer_label, self.context.label
        return (labels.sender, labels.receiver) == expected

    def note_peer(self, message: Message) -> None:
        """Takes the other end's half of the context out of what it sent."""
        context = self.context
        context.peer_label = message.labels.sender
        context.peer_birthday = message.labels.sender_birthday
        context.peer_token, _ = message.tokens
        context.peer_reset_token = message.options.get(Option.RESET_TOKEN, b"")
        locators = message.locators(Option.SENDERS_LOCATORS)
        context.peer_locators = locators or context.peer_locators

    def on_init(self, message: Message, way: tuple[str, str]) -> None:
        if self.crossing:
            # Both speak first: each INIT is answered by a CONF, and nothing else is needed [§6].
            self.crossing = False
            self.context.state = "init-sent"
            self.send(self.init(), *way)
            self.note_peer(message)
            self.send(self.conf(message.nonce), *way)
            return
        context = self.context
        context.cookie = secrets.token_bytes(40)
        initiators_token, _ = message.tokens
        labels = message.labels
        own = {
            locator: flags | IN_LSR * (locator in message.locators(Option.RECEIVERS_LOCATORS))
            for locator, flags in self.locators.items()
        }
        options = {
            Option.CONTEXT: Labels(
                receiver=labels.sender,
                sender_birthday=self.birthday,
                receiver_birthday=labels.sender_birthday,
            ).encode(),
            Option.SENDERS_LOCATORS: encode_locators(own),
            Option.RECEIVERS_LOCATORS: message.options[Option.SENDERS_LOCATORS],
            Option.TOKENS: context.token + initiators_token,
            Option.COOKIE: context.cookie,
        }
        answer = self.message(Code.CC, message.nonce, options)
        # There is no context yet to send an answer of the ULP in: what rides here is discarded.
        self.send(replace(answer, flags=DISCARDED if message.piggyback else 0), *way)

    def on_cc(self, message: Message, way: tuple[str, str]) -> None:
        context = self.context
        theirs, ours = message.tokens
        known = (message.nonce, ours, message.labels.receiver)
        if context.state != "init-sent" or known != (context.nonce, context.token, context.label):
            return
        context.peer_token = theirs
        context.peer_birthday = message.labels.sender_birthday
        context.peer_locators = message.locators(Option.SENDERS_LOCATORS)
        options = {
            Option.CONTEXT: self.labels,
            Option.SENDERS_LOCATORS: message.options[Option.RECEIVERS_LOCATORS],
            Option.RECEIVERS_LOCATORS: message.options[Option.SENDERS_LOCATORS],
            Option.TOKENS: context.token + context.peer_token,
            Option.COOKIE: message.options[Option.COOKIE],
            Option.RESET_TOKEN: self.reset_token(context.label, context.peer),
        }
        context.state = "ccr-sent"
        self.send(self.ridden(self.message(Code.CCR, message.nonce, options)), *way)

    def on_ccr(self, message: Message, way: tuple[str, str]) -> None:
        context = self.context
        _, ours = message.tokens
        if message.options[Option.COOKIE] != context.cookie or ours != context.token:
            return
        self.note_peer(message)
        context.state = "established"
        self.send(self.conf(message.nonce), *way)
        if message.piggyback:
            self.deliver(message.protocol, message.piggyback, *way)

    def on_conf(self, message: Message) -> None:
        context = self.context
        _, ours = message.tokens
        known = (message.nonce, ours, message.labels.receiver)
        if known == (context.nonce, context.token, context.label):
            self.note_peer(message)
            context.state = "established"

    def on_update(self, message: Message, way: tuple[str, str]) -> None:
        context = self.context
        if message.nonce > context.greatest_nonce:
            context.greatest_nonce = message.nonce
            context.peer_locators = message.locators(Option.SENDERS_LOCATORS)
        answer = self.message(Code.UA, message.nonce, {Option.CONTEXT: self.labels})
        self.send(answer.signed(self.key), *way)
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
        if self.context.state != "idle" and self.means_us(message):
            if not authentic:
                return
            answer = answer.signed(self.key)
            self.context.state = "idle"
        self.send(answer, *way)


def riding(command: dict[str, Any]) -> tuple[int, bytes]:
    """The packet a command speaks of: its protocol and its octets."""
    return command["protocol"], bytes.fromhex(command["payload"])


def tell(event: str, **details: object) -> None:
    print(json.dumps({"event": event, **details}), flush=True)


def main() -> None:
    own, peer = (argument.split(",") for argument in sys.argv[1:])
    Second(own, peer).run()


if __name__ == "__main__":
    main()
