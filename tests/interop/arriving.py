# SPDX-License-Identifier: MIT
"""What a second implementation makes of a packet that arrives, from docs/protocol.md alone [§3].

``arrived`` is the parser of the node; ``judge`` is what becomes of the packet, by its label.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from typing import Final

from tests.interop.octets import (
    CONTROL_SLOTS,
    HOP_BY_HOP,
    IPV6_OCTETS,
    M6_NEXT_HEADERS,
    Malformed,
    Packet,
    ulp_payload,
)

OPTIONS_MAX: Final = 8
PADDING_MAX: Final = 7
ROUTER_ALERT: Final = 5
CALIPSO: Final = 7
IOAM: Final = 0x31


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A context by its label."""

    own: Collection[str]
    peers: Collection[str]
    holds: bool = False


def arrived(octets: bytes) -> Packet | None:
    """The packet, with the M6 next header where it has one; None if it is no IPv6.

    Raises:
        Malformed: it is M6 and must be dropped.
    """
    if len(octets) < IPV6_OCTETS or octets[0] >> 4 != 6:
        return None
    packet = Packet.decode(octets)
    whole = len(octets) - IPV6_OCTETS >= int.from_bytes(octets[4:6], "big")
    if packet.next_header in M6_NEXT_HEADERS:
        if not whole:
            raise Malformed("cut short")
        return packet
    behind = octets[IPV6_OCTETS:]
    if packet.next_header != HOP_BY_HOP or not behind or behind[0] not in M6_NEXT_HEADERS:
        return packet
    body = packet.payload
    if not whole or len(body) < 8 or len(body) < 8 + 8 * body[1]:
        raise Malformed("cut short")
    end = 8 + 8 * body[1]
    check_options(body[2:end])
    return replace(packet, next_header=body[0], payload=body[end:])


def check_options(options: bytes) -> None:
    """Raises Malformed unless a receiver may skip every hop-by-hop option."""
    count = padding = 0
    whole = len(options)
    while options:
        kind = options[0]
        length = 1
        if kind != 0:
            if len(options) < 2 or len(options) < 2 + options[1]:
                raise Malformed("option cut short")
            length = 2 + options[1]
        if kind <= 1:
            padding += length
            if padding > PADDING_MAX or any(options[2:length]):
                raise Malformed("padding")
        else:
            padding = 0
            count += 1
            askew = kind == IOAM and (whole - len(options) + 2) % 4 != 0
            wrong = kind == CALIPSO or askew or (kind == ROUTER_ALERT and length != 4)
            if kind >> 6 or count > OPTIONS_MAX or wrong:
                raise Malformed(f"option {kind}")
        options = options[length:]


def judge(
    octets: bytes, own: Collection[str], contexts: Mapping[int, Known]
) -> tuple[str, tuple[int, bytes] | None]:
    """What becomes of a packet, and what is restored or held: protocol and payload."""
    try:
        packet = arrived(octets)
        if packet is None or packet.next_header not in M6_NEXT_HEADERS:
            return "not M6", None
        if packet.destination not in own:
            return "not M6", None
        known = contexts.get(packet.label)
        is_control = packet.next_header in CONTROL_SLOTS and not packet.label
        if known and (packet.source not in known.peers or packet.destination not in known.own):
            known = None
        if is_control or known is None:
            if not is_of_a_host(packet.source):
                raise Malformed("source")
            return ("control" if is_control else "unknown label"), None
        return ("held" if known.holds else "restored"), ulp_payload(
            packet.next_header % 8, packet.payload
        )
    except Malformed:
        destination = str(IPv6Address(octets[24:IPV6_OCTETS]))
        return ("dropped" if destination in own else "not M6"), None


def is_of_a_host(source: str) -> bool:
    """Whether a packet from there is answered [§12]."""
    address = IPv6Address(source)
    odd = address.is_multicast or address.is_link_local or address.ipv4_mapped is not None
    return not odd and int(address) >> 32 > 0
