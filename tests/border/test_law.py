# SPDX-License-Identifier: MIT
"""The law of a border: what is rewritten, refused, dropped, and which uplink is chosen."""

import random
from ipaddress import IPv6Network

import pytest

from noid.constants import (
    BORDER_INSIDE_MAX,
    BORDER_PREFIX_BITS_MAX,
    BORDER_PREFIX_BITS_MIN,
    BORDER_PREFIXES_MAX,
)
from noid.flows.border import (
    NOWHERE,
    Choice,
    Outcome,
    Provider,
    Site,
    SitePrefix,
    arriving,
    choose,
    departing,
    leaving,
)
from noid.identifiers import Label
from noid.locators import Locator, parse_locator
from noid.wire import ipv6
from noid.wire.control import Code, decode_message, encode_packet
from tests.border.packets import CODEPOINTS, FIXED, REWRITABLE
from tests.wire.messages import A1, A2, B1, EXAMPLES

UP1, UP2 = 11, 12
ONE, TWO = "2001:db8:1::", "2001:db8:2::"
OUTSIDE = parse_locator("2001:db8:ffff::1")


def prefix(text: str, uplink: int, provider: str) -> SitePrefix:
    return SitePrefix(parse_locator(text)[:8], uplink, provider)


SITE = Site(
    48,
    (prefix(ONE, UP1, "one"), prefix(TWO, UP2, "two")),
    (IPv6Network("fc00::/7"),),
)
BOTH = Choice((0, 1), 0b11)
FIRST_DOWN = Choice((1, 1), 0b10)
NONE = Choice((NOWHERE, NOWHERE), 0)


def packet(
    number: int,
    source: str = "2001:db8:1:7::a",
    destination: Locator = OUTSIDE,
    body: bytes = b"payload",
) -> bytes:
    header = ipv6.Header(
        source=parse_locator(source),
        destination=destination,
        next_header=number,
        payload_octets=len(body),
        flow_label=Label(0x12345),
    )
    return header.encode() + body


@pytest.mark.parametrize("number", REWRITABLE)
def test_a_rewritable_packet_gets_the_prefix_of_the_uplink_in_use(number: int) -> None:
    judged = leaving(SITE, FIRST_DOWN, REWRITABLE, packet(number))
    assert judged.outcome is Outcome.REWRITTEN
    assert judged.packet == packet(number, "2001:db8:2:7::a")


@pytest.mark.parametrize("number", [*FIXED, ipv6.TCP, ipv6.ICMPV6, ipv6.FRAGMENT])
def test_other_packets_are_unchanged_and_refused_on_a_dead_uplink(number: int) -> None:
    judged = leaving(SITE, FIRST_DOWN, REWRITABLE, packet(number))
    assert judged == (Outcome.REFUSED, packet(number))
    other = packet(number, "2001:db8:2:7::a")
    assert leaving(SITE, FIRST_DOWN, REWRITABLE, other) == (Outcome.PASSED, other)


def test_hop_by_hop_options_may_stand_in_front() -> None:
    body = bytes((REWRITABLE[0], 0, 1, 4, 0, 0, 0, 0)) + b"payload"
    judged = leaving(SITE, FIRST_DOWN, REWRITABLE, packet(ipv6.HOP_BY_HOP, body=body))
    assert judged.packet == packet(ipv6.HOP_BY_HOP, "2001:db8:2:7::a", body=body)


def test_nothing_changes_while_every_uplink_works() -> None:
    for number in (REWRITABLE[0], FIXED[0], ipv6.TCP):
        assert leaving(SITE, BOTH, REWRITABLE, packet(number)) == (Outcome.PASSED, packet(number))


def test_without_any_uplink_every_packet_is_refused() -> None:
    for number in (REWRITABLE[0], FIXED[0], ipv6.TCP):
        assert leaving(SITE, NONE, REWRITABLE, packet(number)).outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    "destination", ["2001:db8:1:8::b", "2001:db8:2::1", "fd00::1", "fe80::1", "ff02::1"]
)
def test_what_stays_inside_needs_no_uplink(destination: str) -> None:
    for number in (REWRITABLE[0], ipv6.TCP):
        inside = packet(number, destination=parse_locator(destination))
        assert leaving(SITE, NONE, REWRITABLE, inside) == (Outcome.PASSED, inside)


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.UC])
def test_a_rewritten_control_message_is_read_as_it_was_sent(code: Code) -> None:
    site = Site(48, (prefix("2001:db8:1::", UP1, "one"), prefix("2001:db8:2::", UP2, "two")))
    sent = encode_packet(EXAMPLES[code], A1, B1, CODEPOINTS, rewritable=True)
    destination = Locator(OUTSIDE)
    sent = sent[:24] + destination + sent[40:]
    judged = leaving(site, FIRST_DOWN, REWRITABLE, sent)
    assert judged.packet[8:24] == A2
    assert decode_message(judged.packet[40:], A2, destination, in_slot=True) == EXAMPLES[code]


def test_only_the_sources_of_an_uplink_leave_by_it() -> None:
    for source, uplink, outcome in (
        ("2001:db8:1:7::a", UP1, Outcome.PASSED),
        ("2001:db8:1:7::a", UP2, Outcome.DROPPED),
        ("2001:db8:2:7::a", UP2, Outcome.PASSED),
        ("2001:db8:3::a", UP1, Outcome.DROPPED),
        ("fd00::a", UP1, Outcome.DROPPED),
    ):
        assert departing(SITE, uplink, packet(ipv6.TCP, source)).outcome is outcome


def test_the_sources_of_the_site_do_not_come_from_outside() -> None:
    for source, outcome in (
        ("2001:db8:1:7::a", Outcome.DROPPED),
        ("2001:db8:2::1", Outcome.DROPPED),
        ("2001:db8:3::a", Outcome.PASSED),
        ("fe80::1", Outcome.PASSED),
    ):
        assert arriving(SITE, packet(REWRITABLE[0], source)).outcome is outcome


def test_a_packet_without_a_whole_header_passes() -> None:
    whole = packet(REWRITABLE[0])
    for octets in range(40):
        cut = whole[:octets]
        assert leaving(SITE, NONE, REWRITABLE, cut) == (Outcome.PASSED, cut)
        assert departing(SITE, UP1, cut) == (Outcome.PASSED, cut)
        assert arriving(SITE, cut) == (Outcome.PASSED, cut)
    other = b"\x45" + whole[1:]
    assert leaving(SITE, NONE, REWRITABLE, other) == (Outcome.PASSED, other)


# --- the choice -----------------------------------------------------------------------------------


def providers(*works: bool, priorities: tuple[int, int] = (100, 100)) -> dict[str, Provider]:
    return {
        name: Provider(one, priority, 1)
        for name, one, priority in zip(("one", "two"), works, priorities, strict=True)
    }


def test_each_prefix_leaves_by_its_own_provider_while_that_works() -> None:
    assert choose(SITE, providers(True, True)) == BOTH
    assert choose(SITE, providers(False, True)) == FIRST_DOWN
    assert choose(SITE, providers(True, False)) == Choice((0, 0), 0b01)
    assert choose(SITE, providers(False, False)) == NONE


def test_a_better_priority_takes_what_may_be_rewritten() -> None:
    assert choose(SITE, providers(True, True, priorities=(100, 50))) == Choice((1, 1), 0b11)
    assert choose(SITE, providers(True, False, priorities=(100, 50))) == Choice((0, 0), 0b01)


def test_the_choice_of_the_operator_holds_while_that_provider_works() -> None:
    assert choose(SITE, providers(True, True, priorities=(50, 100)), "two") == Choice((1, 1), 0b11)
    assert choose(SITE, providers(True, False), "two") == Choice((0, 0), 0b01)


def test_a_provider_whose_uplink_is_elsewhere_is_not_chosen() -> None:
    site = Site(48, (prefix(ONE, 0, "one"), prefix(TWO, UP2, "two")))
    assert choose(site, providers(True, True)) == Choice((1, 1), 0b10)


def test_a_packet_of_another_border_leaves_by_an_uplink_of_this_router() -> None:
    def choice(own: bool, beyond: bool, manual: str = "") -> Choice:
        states = {"one": Provider(own, 100, 1), "two": Provider(beyond, 50, 1, is_beyond=True)}
        return choose(SITE, states, manual, handed_over=True)

    assert choice(True, True) == choice(True, True, "two") == Choice((0, 0), 0b01)
    assert choice(False, True) == NONE


def test_borders_without_a_working_uplink_do_not_pass_packets_to_each_other() -> None:
    def states(own: str) -> dict[str, Provider]:
        """As a border sees them whose own uplink fails first."""
        names = ("one", "two")
        return {name: Provider(name != own, 100, 1, is_beyond=name != own) for name in names}

    handed = packet(REWRITABLE[0], "2001:db8:1:7::a")
    first = leaving(SITE, choose(SITE, states("one")), REWRITABLE, handed)
    assert first.packet == packet(REWRITABLE[0], "2001:db8:2:7::a")
    choice = choose(SITE, states("two"), handed_over=True)
    assert leaving(SITE, choice, REWRITABLE, first.packet).outcome is Outcome.REFUSED


def test_a_prefix_that_is_new_is_put_into_no_packet_and_keeps_its_own() -> None:
    new = SITE.prefixes[1]._replace(is_new=True)
    site = Site(48, (SITE.prefixes[0], new))
    for manual in ("", "two"):
        assert choose(site, providers(True, True), manual) == BOTH
        assert choose(site, providers(False, True), manual) == Choice((NOWHERE, 1), 0b10)
        assert choose(site, providers(True, False), manual) == Choice((0, 0), 0b01)
    assert choose(site, providers(True, True, priorities=(100, 50))) == BOTH
    assert choose(site, providers(True, True, priorities=(50, 100))) == Choice((0, 0), 0b11)
    alone = Site(48, tuple(one._replace(is_new=True) for one in SITE.prefixes))
    assert choose(alone, providers(True, True)) == BOTH
    assert choose(alone, providers(True, True, priorities=(50, 100)), "two") == BOTH
    assert choose(alone, providers(False, True)) == Choice((NOWHERE, 1), 0b10)


def test_another_prefix_of_the_provider_takes_the_place_of_a_new_one() -> None:
    first, second = (prefix(one, UP2, "two") for one in ("2001:db8:3::", TWO))
    site = Site(48, (SITE.prefixes[0], first._replace(is_new=True), second))
    assert choose(site, providers(False, True)) == Choice((2, 1, 2), 0b110)
    assert choose(site, providers(True, False)) == Choice((0, 0, 0), 0b001)


def test_a_former_prefix_is_that_of_a_dead_provider_and_no_part_of_the_site() -> None:
    former = prefix("2001:db8:9::", UP2, "two")._replace(gone_s=1)
    site = Site(48, (*SITE.prefixes, former))
    assert site.own == SITE.prefixes
    assert choose(site, providers(True, True)) == Choice((0, 1, 1), 0b011)
    assert choose(site, providers(True, False)) == Choice((0, 0, 0), 0b001)
    assert choose(site, providers(False, False)) == Choice((NOWHERE,) * 3, 0)
    old = "2001:db8:9:7::a"
    both = choose(site, providers(True, True))
    moved = leaving(site, both, REWRITABLE, packet(REWRITABLE[0], old))
    assert moved == (Outcome.REWRITTEN, packet(REWRITABLE[0], "2001:db8:2:7::a"))
    plain = packet(ipv6.TCP, old)
    assert leaving(site, both, REWRITABLE, plain) == (Outcome.REFUSED, plain)
    assert departing(site, UP2, plain).outcome is Outcome.DROPPED
    assert arriving(site, plain).outcome is Outcome.PASSED, "its next owner"
    there = packet(ipv6.TCP, destination=parse_locator(old))
    assert leaving(site, choose(site, providers(False, False)), REWRITABLE, there).outcome is (
        Outcome.REFUSED
    ), "it is not inside"
    answer = packet(ipv6.ICMPV6, old, parse_locator("2001:db8:9:7::1"))
    passed = leaving(site, both, REWRITABLE, answer)
    assert passed == (Outcome.PASSED, answer), "the router asks for its neighbour"
    ended = Site(48, site.own)
    assert site.without_former(both) == choose(ended, providers(True, True)), "no switch then"
    new = Site(48, (SITE.prefixes[0], SITE.prefixes[1]._replace(is_new=True), former))
    assert choose(new, providers(True, True)) == Choice((0, 1, 0), 0b011)
    assert choose(new, providers(False, True)) == Choice((NOWHERE, 1, NOWHERE), 0b010)


def test_prefixes_without_an_uplink_of_their_own_are_spread_by_weight() -> None:
    rows = [prefix(f"2001:db8:{number:x}::", 0, "gone") for number in range(0x100, 0x138)]
    site = Site(48, (prefix(ONE, UP1, "one"), prefix(TWO, UP2, "two"), *rows))
    states = {
        "one": Provider(True, 100, 3),
        "two": Provider(True, 100, 1),
        "gone": Provider(False, 100, 1),
    }
    found = choose(site, states)
    assert choose(site, states) == found, "it is always the same"
    first, second = found.rows[2:].count(0), found.rows[2:].count(1)
    assert first + second == len(rows)
    assert 1.5 < first / second < 6
    states["one"] = Provider(False, 100, 3)
    assert set(choose(site, states).rows[2:]) == {1}


def test_a_site_takes_as_many_prefixes_as_there_is_room_for() -> None:
    rows = tuple(prefix(f"2001:db8:{row:x}::", UP1, "one") for row in range(BORDER_PREFIXES_MAX))
    inside = (IPv6Network("fc00::/7"),) * BORDER_INSIDE_MAX
    site = Site(48, rows, inside)
    choice = choose(site, {"one": Provider(True, 1, 1)})
    assert choice.rows == tuple(range(BORDER_PREFIXES_MAX))
    assert choice.works == (1 << BORDER_PREFIXES_MAX) - 1
    one_more = prefix("2001:db8:ffff::", UP1, "one")
    with pytest.raises(AssertionError):
        Site(48, (*rows, one_more))
    with pytest.raises(AssertionError):
        Site(48, rows, (*inside, inside[0]))


@pytest.mark.parametrize("bits", [BORDER_PREFIX_BITS_MIN - 1, BORDER_PREFIX_BITS_MAX + 1])
def test_a_prefix_of_another_length_is_no_prefix_of_a_site(bits: int) -> None:
    with pytest.raises(AssertionError):
        Site(bits, (prefix(ONE, UP1, "one"),))


def test_subnet_and_interface_identifier_stay_for_every_prefix_length() -> None:
    chance = random.Random(1)
    for bits in range(BORDER_PREFIX_BITS_MIN, BORDER_PREFIX_BITS_MAX + 1):
        highs = [chance.getrandbits(64) >> 64 - bits << 64 - bits for _ in range(2)]
        site = Site(bits, tuple(SitePrefix(one.to_bytes(8, "big"), UP1, "one") for one in highs))
        rest = chance.getrandbits(128 - bits)
        before, after = (Locator(((high << 64) | rest).to_bytes(16, "big")) for high in highs)
        made = leaving(site, Choice((1, 1), 0b11), REWRITABLE, _from(before)).packet
        assert made == _from(after)


def _from(source: Locator) -> bytes:
    header = ipv6.Header(
        source=source, destination=OUTSIDE, next_header=REWRITABLE[0], payload_octets=0
    )
    return header.encode()
