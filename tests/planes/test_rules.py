# SPDX-License-Identifier: MIT
"""The rules of routing: which table has the route of a packet."""

import socket
import subprocess
from collections.abc import Mapping

import pytest

from noid.host.rules import GOTO, NOTHING, Rule
from noid.locators import Locator, format_locator
from noid.planes.rules import (
    ANY_SOURCE,
    NO_TABLES,
    RULES_HEEDED_MAX,
    keep_rules,
    ours_among,
    rules_of,
)
from noid.planes.steering import Steering, take_down
from noid.planes.uplink import Uplink
from tests.namespaces import ip
from tests.planes.test_steering import A1, A2, B1, ROW, SECTION, TABLE, on_a_host


def test_the_rules_lead_what_has_a_locator_or_no_source_yet() -> None:
    first, last = SECTION.rule_priority, SECTION.rule_priority + 4
    for_every_source = {
        Rule(first, GOTO, target=last, mark=SECTION.mark),
        Rule(first + 1, table=TABLE, source=A1, is_local=True),
        Rule(first + 3, table=SECTION.table, is_local=True, is_unmarked=True),
        Rule(last, NOTHING),
    }
    assert rules_of(SECTION, {A1: ROW}, by_source=False) == for_every_source
    assert rules_of(SECTION, {A1: ROW}, by_source=True) == for_every_source | {
        Rule(first + 2, GOTO, target=last, source=half, source_bits=1, is_local=True)
        for half in ANY_SOURCE
    }


def test_rules_by_user_protocol_or_port_apply_to_packets_without_a_source() -> None:
    first, last = SECTION.rule_priority, SECTION.rule_priority + 4
    others = [
        Rule(1000, table=77, uids=(1, 9)),
        Rule(1001, table=78, destination_ports=(80, 81), protocol=6),
        Rule(1002, table=79, destination_ports=(80, 81), is_passing=True),
        Rule(1003, table=80, source=A1),
        Rule(first - 1, table=81, uids=(1, 9)),
    ]
    found = rules_of(SECTION, {}, by_source=True, others=others) - rules_of(
        SECTION, {}, by_source=True
    )
    copied = Rule(first + 2, GOTO, target=last, is_local=True)
    assert found == {
        copied._replace(uids=(1, 9)),
        copied._replace(destination_ports=(80, 81), protocol=6),
    }
    assert rules_of(SECTION, {}, by_source=False, others=others) == rules_of(
        SECTION, {}, by_source=False
    ), "otherwise the packets would not reach the device in user space"
    many = [Rule(1000, table=77, uids=(one, one)) for one in range(1, 2 * RULES_HEEDED_MAX)]
    plain = rules_of(SECTION, {}, by_source=True)
    limited = rules_of(SECTION, {}, by_source=True, others=many)
    assert len(limited - plain) == RULES_HEEDED_MAX


@pytest.mark.parametrize(
    "other",
    [
        Rule(1000, table=77, uids=(0, 0)),
        Rule(1000, table=77, uids=(1, 5), is_inverted=True),
        Rule(1000, table=77, mark=0x6000, mask=0xF000),
        Rule(1000, table=77, mark=0x7777, is_inverted=True),
    ],
)
def test_packets_of_noid_leave_by_the_uplink_of_their_source_in_spite_of_a_rule(
    other: Rule,
) -> None:
    last = SECTION.rule_priority + 4
    tables = {A1: 101, A2: 102}
    ours = {Rule(last, table=tables[one], source=one, mark=SECTION.mark) for one in tables}
    for by_source in (False, True):
        found = rules_of(SECTION, {}, by_source=by_source, others=[other], tables=tables)
        assert ours <= found
        assert ours_among(SECTION, found) == found
        usual = rules_of(SECTION, {}, by_source=by_source, tables=tables)
        assert not ours & usual, "no rule takes them"


TUNNEL = Rule(0, table=51820, mark=51820, is_inverted=True)
"""What wg-quick adds for a VPN of everything: all packets but its own."""


PROHIBIT = 8
"""FR_ACT_PROHIBIT of linux/fib_rules.h."""


def test_packets_of_noid_leave_as_those_of_a_vpn_of_everything() -> None:
    first, last = SECTION.rule_priority, SECTION.rule_priority + 4
    general = Rule(32766, table=254)

    def past(*others: Rule, tables: Mapping[Locator, int] = NO_TABLES) -> set[Rule]:
        without = rules_of(SECTION, {}, by_source=True, tables=tables)
        found: frozenset[Rule] = frozenset()
        for _ in range(2):  # those of ours change nothing when they are there
            every, uplinks = [*others, *found], ["up1", "up2"]
            found = rules_of(
                SECTION, {}, by_source=True, others=every, tables=tables, uplinks=uplinks
            )
        assert ours_among(SECTION, {*found, *others}) == found
        return set(found - without)

    def expected(priority: int, target: int) -> set[Rule]:
        usual = Rule(priority, GOTO, target=target, mark=SECTION.mark)
        each = {usual._replace(device=one) for one in ("up1", "up2")}
        return {usual._replace(protocol=socket.IPPROTO_RAW), *each}

    assert past(general) == set()
    before, behind = TUNNEL._replace(priority=first - 7), TUNNEL._replace(priority=1000)
    assert past(before, general) == expected(first - 8, first)
    assert past(general, behind) == expected(999, 32766)
    assert past(behind, before, general) == expected(first - 8, first) | expected(999, 32766)
    assert past(behind, behind._replace(priority=1001), general) == expected(999, 32766)
    by_source, own = Rule(500, table=101, source=A1), Rule(last, table=101, source=A1)
    assert past(by_source, behind, general, tables={A1: 101}) == {
        own._replace(mark=SECTION.mark),
        *expected(999, 32766),
    }, "packets of the other locator have no table"
    assert past(behind) == set(), "no rule is left"
    assert past(before._replace(source=A1), general) == set()
    refusing = Rule(1001, PROHIBIT, mark=51820, is_inverted=True)
    assert past(behind, refusing, general) == expected(999, 32766), "the VPN's kill switch"
    assert past(before, general, tables={A1: 101}) == {
        own._replace(mark=SECTION.mark),
        *expected(first - 8, first),
    }, "the VPN may be an uplink"


@pytest.mark.parametrize("by_source", [True, False])
def test_a_rule_before_ours_leads_no_packet_past_them_to_its_own_uplink(by_source: bool) -> None:
    """The kernel puts a rule without a priority before all others."""
    first = SECTION.rule_priority
    network, tables = A1[:8] + bytes(8), {A1: 101, A2: 102}
    rows = {A1: ROW, A2: ROW + 1} if by_source else {}

    def added(*others: Rule, known: Mapping[Locator, int] = tables) -> set[Rule]:
        found: frozenset[Rule] = frozenset()
        for _ in range(2):  # those of ours change nothing when they are there
            every = [*others, *found]
            found = rules_of(SECTION, rows, by_source=by_source, others=every, tables=known)
        assert ours_among(SECTION, {*found, *others}) == found
        return set(found - rules_of(SECTION, rows, by_source=by_source, tables=known))

    def leading(priority: int, *locators: Locator) -> set[Rule]:
        usual = Rule(priority, table=SECTION.table, is_local=True, is_unmarked=not by_source)
        return {
            usual._replace(source=one, table=SECTION.table + rows.get(one, 0)) for one in locators
        }

    own = Rule(first - 3, GOTO, target=first - 1, mark=SECTION.mark)
    by_prefix = Rule(first - 1, table=101, source=Locator(network), source_bits=64)
    assert added(by_prefix) == {own, *leading(first - 2, A1)}
    by_mark = Rule(first - 1, table=101, mark=0x100, mask=0xFF00)
    marked = {
        one._replace(mark=0x100, mask=0xFF00, is_unmarked=False) for one in leading(first - 2, A1)
    }
    assert added(by_mark) == {own, *marked}
    both = by_prefix._replace(priority=first - 4), Rule(first - 1, table=102, source=A2)
    assert added(*both) == {
        own._replace(priority=first - 6, target=first - 4),
        *leading(first - 5, A1, A2),
    }, "a packet of ours may be meant by either"
    assert added(by_prefix, known={A1: 103, A2: 102}) == set(), "the operator wants another way"
    for one in (
        by_prefix._replace(priority=first + 10),
        by_prefix._replace(priority=2),
        by_prefix._replace(destination=B1),
        by_prefix._replace(uids=(0, 0)),
        by_prefix._replace(is_inverted=True),
        by_prefix._replace(is_passing=True),
        by_prefix._replace(action=PROHIBIT, table=0),
        by_mark._replace(mark=SECTION.mark),
        Rule(first - 1, table=101),
    ):
        assert added(one) == set(), one
    far, second = by_prefix._replace(priority=first - 3), Rule(first - 1, table=102, source=A2)
    for vpn in (TUNNEL, Rule(0, table=51820, destination=B1), Rule(0, PROHIBIT, uids=(1, 1))):
        for priority, others, expected in (
            (first - 2, (by_prefix,), set()),
            (first - 4, (far,), set()),
            (first - 2, (far,), leading(first - 4, A1)),
            (first - 2, (far, second), leading(first - 4, A1)),
        ):
            found = added(vpn._replace(priority=priority), *others)
            led = {one for one in found if one.is_local and one.priority < first}
            assert led == expected, "the rule of the operator comes first"
    if by_source:
        assert added(by_prefix, known={A2: 102}) == {own, *leading(first - 2, A1)}, "it was removed"


def test_the_rules_for_a_vpn_follow_other_rules_and_none_is_left() -> None:
    vpns = {TUNNEL._replace(priority=one) for one in (SECTION.rule_priority - 1, 1000)}

    def scenario(steering: Steering, up1: Uplink) -> None:
        network = steering.network
        without = set(network.rules())
        later = Rule(20_000, table=4711, source=A1)
        network.add_rules(vpns)
        for change in (network.add_rules, network.remove_rules):
            for _ in range(2):
                actual = network.rules()
                wanted = rules_of(
                    SECTION, {}, by_source=True, others=actual, tables={A1: 101}, uplinks=["up1"]
                )
                keep_rules(network, SECTION, wanted, actual)
                assert ours_among(SECTION, network.rules()) == wanted
                change([later])
        network.remove_rules([later])
        take_down(network, SECTION)
        assert set(network.rules()) == without | vpns

    assert on_a_host(scenario) == []


def test_a_packet_of_any_given_source_is_routed_as_without_noid() -> None:
    """Also one whose source is on no interface (IP_FREEBIND), or not global."""

    def scenario(steering: Steering, up1: Uplink) -> None:
        ip(f"-6 route add {format_locator(B1)} dev own")
        steering.set_uplink(ROW, up1)
        steering.add_peers(ROW, [B1], A1)
        steering.choose({B1: (ROW, A1)})
        keep_rules(steering.network, SECTION, rules_of(SECTION, {A1: ROW}, by_source=True), ())
        given = ("2001:db8:2:f::5", "2001:db8:1::5", "fd00::5", "8000::5")
        assert [_device_of(f"from {source}") for source in given] == ["own"] * len(given)
        assert _device_of(f"from {format_locator(A1)}") == "up1"
        assert _device_of("") == "up1", "noid selects the source"

    assert on_a_host(scenario) == []


def _device_of(source: str) -> str:
    """By which device the kernel sends to B1."""
    words = ["ip", "-6", "-o", "route", "get", format_locator(B1), *source.split()]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return shown[shown.index("dev") + 1]


def test_rules_are_kept_and_those_of_others_are_left() -> None:
    def scenario(steering: Steering, up1: Uplink) -> None:
        network = steering.network
        others = {Rule(SECTION.rule_priority + 1, table=4711), Rule(7, table=4711, source=A1)}
        network.add_rules(others)
        wanted = rules_of(SECTION, {A1: ROW}, by_source=True)
        assert keep_rules(network, SECTION, wanted, network.rules()) == wanted
        assert keep_rules(network, SECTION, wanted, network.rules()) == frozenset()
        network.remove_rules([Rule(SECTION.rule_priority + 4, NOTHING)])
        other = rules_of(SECTION, {A2: ROW}, by_source=True)
        assert len(keep_rules(network, SECTION, other, network.rules())) == 2
        assert ours_among(SECTION, network.rules()) == other
        assert take_down(network, SECTION) == len(other)
        assert ours_among(SECTION, network.rules()) == set()
        assert others <= set(network.rules())

    assert on_a_host(scenario) == []
