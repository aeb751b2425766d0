# SPDX-License-Identifier: MIT
"""Completes copies of packets that the stack had not finished. Pure.

The stack leaves to the device what that can do: the rest of a checksum, and the cutting of a
super-packet to segments. A copy that the daemon sends must have all of that done.
"""

from noid.wire import ipv6

TCP_HEADER_OCTETS = 20
UDP_HEADER_OCTETS = 8
TCP_WORDS_AT = 12
TCP_FLAGS_AT = 13
TCP_FIN_PSH = 0x09
CHECKSUM_AT = {ipv6.TCP: 16, ipv6.UDP: 6}
UDP_LENGTH_AT = 4


def finished(copy: bytes, segment_octets: int) -> bytes:
    """The packet as on the wire; of a super-packet the first segment.

    Args:
        copy: the start of a packet between AIDs, from its IPv6 header on.
        segment_octets: what each segment carries, 0 where it is not a super-packet.

    Returns:
        A whole packet; its header alone, without a next header, where not all of it was copied.
    """
    header = ipv6.Header.decode_unchecked(copy)
    protocol = header.next_header
    body = bytearray(copy[ipv6.HEADER_OCTETS :])
    if segment_octets and protocol in CHECKSUM_AT:
        body = _first_segment(protocol, body, segment_octets)
        if not body:
            return _bare(copy)
    elif len(body) != header.payload_octets:
        return _bare(copy)
    if protocol not in CHECKSUM_AT:
        return copy
    at = CHECKSUM_AT[protocol]
    if len(body) < at + 2:
        return copy
    body[at : at + 2] = bytes(2)
    total = ipv6.checksum(header.source, header.destination, protocol, bytes(body))
    body[at : at + 2] = (total or 0xFFFF).to_bytes(2, "big")
    return copy[:4] + len(body).to_bytes(2, "big") + copy[6 : ipv6.HEADER_OCTETS] + bytes(body)


def _first_segment(protocol: int, body: bytearray, segment_octets: int) -> bytearray:
    """The first segment; nothing where it is not all there."""
    if protocol == ipv6.TCP:
        if len(body) < TCP_HEADER_OCTETS:
            return bytearray()
        end = (body[TCP_WORDS_AT] >> 4) * 4 + segment_octets
        body[TCP_FLAGS_AT] &= ~TCP_FIN_PSH & 0xFF
    else:
        end = UDP_HEADER_OCTETS + segment_octets
        body[UDP_LENGTH_AT : UDP_LENGTH_AT + 2] = end.to_bytes(2, "big")
    return body[:end] if len(body) >= end else bytearray()


def _bare(copy: bytes) -> bytes:
    """The header, of a packet that carries nothing."""
    head = bytearray(copy[: ipv6.HEADER_OCTETS])
    head[4:6] = bytes(2)
    head[6] = ipv6.NO_NEXT_HEADER
    return bytes(head)
