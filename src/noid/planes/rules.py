# SPDX-License-Identifier: MIT
"""Rules by which packets to M6 peers take the routes of ``steering``.

Five kinds of rules come before all others, the last four only for packets of this host:

    P      from all fwmark MARK goto P+4         noid's own packets
    P+1    from LOCATOR lookup TABLE+ROW         the source is a locator: one rule for each
    P+2    from ::/1, 8000::/1 goto P+4          the source is given
    P+3    from all fwmark 0 lookup TABLE        the source is yet to be chosen: a locator
    P+4    from all nop

The daemon removes P+3 when it ends. Rules of others may be for users, protocols, ports or marks:

    P+2    from all uidrange 0-0 goto P+4        the source is yet to be chosen: as the rule says
    P+4    from LOCATOR fwmark MARK lookup T     noid's own packets, if such a rule would take them

So these rules apply to packets without a source as without noid, and noid's own packets leave by
the uplink of their source: T is the table by which packets of other programs do. Rules for a VPN
of everything are in tunnels.py, those for rules of the operator that come before ours in
earlier.py.

The tables and ROW are those of steering.py.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from noid.config import PlaneSection
from noid.host.netlink import HostNetwork
from noid.host.rules import GOTO, NOTHING, Rule
from noid.locators import Locator, parse_locator
from noid.planes.earlier import is_led_before, lead_before
from noid.planes.tunnels import leads_past, past_tunnels
from noid.planes.uplink import UPLINKS_MAX

RULES = 5
"""Priorities that our rules take, from ``rule_priority`` on."""
RULES_HEEDED_MAX = 64
"""Rules of others by user, protocol or port that are heeded: each is another rule of ours."""
ROOT = 0
"""The user that the kernel takes packets to be of which a program redirects."""
NO_TABLES: Mapping[Locator, int] = {}
ANY_SOURCE = (parse_locator("::"), parse_locator("8000::"))
"""The two halves of all addresses. A packet whose source is yet to be chosen is in neither."""


def rules_of(
    section: PlaneSection,
    rows: dict[Locator, int],
    *,
    by_source: bool,
    others: Iterable[Rule] = (),
    tables: Mapping[Locator, int] = NO_TABLES,
    uplinks: Sequence[str] = (),
) -> frozenset[Rule]:
    """The intended rules of a plane.

    Args:
        section: the ``[plane]`` of the configuration.
        rows: the row of the uplink of each locator whose packets have routes of ours.
        by_source: whether packets with a given source that is no such locator stay as they are.
        others: every rule of the host.
        tables: for each locator whose packets leave by its own uplink, the table by which they do.
        uplinks: the names of the devices by which programs of ours redirect packets.
    """
    others = [one for one in others if not _depends_on_others(section, one)]
    first, table = section.rule_priority, section.table
    last = first + RULES - 1
    halves = ANY_SOURCE if by_source else ()
    later = [one for one in others if one.priority > last and not one.is_passing]
    heeded = islice((one for one in later if one.is_by_program and by_source), RULES_HEEDED_MAX)
    own = {ROOT, os.getuid()}
    takes_ours = any(one.is_for_mark(section.mark) or any(map(one.is_for, own)) for one in later)
    takes_ours |= any(one.is_all_but(section.mark) for one in others)
    by_row = {
        one: Rule(first + 1, table=table + row, source=one, is_local=True)
        for one, row in rows.items()
    }
    leading = by_row if by_source else dict.fromkeys(tables, choosing(section))
    return frozenset(
        {
            *past_tunnels(section, last, others, uplinks),
            *lead_before(section, others, leading, tables),
            Rule(first, GOTO, target=last, mark=section.mark),
            *by_row.values(),
            *(
                Rule(first + 2, GOTO, target=last, source=half, source_bits=1, is_local=True)
                for half in halves
            ),
            *(
                one._replace(priority=first + 2, action=GOTO, table=0, target=last, is_local=True)
                for one in heeded
            ),
            choosing(section),
            *(
                Rule(last, table=way, source=one, mark=section.mark)
                for one, way in tables.items()
                if takes_ours
            ),
            Rule(last, NOTHING),
        }
    )


def choosing(section: PlaneSection) -> Rule:
    """The rule for packets whose source is yet to be chosen.

    Without a daemon the kernel chooses, since nothing would choose another source after a failure.
    """
    priority = section.rule_priority + 3
    return Rule(priority, table=section.table, is_local=True, is_unmarked=True)


def ours_among(section: PlaneSection, rules: Iterable[Rule]) -> frozenset[Rule]:
    """The rules among these that a plane has made, for any addresses."""
    fixed = rules_of(section, {}, by_source=True)
    first, last = section.rule_priority, section.rule_priority + RULES - 1
    tables = range(section.table + 1, section.table + UPLINKS_MAX)
    return frozenset(
        rule
        for rule in rules
        if rule in fixed
        or _depends_on_others(section, rule)
        or (rule.priority == first + 1 and rule.table in tables)
        or (rule.priority == first + 2 and rule.target == last)
        or (rule.priority == last and rule.mark == section.mark)
    )


def _depends_on_others(section: PlaneSection, rule: Rule) -> bool:
    """Whether a rule is one of ours whose priority depends on rules of others."""
    tables = range(section.table, section.table + UPLINKS_MAX)
    return leads_past(section, rule) or is_led_before(section, tables, rule)


def keep_rules(
    network: HostNetwork, section: PlaneSection, wanted: frozenset[Rule], actual: Sequence[Rule]
) -> frozenset[Rule]:
    """Adds rules that are wanted and removes those of ours that are not.

    Returns:
        Those that were missing.

    Raises:
        PlatformError: the kernel refuses one.
    """
    there = ours_among(section, actual)
    try:
        network.add_rules(wanted - there)
    finally:
        network.remove_rules(there - wanted)
    if there - wanted:
        # To the kernel, rules that differ only in their targets are the same, which is gone now.
        network.add_rules(wanted - there)
    return wanted - there
