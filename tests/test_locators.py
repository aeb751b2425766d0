# SPDX-License-Identifier: MIT
"""Locators as text and as octets, and which addresses may be one [D23]."""

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noid.errors import UsageError
from noid.locators import (
    LOCATOR_OCTETS,
    UNSPECIFIED,
    WORDS,
    Locator,
    format_locator,
    is_global_unicast,
    parse_locator,
)


@given(st.binary(min_size=LOCATOR_OCTETS, max_size=LOCATOR_OCTETS).map(Locator))
def test_a_locator_written_and_read_is_the_same(locator: Locator) -> None:
    assert parse_locator(format_locator(locator)) == locator


@pytest.mark.parametrize("zeros", range(1 << WORDS.size // 2))
def test_a_locator_is_written_as_rfc_5952_says(zeros: int) -> None:
    """As the library does, whichever of its eight parts are 0."""
    words = [0 if zeros >> number & 1 else 0xA0 + number for number in range(WORDS.size // 2)]
    locator = Locator(WORDS.pack(*words))
    address = IPv6Address(locator)
    if address.ipv4_mapped is None:  # which Python 3.13 writes as no earlier version
        assert format_locator(locator) == str(address)


def test_the_first_of_two_runs_of_zeros_is_left_out() -> None:
    assert format_locator(parse_locator("2001:0DB8:0:0:1:0:0:1")) == "2001:db8::1:0:0:1"
    assert format_locator(UNSPECIFIED) == "::"
    assert format_locator(parse_locator("::ffff:192.0.2.1")) == "::ffff:c000:201"


@pytest.mark.parametrize("text", ["", "host.example", "192.0.2.1", "2001:db8::/64", "1::2::3"])
def test_what_is_no_ipv6_address_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(UsageError, match="is not an IPv6 address") as caught:
        parse_locator(text)
    assert repr(text) in str(caught.value)


def test_an_address_with_a_zone_is_refused() -> None:
    with pytest.raises(UsageError, match="has a zone"):
        parse_locator("fe80::1%eth0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2001:db8::1", True),
        ("2a00::1", True),
        ("fd00::1", True),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("ff02::1", False),
        ("::ffff:192.0.2.1", False),
    ],
)
def test_a_locator_is_unicast_and_routable_beyond_its_link(text: str, expected: bool) -> None:
    assert is_global_unicast(parse_locator(text)) is expected
