# SPDX-License-Identifier: MIT
"""What one end of a context knows, and the messages it says, in a second implementation.

Written from docs/protocol.md and nothing else. Sections in brackets are those of that page.
"""

import hashlib
import secrets
import struct
from dataclasses import dataclass, field, replace
from functools import cache

from tests.interop.curve import BASE, x25519
from tests.interop.octets import (
    DATA_ASKED,
    ICMPV6,
    IN_LSL,
    IN_LSR,
    IPV6,
    IPV6_OCTETS,
    MESSAGE_OCTETS_MAX,
    NO_AID,
    Code,
    Labels,
    LocatorSet,
    Message,
    Option,
    Packet,
    encode_locators,
    packed,
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
    private: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    update_nonce: int = 0
    greatest_nonce: int = 0
    cookie: bytes = b""
    peer_label: int = 0
    peer_token: bytes = bytes(8)
    peer_public: bytes = b""
    peer_birthday: int = 0
    peer_reset_token: bytes = b""
    peer_locators: LocatorSet = field(default_factory=dict)

    @property
    def public(self) -> bytes:
        """Our public key."""
        return multiple(self.private, BASE)

    def key_with(self, label: int, token: bytes, public: bytes) -> bytes:
        """K, if the peer's label, token and public key are these; empty if there is none [§6]."""
        shared = multiple(self.private, public)
        if shared == bytes(32):
            return b""
        sides = [
            packed(self.local) + struct.pack("!I", self.label) + self.token + self.public,
            packed(self.peer) + struct.pack("!I", label) + token + public,
        ]
        octets = shared + b"noid key 1" + b"".join(sorted(sides))
        return hashlib.blake2b(octets, digest_size=32).digest()

    @property
    def peer_said(self) -> tuple[int, bytes, bytes]:
        """What the peer's half of K is made of."""
        return self.peer_label, self.peer_token, self.peer_public

    def key_for(self, message: Message) -> bytes:
        """K, if the peer is what a message of a set-up says of its sender."""
        return self.key_with(message.labels.sender, message.tokens[0], message.public)


multiple = cache(x25519)


class Speaker:
    """One end of one context: what it is, and what it says.

    Args:
        locators: its own; the first is its AID.
        peer_locators: the other end's, as the DNS has them; the first is its AID.
    """

    def __init__(self, locators: list[str], peer_locators: list[str]) -> None:
        self.locators: LocatorSet = dict.fromkeys(locators, IN_LSL)
        self.lsr: LocatorSet = dict.fromkeys(peer_locators, IN_LSR)
        self.birthday = secrets.randbits(32)
        self.reset_key = secrets.token_bytes(16)
        self.context = Context(local=locators[0], peer=peer_locators[0])

    @property
    def key(self) -> bytes:
        """K of the context."""
        context = self.context
        return context.key_with(context.peer_label, context.peer_token, context.peer_public)

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

    def init(self) -> Message:
        options = {
            Option.CONTEXT: self.labels,
            Option.SENDERS_LOCATORS: encode_locators(self.locators),
            Option.RECEIVERS_LOCATORS: encode_locators(self.lsr),
            Option.TOKENS: self.context.token + self.context.peer_token,
            Option.PUBLIC_KEY: self.context.public,
        }
        return self.message(Code.INIT, self.context.nonce, options)

    def check(self, init: Message, token: bytes, cookie: bytes, public: bytes) -> Message:
        """CC, which keeps nothing but what it says [§6]."""
        labels, listed = init.labels, init.locators(Option.RECEIVERS_LOCATORS)
        initiators_token, _ = init.tokens
        own = {one: flags | IN_LSR * (one in listed) for one, flags in self.locators.items()}
        options = {
            Option.CONTEXT: Labels(
                receiver=labels.sender,
                sender_birthday=self.birthday,
                receiver_birthday=labels.sender_birthday,
            ).encode(),
            Option.SENDERS_LOCATORS: encode_locators(own),
            Option.RECEIVERS_LOCATORS: init.options[Option.SENDERS_LOCATORS],
            Option.TOKENS: token + initiators_token,
            Option.COOKIE: cookie,
            Option.PUBLIC_KEY: public,
        }
        message = self.message(Code.CC, init.nonce, options)
        return replace(message, sender=init.receiver, receiver=init.sender)

    def check_reply(self, check: Message) -> Message:
        """CCR: all of the CC, back."""
        labels = replace(Labels.decode(self.labels), receiver=check.labels.sender)
        options = {
            Option.CONTEXT: labels.encode(),
            Option.SENDERS_LOCATORS: check.options[Option.RECEIVERS_LOCATORS],
            Option.RECEIVERS_LOCATORS: check.options[Option.SENDERS_LOCATORS],
            Option.TOKENS: self.context.token + self.context.peer_token,
            Option.COOKIE: check.options[Option.COOKIE],
            Option.RESET_TOKEN: self.reset_hash,
            Option.PUBLIC_KEY: self.context.public,
        }
        return self.message(Code.CCR, check.nonce, options)

    def conf(self, nonce: int) -> Message:
        """CONF, not signed yet."""
        options = {
            Option.CONTEXT: self.labels,
            Option.SENDERS_LOCATORS: encode_locators(self.locators),
            Option.TOKENS: self.context.token + self.context.peer_token,
            Option.RESET_TOKEN: self.reset_hash,
            Option.PUBLIC_KEY: self.context.public,
        }
        return self.message(Code.CONF, nonce, options)

    def update(self, flags: int) -> Message:
        options = {
            Option.CONTEXT: self.labels,
            Option.SENDERS_LOCATORS: encode_locators(self.locators),
            Option.RECEIVERS_LOCATORS: encode_locators(self.lsr),
        }
        return replace(self.message(Code.UR, self.context.update_nonce, options), flags=flags)

    def acknowledgement(self, update: Message) -> Message:
        answer = self.message(Code.UA, update.nonce, {Option.CONTEXT: self.labels})
        return replace(answer, flags=update.flags & DATA_ASKED).signed(self.key)

    def complaint(self, packet: Packet, label: int) -> Message:
        """UC, whose sender has no AIDs to name [§10]."""
        labels = Labels(receiver=label, sender_birthday=self.birthday)
        complaint = Message(
            code=Code.UC,
            nonce=secrets.randbits(64),
            sender=NO_AID,
            receiver=NO_AID,
            options={
                Option.CONTEXT: labels.encode(),
                Option.RESET_TOKEN: self.reset_token(label, self.birthday - 1),
            },
            protocol=IPV6,
        )
        room = MESSAGE_OCTETS_MAX - IPV6_OCTETS - len(complaint.encode())
        return replace(complaint, piggyback=packet.encode()[:room])

    def reset_token(self, label: int, birthday: int) -> bytes:
        octets = struct.pack("!II", birthday % 2**32, label)
        return hashlib.blake2b(octets, digest_size=16, key=self.reset_key).digest()

    @property
    def reset_hash(self) -> bytes:
        """What the peer is told of the reset token of the context."""
        token = self.reset_token(self.context.label, self.birthday)
        return hashlib.blake2b(token, digest_size=16).digest()

    def means_us(self, message: Message) -> bool:
        labels = message.labels
        expected = self.context.peer_label, self.context.label
        return (labels.sender, labels.receiver) == expected

    def authenticity(self, message: Message) -> bool | None:
        """Whether the other end made the keyed hash of a message; None if it has none."""
        if Option.AUTHENTICATION not in message.options:
            return None
        is_conf = message.code == Code.CONF
        key = self.context.key_for(message) if is_conf else self.key
        return bool(key) and message.options[Option.AUTHENTICATION] == message.signature(key)

    def details(self, packet: Packet, message: Message) -> dict[str, object]:
        """What a test may want to know of a message that came."""
        labels = message.labels
        return {
            "source": packet.source,
            "destination": packet.destination,
            "rewritable": packet.next_header != ICMPV6,
            "authentic": self.authenticity(message),
            "nonce": message.nonce,
            "flags": message.flags,
            "sender": message.sender,
            "receiver": message.receiver,
            "sender_label": labels.sender,
            "receiver_label": labels.receiver,
            "sender_birthday": labels.sender_birthday,
            "receiver_birthday": labels.receiver_birthday,
            "senders_locators": message.locators(Option.SENDERS_LOCATORS),
            "receivers_locators": message.locators(Option.RECEIVERS_LOCATORS),
            "reset_token": message.options.get(Option.RESET_TOKEN, b"").hex(),
            "protocol": message.protocol,
            "piggyback": message.piggyback.hex(),
            "own_label": self.context.label,
            "own_nonce": self.context.nonce,
        }

    def note_peer(self, message: Message) -> None:
        """Takes the other end's half of the context out of what it sent."""
        context = self.context
        context.peer_label = message.labels.sender
        context.peer_birthday = message.labels.sender_birthday
        context.peer_token, _ = message.tokens
        context.peer_public = message.public
        context.peer_reset_token = message.options.get(Option.RESET_TOKEN, b"")
        locators = message.locators(Option.SENDERS_LOCATORS)
        context.peer_locators = locators or context.peer_locators
