# SPDX-License-Identifier: MIT
"""What of a changed configuration a running daemon applies."""

from ipaddress import IPv6Network

import msgspec

from noid.config import Config, parse_config
from noid.roles.reloading import LIVE, pins_of, policy_of, reloaded

OLD = parse_config('[host]\nname = "a.example"\n[dns]\nport = 53')


def test_live_keys_are_applied_and_others_wait_for_a_restart() -> None:
    text = '[host]\nname = "b.example"\nbackup = ["wwan*"]\n[dns]\nport = 54\n[plane]\ntable = 300'
    found = reloaded(OLD, parse_config(text))
    assert found.applied == ("host.name", "host.backup")
    assert found.restart == ("dns.port", "plane.table")
    assert (found.config.host.name, found.config.dns.port) == ("b.example", 53)


def test_what_needs_a_restart_is_reported_until_then() -> None:
    new = parse_config("[plane]\ntable = 300")
    again = reloaded(reloaded(OLD, new).config, new)
    assert (again.applied, again.restart) == ((), ("plane.table",))


def test_the_same_file_changes_nothing() -> None:
    found = reloaded(OLD, OLD)
    assert (found.config, found.applied, found.restart) == (OLD, (), ())


def test_every_live_key_is_a_key() -> None:
    keys = {
        f"{section}.{key}"
        for section, values in msgspec.to_builtins(Config()).items()
        for key in values
    }
    assert keys >= LIVE


def test_addresses_prefixes_names_and_domains_are_told_apart() -> None:
    text = '[policy]\nplain = ["2001:db8::/32", "2001:db8:1::1", "B.example.", "*.corp.example"]'
    policy = policy_of(parse_config(text))
    assert policy.prefixes == (IPv6Network("2001:db8::/32"), IPv6Network("2001:db8:1::1"))
    assert (policy.names, policy.domains) == (frozenset({"b.example"}), ("corp.example",))


def test_uplinks_and_pins_are_applied() -> None:
    text = '[policy.pin]\n"*.example" = "eth1"\n[uplinks.eth0]\nweight = 2'
    new = parse_config(text)
    found = reloaded(parse_config(""), new)
    assert found.applied == ("policy.pin", "uplinks")
    assert found.config.uplinks == new.uplinks
    ((peers, uplink),) = pins_of(found.config)
    assert uplink == "eth1"
    assert peers.names_it("b.example")
