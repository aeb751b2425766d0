# SPDX-License-Identifier: MIT
"""The routing tables of a border's providers."""

from ipaddress import IPv6Network

from noid.border_config import BorderConfig, BorderSection, ProviderTable
from noid.constants import BORDER_PROVIDERS_MAX
from noid.host.gateways import SourceRule
from noid.host.messages import MAIN_TABLE
from noid.roles.border_host import tables_of

TABLE = 7000


def config(**providers: str) -> BorderConfig:
    """A configuration: the prefixes of each provider, as a word each."""
    tables = [ProviderTable(name=name, prefixes=one.split()) for name, one in providers.items()]
    return BorderConfig(border=BorderSection(lans=["lan0"], providers=tables, table=TABLE))


def rule(prefix: str, table: int) -> SourceRule:
    return SourceRule(51, table, source=IPv6Network(prefix))


ONE, TWO, NEW = (f"2001:db8:{number}::/48" for number in (1, 2, 3))
LEFT = [
    SourceRule(50, MAIN_TABLE, destination=IPv6Network(ONE)),
    rule(ONE, TABLE),
    rule(TWO, TABLE + 1),
]
"""What a daemon with the providers one and two has left."""


def test_at_first_tables_are_numbered_in_the_order_of_the_providers() -> None:
    assert tables_of(config(one=ONE, two=TWO), []) == {"one": TABLE, "two": TABLE + 1}


def test_a_provider_keeps_its_table_wherever_it_is() -> None:
    for other in (
        config(two=TWO, one=ONE),
        config(new=NEW, one=ONE, two=TWO),
        config(two=TWO, new=NEW),
        config(two=f"{NEW} {TWO}", one=ONE),
        config(renamed=TWO),
    ):
        found = tables_of(other, LEFT)
        assert len(set(found.values())) == len(other.border.providers)
        for name, table in (("one", TABLE), ("two", TABLE + 1), ("renamed", TABLE + 1)):
            assert found.get(name, table) == table
        assert found.get("new", TABLE + 2) == TABLE + 2, "no rule leads to it"


def test_a_table_that_two_providers_would_use_is_for_neither() -> None:
    both = [rule(ONE, TABLE), rule(TWO, TABLE)]
    assert tables_of(config(one=ONE, two=TWO), both) == {"one": TABLE + 1, "two": TABLE + 2}


def test_a_table_at_another_place_is_left() -> None:
    other = [rule(ONE, TABLE - 1), rule(TWO, TABLE)]
    assert tables_of(config(one=ONE, two=TWO), other) == {"one": TABLE + 1, "two": TABLE}


def test_every_provider_gets_a_table_although_none_is_free() -> None:
    names = [f"p{number}" for number in range(BORDER_PROVIDERS_MAX)]
    prefixes = [f"2001:db8:{number:x}::/48" for number in range(2 * BORDER_PROVIDERS_MAX)]
    left = [rule(one, TABLE + number) for number, one in enumerate(prefixes[: len(names)])]
    renumbered = config(**dict(zip(names, prefixes[len(names) :], strict=True)))
    assert set(tables_of(renumbered, left).values()) == set(range(TABLE, TABLE + len(names)))
