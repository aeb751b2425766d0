# SPDX-License-Identifier: MIT
"""Other names and addresses for those of a host, in every form that a text has them."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noid.doctor.pseudonyms import KEY_OCTETS, REMOVED, Pseudonyms, without_secrets

KEY = bytes(range(KEY_OCTETS))
OTHERS = Pseudonyms(KEY, ["gate.corp.example"], ["host.name", "plane.kind"])
ADDRESS = IPv6Address("2001:db8:1:a::b")
OTHER = OTHERS.of_address(ADDRESS)
GLOBAL = st.integers(1 << 125, (1 << 126) - 1).map(IPv6Address)


def common(one: IPv6Address, two: IPv6Address) -> int:
    """How many bits two addresses begin with alike."""
    return 128 - (int(one) ^ int(two)).bit_length()


@given(GLOBAL, GLOBAL)
def test_addresses_share_a_prefix_as_long_as_before(one: IPv6Address, two: IPv6Address) -> None:
    others = [OTHERS.of_address(address) for address in (one, two)]
    assert all(isinstance(other, IPv6Address) and other.packed[0] >> 5 == 1 for other in others)
    first, second = (IPv6Address(int(other)) for other in others)
    assert common(first, second) == common(one, two)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"from {ADDRESS} to", f"from {OTHER} to"),
        ("from 2001:0DB8:1:A:0:0:0:B to", f"from {OTHER} to"),
        (f"[{ADDRESS}]:53", f"[{OTHER}]:53"),
        (ADDRESS.exploded.replace(":", ""), f"{int(OTHER):032x}"),
        (f"0x{int(ADDRESS):032X}", f"0x{int(OTHER):032x}"),
        (ADDRESS.reverse_pointer, OTHER.reverse_pointer),
        (f"{ADDRESS.reverse_pointer}.", f"{OTHER.reverse_pointer}."),
        (ADDRESS.packed.hex(":"), OTHER.packed.hex(":")),
        (f"eth0/{'2001:db8:1:a'}", f"eth0/{str(IPv6Network((OTHER, 64), False)[0])[:-2]}"),
        ("2001:db8:1:a::/64", str(IPv6Network((OTHER, 64), strict=False))),
        ("2001:db8:1:a::/64: no", f"{IPv6Network((OTHER, 64), strict=False)}: no"),
    ],
)
def test_an_address_is_replaced_in_every_form(text: str, expected: str) -> None:
    assert OTHERS.of_text(text) == expected


@given(
    GLOBAL.map(IPv6Address.compressed.__get__) | GLOBAL.map(IPv6Address.exploded.__get__),
    st.sampled_from(["", " ", "peer:", "node:", "(", "x=", "'", "//", "_", ". ", "12:34:56: "]),
    st.sampled_from(["", ":", ".", ".53", ": no", ". It", "'s", "x", "%eth0.", ")", "-", "_"]),
)
def test_no_address_is_left_by_what_stands_around_it(text: str, before: str, after: str) -> None:
    other = OTHERS.of_address(IPv6Address(text))
    assert OTHERS.of_text(f"{before}{text}{after}") == f"{before}{other}{after}"


@pytest.mark.parametrize(
    "text",
    [
        *("https://gate.corp.example/", "a.example/gate.corp.example", "GATE.corp.EXAMPLE(1)"),
        *("gate.corp.example_1", r"caf\195\169.corp.example", "192.0.2.77.", "nas.service"),
    ],
)
def test_a_name_or_address_is_replaced_anywhere(text: str) -> None:
    others = Pseudonyms(KEY, ["gate.corp.example", "nas.service"], [])
    found = others.of_text(text).lower()
    for word in ("gate", "corp", "caf", "192", "nas", "service"):
        assert word not in found.replace("a.example", "")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "::1",
            "::",
            "127.0.0.1",
            "ff02::1",
            "12:34:56",
            "12:34:56: x",
            "2026-11-29T06:00:00+0000",
        ),
        *("/etc/noid.toml", "plane.kind", "noid.service", "6.1.0-32-cloud-amd64", "0.1.0"),
        *("Every 10 s one line reports.", "x86_64", "up1", "1 of 2"),
    ],
)
def test_what_is_of_no_one_stays(text: str) -> None:
    assert OTHERS.of_text(text) == text


@pytest.mark.parametrize(
    "part", ["a:", "00:", "0", "a.", "::", "1.", "\\1", "\\123", "-", "/home/"]
)
def test_a_long_text_of_others_is_replaced_too(part: str) -> None:
    text = part * (1 << 12)
    assert OTHERS.of_text(text)
    assert "2001:db8" not in OTHERS.of_text(f"{text} {ADDRESS}: {text}")


@pytest.mark.parametrize("address", ["::", ":::", "2001:db8::1", "2001:db8::1."])
def test_the_length_of_a_prefix_may_be_of_others_too(address: str) -> None:
    digits = "9" * (1 << 16)
    found = OTHERS.of_text(f"{address}/{digits}")
    assert found.endswith(digits[3:])
    assert "2001:db8" not in found


def test_octets_of_a_packet_are_removed() -> None:
    assert OTHERS.of_text(bytes(40).hex(":")) == REMOVED


def test_names_stay_below_each_other_and_are_found_as_words() -> None:
    found = OTHERS.of_text("Gate.Corp.example. www.corp.example; gate is up; gateway").split()
    host, www, gate, *_, gateway = (one.strip(".;") for one in found)
    assert host.split(".")[1:] == www.split(".")[1:]
    assert host.split(".")[0] == gate
    assert host != www
    assert gateway == "gateway"


def test_an_address_of_a_link_keeps_the_prefix_of_all_links() -> None:
    other = OTHERS.of_text("fe80::1234%eth0")
    assert other.startswith("fe80::")
    assert other.endswith("%eth0")
    assert "1234" not in other
    assert OTHERS.of_text("fd12::1").startswith("fd")
    assert OTHERS.of_address(IPv4Address("192.0.2.1")) != IPv4Address("192.0.2.1")
    assert OTHERS.of_text("00:11:22:33:44:55") != "00:11:22:33:44:55"


def test_another_report_has_other_pseudonyms() -> None:
    other = Pseudonyms(KEY[::-1], ["gate.corp.example"], [])
    assert other.of_text(str(ADDRESS)) != str(OTHER)
    assert other.of_text("gate") != OTHERS.of_text("gate")


def test_keys_and_birthdays_are_left_out() -> None:
    key = "ab" * 32
    found = without_secrets(
        {"birthday": 1, "a": [{"peer_birthday": 2, "b": f"x {key}"}], "c": "birthday 77", "d": 3}
    )
    assert found == {"a": [{"b": f"x {REMOVED}"}], "c": REMOVED, "d": 3}
