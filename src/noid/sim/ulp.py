# SPDX-License-Identifier: MIT
"""The programs on the hosts: numbered packets between AIDs, some of which are answered.

Each packet is unique, so that its receiver can find out whether it was sent, by which
program, and between which AIDs.
"""

import hashlib
from dataclasses import dataclass, field

from noid.locators import Locator
from noid.wire import icmpv6, ipv6
from noid.wire.ipv6 import ADDRESSES_AT

GRE = 47
PROTOCOLS = (ipv6.TCP, ipv6.UDP, ipv6.SCTP, ipv6.ESP, ipv6.ICMPV6, GRE)
ECHO_REQUEST = 128
ECHO = bytes((ECHO_REQUEST, 0, 0, 0))
HEAD_OCTETS = 20
QUOTE_AT = ipv6.HEADER_OCTETS + 8
"""Where the packet begins that an ICMPv6 error is about."""
REQUEST, REPLY = 1, 2


@dataclass(slots=True)
class Sent:
    """One packet a program sent.

    Attributes:
        packet: as the program sent it.
        at_ns: its time.
        sender: name of the node.
        receiver: name of the node its destination belongs to.
        copies: how often it was delivered.
        wants_reply: whether the receiver answers.
        conversation: index of the conversation it is part of.
    """

    packet: bytes
    at_ns: int
    sender: str
    receiver: str
    conversation: int
    wants_reply: bool
    copies: int = 0


@dataclass(slots=True)
class Conversation:
    """Two programs that talk.

    Attributes:
        client: name of the node that begins.
        server: name of the other.
        client_aid: the client's address, which does not change.
        server_aid: the server's.
        protocol: the ULP's number.
        interval_ns: between two packets of the client.
        size: octets of payload.
        replies: whether the server answers.
        server_talks: whether the server also sends without a request.
        burst: packets at a time.
        turnaround_ns: until the server answers; 0 for the usual.
    """

    client: str
    server: str
    client_aid: Locator
    server_aid: Locator
    protocol: int
    interval_ns: int
    size: int
    replies: bool
    server_talks: bool = False
    burst: int = 1
    turnaround_ns: int = 0


@dataclass(slots=True)
class Ledger:
    """Every packet that any program sent, by number."""

    sent: dict[int, Sent] = field(default_factory=dict)
    conversations: list[Conversation] = field(default_factory=list)

    def packet(self, talk: Conversation, index: int, *, by_server: bool, now_ns: int) -> bytes:
        """The next packet of a conversation, entered in the ledger."""
        number = len(self.sent) + 1
        ends = (
            (talk.server_aid, talk.client_aid) if by_server else (talk.client_aid, talk.server_aid)
        )
        packet = build(number, *ends, talk.protocol, talk.size)
        names = (talk.server, talk.client) if by_server else (talk.client, talk.server)
        wants_reply = talk.replies and not by_server
        self.sent[number] = Sent(packet, now_ns, *names, index, wants_reply)
        return packet

    def shorten(self, error: bytes) -> None:
        """Makes the packets of a conversation as short as an error says (RFC 8201)."""
        message, quote = error[ipv6.HEADER_OCTETS :], error[QUOTE_AT:]
        sent = self.sent.get(number_said(quote))
        if message[0] == icmpv6.PACKET_TOO_BIG and sent is not None:
            mtu = int.from_bytes(message[4:8], "big")
            talk = self.conversations[sent.conversation]
            talk.size = min(talk.size, mtu - ipv6.HEADER_OCTETS)

    def number_of(self, packet: bytes) -> int | None:
        """The number of a packet; None if its checksum shows that it was changed.

        An unchanged packet is found without the checksum.
        """
        number = number_said(packet)
        sent = self.sent.get(number)
        if sent is not None and packet[ADDRESSES_AT:] == sent.packet[ADDRESSES_AT:]:
            return number
        return number_of(packet)


def build(number: int, source: Locator, destination: Locator, protocol: int, size: int) -> bytes:
    """The packet of that number."""
    octets = max(size, HEAD_OCTETS)
    header = ipv6.plain_header(source, destination, protocol, octets)
    head = ECHO + number.to_bytes(8, "big")
    digest = _digest(head, source, destination)
    return b"".join((header, head, digest, bytes(octets - HEAD_OCTETS)))


def number_of(packet: bytes) -> int | None:
    """The number of a packet; None if its checksum shows that it was changed."""
    payload = packet[ipv6.HEADER_OCTETS :]
    if len(payload) < HEAD_OCTETS:
        return None
    expected = _digest(payload[:12], Locator(packet[8:24]), Locator(packet[24:40]))
    if payload[12:HEAD_OCTETS] != expected:
        return None
    return int.from_bytes(payload[4:12], "big")


def number_said(packet: bytes) -> int:
    """The number in a packet."""
    return int.from_bytes(packet[ipv6.HEADER_OCTETS + 4 : ipv6.HEADER_OCTETS + 12], "big")


def _digest(head: bytes, source: Locator, destination: Locator) -> bytes:
    return hashlib.blake2b(head + source + destination, digest_size=8).digest()
