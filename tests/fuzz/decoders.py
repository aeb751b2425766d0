# SPDX-License-Identifier: MIT
"""Everything that makes values of octets: it makes them, or says WireError, and nothing else."""

import contextlib
from dataclasses import replace

from noid.errors import WireError
from noid.flows.rewrite import Arrival, Delivery, Rewriter
from noid.identifiers import Label
from noid.wire import icmpv6, ipv6
from noid.wire.control import (
    FIXED_OCTETS,
    Code,
    ControlMessage,
    decode_message,
    encode_packet,
)
from noid.wire.options import ALIGNMENT, CRITICAL, OptionType, decode_entries
from noid.wire.peek import blank_authentication
from noid.wire.reader import Reader
from noid.wire.slots import SLOTS, m6_next_headers
from tests.flows.test_rewrite import FLOW_A
from tests.fuzz.choices import Choices, altered
from tests.wire.messages import A1, A2, B1, B2, CODEPOINTS, EXAMPLES, summed

FLOW = replace(FLOW_A, local_label=Label(1), peer_label=Label(2))


def message(octets: bytes) -> None:
    """A control message: any octets, with the checksum they have and with a right one."""
    choices = Choices(octets)
    example = EXAMPLES[choices.pick(tuple(Code))].encode(CODEPOINTS.icmpv6_type)
    for one in (octets, summed(octets), summed(altered(choices, example))):
        with contextlib.suppress(WireError):
            comes_back(decode_message(one, A1, B1, in_slot=False), one)


def comes_back(decoded: ControlMessage, octets: bytes) -> None:
    """What was understood is said again in no more octets, and means the same."""
    packet = encode_packet(decoded, A1, B1, CODEPOINTS)
    again = packet[ipv6.HEADER_OCTETS :]
    assert len(again) <= len(octets)
    assert decode_message(again, A1, B1, in_slot=False) == decoded
    assert len(blank_authentication(octets)) == len(octets)


def options(octets: bytes) -> None:
    """The options of a message whose head is in order."""
    choices = Choices(octets)
    head = bytearray(EXAMPLES[choices.pick(tuple(Code))].encode(CODEPOINTS.icmpv6_type))
    values = b""
    while choices.left:
        number = choices.number(len(OptionType) + 2) | (CRITICAL if choices.flag() else 0)
        value = choices.blob(80)
        length = choices.number(1 << 16) if not choices.number(16) else len(value)
        option = number.to_bytes(2, "big") + length.to_bytes(2, "big") + value
        values += option + bytes(-len(option) % ALIGNMENT)
    head[5] = min((FIXED_OCTETS + len(values)) // ALIGNMENT, 0xFF)
    head[4] = ipv6.NO_NEXT_HEADER
    one = summed(bytes(head[:FIXED_OCTETS]) + values)
    with contextlib.suppress(WireError):
        comes_back(decode_message(one, A1, B1, in_slot=False), one)
    with contextlib.suppress(WireError):
        assert decode_entries(Reader(octets))


def headers(octets: bytes) -> None:
    """An IPv6 packet, one cut short, and an ICMPv6 error that quotes one."""
    with contextlib.suppress(WireError):
        assert ipv6.Header.decode(octets).encode() == octets[: ipv6.HEADER_OCTETS]
    with contextlib.suppress(WireError):
        ipv6.Header.decode_unchecked(octets)
    for one in (octets, summed(octets)):
        with contextlib.suppress(WireError):
            error = icmpv6.decode_error(one, A1, B1)
            assert error.quote == one[icmpv6.HEAD_OCTETS :]
            packet = error.encode_packet(A1, B1)
            assert icmpv6.decode_error(packet[ipv6.HEADER_OCTETS :], A1, B1).code == error.code


def data(octets: bytes) -> None:
    """A data packet, escape header and all: what is delivered goes out again as it came."""
    choices = Choices(octets)
    rewriter = Rewriter(CODEPOINTS)
    rewriter.install(FLOW)
    arrival = Arrival(
        source=choices.pick((B1, B2, A1)),
        destination=choices.pick((A1, A2, B1)),
        next_header=choices.pick(m6_next_headers(CODEPOINTS)[: 2 * SLOTS]),
        flow_label=choices.pick((FLOW.local_label, FLOW.peer_label)),
        traffic_class=choices.number(256),
        hop_limit=choices.number(256),
        payload=choices.blob(2000),
    )
    result = rewriter.inbound(arrival)
    if isinstance(result, Delivery):
        header = ipv6.Header.decode(result.packet)
        assert (header.source, header.destination) == (B1, A1)
        assert len(result.packet) <= ipv6.HEADER_OCTETS + len(arrival.payload)
    packet = ipv6.Header(
        source=A1, destination=B1, next_header=choices.number(256), payload_octets=0
    ).encode()
    rewriter.outbound(packet + choices.blob(2000), FLOW)
