# SPDX-License-Identifier: MIT
"""The IPv6 header, the checksum, the slots and the ICMPv6 errors, against scapy and by property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6, in6_chksum

from noid.constants import FLOW_LABEL_MASK
from noid.errors import WireError
from noid.identifiers import Label
from noid.locators import Locator
from noid.wire import icmpv6, ipv6
from noid.wire.slots import m6_next_headers, next_header_of, slot_of
from tests.wire.messages import A1, B1, CODEPOINTS, locators


@given(
    locators,
    locators,
    st.integers(0, 255),
    st.integers(0, 0xFFFFF),
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=64),
)
def test_a_header_is_what_scapy_reads(
    source: Locator,
    destination: Locator,
    next_header: int,
    label: Label,
    traffic_class: int,
    hop_limit: int,
    payload: bytes,
) -> None:
    header = ipv6.Header(
        source=source,
        destination=destination,
        next_header=next_header,
        payload_octets=len(payload),
        flow_label=label,
        traffic_class=traffic_class,
        hop_limit=hop_limit,
    )
    packet = header.encode() + payload
    assert ipv6.Header.decode(packet) == header
    theirs = IPv6(packet[:40])
    assert (theirs.fl, theirs.tc, theirs.nh, theirs.hlim, theirs.plen) == (
        label,
        traffic_class,
        next_header,
        hop_limit,
        len(payload),
    )


def test_the_largest_label_and_the_longest_payload_are_encoded() -> None:
    longest = bytes(ipv6.PAYLOAD_OCTETS_MAX)
    header = ipv6.Header(
        source=A1,
        destination=B1,
        next_header=59,
        payload_octets=len(longest),
        flow_label=Label(FLOW_LABEL_MASK),
    )
    assert ipv6.Header.decode(header.encode() + longest) == header
    assert ipv6.plain_header(A1, B1, 59, len(longest))[4:6] == b"\xff\xff"


@given(locators, locators, st.binary(max_size=101))
def test_the_checksum_is_scapys(source: Locator, destination: Locator, payload: bytes) -> None:
    pseudo = IPv6(
        ipv6.Header(
            source=source, destination=destination, next_header=58, payload_octets=0
        ).encode()
    )
    theirs = in6_chksum(58, pseudo, payload)
    assert ipv6.checksum(source, destination, 58, payload) % 0xFFFF == theirs % 0xFFFF


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "truncated"),
        (b"\x60" + bytes(38), "truncated"),
        (b"\x45" + bytes(39), "not IPv6"),
        (b"\x60" + bytes(40), "differs"),
    ],
)
def test_what_is_no_packet_is_refused(octets: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        ipv6.Header.decode(octets)


def test_the_sixteen_next_headers_are_the_decided_ones() -> None:
    assert m6_next_headers(CODEPOINTS) == tuple(range(224, 240))
    for number in range(256):
        slot = slot_of(number, CODEPOINTS)
        if slot is None:
            assert not 224 <= number <= 239
        else:
            assert next_header_of(slot.number, CODEPOINTS, rewritable=slot.rewritable) == number
            assert slot.rewritable == (number & 8 == 0)


def test_an_error_is_what_scapy_reads() -> None:
    error = icmpv6.ErrorMessage(type=icmpv6.PACKET_TOO_BIG, code=0, value=1400, quote=bytes(2000))
    packet = error.encode_packet(A1, B1)
    assert len(packet) == 1280
    theirs = IPv6(packet)[ICMPv6PacketTooBig]
    assert theirs.mtu == 1400
    again = icmpv6.decode_error(packet[40:], A1, B1)
    assert (again.type, again.value, len(again.quote)) == (icmpv6.PACKET_TOO_BIG, 1400, 1232)


def test_an_error_of_scapys_is_read() -> None:
    theirs = bytes(IPv6(src="2001:db8:1:a::a", dst="2001:db8:1:b::b") / ICMPv6DestUnreach(code=3))
    error = icmpv6.decode_error(theirs[40:], A1, B1)
    assert (error.type, error.code) == (icmpv6.DESTINATION_UNREACHABLE, 3)


@given(st.binary(max_size=80))
def test_any_octets_are_an_error_or_refused(octets: bytes) -> None:
    try:
        icmpv6.decode_error(octets, A1, B1)
    except WireError:
        return


ON_LINK = ["fe80::1", "febf:ffff::1"]
"""Link-local addresses."""
ELSEWHERE = ["2001:db8::1", "fec0::1", "fe7f::1", "fd80::1", "fe:80::1", "::"]


@pytest.mark.parametrize("one", [*ON_LINK, *ELSEWHERE])
@pytest.mark.parametrize("other", [*ON_LINK, *ELSEWHERE, "ff02::1", "ff0e::1"])
def test_what_has_a_link_local_end_or_is_multicast_stays_on_its_link(one: str, other: str) -> None:
    packet = IPv6(src=one, dst=other).build()
    stays = one in ON_LINK or other in ON_LINK or other.startswith("ff")
    assert ipv6.stays_on_link(packet) is stays
