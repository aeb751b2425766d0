# SPDX-License-Identifier: MIT
"""Octets that say one thing in their lengths and another in what follows."""

import pytest

from noid.constants import LOCATORS_MAX
from noid.errors import WireError
from noid.locators import Locator
from noid.wire import icmpv6
from noid.wire.control import Code, decode_message
from noid.wire.options import (
    LocatorEntry,
    LocatorFlag,
    decode_entries,
    encode_entries,
    encode_option,
)
from noid.wire.reader import Reader
from tests.wire.messages import A1, B1, EXAMPLES, summed


def test_octets_after_a_message_that_carries_nothing_are_refused() -> None:
    octets = summed(EXAMPLES[Code.UA].encode(200) + b"and more")
    with pytest.raises(WireError, match="octets after the message"):
        decode_message(octets, A1, B1, in_slot=False)


def test_a_message_without_what_its_code_demands_is_refused() -> None:
    octets = bytearray(EXAMPLES[Code.CLOSEACK].encode(200))
    octets[1] = Code.UA
    with pytest.raises(WireError, match="UA without AUTHENTICATION"):
        decode_message(summed(bytes(octets)), A1, B1, in_slot=False)


def test_a_part_longer_than_the_whole_is_refused() -> None:
    with pytest.raises(WireError, match="truncated part at octet 2"):
        Reader(bytes(8), 2).part(7, "part")


def test_a_locator_listed_twice_is_refused() -> None:
    entry = LocatorEntry(A1, LocatorFlag.LOCAL)
    with pytest.raises(WireError, match="locator listed twice at octet 0"):
        decode_entries(Reader(encode_entries((entry, entry))))


def test_a_set_of_none_is_refused() -> None:
    with pytest.raises(WireError, match="locator count out of range"):
        decode_entries(Reader(encode_entries(())))


@pytest.mark.parametrize("count", [1, 7, 8, 9, LOCATORS_MAX])
def test_a_set_has_a_head_a_count_its_flags_padding_and_its_locators(count: int) -> None:
    entries = tuple(
        LocatorEntry(Locator(bytes(15) + bytes((number,))), LocatorFlag.LOCAL)
        for number in range(count)
    )
    option = encode_option(2, encode_entries(entries), critical=True)
    assert len(option) == 4 + 4 + count + -count % 8 + 16 * count


def test_an_icmpv6_message_that_is_no_error_is_refused() -> None:
    echo = summed(bytes((128, 0, 0, 0)) + bytes(4))
    with pytest.raises(WireError, match="not an ICMPv6 error"):
        icmpv6.decode_error(echo, A1, B1)
