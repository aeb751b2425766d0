# SPDX-License-Identifier: MIT
"""What a border knows of its prefixes over reloads: which are new, which are former."""

from noid.border_config import BorderConfig, parse_border_config
from noid.constants import BORDER_PREFIXES_MAX
from noid.flows.border import Site, SitePrefix
from noid.locators import parse_locator
from noid.planes.bpf.border_tables import Left
from noid.roles.border_prefixes import FORMER_S, KnownPrefixes

ONE, TWO, OTHER = "2001:db8:1::/48", "2001:db8:2::/48", "2001:db8:3::/48"
INDEXES = {"wan1": 11, "wan2": 12}
NEW_S = 3600


def config(**prefixes: list[str]) -> BorderConfig:
    """A site with a provider of each name; the uplink of "one" is wan1, and so on."""
    uplinks = {"one": "wan1", "two": "wan2"}
    tables = "".join(
        f'[[border.providers]]\nname = "{name}"\nuplink = "{uplinks[name]}"\n'
        f'prefixes_file = "/nonexistent"\nprefixes = {texts}\n'
        for name, texts in prefixes.items()
    )
    return parse_border_config(f'[border]\nlans = ["lan0"]\nnew_prefix_s = {NEW_S}\n{tables}')


def left(site: Site) -> Left:
    """What the kernel has of a site: all but the names of the providers."""
    prefixes = (one._replace(provider="", is_new=False) for one in site.prefixes)
    return Left("", site.bits, tuple(prefixes))


def after(before: Site | None, wanted: BorderConfig, now_s: float) -> Site:
    """The site once a daemon with another configuration has taken over."""
    known = KnownPrefixes(wanted)
    known.take_over(Left() if before is None else left(before), INDEXES, now_s)
    return known.site(INDEXES, now_s)


def rows(site: Site) -> list[tuple[str, str, bool, bool]]:
    """Each prefix with its provider, and whether it is new, and former."""
    texts = {parse_locator(text.partition("/")[0])[:8]: text for text in (ONE, TWO, OTHER)}
    return [(texts[one.high], one.provider, one.is_new, bool(one.gone_s)) for one in site.prefixes]


BOTH = config(one=[ONE], two=[TWO])
REPLACED = config(one=[ONE], two=[OTHER])
EMPTIED = config(one=[ONE], two=[])
KNOWN = [(ONE, "one", False, False), (TWO, "two", False, False)]


def test_at_the_first_start_no_prefix_is_new() -> None:
    assert rows(after(None, BOTH, 100.0)) == KNOWN


def test_a_prefix_that_is_replaced_is_a_former_one_of_its_provider() -> None:
    site = after(after(None, BOTH, 100.0), REPLACED, 200.0)
    former = (TWO, "two", False, True)
    assert rows(site) == [(ONE, "one", False, False), (OTHER, "two", True, False), former]
    assert rows(after(site, REPLACED, 300.0))[2] == former, "the next daemon knows it, too"
    assert site.prefixes[2].gone_s == after(site, REPLACED, 300.0).prefixes[2].gone_s == 200
    assert len(after(site, REPLACED, 200.0 + FORMER_S).prefixes) == 2


def test_a_prefix_that_comes_back_soon_is_as_it_was() -> None:
    """A file that is emptied and written again, as when a lease ends and the next one comes."""
    settled = after(after(None, BOTH, 100.0), EMPTIED, 200.0)
    assert rows(settled) == [(ONE, "one", False, False), (TWO, "two", False, True)]
    assert rows(after(settled, BOTH, 200.0 + NEW_S - 1)) == KNOWN
    late = after(settled, BOTH, 200.0 + NEW_S)
    assert rows(late) == [(ONE, "one", False, False), (TWO, "two", True, False)]


def test_a_prefix_that_was_new_when_it_left_is_still_new_when_it_comes_back() -> None:
    new = after(after(None, EMPTIED, 100.0), BOTH, 200.0)
    assert rows(new)[1] == (TWO, "two", True, False)
    again = after(after(new, EMPTIED, 300.0), BOTH, 400.0)
    assert rows(again)[1] == (TWO, "two", True, False)
    known = KnownPrefixes(BOTH)
    known.take_over(left(again), INDEXES, 500.0)
    assert rows(known.site(INDEXES, 200.0 + NEW_S)) == KNOWN, "it was never put into packets"


def test_the_prefix_of_a_provider_that_is_gone_is_left_to_the_routes() -> None:
    assert rows(after(after(None, BOTH, 100.0), config(one=[ONE]), 200.0)) == KNOWN[:1]


def test_a_former_prefix_stays_that_of_a_device_that_is_made_anew() -> None:
    """As with each dial-up of PPPoE, after which the provider may delegate another prefix."""
    known = KnownPrefixes(REPLACED)
    known.take_over(left(after(None, BOTH, 100.0)), INDEXES, 200.0)
    for indexes in ({"wan1": 11}, {"wan1": 11, "wan2": 22}):  # it goes, and another one comes
        site = known.site(indexes, 300.0)
    again = KnownPrefixes(REPLACED)
    again.take_over(left(site), indexes, 400.0)
    assert rows(again.site(indexes, 400.0))[2] == (TWO, "two", False, True)


def test_prefixes_of_another_length_are_forgotten() -> None:
    site = after(after(None, BOTH, 100.0), config(one=["2001:db8:1::/56"]), 200.0)
    assert len(site.prefixes) == 1


def test_the_last_ones_are_kept_that_there_is_room_for() -> None:
    many = [f"2001:db8:{number:x}::/48" for number in range(0x100, 0x100 + BORDER_PREFIXES_MAX - 1)]
    site = after(None, config(one=[ONE], two=many), 100.0)
    assert len(site.prefixes) == BORDER_PREFIXES_MAX
    site = after(site, BOTH, 200.0)
    assert len(site.own) == 2
    assert len(site.prefixes) == BORDER_PREFIXES_MAX
    site = after(site, config(one=[ONE], two=[OTHER]), 300.0)
    assert [one.gone_s for one in site.prefixes[:3]] == [0, 0, 300]
    assert len(site.prefixes) == BORDER_PREFIXES_MAX


def test_a_former_prefix_keeps_the_time_at_which_it_came() -> None:
    prefix = SitePrefix(parse_locator("2001:db8:2::")[:8], 12, "two", since_s=50, gone_s=60)
    known = KnownPrefixes(REPLACED)
    known.take_over(Left("", 48, (prefix,)), INDEXES, 70.0)
    assert known.former == [prefix]
