# SPDX-License-Identifier: MIT
"""The numbers in docs/protocol.md are those of the code."""

import re
from pathlib import Path

from noid.constants import Codepoints
from noid.wire.control import OPTIONS, REQUIRED, Code
from noid.wire.options import OptionType
from noid.wire.slots import SLOTS, TABLE
from tests.wire.messages import EXAMPLES

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()


def row(name: str) -> str:
    """The value in a row of the table of numbers."""
    found = re.search(rf"^\| {re.escape(name)} \| (.*) \|$", PAGE, re.MULTILINE)
    assert found, name
    return found[1]


def table(heading: str) -> list[list[str]]:
    """The rows below a heading of a table."""
    _, _, below = PAGE.partition(f"{heading}\n")
    lines = below.splitlines()[1:]
    end = next(number for number, line in enumerate(lines) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:end]]


def test_the_codes_and_code_points() -> None:
    numbers = Codepoints()
    assert row("ICMPv6 type of control messages") == str(numbers.icmpv6_type)
    assert row("ICMPv6 codes") == ", ".join(f"{code.value} {code.name}" for code in Code)
    for name, first in (
        ('next headers P1..P1+7, "rewrite ok"', numbers.rewritable_first),
        ('next headers P2..P2+7, "no rewrite"', numbers.fixed_first),
    ):
        assert row(name) == f"{first}..{first + SLOTS - 1}"
    assert row("DNS type of the M6 record").startswith(f"{numbers.m6_rrtype}, ")


def test_the_slots() -> None:
    said = [
        f"{slot} {name}" if protocol is None else f"{slot} {name} ({protocol})"
        for slot, (name, protocol) in enumerate(TABLE)
    ]
    assert row("slots") == ", ".join(said)


def test_every_option_has_a_row_with_its_number_and_critical_bit() -> None:
    rows = table("| type | C | option | value |")
    assert [(int(number), critical == "1") for number, critical, *_ in rows] == [
        (one.type.value, one.critical) for one in OPTIONS
    ]
    for (_, _, name, _), one in zip(rows, OPTIONS, strict=True):
        assert name.lower().replace("'s", "").replace(" ", "_").endswith(one.type.name.lower())


def test_a_message_must_carry_the_options_without_which_it_is_refused() -> None:
    said = {
        Code[name]: {OptionType(int(one)) for one in re.findall(r"\d+", options.partition(";")[0])}
        for name, options, _ in table("| message | options | locators mean |")
    }
    for code in Code:
        required = {one.type for one in OPTIONS if code in one.required}
        assert required <= said[code], code
        assert len(required) == len(REQUIRED[code]) + 1, "and the context"


def test_every_option_type_has_a_row() -> None:
    assert [one.type for one in OPTIONS] == list(OptionType)


def test_every_option_is_in_an_example() -> None:
    for one in OPTIONS:
        assert any(getattr(message, one.attribute) for message in EXAMPLES.values()), one
