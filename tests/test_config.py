# SPDX-License-Identifier: MIT
"""The configuration file: taken as a whole, or refused with the key and the reason."""

import json
import os
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from noid.border_config import load_border_config
from noid.config import (
    DEFAULT_SOCKET,
    DEFAULT_STATE_DIRECTORY,
    load_config,
    never_looked_up,
    parse_config,
    upstream_resolvers,
)
from noid.config_text import OCTETS_MAX
from noid.constants import LOCATORS_MAX, Codepoints
from noid.errors import ConfigError


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    return caught.value


def locators(count: int) -> str:
    listed = ", ".join(f'"2001:db8::{number + 1:x}"' for number in range(count))
    return f"[host]\nlocators = [{listed}]"


def test_an_empty_file_is_a_whole_configuration() -> None:
    config = parse_config("")
    assert config.host.interfaces == ["*"]
    assert config.host.locators == []
    assert (config.dns.listen, config.dns.port, config.dns.upstream) == ("::1", 53, [])
    assert config.plane.kind == "auto"
    assert config.control.socket == str(DEFAULT_SOCKET)
    assert config.state.directory == str(DEFAULT_STATE_DIRECTORY)
    assert config.code_points() == Codepoints()


def test_every_section_is_taken() -> None:
    config = parse_config(
        """
        [host]
        name = "a.example"
        interfaces = ["eth*"]
        locators = ["2001:db8:1::1"]
        [dns]
        listen = "::1"
        port = 5353
        upstream = ["2001:db8::53"]
        [plane]
        device = "noid1"
        mark = 1
        table = 1000
        rule_priority = 100
        [control]
        socket = "noid.sock"
        [state]
        directory = "state"
        [codepoints]
        icmpv6_type = 201
        rewritable_first = 146
        fixed_first = 154
        m6_rrtype = 65280
        """
    )
    assert config.host.name == "a.example"
    assert config.dns.port == 5353
    assert config.plane.rule_priority == 100
    assert config.code_points() == Codepoints(
        icmpv6_type=201, rewritable_first=146, fixed_first=154, m6_rrtype=65280
    )


REFUSED = [
    ("x = 1", "x", "is no known key; here are host, dns,"),
    ("host = 1", "host", "expected `object`"),
    ("[host]\nx = 1", "host.x", "is no known key; here are name"),
    ("[host]\nname = 1", "host.name", "expected `str`"),
    ("[host]\ninterfaces = []", "host.interfaces", "is empty"),
    ("[host]\ninterfaces = [1]", "host.interfaces[0]", "expected `str`"),
    ('[host]\nlocators = ["a"]', "host.locators", "not an IPv6 address"),
    ('[host]\nlocators = ["fe80::1"]', "host.locators", "not a global unicast address"),
    ('[host]\nlocators = ["ff02::1"]', "host.locators", "not a global unicast address"),
    (locators(LOCATORS_MAX + 1), "host.locators", f"more than {LOCATORS_MAX}"),
    ('[events]\ndirectory = "x"', "events.directory", "not an absolute path"),
    ("[dns]\nx = 1", "dns.x", "is no known key; here are listen"),
    ('[dns]\nlisten = "localhost"', "dns.listen", "not an IPv4 or IPv6 address"),
    ("[dns]\nport = 0", "dns.port", ">= 1"),
    ("[dns]\nport = 65536", "dns.port", "<= 65535"),
    ('[dns]\nport = "53"', "dns.port", "expected `int`"),
    ('[dns]\nupstream = ["192.0.2.256"]', "dns.upstream", "not an IPv4 or IPv6 address"),
    ('[dns]\nupstream = "2001:db8::53"', "dns.upstream", "expected `array`"),
    ('[dns]\npolicy = "random"', "dns.policy", "invalid enum value"),
    ("[dns]\nrequire_dnssec = true", "dns.require_dnssec", "needs dns.trusted"),
    ("[dns]\nrequire_dnssec = true\nprobe = true", "dns.probe", "cannot be combined with"),
    ('[dns]\ntrusted = ["2001:db8::53"]', "dns.trusted", "not in dns.upstream"),
    ('[dns]\nnever_look_up = ["10.0.0.0/8"]', "dns.never_look_up", "no IPv6 prefix"),
    ('[dns]\nnever_look_up = ["2001:db8::1/64"]', "dns.never_look_up", "has host bits set"),
    ("[plane]\nx = 1", "plane.x", "is no known key; here are kind"),
    ('[plane]\nkind = "ebpf"', "plane.kind", "must be one of auto, bpf, tun"),
    ('[plane]\ndevice = "a/b"', "plane.device", "matching regex"),
    ('[plane]\ndevice = "sixteen_letters_"', "plane.device", "matching regex"),
    ('[plane]\ndevice = ""', "plane.device", "matching regex"),
    ("[plane]\nmark = 0", "plane.mark", ">= 1"),
    ("[plane]\nmark = 0x100000000", "plane.mark", "<= 4294967295"),
    ("[plane]\ntable = 255", "plane.table", ">= 256"),
    ("[plane]\ntable = 0xFFFFFFFF", "plane.table", "<= 4294967294"),
    ("[plane]\nrule_priority = 0", "plane.rule_priority", ">= 1"),
    ("[plane]\nrule_priority = 32766", "plane.rule_priority", "<= 32765"),
    ("[control]\nsocket = 1", "control.socket", "expected `str`"),
    ("[control]\nx = 1", "control.x", "is no known key; here are socket"),
    ("[state]\ndirectory = 1", "state.directory", "expected `str`"),
    ("[state]\nx = 1", "state.x", "is no known key; here are directory"),
    ('[events]\ndirectory = "/x\\u0000"', "events.directory", "has a NUL character"),
    ('[control]\nsocket = ""', "control.socket", "is empty"),
    ('[control]\nsocket = "a\\u0000"', "control.socket", "has a NUL character"),
    (f'[control]\nsocket = "/{"é" * 54}"', "control.socket", "has more than 107 octets"),
    ('[state]\ndirectory = ""', "state.directory", "is empty"),
    ('[state]\ndirectory = "\\u0000"', "state.directory", "has a NUL character"),
    ('[plane]\npins = "\\u0000"', "plane.pins", "has a NUL character"),
    ('[metrics]\nlisten = "[::1%lo]:9469"', "metrics.listen", "is not an address and a port"),
    ('[metrics]\nlisten = "[ff02::1]:9469"', "metrics.listen", "is not an address and a port"),
    ('[metrics]\nlisten = "224.0.0.1:9469"', "metrics.listen", "is not an address and a port"),
    ('[metrics]\nlisten = "[::1]:0"', "metrics.listen", "is not an address and a port"),
    ('[uplinks.""]', "uplinks", "has a section without a name"),
    ('[dns]\nupstream = ["0:0::1"]', "dns.upstream", "has ::1, where noid itself answers"),
    ("[codepoints]\nx = 1", "codepoints.x", "is no known key; here are icmpv6_type"),
    ("[codepoints]\nicmpv6_type = 127", "codepoints.icmpv6_type", ">= 128"),
    ("[codepoints]\nicmpv6_type = 256", "codepoints.icmpv6_type", "<= 255"),
    ("[codepoints]\nrewritable_first = 145", "codepoints.rewritable_first", "146 to 245, not 145"),
    ("[codepoints]\nrewritable_first = 246", "codepoints.rewritable_first", "146 to 245, not 246"),
    ("[codepoints]\nfixed_first = 246", "codepoints.fixed_first", "146 to 245, not 246"),
    ("[codepoints]\nfixed_first = 231", "codepoints.fixed_first", "overlaps"),
    ("[codepoints]\nfixed_first = 217", "codepoints.fixed_first", "overlaps"),
    ("[codepoints]\nm6_rrtype = 255", "codepoints.m6_rrtype", ">= 256"),
    ("[codepoints]\nm6_rrtype = 65535", "codepoints.m6_rrtype", "<= 65534"),
    ('[policy]\nplain = ["192.0.2.1"]', "policy.plain", "no IPv6 address, prefix or name"),
    ('[policy]\nplain = ["2001:db8::1/32"]', "policy.plain", "no IPv6 address, prefix or name"),
    ('[policy]\nplain = ["*"]', "policy.plain", "no IPv6 address, prefix or name"),
    ('[policy.pin]\n"192.0.2.1" = "eth0"', "policy.pin", "no IPv6 address, prefix or name"),
    ('[policy.pin]\n"b.example" = ""', "policy.pin", "has no uplink"),
    ('[policy.pin]\n"b.example" = 1', "policy.pin.b.example", "expected `str`"),
    ("uplinks = 1", "uplinks", "expected `object`"),
    ("[uplinks]\neth0 = 1", "uplinks.eth0", "expected `object`"),
    ("[uplinks.eth0]\nx = 1", "uplinks.eth0.x", "is no known key; here are priority, weight,"),
    ("[uplinks.eth0]\nweight = 0", "uplinks.eth0.weight", ">= 1"),
    ("[uplinks.eth0]\nweight = 9", "uplinks.eth0.weight", "<= 8"),
    ("[uplinks.eth0]\npriority = 0", "uplinks.eth0.priority", ">= 1"),
    ("[uplinks.eth0]\npriority = 256", "uplinks.eth0.priority", "<= 255"),
    ('[uplinks."eth0/2001:db8:1:a"]\nbackup = 1', "uplinks.eth0/2001:db8:1:a.backup", "`bool`"),
    ("[host", "configuration", "is not TOML"),
    ("a = " + 5_000 * "[", "configuration", "is not TOML"),
    ("a = " + 5_000 * "1", "configuration", "is not TOML"),
]


@pytest.mark.parametrize(("text", "key", "why"), REFUSED)
def test_what_cannot_be_is_refused_with_the_key_and_the_reason(
    text: str, key: str, why: str
) -> None:
    error = refusal(text)
    assert (error.key, str(error)) == (key, f"{key}: {error.why}")
    assert why in error.why
    assert "\n" not in str(error)


def test_as_many_locators_as_a_set_may_have_are_taken() -> None:
    assert len(parse_config(locators(LOCATORS_MAX)).host.locators) == LOCATORS_MAX


@pytest.mark.parametrize("fixed_first", [216, 232])
def test_the_two_eights_may_touch(fixed_first: int) -> None:
    config = parse_config(f"[codepoints]\nfixed_first = {fixed_first}")
    assert config.code_points().fixed_first == fixed_first


# --- files ----------------------------------------------------------------------------------------


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "noid.toml"
    path.write_text('[host]\nname = "é.example"', encoding="utf-8")
    assert load_config(path).host.name == "é.example"


def test_where_no_key_can_be_blamed_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "noid.toml"
    path.write_text("[host")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.key == str(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(tmp_path / "none.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noid.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(path)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "noid.toml"
    path.write_bytes(b'\xef\xbb\xbf[host]\r\nname = "a.example"\r\n')
    assert load_config(path).host.name == "a.example"


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "noid.toml"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="is a pipe"):
        load_config(path)
    with pytest.raises(ConfigError, match="is a pipe"):
        load_border_config(path)


def test_a_file_is_so_long_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "noid.toml"
    path.write_bytes(b"#" * OCTETS_MAX)
    assert load_config(path) == parse_config("")
    path.write_bytes(b"#" * (OCTETS_MAX + 1))
    with pytest.raises(ConfigError, match=f"longer than {OCTETS_MAX} octets"):
        load_config(path)
    with pytest.raises(ConfigError, match="longer than"):
        load_config(Path("/dev/zero"))


# --- the upstream resolvers -----------------------------------------------------------------------


def test_the_configured_resolvers_come_first(tmp_path: Path) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 2001:db8::1\n")
    config = parse_config('[dns]\nupstream = ["2001:db8::53", "2001:db8::54"]')
    assert upstream_resolvers(config, resolv_conf) == ("2001:db8::53", "2001:db8::54")


def test_a_resolver_at_the_address_of_the_stub_may_have_another_port() -> None:
    config = parse_config('[dns]\nport = 5353\nupstream = ["::1"]')
    assert upstream_resolvers(config) == ("::1",)


def test_metrics_may_be_at_an_address_of_a_link() -> None:
    assert parse_config('[metrics]\nlisten = "[fe80::1%eth0]:9469"').metrics.listen


def test_the_stub_is_left_out_however_its_address_is_written(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 0:0::1\nnameserver 2001:db8::53\n")
    assert upstream_resolvers(parse_config(""), path) == ("2001:db8::53",)


def test_without_them_the_systems_own_are_asked_but_never_the_stub_itself(tmp_path: Path) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text(
        "# of the network\n\nsearch example\nnameserver ::1\nnameserver\n"
        "nameserver 2001:db8::1\nnameserver 2001:db8::2 # the other\n"
    )
    resolvers = upstream_resolvers(parse_config(""), resolv_conf)
    assert resolvers == ("2001:db8::1", "2001:db8::2")


@pytest.mark.parametrize("text", ["", "nameserver ::1\n", None])
def test_a_host_without_any_resolver_is_refused(tmp_path: Path, text: str | None) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    if text is not None:
        resolv_conf.write_text(text)
    with pytest.raises(ConfigError, match="names no other resolver") as caught:
        upstream_resolvers(parse_config(""), resolv_conf)
    assert caught.value.key == "dns.upstream"


def test_a_resolver_may_be_asked_over_ipv4_or_on_a_link(tmp_path: Path) -> None:
    servers = ("127.0.0.53", "fe80::1%eth0")
    config = parse_config(f'[dns]\nlisten = "127.0.0.2"\nupstream = {json.dumps(servers)}')
    assert upstream_resolvers(config, tmp_path / "none") == servers


def test_the_resolvers_are_never_looked_up() -> None:
    config = parse_config('[dns]\nnever_look_up = ["fd00::/8"]')
    excluded = never_looked_up(config, ["2001:db8::53", "192.0.2.53", "fe80::1%eth0"])
    expected = ("fd00::/8", "2001:db8::53/128", "fe80::1/128")
    assert excluded == tuple(map(IPv6Network, expected))
