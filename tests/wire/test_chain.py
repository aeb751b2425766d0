# SPDX-License-Identifier: MIT
"""Which hop-by-hop options may stand before M6: those that Linux takes."""

import pytest

from noid.locators import parse_locator
from noid.wire import ipv6
from noid.wire.chain import Place, has_hop_by_hop, is_sound, place_of
from noid.wire.ipv6 import HEADER_OCTETS

M6 = 0xE0
PAD1 = b"\0"
EXPERIMENT = bytes((0x1E, 0))
"""An option that may be skipped (RFC 4727)."""
ROUTER_ALERT, CALIPSO, JUMBO, IOAM = 5, 7, 0xC2, 0x31
BEHIND_OCTETS = 4


def pad(octets: int) -> bytes:
    """PadN of so many octets in all."""
    return option(1, octets)


def option(kind: int, octets: int) -> bytes:
    """An option of so many octets in all, all others 0."""
    return bytes((kind, octets - 2)) + bytes(octets - 2)


def packet(options: bytes, *, units: int | None = None) -> bytes:
    """A packet with these options before M6, and a few octets behind.

    Args:
        options: the options.
        units: the length that the header says; None for its own.
    """
    assert (len(options) + 2) % 8 == 0
    own = (len(options) + 2) // 8 - 1
    body = bytes((M6, own if units is None else units)) + options + bytes(BEHIND_OCTETS)
    header = ipv6.Header(
        source=parse_locator("2001:db8:1::a"),
        destination=parse_locator("2001:db8:1::b"),
        next_header=ipv6.HOP_BY_HOP,
        payload_octets=len(body),
    )
    return header.encode() + body


def may_be_skipped(octets: bytes) -> bool:
    place = place_of(octets, {M6})
    assert place is not None
    return is_sound(octets, place)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(pad(6), id="padding"),
        pytest.param(PAD1 * 6, id="padding of single octets"),
        pytest.param(pad(7) + EXPERIMENT + pad(5), id="7 octets of padding in a row"),
        pytest.param(PAD1 * 7 + EXPERIMENT + PAD1 * 5, id="7 single octets in a row"),
        pytest.param(EXPERIMENT + pad(7) + EXPERIMENT + pad(3), id="7 octets, later"),
        pytest.param(option(ROUTER_ALERT, 4) + pad(2), id="router alert"),
        pytest.param(EXPERIMENT * 8 + pad(6), id="8 options"),
        pytest.param(pad(2) + option(IOAM, 4), id="aligned to 4 octets"),
        pytest.param(EXPERIMENT * 3 + option(IOAM, 4) + pad(4), id="aligned to 4 octets, later"),
    ],
)
def test_options_that_linux_takes_may_stand_before_m6(options: bytes) -> None:
    assert may_be_skipped(packet(options))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(pad(6) + PAD1 * 2 + EXPERIMENT * 3, id="8 octets of padding in a row"),
        pytest.param(PAD1 * 8 + EXPERIMENT * 3, id="8 single octets in a row"),
        pytest.param(bytes((1, 4, 0, 0, 0, 1)), id="padding that is not 0"),
        pytest.param(bytes((1, 4, 1, 0, 0, 0)), id="padding that does not begin with 0"),
        pytest.param(EXPERIMENT + pad(8) + pad(4), id="8 octets of padding, later"),
        pytest.param(EXPERIMENT * 9 + pad(4), id="9 options"),
        pytest.param(option(JUMBO, 6), id="must be known"),
        pytest.param(option(0x40, 6), id="must be known or the packet is dropped"),
        pytest.param(option(ROUTER_ALERT, 6), id="router alert of another length"),
        pytest.param(option(CALIPSO, 6), id="of a domain that is not known"),
        pytest.param(option(IOAM, 6), id="not aligned"),
        pytest.param(pad(4) + option(IOAM, 2), id="not aligned, later"),
        pytest.param(bytes((0x1E, 9)) + bytes(4), id="longer than the header"),
        pytest.param(pad(5) + EXPERIMENT[:1], id="without a length"),
    ],
)
def test_others_may_not(options: bytes) -> None:
    assert not may_be_skipped(packet(options))


def test_the_packet_is_complete() -> None:
    whole = packet(pad(6))
    assert place_of(whole, {M6}) == Place(HEADER_OCTETS, HEADER_OCTETS + 8)
    assert may_be_skipped(whole + b"\0"), "what is behind the packet does not matter"
    assert not may_be_skipped(whole[:-1])
    assert not may_be_skipped(packet(pad(6), units=1)), "its options end behind it"


def test_the_packet_may_end_with_its_options_and_be_of_any_length() -> None:
    options = bytes((M6, 0)) + pad(6)
    for behind in (0, 1, 255, 256, 0xFFFF - len(options)):
        octets = len(options) + behind
        header = packet(pad(6))[:4] + octets.to_bytes(2, "big") + packet(pad(6))[6:HEADER_OCTETS]
        whole = header + options + bytes(behind)
        assert may_be_skipped(whole)
        assert not may_be_skipped(whole[:-1])


@pytest.mark.parametrize("units", [0, 1])
def test_a_hop_by_hop_header_is_complete_or_not(units: int) -> None:
    octets = packet(pad(6) if not units else pad(7) + EXPERIMENT + pad(5))
    end = HEADER_OCTETS + 8 + 8 * units
    assert has_hop_by_hop(octets[:end])
    assert not has_hop_by_hop(octets[: end - 1])
    assert not has_hop_by_hop(octets[:HEADER_OCTETS])
