# SPDX-License-Identifier: MIT
"""What is pure of the faults and the variants of a lab: plans, rules and messages."""

import ipaddress
import itertools
import re

import pytest
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptPrefixInfo

from noid.errors import UsageError
from noid.lab import advertisement, faults
from noid.lab.faults import OF_THE_PROVIDER, Blackholed, Down, Dropped, Fault
from noid.lab.scenarios import SCENARIOS, Talk
from noid.lab.topology import HOSTS
from noid.lab.variants import VARIANT_TEXTS, VARIANTS, Variant, plan_of

PREFIX = "2001:db8:1:a::/64"
PAIRS = list(itertools.product(VARIANTS, HOSTS, (1, 2)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_gateway_of_a_variant_is_a_neighbour(variant: Variant) -> None:
    plan = plan_of(variant)
    for route in plan.routes:
        interfaces = plan.interfaces(route.node)
        if not route.gateway:
            assert route.interface in interfaces, route
            continue
        prefixes = [
            ipaddress.IPv6Interface(address.text).network
            for address in plan.addresses
            if address.node == route.node and address.interface in interfaces
        ]
        gateway = ipaddress.IPv6Address(route.gateway)
        assert any(gateway in prefix for prefix in prefixes), route


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_address_of_a_variant_is_on_exactly_one_existing_interface(
    variant: Variant,
) -> None:
    plan = plan_of(variant)
    texts = [address.text for address in plan.addresses]
    assert len(texts) == len(set(texts))
    for address in plan.addresses:
        assert address.interface in plan.interfaces(address.node), address


@pytest.mark.parametrize(("variant", "host", "number"), PAIRS)
def test_every_host_of_a_variant_has_an_uplink_to_each_provider(
    variant: Variant, host: str, number: int
) -> None:
    plan = plan_of(variant)
    uplink = plan.uplink(host, number)
    assert plan.addresses_of(host, uplink, number)
    assert plan.routes_through(host, uplink, number)
    assert plan.link(host, uplink)


def test_only_what_a_variant_is_about_differs_from_the_plain_network() -> None:
    plain = plan_of("plain")
    for variant in VARIANTS:
        plan = plan_of(variant)
        assert (plan != plain) == (variant != "plain")
        assert {one for one in plan.addresses if one.node not in ("a", "isp1", "isp2")} == {
            one for one in plain.addresses if one.node not in ("a", "isp1", "isp2")
        }
        assert plan.names == plain.names
    assert set(VARIANT_TEXTS) == set(VARIANTS)


def test_the_faults_of_a_whole_provider_name_no_host() -> None:
    plan = plan_of("plain")
    for fault in OF_THE_PROVIDER:
        effects = {faults.effect(plan, fault, 1, host) for host in HOSTS}
        assert len(effects) == 1
    for fault in set(Fault) - OF_THE_PROVIDER - {Fault.RA}:
        effects = {faults.effect(plan, fault, 1, host) for host in HOSTS}
        assert len(effects) == 2, fault


def test_a_one_way_fault_drops_all_packets_to_the_host_and_none_from_it() -> None:
    effect = faults.effect(plan_of("plain"), Fault.ONE_WAY, 1, "a")
    assert isinstance(effect, Blackholed)
    assert {rule.incoming for rule in effect.rules} == {"core", "custb"}
    assert {rule.destination for rule in effect.rules} == {PREFIX}
    effect = faults.effect(plan_of("plain"), Fault.ONE_WAY_UP, 1, "a")
    assert isinstance(effect, Blackholed)
    assert {rule.incoming for rule in effect.rules} == {"custa"}


def test_the_carrier_of_a_vlan_is_that_of_the_card_below_it() -> None:
    effect = faults.effect(plan_of("vlan"), Fault.CARRIER, 1, "a")
    assert effect == Down(node="isp1", line="linea", interface="custa", number=1)


def test_only_a_host_that_learns_can_lose_its_router_by_an_advertisement() -> None:
    assert faults.effect(plan_of("ra"), Fault.RA, 1, "a")
    for host, number in (("b", 1), ("a", 2)):
        with pytest.raises(UsageError, match="does not learn"):
            faults.effect(plan_of("ra"), Fault.RA, number, host)


def test_dropping_covers_both_directions_of_each_interface() -> None:
    text = faults.drop_commands(Dropped(node="isp1", interfaces=("custa", "core"), table="t"))
    found = re.findall(r'hook (\w+) device "(\w+)" priority -500; policy drop', text)
    assert set(found) == set(itertools.product(("ingress", "egress"), ("custa", "core")))


def test_a_replaced_link_address_is_another_one_of_the_same_kind() -> None:
    before = "02:11:22:33:44:55"
    after = faults.replacement(before)
    assert after != before
    assert faults.replacement(after) == before
    assert (int(before[:2], 16) ^ int(after[:2], 16)) & 0x03 == 0


@pytest.mark.parametrize("lifetime_s", [0, advertisement.LIFETIME_S])
def test_an_advertisement_is_what_another_decoder_reads(lifetime_s: int) -> None:
    message = ICMPv6ND_RA(advertisement.advertisement(PREFIX, lifetime_s=lifetime_s))
    option = message[ICMPv6NDOptPrefixInfo]
    assert message.routerlifetime == lifetime_s
    assert (option.prefix, option.prefixlen) == ("2001:db8:1:a::", 64)
    assert (option.L, option.A) == (1, 1)
    assert option.validlifetime == advertisement.INFINITE_S


def test_there_is_a_scenario_for_each_fault_and_each_variant() -> None:
    assert {row.fault for row in SCENARIOS.values()} == set(Fault)
    assert {row.variant for row in SCENARIOS.values()} == set(VARIANTS)
    assert any(row.device for row in SCENARIOS.values())


def test_an_outcome_is_good_if_old_and_new_connections_go_on() -> None:
    assert _talk().good
    assert not _talk(survived=False).good
    assert not _talk(intact=False).good
    assert not _talk(new_connection_ms=None).good
    assert _talk(survived=False).figures["longest silence"] == "> 0.0 s"
    assert _talk(new_connection_ms=None).figures["new connection"] == "none"


def _talk(
    *, survived: bool = True, intact: bool = True, new_connection_ms: float | None = 9.0
) -> Talk:
    return Talk(
        scenario="silent",
        plane="none",
        fault="silent",
        variant="plain",
        survived=survived,
        gap_ms=20.0,
        new_connection_ms=new_connection_ms,
        intact=intact,
        words=3,
        contexts=0,
        seconds=1.0,
    )
