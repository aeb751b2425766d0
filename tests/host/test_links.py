# SPDX-License-Identifier: MIT
"""Which addresses of a link may be locators, by the flags that the kernel gives them."""

import pytest

from noid.host.links import (
    FLAG_DAD_FAILED,
    FLAG_DEPRECATED,
    FLAG_NO_DAD,
    FLAG_TEMPORARY,
    FLAG_TENTATIVE,
    may_be_locator,
)
from noid.locators import parse_locator

A = parse_locator("2001:db8::1")
LINK_SCOPE = 253


class Address(dict[str, int]):
    """An address as the netlink library gives it."""


@pytest.mark.parametrize("flag", [FLAG_TEMPORARY, FLAG_DAD_FAILED, FLAG_TENTATIVE])
def test_temporary_and_tentative_addresses_are_not_locators(flag: int) -> None:
    assert may_be_locator(A, Address(scope=0, flags=FLAG_NO_DAD))
    assert not may_be_locator(A, Address(scope=0, flags=flag))
    assert not may_be_locator(A, Address(scope=0, flags=flag | FLAG_NO_DAD))


def test_an_address_of_which_the_kernel_says_nothing_else_is_one() -> None:
    assert may_be_locator(A, Address(scope=0))
    assert may_be_locator(A, Address(scope=0, flags=FLAG_DEPRECATED))
    assert not may_be_locator(A, Address(scope=LINK_SCOPE, flags=0))
