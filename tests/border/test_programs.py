# SPDX-License-Identifier: MIT
"""The programs of a border in the kernel do what its law says, and share its layouts."""

import random
from pathlib import Path

import pytest

from noid.counters import BorderCounter
from noid.flows.border import NOWHERE, Choice, Outcome, Site, SitePrefix
from noid.locators import parse_locator
from noid.planes.bpf import border_tables as tables
from noid.planes.bpf.border import OBJECT
from noid.planes.bpf.loading import SUMMED_UP
from noid.planes.bpf.pins import object_code
from tests.border import packets
from tests.border.packets import FIXED, REWRITABLE
from tests.border.play import ETHERNET, LOOPBACK, MARK, OTHER, Programs, play, stage
from tests.border.test_law import packet
from tests.namespaces import in_network_namespace
from tests.planes.test_layout import Structures

GENERATED = 6000
SITE = Site(
    48,
    (
        SitePrefix(parse_locator("2001:db8:1::")[:8], LOOPBACK, "one"),
        SitePrefix(parse_locator("2001:db8:2::")[:8], 77, "two"),
    ),
)
FIRST_DOWN = Choice((1, 1), 0b10)


def test_the_programs_do_what_the_law_says(tmp_path: Path) -> None:
    def run() -> None:
        with stage(tmp_path) as made:
            assert not play(made, 20261129, GENERATED)
            assert set(made.outcomes) == {
                *("leaving passed", "leaving rewritten", "leaving refused"),
                *("handed_over passed", "handed_over rewritten", "handed_over refused"),
                *("departing passed", "departing dropped"),
                *("arriving passed", "arriving dropped"),
            }, "each was met"

    in_network_namespace(run)


def test_a_difference_would_be_found(tmp_path: Path) -> None:
    def run() -> None:
        with stage(tmp_path) as made:
            site, both = Site(SITE.bits, SITE.prefixes), Choice((0, 1), 0b11)
            for choice, own in ((FIRST_DOWN, both), (both, FIRST_DOWN)):
                made.fill(site, both, both)
                (found,) = made.differences(site, choice, own, packet(REWRITABLE[0]))
                assert found.startswith("leaving" if choice is FIRST_DOWN else "handed_over")

    in_network_namespace(run)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    made = Programs(tmp_path, 0)
    made.tables.put_site(SITE)
    made.tables.put_choice(SITE, FIRST_DOWN)
    return made


def test_everything_is_counted(programs: Programs) -> None:
    programs.leaving(packet(REWRITABLE[0]))
    for _ in range(2):
        programs.leaving(packet(FIXED[0]))
    for _ in range(3):
        programs.departing(packet(FIXED[0]))
    for _ in range(4):
        programs.departing(packet(FIXED[0], "2001:db8:3::1"))
    for _ in range(5):
        programs.departing(packet(FIXED[0], "2001:db8:2::1"))
    for _ in range(6):
        programs.arriving(packet(FIXED[0]))
    assert programs.tables.counters() == dict(zip(BorderCounter, range(1, 7), strict=True))


def test_the_router_itself_may_send_from_any_source(programs: Programs) -> None:
    foreign = packet(FIXED[0], "2001:db8:3::1")
    assert programs.departing(foreign, incoming=0).outcome is Outcome.PASSED


def test_a_sum_of_the_device_stays_right(programs: Programs) -> None:
    judged = programs.leaving(packet(REWRITABLE[0]), flags=SUMMED_UP)
    assert judged.outcome is Outcome.REWRITTEN


@pytest.mark.parametrize("name", ["leaving", "departing", "arriving"])
def test_frames_of_a_vlan_on_the_device_and_other_protocols_pass(
    programs: Programs, name: str
) -> None:
    spoofed = packet(FIXED[0], "2001:db8:1::1" if name == "arriving" else "2001:db8:3::1")
    tagged = ETHERNET[:12] + b"\x81\x00\x00\x07" + ETHERNET[12:] + spoofed
    other = ETHERNET[:12] + b"\x08\x00" + spoofed
    for octets in (tagged, other):
        verdict, after = programs.loaded.try_out(f"border_{name}", octets)
        assert (verdict, after) == (0xFFFFFFFF, octets)


def test_frames_for_others_are_not_touched(programs: Programs) -> None:
    octets = b"\x02\x00\x00\x00\x00\x09" + ETHERNET[6:] + packet(REWRITABLE[0])
    assert programs.loaded.try_out("border_leaving", octets) == (0xFFFFFFFF, octets)


@pytest.mark.parametrize("name", ["leaving", "departing", "arriving"])
def test_programs_without_a_link_layer_header_do_the_same(programs: Programs, name: str) -> None:
    # BPF_PROG_TEST_RUN takes an Ethernet header off; so the packet begins with 14 octets more.
    spoofed = packet(REWRITABLE[0])
    before = programs.tables.counters()
    programs.loaded.try_out(f"border_{name}_bare", ETHERNET + spoofed)
    assert programs.tables.counters() == before, "it looked for IPv6 at the front, found zeros"


def test_the_cost_of_a_packet_can_be_measured(programs: Programs) -> None:
    before = programs.tables.counters()
    octets = ETHERNET + packet(REWRITABLE[0])
    assert programs.loaded.cost_ns("border_arriving", octets, runs=100) >= 0
    after = programs.tables.counters()
    assert sum(after.values()) - sum(before.values()) == 100, "each run was counted"


def test_without_tables_every_packet_passes(tmp_path: Path) -> None:
    empty = Programs(tmp_path, 0)
    chance = random.Random(7)
    for _ in range(50):
        octets = packets.packet(chance, SITE)
        assert empty.leaving(octets).outcome is Outcome.PASSED
        assert empty.arriving(octets).outcome is Outcome.PASSED


def test_only_what_another_border_sends_in_its_lan_is_handed_over(programs: Programs) -> None:
    programs.tables.put_choice(SITE, FIRST_DOWN, handed_over=Choice((NOWHERE, NOWHERE), 0))
    rewritable = packet(REWRITABLE[0])
    for others, outcome in (
        ([], Outcome.REWRITTEN),
        ([(LOOPBACK, OTHER)], Outcome.REFUSED),
        ([(LOOPBACK, bytes(6))], Outcome.REWRITTEN),
        ([(LOOPBACK + 1, OTHER)], Outcome.REWRITTEN),
    ):
        programs.tables.put_others(others)
        assert programs.handed_over(rewritable).outcome is outcome


def test_prefixes_that_left_the_site_are_no_part_of_it(programs: Programs) -> None:
    other = Site(48, (SITE.prefixes[1], SitePrefix(parse_locator("2001:db8:9::")[:8], 1, "one")))
    programs.tables.put_site(other)
    assert programs.arriving(packet(FIXED[0])).outcome is Outcome.PASSED
    for source in ("2001:db8:2::1", "2001:db8:9::1"):
        assert programs.arriving(packet(FIXED[0], source)).outcome is Outcome.DROPPED


def test_a_former_prefix_is_answered_or_rewritten_and_no_part_of_the_site(
    programs: Programs,
) -> None:
    former = SITE.prefixes[1]._replace(gone_s=1)
    site = Site(48, (SITE.prefixes[0], former))
    programs.tables.put_site(site)
    old = "2001:db8:2:7::a"
    for rows, outcome in (((0, 0), Outcome.REWRITTEN), ((0, NOWHERE), Outcome.REFUSED)):
        programs.tables.put_choice(site, Choice(rows, 0b01))
        assert programs.leaving(packet(REWRITABLE[0], old)).outcome is outcome
        assert programs.leaving(packet(FIXED[0], old)).outcome is Outcome.REFUSED
    assert programs.departing(packet(FIXED[0], old)).outcome is Outcome.DROPPED
    assert programs.arriving(packet(FIXED[0], old)).outcome is Outcome.PASSED, "its next owner"
    answer = packet(58, old, parse_locator("2001:db8:2:7::1"))
    assert programs.leaving(answer).outcome is Outcome.PASSED, "the router asks for its neighbour"
    there = packet(FIXED[0], "2001:db8:1:7::a", parse_locator(old))
    programs.tables.put_choice(site, Choice((NOWHERE, NOWHERE), 0))
    assert programs.leaving(there).outcome is Outcome.REFUSED, "it is not inside"


def test_the_layouts_are_those_of_the_object() -> None:
    structures = Structures(object_code(OBJECT))
    for name, layout in (
        ("border_settings", tables.SETTINGS),
        ("prefix", tables.PREFIX),
        ("choice", tables.CHOICE),
        ("uplinks", tables.UPLINKS),
        ("inside", tables.INSIDE),
        ("other", tables.OTHER),
    ):
        assert structures.octets(name) == layout.size
    entry = tables.choice_entry(
        SITE,
        FIRST_DOWN,
        handed_over=Choice((0, NOWHERE), 0b01),
        manual="two",
        failed={"gateway": ["one"], "bfd": ["two"]},
    )
    places = structures.places("choice")
    assert entry[places["mask"]] == bytes.fromhex("ffffffffffff0000")
    ours, theirs = tables.UPLINKS.iter_unpack(entry[places["uplinks"]])
    assert (ours[0], ours[1][:3]) == (0b10, bytes((1, 1, NOWHERE)))
    assert (theirs[0], theirs[1][:3]) == (0b01, bytes((0, NOWHERE, NOWHERE)))
    assert entry[places["has_others"]] == tables.ROW.pack(1)
    assert entry[places["manual"]].rstrip(b"\0") == b"two"
    one, two = (prefix.high for prefix in SITE.prefixes)
    known = tuple(
        prefix._replace(provider="", since_s=7, gone_s=9 * row)
        for row, prefix in enumerate(SITE.prefixes)
    )
    rows = map(tables.prefix_entry, known)
    assert tables.left_in(entry, [*rows, bytes(tables.PREFIX.size)]) == tables.Left(
        "two",
        48,
        known,
        {"gateway": frozenset({one}), "check": frozenset(), "bfd": frozenset({two})},
        frozenset({one}),
    )
    settings = tables.settings(packets.CODEPOINTS, MARK, packets.INSIDE)
    places = structures.places("border_settings")
    assert settings[places["inside_count"]] == b"\x02"
    assert settings[places["rewritable_first"]] == b"\xe0"
    structures.close()
