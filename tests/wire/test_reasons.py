# SPDX-License-Identifier: MIT
"""What is wrong with octets, and where: every refusal says both, and is counted by the one."""

from typing import Any

import pytest

from noid.constants import Codepoints
from noid.errors import UsageError, WireError
from noid.identifiers import Label, Nonce, Token
from noid.wire import icmpv6, ipv6
from noid.wire.control import (
    FIXED_OCTETS,
    HEADER_OCTETS_MAX,
    UNKNOWN_OPTIONS_MAX,
    Code,
    ControlMessage,
    Piggyback,
    decode_message,
    encode_packet,
)
from noid.wire.options import (
    ALIGNMENT,
    HEAD_OCTETS,
    ContextOption,
    Cookie,
    OptionType,
    Tokens,
    UnknownOption,
    encode_entries,
    encode_option,
)
from noid.wire.peek import blank_authentication
from noid.wire.reader import Reader
from noid.wire.slots import SLOTS, escape_header, next_header_of, slot_of
from tests.wire.messages import A1, B1, CODEPOINTS, CONTEXT, EXAMPLES, HASH, KEY, SENDER, summed

FIELDS = {
    0: "type",
    1: "code",
    2: "checksum",
    4: "next header",
    5: "header length",
    6: "flags",
    8: "nonce",
    16: "sender's AID",
    32: "receiver's AID",
}
"""Where each field of the fixed part begins."""
VALUES = {
    OptionType.CONTEXT: {0: "flow label", 4: "flow label", 8: "birthday counter"}
    | {12: "birthday counter"},
    OptionType.SENDER_LOCATORS: {0: "locator count", 1: "locator set", 4: "locator flags"}
    | {6: "locator flags", 12: "locator", 28: "locator"},
    OptionType.TOKENS: {0: "token", 8: "token"},
    OptionType.COOKIE: {0: "timestamp", 8: "cookie locator", 24: "keyed hash"},
    OptionType.AUTHENTICATION: {0: "authentication"},
    OptionType.RESET_TOKEN: {0: "reset token"},
    OptionType.KEY: {0: "public key"},
}
"""The same of the value of each option; of a set, with two locators."""


def complaint(octets: bytes) -> tuple[int, str]:
    """Where and why a message is refused."""
    with pytest.raises(WireError) as refused:
        decode_message(octets, A1, B1, in_slot=False)
    return refused.value.offset, refused.value.reason


def with_options(*options: bytes, octets: int | None = None) -> bytes:
    """A CLOSEACK that has these options after its context; its header may say another length."""
    whole = bytearray(EXAMPLES[Code.CLOSEACK].encode(200) + b"".join(options))
    whole[5] = (len(whole) if octets is None else octets) // ALIGNMENT
    return summed(bytes(whole))


# --- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", FIELDS)
def test_the_error_for_a_truncated_message_names_the_field(start: int) -> None:
    octets = EXAMPLES[Code.UA].encode(200)
    end = min((one for one in FIELDS if one > start), default=FIXED_OCTETS)
    for length in range(start, end):
        assert complaint(octets[:length]) == (start, f"truncated {FIELDS[start]}")


@pytest.mark.parametrize(
    ("position", "value", "where", "why"),
    [
        (1, 77, 1, "unknown code"),
        (1, 0, 1, "unknown code"),
        (6, 0x10, 6, "unknown version"),
        (5, 5, 5, "header length out of range"),
        (5, 0xFF, 5, "header length out of range"),
        (5, 6, FIXED_OCTETS, "no context option"),
        (5, 13, FIXED_OCTETS, "truncated options"),
    ],
)
def test_what_the_head_of_a_message_may_not_say(
    position: int, value: int, where: int, why: str
) -> None:
    octets = bytearray(EXAMPLES[Code.UA].encode(200))
    octets[position] = value
    assert complaint(summed(bytes(octets))) == (where, why)


def test_a_wrong_checksum_is_said_to_stand_in_its_field() -> None:
    octets = EXAMPLES[Code.UA].encode(200)
    assert complaint(octets[:2] + b"\xde\xad" + octets[4:]) == (2, "wrong checksum")


def test_the_longest_header_there_may_be_is_read() -> None:
    room = HEADER_OCTETS_MAX - FIXED_OCTETS - len(CONTEXT.pack(0))
    for beyond, why in ((0, None), (ALIGNMENT, "header length out of range")):
        octets = with_options(encode_option(99, bytes(room + beyond - 4), critical=False))
        if why is None:
            assert len(decode_message(octets, A1, B1, in_slot=False).unknown) == 1
        else:
            assert complaint(octets) == (5, why)


def test_octets_after_a_message_that_carries_nothing_are_refused() -> None:
    octets = summed(EXAMPLES[Code.UA].encode(200) + bytes(8))
    assert complaint(octets) == (4, "octets after the message")


def test_a_message_that_lacks_options_names_them() -> None:
    octets = bytearray(EXAMPLES[Code.CLOSEACK].encode(200))
    octets[1] = Code.CCR
    lacking = "COOKIE, KEY, RECEIVER_LOCATORS, SENDER_LOCATORS, TOKENS"
    assert complaint(summed(bytes(octets))) == (FIXED_OCTETS, f"CCR without {lacking}")


@pytest.mark.parametrize(("code", "aids"), [(Code.UC, (A1, B1)), (Code.CLOSEACK, None)])
def test_the_aids_of_another_kind_of_message_are_refused(
    code: Code, aids: tuple[bytes, bytes] | None
) -> None:
    octets = bytearray(EXAMPLES[code].encode(200))
    octets[16:48] = b"".join(aids) if aids is not None else bytes(32)
    why = "the AIDs are :: in UC and nowhere else"
    assert complaint(summed(bytes(octets))) == (FIXED_OCTETS, why)


@pytest.mark.parametrize("unspecified", [slice(16, 32), slice(32, 48)])
def test_one_unspecified_aid_makes_no_uc(unspecified: slice) -> None:
    octets = bytearray(EXAMPLES[Code.UC].encode(200))
    octets[16:48] = A1 + B1
    octets[unspecified] = bytes(16)
    assert complaint(summed(bytes(octets)))[0] == FIXED_OCTETS


def test_a_sender_is_told_the_size_of_what_is_too_long() -> None:
    longest = HEADER_OCTETS_MAX - len(EXAMPLES[Code.CLOSEACK].encode(200)) - 4
    for beyond, fits in ((0, True), (1, False)):
        message = ControlMessage(
            code=Code.CLOSEACK,
            nonce=Nonce(1),
            sender_aid=A1,
            receiver_aid=B1,
            context=CONTEXT,
            unknown=(UnknownOption(99, bytes(longest + beyond)),),
        )
        if fits:
            assert len(message.encode(200)) == HEADER_OCTETS_MAX
        else:
            with pytest.raises(UsageError) as refused:
                message.encode(200)
            assert str(refused.value) == f"a control message of {HEADER_OCTETS_MAX + 8} octets"


# --- options --------------------------------------------------------------------------------------


def test_an_option_that_ends_within_its_head_says_so() -> None:
    at = len(EXAMPLES[Code.CLOSEACK].encode(200))
    head = bytes.fromhex("0063 0004")
    whole = with_options(head + bytes(4))
    assert decode_message(whole, A1, B1, in_slot=False).unknown == (UnknownOption(99, bytes(4)),)
    assert complaint(with_options(bytes.fromhex("0063 0005") + bytes(4))) == (
        at + 4,
        "truncated option",
    )
    assert complaint(with_options(bytes.fromhex("0007 0005") + bytes(4))) == (
        at + 4,
        "truncated option",
    )


def test_options_that_do_not_end_with_their_padding_say_so() -> None:
    reader_at = len(EXAMPLES[Code.CLOSEACK].encode(200))
    octets = with_options(bytes.fromhex("0063 0000"), bytes(4))
    assert decode_message(octets, A1, B1, in_slot=False).unknown == (UnknownOption(99, b""),)
    twice = with_options(bytes(8), bytes(8))
    assert complaint(twice) == (reader_at + 8, "option stands twice")


def test_unknown_options_are_refused_where_they_stand() -> None:
    at = len(EXAMPLES[Code.CLOSEACK].encode(200))
    critical = encode_option(99, b"future", critical=True)
    assert complaint(with_options(critical)) == (at, "unknown critical option")
    many = [encode_option(50 + n, b"", critical=False) for n in range(UNKNOWN_OPTIONS_MAX + 1)]
    assert complaint(with_options(*many)) == (
        at + 8 * UNKNOWN_OPTIONS_MAX,
        "too many unknown options",
    )


def value_of(number: OptionType) -> bytes:
    """The octets of an option's value."""
    value = slice(HEAD_OCTETS, -HEAD_OCTETS)
    return {
        OptionType.CONTEXT: CONTEXT.pack(0)[value],
        OptionType.SENDER_LOCATORS: encode_entries(SENDER),
        OptionType.TOKENS: Tokens(sender=Token(1), receiver=Token(2)).pack(0)[value],
        OptionType.COOKIE: Cookie(timestamp=1, locator=A1, keyed_hash=HASH).pack(0)[value],
        OptionType.AUTHENTICATION: HASH,
        OptionType.RESET_TOKEN: HASH,
        OptionType.KEY: KEY,
    }[number]


@pytest.mark.parametrize("number", VALUES)
def test_the_error_for_a_truncated_option_names_the_field(number: OptionType) -> None:
    whole = value_of(number)
    head = EXAMPLES[Code.CLOSEACK].encode(200)[:FIXED_OCTETS]
    for length in range(len(whole)):
        start = max(one for one in VALUES[number] if one <= length)
        option = encode_option(number, whole[:length], critical=True)
        octets = bytearray(head + option)
        octets[5] = len(octets) // ALIGNMENT
        at = FIXED_OCTETS + 4 + start
        assert complaint(summed(bytes(octets))) == (at, f"truncated {VALUES[number][start]}")


@pytest.mark.parametrize("count", [0, 17])
def test_a_set_of_none_or_too_many_says_where_it_stands(count: int) -> None:
    at = len(EXAMPLES[Code.CLOSEACK].encode(200)) + 4
    value = bytes((count, 0, 0, 0)) + bytes(400)
    option = encode_option(OptionType.RECEIVER_LOCATORS, value, critical=True)
    assert complaint(with_options(option)) == (at, "locator count out of range")


def test_the_error_for_a_repeated_locator_has_the_offset_of_its_set() -> None:
    at = len(EXAMPLES[Code.CLOSEACK].encode(200)) + 4
    option = encode_option(2, encode_entries((SENDER[0], SENDER[0])), critical=True)
    assert complaint(with_options(option)) == (at, "locator listed twice")


def test_the_high_bits_of_a_label_are_reserved() -> None:
    value = bytes.fromhex("fff12345 fffabcde 00000000 00000000")
    assert ContextOption.decode(Reader(value)) == ContextOption(
        sender_label=Label(0x12345), receiver_label=Label(0xABCDE)
    )


# --- what is hashed -------------------------------------------------------------------------------


@pytest.mark.parametrize("octets", range(18))
def test_the_authentication_is_blanked_after_an_option_of_any_length(octets: int) -> None:
    """Also one longer than 255 octets, and one that holds what looks like an authentication."""
    for size in (octets, octets + 256):
        before = encode_option(99, b"\x80\x06\x00\x10"[: octets % 5] + bytes(size), critical=False)
        after = encode_option(98, HASH + HASH, critical=False)
        signed = encode_option(OptionType.AUTHENTICATION, HASH, critical=True)
        blank = encode_option(OptionType.AUTHENTICATION, bytes(16), critical=True)
        message = with_options(before, signed, after)
        expected = with_options(before, blank, after)
        assert blank_authentication(message) == expected[:2] + bytes(2) + expected[4:]


def test_nothing_in_an_option_is_taken_for_an_authentication() -> None:
    """Wherever in it one seems to begin."""
    disguised = bytes(4) + b"\x80\x06\x00\x10\xff\xff\xff\xff" * 40
    message = with_options(encode_option(99, disguised, critical=False))
    assert blank_authentication(message) == message[:2] + bytes(2) + message[4:]


def test_what_is_piggybacked_is_hashed_and_never_blanked() -> None:
    looks_like_one = encode_option(OptionType.AUTHENTICATION, HASH, critical=True)
    message = EXAMPLES[Code.UA].encode(200)[:4] + b"\x06" + EXAMPLES[Code.UA].encode(200)[5:]
    blanked = blank_authentication(message + looks_like_one)
    assert blanked.endswith(looks_like_one)
    assert HASH not in blanked[:-24]


# --- packets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "where", "why"),
    [
        (b"", 0, "truncated IPv6 header"),
        (b"\x60" + bytes(38), 39, "truncated IPv6 header"),
        (b"\x45" + bytes(39), 0, "not IPv6"),
        (b"\x70" + bytes(39), 0, "not IPv6"),
        (b"\x60" + bytes(40), 4, "IPv6 payload length differs from the packet"),
        (b"\x60\0\0\0\0\1" + bytes(34), 4, "IPv6 payload length differs from the packet"),
    ],
)
def test_what_is_wrong_with_a_packet(octets: bytes, where: int, why: str) -> None:
    with pytest.raises(WireError) as refused:
        ipv6.Header.decode(octets)
    assert (refused.value.offset, refused.value.reason) == (where, why)
    assert str(refused.value) == f"{why} at octet {where}"


def test_what_is_quoted_may_end_after_its_header_and_not_within() -> None:
    with pytest.raises(WireError) as refused:
        ipv6.Header.decode_unchecked(bytes(39))
    assert (refused.value.offset, refused.value.reason) == (39, "truncated IPv6 header")
    quoted = ipv6.Header.decode_unchecked(bytes.fromhex("6bc12345 9876 3a 40") + A1 + B1)
    assert quoted == ipv6.Header(
        source=A1,
        destination=B1,
        next_header=58,
        payload_octets=0x9876,
        flow_label=Label(0x12345),
        traffic_class=0xBC,
        hop_limit=64,
    )


def test_a_packet_of_the_greatest_length_is_one() -> None:
    header = ipv6.Header(source=A1, destination=B1, next_header=6, payload_octets=0xFFFF)
    assert ipv6.Header.decode(header.encode() + bytes(0xFFFF)) == header


@pytest.mark.parametrize(
    "field",
    [
        {"flow_label": 1 << 20},
        {"flow_label": -1},
        {"traffic_class": 256},
        {"traffic_class": -1},
        {"next_header": 256},
        {"next_header": -1},
        {"hop_limit": 256},
        {"hop_limit": -1},
        {"payload_octets": 1 << 16},
        {"payload_octets": -1},
    ],
)
def test_a_header_holds_no_more_than_its_fields_do(field: dict[str, Any]) -> None:
    right: dict[str, Any] = {"next_header": 0, "payload_octets": 0} | field
    with pytest.raises(AssertionError):
        ipv6.Header(source=A1, destination=B1, **right)


@pytest.mark.parametrize(
    ("octets", "where", "why"),
    [
        (bytes(7), 7, "truncated ICMPv6 error"),
        (b"\x01" + bytes(7), 2, "wrong checksum"),
        (summed(b"\x80" + bytes(7)), 0, "not an ICMPv6 error"),
        (summed(b"\x05" + bytes(7)), 0, "not an ICMPv6 error"),
    ],
)
def test_what_is_wrong_with_an_error(octets: bytes, where: int, why: str) -> None:
    with pytest.raises(WireError) as refused:
        icmpv6.decode_error(octets, A1, B1)
    assert (refused.value.offset, refused.value.reason) == (where, why)


def test_an_error_holds_a_code_and_a_value_of_32_bits() -> None:
    octets = summed(bytes.fromhex("04 01 0000 89abcdef") + b"quoted")
    assert icmpv6.decode_error(octets, A1, B1) == icmpv6.ErrorMessage(
        type=icmpv6.PARAMETER_PROBLEM, code=1, value=0x89ABCDEF, quote=b"quoted"
    )
    packet = icmpv6.decode_error(octets, A1, B1).encode_packet(A1, B1)
    assert packet[ipv6.HEADER_OCTETS :] == octets
    assert ipv6.Header.decode(packet).next_header == ipv6.ICMPV6


# --- slots ----------------------------------------------------------------------------------------


def test_there_are_eight_slots_in_each_range() -> None:
    for wrong in (-1, SLOTS):
        with pytest.raises(AssertionError):
            next_header_of(wrong, CODEPOINTS, rewritable=True)
    apart = Codepoints(rewritable_first=100, fixed_first=200)
    assert slot_of(99, apart) is slot_of(108, apart) is slot_of(199, apart) is slot_of(208, apart)
    assert slot_of(99, apart) is None


def test_the_escape_header_is_the_documented_one() -> None:
    assert escape_header(89).hex() == "5900010400000000"


# --- what goes in a slot --------------------------------------------------------------------------


@pytest.mark.parametrize(("rewritable", "next_header"), [(True, 230), (False, 238)])
def test_a_message_in_a_slot_sums_over_its_aids(rewritable: bool, next_header: int) -> None:
    message = EXAMPLES[Code.UR]
    packet = encode_packet(message, B1, A1, CODEPOINTS, rewritable=rewritable, in_slot=True)
    header = ipv6.Header.decode(packet)
    assert (header.source, header.destination) == (B1, A1)
    assert (header.next_header, header.flow_label) == (next_header, 0)
    assert packet[42:44] == summed(message.encode(200))[2:4]
    assert decode_message(packet[40:], B1, A1, in_slot=True) == message


@pytest.mark.parametrize("how", [{"rewritable": True}, {"in_slot": True}])
def test_a_uc_goes_in_no_slot(how: dict[str, bool]) -> None:
    with pytest.raises(AssertionError):
        encode_packet(EXAMPLES[Code.UC], A1, B1, CODEPOINTS, **how)


def test_an_empty_piggyback_is_not_the_same_as_none() -> None:
    octets = bytearray(EXAMPLES[Code.UA].encode(200))
    octets[4] = ipv6.TCP
    decoded = decode_message(summed(bytes(octets)), A1, B1, in_slot=False)
    assert decoded.piggyback == Piggyback(ipv6.TCP, b"")
