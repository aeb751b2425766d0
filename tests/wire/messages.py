# SPDX-License-Identifier: MIT
"""One message of each code, and strategies for any message."""

from hypothesis import strategies as st

from noid.constants import Codepoints
from noid.identifiers import Label, Token
from noid.locators import UNSPECIFIED, Locator, parse_locator
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, Flag, Piggyback
from noid.wire.options import (
    ContextOption,
    Cookie,
    LocatorEntry,
    LocatorFlag,
    OptionType,
    Tokens,
    UnknownOption,
)

CODEPOINTS = Codepoints()
A1, A2 = parse_locator("2001:db8:1:a::a"), parse_locator("2001:db8:2:a::a")
B1, B2 = parse_locator("2001:db8:1:b::b"), parse_locator("2001:db8:2:b::b")

CONTEXT = ContextOption(
    sender_label=Label(0x12345),
    receiver_label=Label(0xABCDE),
    sender_birthday=7,
    receiver_birthday=0xFFFFFFFF,
)
SENDER = (LocatorEntry(A1, LocatorFlag.LOCAL), LocatorEntry(A2, LocatorFlag.LOCAL))
RECEIVER = (LocatorEntry(B1, LocatorFlag.LOCAL | LocatorFlag.REMOTE),)
TOKENS = Tokens(sender=Token(0x1111111111111111), receiver=Token(0x2222222222222222))
COOKIE = Cookie(timestamp=0x0102030405060708, locator=A1, keyed_hash=bytes(range(16)))
HASH = bytes(range(16, 32))
KEY = bytes(range(32, 64))
ULP = Piggyback(6, b"a TCP segment")


def _message(code: Code, **options: object) -> ControlMessage:
    aids = (UNSPECIFIED, UNSPECIFIED) if code is Code.UC else (A1, B1)
    fields: dict[str, object] = {
        "code": code,
        "nonce": 0x0A0B0C0D0E0F1011,
        "sender_aid": aids[0],
        "receiver_aid": aids[1],
        "context": CONTEXT,
        **options,
    }
    return ControlMessage(**fields)  # type: ignore[arg-type] # the table below is the type


_SETS: dict[str, object] = {"sender_locators": SENDER, "receiver_locators": RECEIVER}

EXAMPLES: dict[Code, ControlMessage] = {
    Code.INIT: _message(Code.INIT, tokens=TOKENS, key=KEY, piggyback=ULP, **_SETS),
    Code.CC: _message(
        Code.CC, tokens=TOKENS, key=KEY, cookie=COOKIE, flags=Flag.ULP_PACKET_DISCARDED, **_SETS
    ),
    Code.CCR: _message(Code.CCR, tokens=TOKENS, key=KEY, cookie=COOKIE, reset_token=HASH, **_SETS),
    Code.CONF: _message(
        Code.CONF, tokens=TOKENS, key=KEY, authentication=HASH, reset_token=HASH, **_SETS
    ),
    Code.UR: _message(
        Code.UR,
        authentication=HASH,
        heard=1 << 63,
        flags=Flag.HEARS_NOTHING,
        piggyback=ULP,
        **_SETS,
    ),
    Code.UA: _message(Code.UA, authentication=HASH),
    Code.UC: _message(Code.UC, reset_token=HASH, piggyback=Piggyback(41, bytes(40))),
    Code.CLOSE: _message(Code.CLOSE, authentication=HASH),
    Code.CLOSEACK: _message(Code.CLOSEACK),
    Code.KEEPALIVE: _message(Code.KEEPALIVE, authentication=HASH),
}


def summed(octets: bytes) -> bytes:
    """An ICMPv6 message from A1 to B1, with a right checksum."""
    blank = octets[:2] + bytes(2) + octets[4:]
    return blank[:2] + ipv6.checksum(A1, B1, ipv6.ICMPV6, blank).to_bytes(2, "big") + blank[4:]


locators = st.binary(min_size=16, max_size=16).filter(any).map(Locator)
labels = st.integers(0, 0xFFFFF)
words = st.integers(0, 0xFFFFFFFF)
nonces = st.integers(0, 0xFFFFFFFFFFFFFFFF)
hashes = st.binary(min_size=16, max_size=16)
entries = st.lists(
    st.builds(LocatorEntry, locators, st.integers(0, 0xF8)),
    min_size=1,
    max_size=16,
    unique_by=lambda entry: entry.locator,
).map(tuple)
unknown_options = st.lists(
    st.builds(
        UnknownOption,
        st.integers(max(OptionType) + 1, 0x7FFF),
        st.binary(max_size=20),
    ),
    max_size=4,
    unique_by=lambda option: option.number,
).map(tuple)
messages = st.builds(
    ControlMessage,
    code=st.sampled_from([code for code in Code if code is not Code.UC]),
    nonce=nonces,
    sender_aid=locators,
    receiver_aid=locators,
    context=st.builds(
        ContextOption,
        sender_label=labels,
        receiver_label=labels,
        sender_birthday=words,
        receiver_birthday=words,
    ),
    flags=st.sampled_from([Flag(0), Flag.HEARS_NOTHING, Flag.ULP_PACKET_DISCARDED]),
    sender_locators=entries,
    receiver_locators=entries,
    tokens=st.builds(Tokens, sender=nonces, receiver=nonces),
    cookie=st.builds(Cookie, timestamp=nonces, locator=locators, keyed_hash=hashes),
    authentication=hashes,
    key=st.binary(min_size=32, max_size=32),
    reset_token=hashes,
    heard=nonces,
    unknown=unknown_options,
    piggyback=st.none()
    | st.builds(Piggyback, st.integers(0, 255).filter(lambda n: n != 59), st.binary(max_size=50)),
)
