# SPDX-License-Identifier: MIT
"""Control messages: octets and values, both ways, and everything that is not a message."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6Unknown, IPv6

from noid.constants import CC_AMPLIFICATION_MAX, CONTROL_OCTETS_MAX, LOCATORS_MAX
from noid.errors import UsageError, WireError
from noid.identifiers import Label, Nonce
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import (
    KNOWN_FLAGS,
    REQUIRED,
    UNKNOWN_OPTIONS_MAX,
    Code,
    ControlMessage,
    decode_message,
    encode_packet,
)
from noid.wire.options import (
    ContextOption,
    Cookie,
    LocatorEntry,
    LocatorFlag,
    Tokens,
    UnknownOption,
    encode_option,
)
from noid.wire.peek import blank_authentication
from tests.wire.messages import A1, A2, B1, B2, CODEPOINTS, EXAMPLES, HASH, KEY, messages, summed

OPTIONS_AT = 48
OPTION_HEAD_OCTETS = 4
UA_HEX = """
c8 06 0000  3b 0c 0000  0a0b0c0d0e0f1011
20010db80001000a000000000000000a
20010db80001000b000000000000000b
8001 0010  00012345 000abcde 00000007 ffffffff 00000000
8006 0010  101112131415161718191a1b1c1d1e1f 00000000
"""
INIT_HEX = """
c8 01 0000  06 1b 0000  0a0b0c0d0e0f1011
20010db80001000a000000000000000a
20010db80001000b000000000000000b
8001 0010  00012345 000abcde 00000007 ffffffff 00000000
8002 002c  02 000000 8080 000000000000
  20010db80001000a000000000000000a 20010db80002000a000000000000000a
8003 001c  01 000000 c0 00000000000000
  20010db80001000b000000000000000b
8004 0010  1111111111111111 2222222222222222 00000000
8009 0020  202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f 00000000
6120544350207365676d656e74
"""


def decoded(octets: bytes, *, in_slot: bool = False) -> ControlMessage:
    return decode_message(octets, A1, B1, in_slot=in_slot)


def body(message: ControlMessage) -> bytes:
    return encode_packet(message, A1, B1, CODEPOINTS)[40:]


@pytest.mark.parametrize(("code", "text"), [(Code.UA, UA_HEX), (Code.INIT, INIT_HEX)])
def test_the_layout_is_the_documented_one(code: Code, text: str) -> None:
    assert EXAMPLES[code].encode(200).hex() == "".join(text.split())


@pytest.mark.parametrize("code", list(Code))
def test_only_a_reset_token_and_what_was_heard_may_be_skipped_by_a_receiver(code: Code) -> None:
    octets = EXAMPLES[code].encode(200)
    at, critical = OPTIONS_AT, set()
    while at < octets[5] * 8:
        number, length = struct.unpack_from("!HH", octets, at)
        critical.add((number & 0x7FFF, bool(number & 0x8000)))
        at += (OPTION_HEAD_OCTETS + length + 7) // 8 * 8
    assert {number for number, is_critical in critical if not is_critical} <= {7, 8}
    assert {number for number, is_critical in critical if is_critical} <= {1, 2, 3, 4, 5, 6, 9}


@pytest.mark.parametrize("code", list(Code))
def test_every_message_comes_back_as_it_went(code: Code) -> None:
    assert decoded(body(EXAMPLES[code])) == EXAMPLES[code]


@given(messages)
def test_any_message_comes_back_as_it_went(message: ControlMessage) -> None:
    try:
        octets = body(message)
    except UsageError:
        return  # two full sets and every option at once are more than 1280 octets
    assert decoded(octets) == message


@pytest.mark.parametrize("code", list(Code))
def test_scapy_finds_the_plain_checksum_right(code: Code) -> None:
    packet = encode_packet(EXAMPLES[code], A1, B1, CODEPOINTS)
    theirs = IPv6(src="2001:db8:1:a::a", dst="2001:db8:1:b::b", hlim=64) / ICMPv6Unknown(
        type=200, code=int(code), msgbody=packet[44:]
    )
    assert packet == bytes(theirs)


def test_a_rewritable_message_survives_a_router_that_rewrites_its_source() -> None:
    packet = encode_packet(EXAMPLES[Code.UR], A1, B1, CODEPOINTS, rewritable=True)
    header = ipv6.Header.decode(packet)
    assert (header.next_header, header.flow_label) == (CODEPOINTS.rewritable_first + 6, 0)
    assert decode_message(packet[40:], A2, B1, in_slot=True) == EXAMPLES[Code.UR]


def test_a_plain_message_does_not() -> None:
    with pytest.raises(WireError, match="wrong checksum"):
        decode_message(body(EXAMPLES[Code.UR]), A2, B1, in_slot=False)


@pytest.mark.parametrize("code", list(Code))
def test_a_message_cut_short_anywhere_is_refused(code: Code) -> None:
    octets = body(EXAMPLES[code])
    header_octets = octets[5] * 8
    for end in range(header_octets):
        with pytest.raises(WireError):
            decoded(summed(octets[:end].ljust(4, b"\0")) if end >= 4 else octets[:end])


@pytest.mark.parametrize("code", list(Code))
def test_one_flipped_bit_anywhere_is_refused(code: Code) -> None:
    octets = body(EXAMPLES[code])
    for position in range(len(octets)):
        with pytest.raises(WireError):
            decoded(octets[:position] + bytes((octets[position] ^ 1,)) + octets[position + 1 :])


@given(st.binary(max_size=200))
def test_any_octets_decode_or_are_refused(octets: bytes) -> None:
    with pytest.raises(WireError):
        decoded(octets)


@given(st.sampled_from(list(Code)), st.data())
def test_a_damaged_message_with_a_right_checksum_decodes_or_is_refused(
    code: Code, data: st.DataObject
) -> None:
    octets = bytearray(body(EXAMPLES[code]))
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = decoded(summed(bytes(octets)))
    except WireError:
        return
    assert decoded(body(message)) == message


@pytest.mark.parametrize("code", list(Code))
def test_what_a_message_cannot_do_without_is_demanded(code: Code) -> None:
    fields = {"code": code, "nonce": 1, "sender_aid": A1, "receiver_aid": B1}
    if REQUIRED[code]:
        with pytest.raises(UsageError, match="without"):
            ControlMessage(context=ContextOption(), **fields)  # type: ignore[arg-type] # a case


def test_a_message_without_context_option_is_refused() -> None:
    bare = bytearray(EXAMPLES[Code.CLOSEACK].encode(200)[:48])
    bare[5] = 6
    with pytest.raises(WireError, match="no context"):
        decoded(summed(bytes(bare)))


def with_option(code: Code, option: bytes) -> bytes:
    octets = bytearray(EXAMPLES[code].encode(200) + option)
    octets[5] += len(option) // 8
    return summed(bytes(octets))


def test_an_unknown_option_is_kept_for_re_encoding() -> None:
    octets = with_option(Code.UA, encode_option(99, b"future", critical=False))
    message = decoded(octets)
    assert message.unknown == (UnknownOption(99, b"future"),)
    assert body(message) == octets


def test_an_unknown_critical_option_drops_the_message() -> None:
    with pytest.raises(WireError, match="unknown critical option"):
        decoded(with_option(Code.UA, encode_option(99, b"future", critical=True)))


def test_an_option_that_stands_twice_is_refused() -> None:
    again = encode_option(1, CONTEXT_OCTETS, critical=True)
    with pytest.raises(WireError, match="twice"):
        decoded(with_option(Code.UA, again))


CONTEXT_OCTETS = bytes(16)


def test_an_option_longer_than_its_layout_is_understood() -> None:
    octets = with_option(Code.CLOSEACK, encode_option(7, HASH + b"more", critical=False))
    assert decoded(octets).reset_token == HASH


def test_options_that_loop_or_overrun_are_refused() -> None:
    for length in (0xFFFF, 0x0100):
        head = (0x8007).to_bytes(2, "big") + length.to_bytes(2, "big") + bytes(4)
        with pytest.raises(WireError, match="truncated"):
            decoded(with_option(Code.CLOSEACK, head))


def test_so_many_unknown_options_and_no_more() -> None:
    def options(count: int) -> bytes:
        return b"".join(encode_option(50 + n, b"", critical=False) for n in range(count))

    assert len(decoded(with_option(Code.UA, options(UNKNOWN_OPTIONS_MAX))).unknown) == 16
    with pytest.raises(WireError, match="too many"):
        decoded(with_option(Code.UA, options(UNKNOWN_OPTIONS_MAX + 1)))


def locator_set(count: int) -> tuple[LocatorEntry, ...]:
    return tuple(
        LocatorEntry(Locator(bytes(15) + bytes((n + 1,))), LocatorFlag.LOCAL) for n in range(count)
    )


def full_message(count: int) -> ControlMessage:
    return ControlMessage(
        code=Code.CC,
        nonce=Nonce(1),
        sender_aid=B1,
        receiver_aid=A1,
        context=ContextOption(),
        sender_locators=locator_set(count),
        receiver_locators=locator_set(count),
        tokens=Tokens(),
        key=KEY,
        cookie=Cookie(timestamp=0, locator=A1, keyed_hash=bytes(16)),
        reset_token=HASH,
    )


def test_two_full_sets_fit_the_greatest_message() -> None:
    packet = encode_packet(full_message(LOCATORS_MAX), B2, A2, CODEPOINTS)
    assert len(packet) <= CONTROL_OCTETS_MAX


def test_one_locator_more_than_a_set_may_have_is_refused() -> None:
    with pytest.raises(UsageError, match="more than"):
        full_message(LOCATORS_MAX + 1)
    octets = bytearray(body(full_message(2)))
    octets[octets.index(b"\x80\x02") + 4] = LOCATORS_MAX + 1
    with pytest.raises(WireError, match="out of range"):
        decoded(summed(bytes(octets)))


def test_a_message_longer_than_the_limit_is_refused_by_the_sender() -> None:
    long = UnknownOption(99, bytes(CONTROL_OCTETS_MAX))
    message = ControlMessage(
        code=Code.CLOSEACK,
        nonce=Nonce(1),
        sender_aid=A1,
        receiver_aid=B1,
        context=ContextOption(),
        unknown=(long,),
    )
    with pytest.raises(UsageError, match="octets"):
        message.encode(200)


def test_an_init_is_never_so_small_that_its_cc_amplifies_it() -> None:
    smallest_init = ControlMessage(
        code=Code.INIT,
        nonce=Nonce(1),
        sender_aid=A1,
        receiver_aid=B1,
        context=ContextOption(sender_label=Label(1)),
        tokens=Tokens(),
        key=KEY,
        sender_locators=locator_set(1),
        receiver_locators=locator_set(1),
    )
    biggest_answer = ControlMessage(
        code=Code.CC,
        nonce=Nonce(1),
        sender_aid=B1,
        receiver_aid=A1,
        context=ContextOption(),
        tokens=Tokens(),
        key=KEY,
        sender_locators=locator_set(LOCATORS_MAX),
        receiver_locators=locator_set(1),
        cookie=Cookie(timestamp=0, locator=A1, keyed_hash=bytes(16)),
    )
    request = len(encode_packet(smallest_init, A1, B1, CODEPOINTS))
    answer = len(encode_packet(biggest_answer, B1, A1, CODEPOINTS))
    assert answer <= CC_AMPLIFICATION_MAX * request


def test_only_the_checksum_and_the_authentication_are_blanked() -> None:
    octets = EXAMPLES[Code.UR].encode(200)
    blanked = blank_authentication(octets[:2] + b"\xff\xff" + octets[4:])
    assert blanked == octets.replace(HASH, bytes(16))


def test_the_aids_are_unspecified_in_uc_and_nowhere_else() -> None:
    with pytest.raises(UsageError, match="nowhere else"):
        ControlMessage(
            code=Code.UC, nonce=Nonce(1), sender_aid=A1, receiver_aid=B1, context=ContextOption()
        )


@pytest.mark.parametrize(
    ("position", "value", "reason"),
    [(1, 77, "unknown code"), (6, 0x10, "unknown version"), (5, 3, "header length")],
)
def test_what_a_later_version_may_send_is_dropped(position: int, value: int, reason: str) -> None:
    octets = bytearray(body(EXAMPLES[Code.UA]))
    octets[position] = value
    with pytest.raises(WireError, match=reason):
        decoded(summed(bytes(octets)))


def test_reserved_flags_are_ignored() -> None:
    octets = bytearray(body(EXAMPLES[Code.UA]))
    octets[7] = ~KNOWN_FLAGS & 0xFF
    assert decoded(summed(bytes(octets))) == EXAMPLES[Code.UA]
