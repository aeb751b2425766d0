# SPDX-License-Identifier: MIT
"""Rows of uplinks, what flows need, routes and rules that are wanted: values alone."""

from dataclasses import replace

import pytest

from noid.config import PlaneSection
from noid.flows.flow import Flow
from noid.host.routes import with_hop_limit
from noid.host.rules import GOTO, NOTHING, Rule
from noid.host.survey import Device, Survey
from noid.identifiers import Label
from noid.locators import Locator, parse_locator
from noid.planes.bpf.uses import Uses
from noid.planes.restored import NAMES_MAX, Restored
from noid.planes.rows import CUTS_TCP, CUTS_UDP, NO_ROW, SUMMING, Rows, lacks, sums, uplink_of
from noid.planes.rules import ANY_SOURCE, RULES, ours_among, rules_of
from noid.planes.uplink import (
    CUT_TCP,
    CUT_UDP,
    ETHERNET,
    NO_UPLINK,
    OWN_ROW,
    RECEIVES,
    SENDS,
    SUM,
    UPLINKS_MAX,
    Uplink,
)
from noid.wire.ipv6 import DEFAULT_HOP_LIMIT
from tests.planes.keeping import flow_to_peer

ONE, TWO, LINK = map(parse_locator, ("2001:db8:1::1", "2001:db8:2::1", "fe80::1"))
CARD = bytes.fromhex("020000000001")
SECTION = PlaneSection()


def device(
    name: str,
    index: int,
    *addresses: Locator,
    features: tuple[str, ...] = (),
    has_ethernet: bool = True,
    carries: bool = True,
) -> Device:
    return Device(
        index=index,
        name=name,
        mtu=1500,
        has_ethernet=has_ethernet,
        carries=carries,
        link=CARD if has_ethernet else b"",
        addresses=frozenset(addresses),
        features=frozenset(features),
    )


def survey(*devices: Device) -> Survey:
    return Survey(devices=devices, locators=(), addresses=frozenset(), rules=(), mtu=0, ours={})


@pytest.mark.parametrize(
    ("features", "lacking"),
    [
        ((), CUT_TCP | CUT_UDP),
        ((CUTS_TCP,), CUT_UDP),
        ((CUTS_TCP, CUTS_UDP), 0),
        ((CUTS_TCP, CUTS_UDP, SUMMING), 0),
        ((CUTS_TCP, CUTS_UDP, "tx-checksum-ipv6"), SUM),
        ((CUTS_TCP, CUTS_UDP, "tx-checksum-ipv6", SUMMING), 0),
    ],
)
def test_a_device_lacks_what_it_does_not_do_for_every_next_header(
    features: tuple[str, ...], lacking: int
) -> None:
    found = device("up1", 3, features=features)
    assert lacks(found) == lacking
    assert sums(survey(found)) is not bool(lacking & SUM)


@pytest.mark.parametrize(
    ("queues", "lacking"),
    [
        (("mq", "fq_codel"), 0),
        (("noqueue",), 0),
        (("noqueue", "cake"), CUT_TCP | CUT_UDP),
        (("tbf",), CUT_TCP | CUT_UDP),
        (("htb",), CUT_TCP | CUT_UDP),
    ],
)
def test_super_packets_are_cut_before_a_queue_in_which_the_kernel_may_cut_them(
    queues: tuple[str, ...], lacking: int
) -> None:
    found = replace(device("up1", 3, features=(CUTS_TCP, CUTS_UDP)), queues=frozenset(queues))
    assert lacks(found) == lacking


def test_an_uplink_says_whether_it_sends_and_has_neighbours() -> None:
    both = CUT_TCP | CUT_UDP | RECEIVES
    hops = with_hop_limit(b"", DEFAULT_HOP_LIMIT)
    assert uplink_of(device("up1", 3)) == Uplink(3, 1500, CARD, both | SENDS | ETHERNET, hops)
    bare = device("tun1", 4, has_ethernet=False, carries=False)
    assert uplink_of(bare) == Uplink(4, 1500, bytes(6), both, hops)


def test_a_row_stays_with_the_name_of_its_uplink() -> None:
    rows = Rows()
    changed, moved = rows.update([device("up1", 3, ONE, LINK), device("up2", 4, TWO)], ())
    assert set(changed) == {1, 2}
    assert moved == {ONE, TWO}
    assert rows.of == {ONE: 1, TWO: 2}
    assert (rows.name_of(1), rows.name_of(2), rows.name_of(3)) == ("up1", "up2", "")
    assert rows.update([device("up1", 3, ONE), device("up2", 4, TWO)], ()) == ({}, set())
    changed, moved = rows.update([device("up1", 7, ONE), device("up2", 4, TWO)], ())
    assert set(changed) == {1}
    assert moved == set()
    assert rows.uplinks[1].ifindex == 7


def test_an_address_in_use_keeps_the_row_of_an_uplink_that_is_gone() -> None:
    rows = Rows()
    rows.update([device("up1", 3, ONE), device("up2", 4, TWO)], ())
    changed, moved = rows.update([], {ONE})
    assert changed == {1: NO_UPLINK, 2: NO_UPLINK}
    assert moved == {TWO}
    assert rows.of == {ONE: 1}
    changed, _ = rows.update([device("other", 5, TWO)], {ONE})
    assert set(changed) == {2}, "the first row is still of the uplink that is gone"
    assert rows.update([], ()) == ({2: NO_UPLINK, 1: NO_UPLINK}, {ONE, TWO})


def test_an_address_of_an_earlier_daemon_that_is_gone_belongs_to_our_device() -> None:
    rows = Rows()
    rows.update([device("up2", 4, TWO)], (), addresses={TWO, LINK})
    rows.take({ONE, TWO, LINK})
    assert {one: rows.home(one) for one in (ONE, TWO, LINK)} == {ONE: OWN_ROW, TWO: 1, LINK: NO_ROW}
    _, moved = rows.update([device("up2", 4, TWO)], {ONE}, addresses={TWO})
    assert (rows.home(ONE), moved) == (OWN_ROW, set())
    _, moved = rows.update([device("up1", 3, ONE)], {ONE}, addresses={ONE})
    assert (rows.home(ONE), moved) == (1, {ONE, TWO})
    rows = Rows()
    rows.update([], {ONE}, addresses=())
    assert rows.home(ONE) == OWN_ROW
    rows.update([], {ONE}, addresses={ONE})
    assert rows.home(ONE) == NO_ROW, "on a device that is no uplink"


def test_an_uplink_without_addresses_has_no_row() -> None:
    rows = Rows()
    assert rows.update([device("up1", 3, LINK)], ()) == ({}, set())


def test_an_address_that_moves_to_another_uplink_has_another_row() -> None:
    rows = Rows()
    rows.update([device("up1", 3, ONE), device("up2", 4, TWO)], ())
    _, moved = rows.update([device("up1", 3, TWO), device("up2", 4, ONE)], {ONE})
    assert moved == {ONE, TWO}


def test_an_uplink_too_many_has_no_row_and_is_named_once() -> None:
    rows = Rows()
    many = [
        device(f"up{number}", number, Locator(ONE[:14] + number.to_bytes(2, "big")))
        for number in range(1, UPLINKS_MAX + 1)
    ]
    rows.update(many, ())
    assert len(rows.uplinks) == OWN_ROW - 1
    assert rows.without == {f"up{OWN_ROW}", f"up{UPLINKS_MAX}"}
    assert rows.of[next(iter(many[-1].addresses))] == NO_ROW
    rows.update(many, ())
    assert rows.without == set()
    rows.update(many[1:], ())
    assert len(rows.uplinks) == OWN_ROW - 1, "there is room for one more"


def test_a_lost_link_costs_flags_once() -> None:
    rows = Rows()
    rows.update([device("up1", 3, ONE), device("up2", 4, TWO)], ())
    (changed,) = rows.lose(3, RECEIVES).values()
    assert changed.flags & (SENDS | RECEIVES) == RECEIVES
    assert rows.lose(3, RECEIVES) == {}
    (changed,) = rows.lose(3, 0).values()
    assert not changed.flags & (SENDS | RECEIVES)
    assert rows.lose(9, 0) == {}


# --- uses -----------------------------------------------------------------------------------------


def flow(label: Label, local: Locator = ONE) -> Flow:
    made = flow_to_peer()
    made.local_label = label
    made.local_aid, made.local_locator = local, local
    return made


def test_addresses_are_in_use_while_flows_have_them() -> None:
    uses = Uses()
    uses.take(flow(Label(1)))
    uses.take(flow(Label(1), TWO))  # in its place
    assert set(uses.addresses) == {TWO}
    uses.take(flow(Label(2), TWO))
    assert uses.addresses[TWO] == 4
    assert uses.drop(Label(1)) is None
    assert uses.addresses[TWO] == 2
    assert uses.drop(Label(2)) is None
    assert not uses.addresses
    assert uses.drop(Label(2)) is None


def test_a_route_goes_when_the_last_flow_that_needs_it_does() -> None:
    uses = Uses()
    for label in (1, 2):
        uses.take(flow(Label(label)))
        assert uses.need_route(Label(label), (1, TWO)) is None
    assert uses.need_route(Label(1), (1, TWO)) is None, "it is needed as before"
    assert uses.need_route(Label(1), (2, TWO)) is None, "the other flow needs the first"
    assert uses.drop(Label(2)) == (1, TWO)
    assert uses.drop(Label(1)) == (2, TWO)


# --- rules ----------------------------------------------------------------------------------------


def test_the_rules_of_a_plane_are_told_from_those_of_others() -> None:
    first, last = SECTION.rule_priority, SECTION.rule_priority + RULES - 1
    wanted = rules_of(SECTION, {ONE: 1}, by_source=True)
    assert wanted == {
        Rule(first, GOTO, target=last, mark=SECTION.mark),
        Rule(first + 1, table=SECTION.table + 1, source=ONE, is_local=True),
        *(
            Rule(first + 2, GOTO, target=last, source=half, source_bits=1, is_local=True)
            for half in ANY_SOURCE
        ),
        Rule(first + 3, table=SECTION.table, is_local=True, is_unmarked=True),
        Rule(last, NOTHING),
    }
    others = {
        Rule(first + 1, table=254, source=ONE),
        Rule(first + 2, GOTO, target=32766, source=ONE),
        Rule(first, GOTO, target=last, mark=1),
        Rule(32766, table=254),
    }
    assert ours_among(SECTION, {*wanted, *others}) == wanted


# --- what is said about what was restored ---------------------------------------------------------


def test_things_restored_are_in_one_line_with_some_of_their_names() -> None:
    restored = Restored()
    assert not restored
    assert restored.note("rules", []) == 0
    assert not restored
    assert restored.note("rules", ["61", "60", "61"]) == 3
    assert restored.note("routes", [f"table {one}" for one in range(NAMES_MAX + 3)]) == 9
    assert restored
    names = ", ".join(f"table {one}" for one in range(NAMES_MAX))
    assert restored.take() == f"rules: 3 (60, 61); routes: 9 ({names}, ...)"
    assert restored.take() == ""
    assert not restored


def test_an_address_routed_through_another_uplink_has_the_row_of_that_uplink() -> None:
    """The host has no routes by source: what it sends from TWO leaves by the first uplink."""
    rows = Rows()
    devices = [device("up1", 3, ONE), device("up2", 4, TWO)]
    rows.update(devices, (), {TWO: 3})
    assert rows.of == {ONE: 1, TWO: 1}
    assert (rows.home(ONE), rows.home(TWO)) == (1, NO_ROW)
    rows.update(devices, (), {TWO: 77})
    assert rows.of == {ONE: 1, TWO: NO_ROW}, "by a device that is no uplink"
    rows.update(devices, ())
    assert rows.of == {ONE: 1, TWO: 2}
    assert rows.home(TWO) == 2
