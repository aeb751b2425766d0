# SPDX-License-Identifier: MIT
"""Locators as text and as octets, and which addresses may be one [D23]."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noid.errors import UsageError
from noid.locators import (
    LOCATOR_OCTETS,
    UNSPECIFIED,
    Locator,
    format_locator,
    is_global_unicast,
    parse_locator,
)


@given(st.binary(min_size=LOCATOR_OCTETS, max_size=LOCATOR_OCTETS).map(Locator))
def test_a_locator_written_and_read_is_the_same(locator: Locator) -> None:
    assert parse_locator(format_locator(locator)) == locator


def test_a_locator_is_written_as_rfc_5952_says() -> None:
    assert format_locator(parse_locator("2001:0DB8:0:0:1:0:0:1")) == "2001:db8::1:0:0:1"
    assert format_locator(UNSPECIFIED) == "::"


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
