# SPDX-License-Identifier: MIT
"""The numbers in the Wireshark dissector are those of the code; other tests run it in tshark."""

import re
from pathlib import Path

from noid.constants import FLOW_LABEL_MASK, Codepoints
from noid.wire import slots
from noid.wire.control import FIXED_OCTETS, OPTIONS, Code, Flag
from noid.wire.options import CRITICAL, HEAD_OCTETS, LocatorFlag

TEXT = (Path(__file__).parents[2] / "contrib" / "wireshark" / "noid.lua").read_text()


def entries(name: str, value: str) -> dict[int, str]:
    """The numbers and values of a table of the dissector."""
    body = re.search(
        rf"^local {name} = \{{(.*?)^\}}|^local {name} = \{{(.*?)\}}$", TEXT, re.M | re.S
    )
    assert body, name
    found = re.findall(rf"\[(\d+)\] = {value}", body[1] or body[2])
    return {int(number): text for number, text in found}


def masks(pattern: str) -> dict[str, int]:
    """The bits of each field whose name matches."""
    found = re.findall(rf'"m6\.{pattern}", "[^"]*", [\w.]+, nil, (0x\w+)\)', TEXT)
    return {name: int(bits, 16) for name, bits in found}


def number(name: str) -> int:
    """A number that the dissector declares, in a list of several or alone."""
    found = re.search(rf"^local ([^=\n]*\b{name}\b[^=\n]*) = (.*)$", TEXT, re.MULTILINE)
    assert found, name
    return int(found[2].split(", ")[found[1].split(", ").index(name)])


def test_messages() -> None:
    assert entries("codes", '"(\\w+)"') == {one.value: one.name for one in Code}
    assert masks(r"flags\.(\w+)") == {one.name.lower(): one.value for one in Flag if one.name}
    assert number("FIXED_OCTETS") == FIXED_OCTETS


def test_options() -> None:
    types = [one.type.value for one in OPTIONS]
    assert list(entries("options", '"([^"]+)"')) == types
    assert list(entries("dissectors", "\\{ (\\d+)")) == types
    assert masks(r"option\.(critical)") == {"critical": CRITICAL}
    assert number("HEAD_OCTETS") == HEAD_OCTETS
    flags = {name.lower(): bits for name, bits in vars(LocatorFlag).items() if name.isupper()}
    assert masks(r"locator\.(\w+)") == flags
    labels = masks(r"(\w+_label)")
    assert labels == dict.fromkeys(("sender_label", "receiver_label"), FLOW_LABEL_MASK)


def test_slots() -> None:
    found = {slot: int(one) for slot, one in entries("PROTOCOLS", "(\\d+)").items()}
    assert found == slots.PROTOCOL_OF_SLOT
    for name in ("SLOTS", "SLOT_ICMPV6", "SLOT_ESCAPE", "ESCAPE_OCTETS"):
        assert number(name) == getattr(slots, name)


def test_code_points() -> None:
    points = Codepoints()
    for name in ("icmpv6_type", "rewritable_first", "fixed_first"):
        assert f"m6.prefs.{name} = Pref.uint(" in TEXT
        found = re.search(rf'm6\.prefs\.{name} = Pref\.uint\("[^"]+", (\d+),', TEXT)
        assert found
        assert int(found[1]) == getattr(points, name)
