# SPDX-License-Identifier: MIT
"""Octets that are exactly long enough, one too short, or longer than their layout says."""

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest

from noid.constants import LOCATORS_MAX
from noid.errors import UsageError, WireError
from noid.identifiers import Label
from noid.locators import Locator
from noid.wire import icmpv6, ipv6
from noid.wire.chain import Place, place_of
from noid.wire.control import FIXED_OCTETS, Code, ControlMessage, decode_message
from noid.wire.ipv6 import HEADER_OCTETS, NEXT_HEADER_AT
from noid.wire.options import (
    ALIGNMENT,
    HEAD_OCTETS,
    Entries,
    LocatorEntry,
    LocatorFlag,
    OptionType,
    encode_option,
)
from noid.wire.peek import naming_of
from noid.wire.reader import Layout, Reader
from noid.wire.slots import m6_next_headers, may_ride
from tests.wire.messages import A1, B1, CODEPOINTS, EXAMPLES, summed

M6 = 0xE0


def decoded(octets: bytes) -> ControlMessage:
    return decode_message(summed(octets), A1, B1, in_slot=False)


def options_of(octets: bytes) -> list[tuple[int, bytes]]:
    """The head and the value of each option of a message."""
    at, options = FIXED_OCTETS, []
    while at < octets[5] * ALIGNMENT:
        head, length = struct.unpack_from("!HH", octets, at)
        options.append((head, octets[at + HEAD_OCTETS : at + HEAD_OCTETS + length]))
        at += -(-(HEAD_OCTETS + length) // ALIGNMENT) * ALIGNMENT
    return options


def with_values(octets: bytes, behind: bytes) -> bytes:
    """The same message, each of whose options has more octets at its end."""
    pairs = options_of(octets)
    options = b"".join(encode_option(head, value + behind, critical=False) for head, value in pairs)
    whole = bytearray(octets[:FIXED_OCTETS] + options)
    whole[5] = len(whole) // ALIGNMENT
    return bytes(whole) + octets[octets[5] * ALIGNMENT :]


def a_set(count: int) -> Entries:
    return tuple(
        LocatorEntry(Locator(bytes(14) + bytes((1, number))), LocatorFlag.LOCAL)
        for number in range(count)
    )


@pytest.mark.parametrize("code", list(Code))
@pytest.mark.parametrize("behind", [b"\1", b"a later version says more"])
def test_what_a_later_version_puts_behind_a_value_is_left_unread(code: Code, behind: bytes) -> None:
    assert decoded(with_values(EXAMPLES[code].encode(200), behind)) == EXAMPLES[code]


@pytest.mark.parametrize("count", [1, 2, LOCATORS_MAX])
def test_so_is_what_it_puts_behind_a_set_of_any_size(count: int) -> None:
    message = replace(EXAMPLES[Code.UR], sender_locators=a_set(count))
    assert decoded(with_values(message.encode(200), b"\1")) == message


SETS: dict[str, Callable[[ControlMessage, Entries], ControlMessage]] = {
    "sender_locators": lambda message, entries: replace(message, sender_locators=entries),
    "receiver_locators": lambda message, entries: replace(message, receiver_locators=entries),
}
"""A message with another set."""


@pytest.mark.parametrize("name", SETS)
def test_neither_set_may_have_one_locator_too_many(name: str) -> None:
    SETS[name](EXAMPLES[Code.UR], a_set(LOCATORS_MAX))
    with pytest.raises(UsageError, match=f"^more than {LOCATORS_MAX} locators in a set$"):
        SETS[name](EXAMPLES[Code.UR], a_set(LOCATORS_MAX + 1))


@pytest.mark.parametrize("name", SETS)
def test_equal_sets_of_many_messages_are_stored_once(name: str) -> None:
    """Whichever option is the last one: a host has a set of each of its contexts."""
    for code in (Code.CLOSEACK, Code.UR):
        message = SETS[name](EXAMPLES[code], a_set(7))
        first, second = (decoded(message.encode(200)) for _ in range(2))
        assert getattr(first, name) is getattr(second, name)


@pytest.mark.parametrize("code", [Code.UA, Code.CLOSE, Code.CONF])
def test_no_option_goes_on_in_what_is_piggybacked(code: Code) -> None:
    """Of usual and of other lengths, and with any octets behind the header."""
    for behind in (b"", b"\1"):
        octets = with_values(replace(EXAMPLES[code], piggyback=None).encode(200), behind)
        assert decoded(octets).code is code
        for units in range(FIXED_OCTETS // ALIGNMENT + 1, octets[5]):
            cut = bytearray(octets)
            cut[4], cut[5] = ipv6.TCP, units
            with pytest.raises(WireError):
                decoded(bytes(cut))


@pytest.mark.parametrize("number", [OptionType.AUTHENTICATION, 99])
def test_an_option_that_goes_on_behind_the_header_is_truncated(number: int) -> None:
    option = encode_option(number, bytes(16), critical=False)
    octets = bytearray(EXAMPLES[Code.CLOSEACK].encode(200) + option + bytes(64))
    octets[4], octets[5] = ipv6.TCP, octets[5] + len(option) // ALIGNMENT
    assert decoded(bytes(octets)).piggyback is not None
    octets[5] -= 1
    with pytest.raises(WireError, match="truncated"):
        decoded(bytes(octets))


# --- single fields --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", list(Code))
def test_a_message_names_its_context_if_its_first_option_does(code: Code) -> None:
    octets = EXAMPLES[code].encode(200)
    naming = naming_of(octets)
    assert naming is not None
    assert naming.label == EXAMPLES[code].context.receiver_label
    assert (naming.peer_aid, naming.local_aid) == (octets[16:32], octets[32:48])
    end = FIXED_OCTETS + HEAD_OCTETS + 8
    assert naming_of(octets[:end]) == naming
    assert naming_of(octets[: end - 1]) is None
    for head in ("8002 0010", "8001 0011", "0001 0010"):
        other = bytes.fromhex(head)
        assert naming_of(octets[:FIXED_OCTETS] + other + octets[FIXED_OCTETS + 4 :]) is None
    reserved = octets[: end - 4] + b"\xff\xf1\x23\x45" + octets[end:]
    assert naming_of(reserved) == naming._replace(label=Label(0x12345))


def test_a_layout_is_read_in_the_order_of_the_network() -> None:
    layout = Layout(("B", "one"), ("H", "two"), ("I", "four"))
    assert layout.octets == 7
    assert layout.names == [(0, "one"), (1, "two"), (3, "four")]
    assert layout.pack(1, 2, 3) == bytes((1, 0, 2, 0, 0, 0, 3))
    assert layout.unpack_from(bytes((1, 0, 2, 0, 0, 0, 3))) == (1, 2, 3)


def test_a_reader_reads_up_to_its_end_and_no_further() -> None:
    octets = bytes(range(9))
    assert Reader(octets).take(9, "all") == octets
    assert Reader(octets, 2, 5).take(3, "part") == octets[2:5]
    assert Reader(octets, 2).unpack(Layout(("H", "two"), ("H", "two"))) == (0x0203, 0x0405)
    assert Reader(octets, 1, 8).part(7, "part").rest() == octets[1:8]
    assert Reader(octets, 1).part(2, "part").end == 3
    for read in (Reader(octets, 2, 5).take, Reader(octets, 2, 5).part):
        with pytest.raises(WireError, match=r"^truncated part at octet 2$"):
            read(4, "part")


# --- packets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [0, 1, 255])
def test_m6_behind_hop_by_hop_options_is_found_in_a_packet_of_any_length(units: int) -> None:
    options = bytes((M6, units)) + bytes(6 + 8 * units)
    packet = ipv6.plain_header(A1, B1, ipv6.HOP_BY_HOP, len(options)) + options
    for octets in range(len(packet)):
        expected = None
        if octets > HEADER_OCTETS:
            said = 255 if octets == HEADER_OCTETS + 1 else units
            expected = Place(HEADER_OCTETS, HEADER_OCTETS + 8 + 8 * said)
        assert place_of(packet[:octets], {M6}) == expected
    other = bytearray(packet)
    other[NEXT_HEADER_AT] = ipv6.TCP
    assert place_of(bytes(other), {M6}) is None


def test_m6_is_found_once_the_header_is_whole() -> None:
    header = ipv6.plain_header(A1, B1, M6, 0)
    assert place_of(header, {M6}) == Place(NEXT_HEADER_AT, HEADER_OCTETS)
    assert place_of(header[:-1], {M6}) is None
    assert place_of(b"\x40" + header[1:], {M6}) is None


def test_each_field_of_a_header_may_have_its_greatest_value() -> None:
    header = ipv6.Header(
        source=A1,
        destination=B1,
        next_header=0xFF,
        payload_octets=0xFFFF,
        flow_label=decoded(EXAMPLES[Code.UA].encode(200)).context.sender_label,
        traffic_class=0xFF,
        hop_limit=0xFF,
    )
    assert ipv6.Header.decode_unchecked(header.encode()) == header
    least = replace(header, next_header=0, payload_octets=0, traffic_class=0, hop_limit=0)
    assert ipv6.Header.decode(least.encode()) == least


@pytest.mark.parametrize(
    ("next_header", "first", "rides"),
    [
        (ipv6.TCP, b"", True),
        (ipv6.NO_NEXT_HEADER, b"", True),
        (ipv6.ICMPV6, b"", True),
        (ipv6.ICMPV6, b"\x80", True),
        (ipv6.ICMPV6, bytes((CODEPOINTS.icmpv6_type,)), False),
        (ipv6.TCP, bytes((CODEPOINTS.icmpv6_type,)), True),
        (ipv6.HOP_BY_HOP, b"", False),
        *((number, b"", False) for number in m6_next_headers(CODEPOINTS)),
    ],
)
def test_only_a_packet_of_a_ulp_rides(next_header: int, first: bytes, rides: bool) -> None:
    for behind in ("", "00", "c8"):
        octets = first + bytes.fromhex(behind) if first else b""
        packet = ipv6.plain_header(A1, B1, next_header, len(octets)) + octets
        assert may_ride(packet, CODEPOINTS) is rides
        assert not may_ride(packet[: HEADER_OCTETS - 1], CODEPOINTS)


@pytest.mark.parametrize("mtu", [1280, 0x01020304])
def test_an_error_about_a_long_packet_says_of_which_path_and_what_fits(mtu: int) -> None:
    quote = ipv6.plain_header(B1, A1, M6, 1400) + bytes(100)
    error = icmpv6.ErrorMessage(type=icmpv6.PACKET_TOO_BIG, code=0, value=mtu, quote=quote)
    packet = error.encode_packet(B1, A1)
    assert icmpv6.is_too_big(packet)
    assert icmpv6.path_in(packet) == (A1, mtu)


@pytest.mark.parametrize(("kind", "next_header"), [(1, 58), (3, 58), (2, 6), (0, 58)])
def test_no_other_packet_is_taken_for_such_an_error(kind: int, next_header: int) -> None:
    packet = ipv6.plain_header(A1, B1, next_header, 48) + bytes((kind, 2)) + bytes(46)
    assert not icmpv6.is_too_big(packet)


def test_an_error_quotes_as_much_as_fits_and_its_sum_is_right() -> None:
    for octets in (1231, 1232, 1233):
        error = icmpv6.ErrorMessage(type=1, code=2, value=0xFEDCBA98, quote=bytes(octets))
        packet = error.encode_packet(A1, B1)
        assert len(packet) == min(HEADER_OCTETS + 8 + octets, 1280)
        again = icmpv6.decode_error(packet[HEADER_OCTETS:], A1, B1)
        assert again == replace(error, quote=bytes(min(octets, 1232)))
