# SPDX-License-Identifier: MIT
"""The configuration of a border is taken as a whole, or refused with the key and the reason."""

from ipaddress import IPv6Network
from pathlib import Path

import pytest

from noid.border_config import load_border_config, parse_border_config
from noid.cli.border import RUN_EXAMPLE
from noid.constants import (
    BORDER_INSIDE_MAX,
    BORDER_LANS_MAX,
    BORDER_PREFIXES_MAX,
    BORDER_PROVIDERS_MAX,
)
from noid.errors import ConfigError
from noid.flows.border import SitePrefix
from noid.locators import parse_locator
from noid.roles.border_prefixes import KnownPrefixes

ONE = 'name = "one"\nuplink = "wan1"\nprefixes = ["2001:db8:1::/48"]'
TWO = 'name = "two"\nuplink = "wan2"\nprefixes = ["2001:db8:2::/48"]'


def text(*providers: str, lans: str = '["lan0"]', more: str = "", behind: str = "") -> str:
    tables = "".join(f"[[border.providers]]\n{one}\n" for one in providers)
    return f"[border]\nlans = {lans}\n{more}\n{tables}\n{behind}"


def test_the_example_of_the_help_is_a_configuration() -> None:
    example = RUN_EXAMPLE[RUN_EXAMPLE.index("  [border]") :]
    config = parse_border_config(example)
    site = KnownPrefixes(config).site({"wan1": 7}, 0)
    assert site.bits == 48
    assert site.inside == (IPv6Network("fc00::/7"),)
    assert site.prefixes == (
        SitePrefix(parse_locator("2001:db8:1::")[:8], 7, "one"),
        SitePrefix(parse_locator("2001:db8:2::")[:8], 0, "two"),
    )


def test_other_borders_of_a_lan_may_have_the_uplinks() -> None:
    checked = '\ngateway = "2001:db8:{0}::2"\ncheck = "2001:db8:f{0}::1"'
    two = TWO.replace("wan2", "lan0") + checked.format(2)
    three = two.replace('"two"', '"three"').replace(":2::/", ":3::/")
    config = parse_border_config(text(ONE, two, three))
    assert [config.is_behind_lan(one) for one in config.border.providers] == [False, True, True]


REFUSALS = {
    "border.lans": [
        text(ONE, lans="[]"),
        text(ONE, lans='["lan0", "lan0"]'),
        text(ONE, lans=str([f"lan{one}" for one in range(BORDER_LANS_MAX + 1)])),
        text(ONE, lans='"lan0"'),
    ],
    "border.lans[0]": [text(ONE, lans='["a b"]'), text(ONE, lans='["sixteen-letters-"]')],
    "border.providers": [
        text(more="providers = []"),
        text(*[ONE.replace("one", f"n{one}").replace("wan1", f"w{one}").replace(":1:", f":{one:x}:")
               for one in range(BORDER_PROVIDERS_MAX + 1)]),
        text('name = "one"\nprefixes = '
             + str([f"2001:db8:{one:x}::/48" for one in range(BORDER_PREFIXES_MAX + 1)])),
        text(),
    ],
    "border.providers[0].uplink": [text(ONE, lans='["wan1"]')],
    "border.providers[1].uplink": [text(ONE, TWO.replace("wan2", "wan1"))],
    "border.providers[1].name": [text(ONE, TWO.replace("two", "one"))],
    "border.providers[0].name": [
        text(ONE.replace("one", "auto")),
        text(ONE.replace('"one"', '"no space"')),
    ],
    "border.providers[0].prefixes": [
        text(ONE.replace("/48", "/47")),
        text(ONE.replace("/48", "/65")),
        text(ONE.replace("1::/48", "1::1/48")),
        text(ONE.replace('["2001:db8:1::/48"]', "[]")),
        text(ONE.replace('["', '["192.0.2.0/24", "')),
        text(ONE.replace("2001:db8:1::", "fe80::")),
        text(ONE.replace("2001:db8:1::", "ff0e::")),
        text(ONE.replace("2001:db8:1::", "::")),
    ],
    "border.providers[1].prefixes": [
        text(ONE, TWO.replace("/48", "/56")),
        text(ONE, TWO.replace(":2:", ":1:")),
    ],
    "border.providers[0].gateway": [
        text(ONE + '\ngateway = "router"'),
        text(ONE.replace('uplink = "wan1"', 'gateway = "fe80::1"')),
        text(ONE + '\ngateway = "ff02::2"'),
        text(ONE + '\ngateway = "2001:db8:2::1"', TWO),
    ],
    "border.providers[0].check": [
        text(ONE + '\ncheck = "router"'),
        text(ONE + '\ngateway = "fe80::1"', lans='["wan1"]'),
        text(ONE + '\ngateway = "fe80::1"\ncheck = "gateway"', lans='["wan1"]'),
        text(ONE.replace('uplink = "wan1"', 'check = "gateway"')),
        text(ONE + '\ncheck = "::"'),
        text(ONE + '\ncheck = "::1"'),
        text(ONE + '\ncheck = "2001:db8:1:ffff::1"'),
        text(ONE + '\ngateway = "2001:db8:1::2"\ncheck = "2001:db8:2::1"', TWO, lans='["wan1"]'),
    ],
    "border.providers[0].check_interval_s": [text(ONE + "\ncheck_interval_s = 0.01")],
    "border.providers[0].check_down": [text(ONE + "\ncheck_down = 0")],
    "border.providers[0].check_up": [text(ONE + "\ncheck_up = 1001")],
    "border.providers[0].bfd": [
        text(ONE.replace('uplink = "wan1"', "bfd = true")),
        text(ONE + '\nbfd = "yes"'),
    ],
    "border.providers[0].bfd_peer": [
        text(ONE + '\nbfd_peer = "2001:db8:ff::1"'),
        text(ONE + '\nbfd = true\nbfd_peer = "fe80::1"'),
        text(ONE + '\nbfd = true\nbfd_peer = "router"'),
        text(ONE + '\nbfd = true\nbfd_peer = "2001:db8:1::1"'),
    ],
    "border.providers[0].bfd_hop_limit_min": [text(ONE + "\nbfd_hop_limit_min = 256")],
    "border.providers[0].bfd_authentication": [text(ONE + '\nbfd_authentication = "md5"')],
    "border.providers[0].bfd_key": [
        text(ONE + '\nbfd_authentication = "keyed-sha1"'),
        text(ONE + '\nbfd_key = "secret"'),
        text(ONE + f'\nbfd_authentication = "keyed-sha1"\nbfd_key = "{"k" * 21}"'),
    ],
    "border.providers[0].bfd_interval_s": [text(ONE + "\nbfd_interval_s = 0.001")],
    "border.providers[0].bfd_multiplier": [text(ONE + "\nbfd_multiplier = 256")],
    "border.inside": [
        text(ONE, more='inside = ["ULA"]'),
        text(ONE, more=f"inside = {[f'fd{one:02x}::/16' for one in range(BORDER_INSIDE_MAX + 1)]}"),
    ],
    "border.hold_s": [text(ONE, more="hold_s = -1"), text(ONE, more='hold_s = "long"')],
    "border.socket": [
        text(ONE, more='socket = ""'),
        text(ONE, more='socket = "a\\u0000"'),
        text(ONE, more=f'socket = "/{"a" * 107}"'),
    ],
    "border.pins": [text(ONE, more='pins = "\\u0000"')],
    "border.mark": [text(ONE, more="mark = 0")],
    "border.table": [text(ONE, more="table = 254")],
    "border.rule_priority": [text(ONE, more="rule_priority = 32766")],
    "border.hook": [text(ONE, more='hook = "xdp"')],
    "border.lan": [text(ONE, more='lan = "lan0"')],
    "border.providers[0].metric": [text(ONE + "\nmetric = 1")],
    "codepoints.fixed_first": [text(ONE, behind="[codepoints]\nfixed_first = 225")],
    "codepoints.rewritable_first": [text(ONE, behind="[codepoints]\nrewritable_first = 6")],
    "metrics.listen": [text(ONE, behind='[metrics]\nlisten = "9469"')],
    "metrics.port": [text(ONE, behind="[metrics]\nport = 9469")],
    "border": ["", "[codepoints]"],
    "here": ["[border", "a = " + 5_000 * "[", "a = " + 5_000 * "1"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "wrong"), [(key, one) for key in REFUSALS for one in REFUSALS[key]]
)
def test_what_cannot_be_is_refused_with_its_key(key: str, wrong: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_border_config(wrong, origin="here")
    assert refusal.value.key == key
    assert refusal.value.why
    assert "\n" not in str(refusal.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        load_border_config(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_border_config(tmp_path / "latin.toml")


def test_prefixes_of_a_file_come_behind_the_others(tmp_path: Path) -> None:
    file = tmp_path / "wan2"
    two = f'name = "two"\nuplink = "wan2"\nprefixes_file = "{file}"'
    with pytest.raises(ConfigError, match="have no prefix yet"):
        parse_border_config(text(two))
    assert parse_border_config(text(ONE, two)).border.providers[1].prefixes == []
    file.write_text("2001:db8:2::/48\n2001:db8:3::/48\n")
    both = parse_border_config(text(ONE, two))
    assert both.border.providers[1].prefixes == ["2001:db8:2::/48", "2001:db8:3::/48"]
    assert [one.provider for one in KnownPrefixes(both).site({}, 0).prefixes] == [
        "one",
        "two",
        "two",
    ]
    again = parse_border_config(text(ONE, two + '\nprefixes = ["2001:db8:3::/48"]'))
    assert again.border.providers[1].prefixes == ["2001:db8:3::/48", "2001:db8:2::/48"]
    file.write_text("2001:db8:2::/56\n")
    with pytest.raises(ConfigError, match="has not the length of"):
        parse_border_config(text(ONE, two))
    with pytest.raises(ConfigError, match=r"prefixes_file.* cannot be read"):
        parse_border_config(text(ONE, two.replace(str(file), str(tmp_path))))


def test_bad_lines_of_a_file_are_left_out_if_nothing_refuses_them(tmp_path: Path) -> None:
    file = tmp_path / "wan2"
    two = f'name = "two"\nuplink = "wan2"\ncheck = "2001:db8:c::53"\nprefixes_file = "{file}"'
    good = ["2001:db8:2::/48", "2001:db8:3::/48"]
    bad = [
        "2001:db8:5::1/48",
        "2001:db8:5::/56",
        "2001:DB8:1:0::/48",
        "2001:db8:c::/48",
        "fe80::/48",
        "# 2001:db8:5::/48",
        "\0",
    ]
    for lines in (bad, [*bad, *good], [good[0], *bad, good[1], "2001:DB8:2:0::/48"]):
        file.write_text("\n".join(lines))
        refused: list[ConfigError] = []
        config = parse_border_config(text(ONE, two), refuse=refused.append)
        assert config.border.providers[1].prefixes == [one for one in good if one in lines]
        for one, line in zip(refused, bad, strict=True):
            assert str(file) in one.why
            assert repr(line) in one.why
        with pytest.raises(ConfigError, match="prefixes_file"):
            parse_border_config(text(ONE, two))
    file.write_bytes(b"\xff")
    refused = []
    assert parse_border_config(text(ONE, two), refuse=refused.append)
    assert ["cannot be read" in one.why for one in refused] == [True]
    with pytest.raises(ConfigError, match="have no prefix yet"):
        parse_border_config(text(two), refuse=refused.append)


def test_what_removes_a_border_needs_none_of_its_prefixes(tmp_path: Path) -> None:
    config = tmp_path / "border.toml"
    (tmp_path / "wan2").write_text("nothing")
    config.write_text(text(f'name = "two"\nprefixes_file = "{tmp_path}/wan2"'))
    with pytest.raises(ConfigError):
        load_border_config(config)
    assert load_border_config(config, is_checked=False).border.lans == ["lan0"]
