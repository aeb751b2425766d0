# SPDX-License-Identifier: MIT
"""Routes of single packets, as rules by user, protocol, port and mark have them."""

import socket
from collections.abc import Sequence
from typing import Any

import pytest

from noid.constants import LOCATORS_MAX
from noid.errors import PlatformError
from noid.host import lookup
from noid.host.links import FAR_AWAY
from noid.host.lookup import AT_ONCE, USERS, Packet, Taken, refused, routes_taken, usual_user
from noid.host.netlink import HostNetwork
from noid.host.rules import Rule
from noid.host.survey import Survey
from noid.locators import Locator, parse_locator
from tests.namespaces import in_network_namespace, ip

ONE, TWO = parse_locator("2001:db8:1::1"), parse_locator("2001:db8:2::1")
RULES = (
    "priority 1000 uidrange 0-999 lookup 77",
    "priority 1001 not uidrange 0-99 lookup 77",
    "priority 1002 to 2001:db8:9::/48 ipproto udp sport 7-9 dport 53 lookup 77",
    "priority 1003 fwmark 0x100/0xff00 iif lo prohibit",
    "priority 1004 iif up1 dport 80 lookup 77",
    "priority 1005 from 2001:db8:1::/48 lookup 77",
    "priority 1006 oif up1 fwmark 0x100 ipproto 255 lookup 77",
)


def two_uplinks() -> dict[str, int]:
    for name, number in (("up1", 1), ("up2", 2)):
        ip(f"link add {name} type veth peer name far-{name}")
        ip(f"link set {name} up")
        ip(f"link set far-{name} up")
        ip(f"addr add 2001:db8:{number}::1/64 dev {name} nodad")
        ip(f"route add default via 2001:db8:{number}::ff dev {name} table {100 + number}")
        ip(f"rule add priority 2000 from 2001:db8:{number}::/64 lookup {100 + number}")
    ip("route add default via 2001:db8:1::ff dev up1")
    ip("route add default via 2001:db8:2::ff dev up2 table 77")
    return {name: socket.if_nametoindex(name) for name in ("up1", "up2")}


def rules_there() -> dict[int, Rule]:
    network = HostNetwork()
    try:
        return {one.priority: one for one in network.rules()}
    finally:
        network.close()


def test_a_rule_is_read_with_everything_it_selects_by_and_added_again() -> None:
    def scenario() -> None:
        two_uplinks()
        for text in RULES:
            ip(f"rule add {text}")
        there = rules_there()
        assert there[1000].uids == (0, 999)
        assert not there[1000].is_inverted
        assert there[1001].is_inverted
        assert there[1002].destination == parse_locator("2001:db8:9::")
        assert there[1002].destination_bits == 48
        assert (there[1002].protocol, there[1002].source_ports) == (17, (7, 9))
        assert there[1002].destination_ports == (53, 53)
        assert (there[1003].mark, there[1003].mask) == (0x100, 0xFF00)
        assert there[1004].is_passing
        assert (there[1006].device, there[1006].protocol) == ("up1", socket.IPPROTO_RAW)
        assert [one for one in there if there[one].is_by_program] == [1000, 1001, 1002, 1006]
        network = HostNetwork()
        try:
            again = {there[one]._replace(priority=one + 500) for one in (*range(1000, 1004), 1006)}
            network.add_rules(again)
            assert again <= set(network.rules())
            network.remove_rules(again)
            assert not again & set(network.rules())
        finally:
            network.close()

    in_network_namespace(scenario)


def test_a_rule_is_for_a_user_or_a_mark_only_if_it_is_not_for_all() -> None:
    every, some = Rule(1000, table=77), Rule(1000, table=77, uids=(0, 9))
    assert [some.is_for(uid) for uid in (0, 9, 10)] == [True, True, False]
    others = some._replace(is_inverted=True)
    assert [others.is_for(uid) for uid in (0, 9, 10)] == [False, False, True]
    marked = Rule(1000, table=77, mark=0x6000, mask=0xF000)
    assert (marked.is_for_mark(0x6D36), marked.is_for_mark(0x7D36)) == (True, False)
    assert marked._replace(is_inverted=True).is_for_mark(0x7D36)
    assert not every.is_for(0)
    assert not every.is_for_mark(0x6D36)


def test_the_usual_user_is_one_whom_no_rule_leads_elsewhere() -> None:
    one = usual_user(())
    assert usual_user((Rule(1, table=77, uids=(one, one)),)) != one
    assert usual_user((Rule(1, table=77, uids=(0, 65_535)),)) == USERS[1]
    everyone = Rule(1, table=77, uids=(0, 0xFFFFFFFE))
    assert usual_user((everyone,)) == one


def test_a_route_depends_on_the_user_the_source_and_the_mark() -> None:
    def scenario() -> None:
        at = two_uplinks()
        ip("rule add priority 1000 uidrange 0-0 lookup 77")
        ip("rule add priority 1001 fwmark 7 prohibit")
        packet = Packet(FAR_AWAY)
        (found,) = routes_taken([packet], 0)
        assert (found.device, found.source, found.table) == (at["up2"], TWO, 77)
        assert found.gateway == parse_locator("2001:db8:2::ff")
        (found,) = routes_taken([packet], 1)
        assert (found.device, found.source, found.table) == (at["up1"], ONE, 254)
        given, marked = Packet(FAR_AWAY, TWO), Packet(FAR_AWAY, mark=7)
        answers = routes_taken([given, marked] * AT_ONCE, 1)
        assert {one.table for one in answers[::2]} == {102}
        assert all(one.error and not one.device for one in answers[1::2])
        assert routes_taken([], 1) == []

    in_network_namespace(scenario)


def test_a_packet_is_refused_by_a_route_to_it_and_not_by_the_default_route() -> None:
    def scenario() -> None:
        two_uplinks()
        peer = parse_locator("2001:db8:3::1")
        one, two = Packet(peer, ONE), Packet(peer, TWO)
        assert refused([one, two], 0) == set()
        ip("route add prohibit 2001:db8:3::/64 table 101")
        assert refused([one, two], 0) == {one}
        ip("route del default table 101")
        ip("route add unreachable default table 101")
        ip("route del default table 102")
        ip("route add unreachable default table 102")
        assert refused([one, two], 0) == {one}
        ip("route add unreachable 2001:db8:3::1 table 101")
        assert refused([one, two], 0) == set(), "the lost uplink may be the reason"
        ip("rule add priority 1003 to 2001:db8:3::/64 prohibit")
        assert refused([one, two] * AT_ONCE, 0) == {one, two}
        assert refused([], 0) == set()

    in_network_namespace(scenario)


def test_the_default_route_is_asked_for_once_and_only_if_a_packet_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[list[Packet]] = []

    def noted(packets: Sequence[Packet], uid: int) -> list[Taken]:
        calls.append(list(packets))
        return routes_taken(packets, uid)

    def scenario() -> None:
        two_uplinks()
        monkeypatch.setattr(lookup, "routes_taken", noted)
        peers = [parse_locator(f"2001:db8:3::{number:x}") for number in range(3)]
        packets = [Packet(peer, source) for peer in peers for source in (ONE, TWO)]
        assert refused(packets, 0) == set()
        ip("route add prohibit 2001:db8:3::/64 table 101")
        assert refused(packets, 0) == set(packets[::2])
        assert calls == [packets, [], packets, [Packet(FAR_AWAY, ONE)]]

    in_network_namespace(scenario)


def test_no_question_takes_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "socket")
    assert routes_taken([], 0) == []


def test_a_rule_for_the_user_of_noid_moves_no_address_to_another_uplink() -> None:
    def scenario() -> tuple[dict[Locator, int], dict[Locator, int]]:
        two_uplinks()
        ip("rule add priority 1000 uidrange 0-0 lookup 77")
        network = HostNetwork()
        try:
            survey = network.survey(["up*"], excluded=[])
            assert network.default_route(FAR_AWAY, mark=0)[0] == ONE
            assert all(one.leads_out for one in survey.locators)
            return survey.leaving, survey.tables(())
        finally:
            network.close()

    assert in_network_namespace(scenario) == ({}, {ONE: 101, TWO: 102})


def test_very_many_addresses_make_no_more_rules_than_locators() -> None:
    def scenario() -> Survey:
        two_uplinks()
        for number in range(2, 2 * LOCATORS_MAX):
            ip(f"addr add 2001:db8:1::{number:x}/64 dev up1 nodad")
        network = HostNetwork()
        try:
            return network.survey(["up*"], excluded=[])
        finally:
            network.close()

    survey = in_network_namespace(scenario)
    assert len(survey.locators) > LOCATORS_MAX
    found = survey.tables(())
    assert len(found) == LOCATORS_MAX
    assert {ONE: 101, TWO: 102}.items() <= found.items()
    last = parse_locator(f"2001:db8:1::{2 * LOCATORS_MAX - 1:x}")
    assert last not in found
    assert survey.tables((last,))[last] == 101


def test_a_rule_that_the_kernel_refuses_keeps_no_other_from_being_added() -> None:
    def scenario() -> None:
        good = {Rule(one, table=77, source=ONE) for one in (70, 72)}
        network = HostNetwork()
        try:
            with pytest.raises(PlatformError, match="priority 71"):
                network.add_rules({*good, Rule(71, table=77, uids=(9, 1))})
            assert good <= set(network.rules())
            network.add_rules(good)
        finally:
            network.close()

    in_network_namespace(scenario)


@pytest.mark.parametrize("later", [{"protocol": 6}, {"destination_ports": (443, 443)}])
@pytest.mark.parametrize("is_general_first", [True, False])
def test_rules_are_removed_though_one_selects_by_more_than_another(
    later: dict[str, Any], is_general_first: bool
) -> None:
    general = Rule(70, table=77, uids=(1000, 1000))
    rules = [general, general._replace(**later)]

    def scenario() -> list[Rule]:
        network = HostNetwork()
        try:
            for rule in rules if is_general_first else reversed(rules):
                network.add_rules([rule])
            assert set(rules) <= set(network.rules())
            network.remove_rules(rules)
            return [rule for rule in network.rules() if rule.priority == 70]
        finally:
            network.close()

    assert in_network_namespace(scenario) == []
