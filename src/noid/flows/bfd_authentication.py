# SPDX-License-Identifier: MIT
"""Keyed SHA1 authentication of control packets of BFD [RFC 5880 §4.4, §6.7.4]. Pure."""

import hmac
import struct
from hashlib import sha1
from typing import Final

from noid.constants import NEVER
from noid.flows.bfd import AUTHENTICATED, NS_IN_US, PACKET

KEYED, METICULOUS = 4, 5
KEY_OCTETS_MAX: Final = 20
SECTION: Final = struct.Struct(">BBBBI")
DIGEST_OCTETS: Final = 20
SECTION_OCTETS: Final = SECTION.size + DIGEST_OCTETS
OCTETS: Final = PACKET.size + SECTION_OCTETS
SEQUENCES: Final = 1 << 32
MULTIPLIERS: Final = 3
"""The window of sequence numbers, in detection multipliers of the sender."""
DETECTIONS: Final = 2
"""Detection times without a packet after which any sequence number is accepted."""


class Authentication:
    """Seals packets, and opens those of the other end.

    Args:
        kind: KEYED, or METICULOUS: each packet of the other end needs a new sequence number.
        key_id: the number of the key.
        key: up to KEY_OCTETS_MAX octets.
        sequence: the first sequence number; random.
        interval_us: the least interval at which we can receive.
    """

    def __init__(
        self, kind: int, key_id: int, key: bytes, *, sequence: int, interval_us: int
    ) -> None:
        self._kind = kind
        self._key_id = key_id
        self._key = key.ljust(KEY_OCTETS_MAX, b"\0")
        self._sequence = sequence
        self._interval_us = interval_us
        self._heard = 0
        self._known_until_ns = -NEVER

    def seal(self, packet: bytes) -> bytes:
        """A packet with its authentication section, and a sequence number of its own."""
        self._sequence = (self._sequence + 1) % SEQUENCES
        head = packet[:1] + bytes((packet[1] | AUTHENTICATED, packet[2], OCTETS)) + packet[4:]
        section = SECTION.pack(self._kind, SECTION_OCTETS, self._key_id, 0, self._sequence)
        return head + section + self._digest(head + section)

    def open(self, octets: bytes, now_ns: int) -> bytes | None:
        """A packet without its section; None if it must be discarded."""
        if len(octets) < OCTETS or octets[3] != OCTETS or not octets[1] & AUTHENTICATED:
            return None
        kind, length, key_id, _, sequence = SECTION.unpack_from(octets, PACKET.size)
        if (kind, length, key_id) != (self._kind, SECTION_OCTETS, self._key_id):
            return None
        signed, digest = octets[: OCTETS - DIGEST_OCTETS], octets[OCTETS - DIGEST_OCTETS : OCTETS]
        if not self._is_next(sequence, octets[2], now_ns):
            return None
        if not hmac.compare_digest(digest, self._digest(signed)):
            return None
        head = octets[:1] + bytes((octets[1] & ~AUTHENTICATED, octets[2], PACKET.size))
        packet = head + octets[4 : PACKET.size]
        desired_us = PACKET.unpack(packet)[6]
        detection_us = octets[2] * max(self._interval_us, desired_us)
        self._heard, self._known_until_ns = sequence, now_ns + DETECTIONS * detection_us * NS_IN_US
        return packet

    def _is_next(self, sequence: int, multiplier: int, now_ns: int) -> bool:
        if now_ns >= self._known_until_ns:
            return True
        ahead = (sequence - self._heard) % SEQUENCES
        return (self._kind == METICULOUS) <= ahead <= MULTIPLIERS * multiplier

    def _digest(self, signed: bytes) -> bytes:
        return sha1(signed + self._key, usedforsecurity=True).digest()
