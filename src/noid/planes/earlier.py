# SPDX-License-Identifier: MIT
"""Rules for packets that a rule of the operator would lead past those of noid.

A rule without a priority, as scripts of uplinks add it, gets one before all others that are there:
while noid runs, that is before the rules of noid. If it leads packets from a locator to the table
by which they leave anyway, they would depend on the neighbours of that uplink again [D50]:

    R-2    from all fwmark MARK goto R       noid's own packets
    R-1    from LOCATOR lookup TABLE+ROW     as P+1, or P+3 of a plane in user space, for packets
                                             with the mark of the rule, if it has one

R is the first of these rules.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from noid.config import PlaneSection
from noid.host.routes import Prefix
from noid.host.rules import GOTO, TO_TABLE, Rule
from noid.locators import Locator

ROOM = 2
"""Priorities that are needed before such a rule, besides that of the rule for local addresses."""


def lead_before(
    section: PlaneSection,
    others: Iterable[Rule],
    leading: Mapping[Locator, Rule],
    tables: Mapping[Locator, int],
) -> Iterator[Rule]:
    """The rules before those of the operator.

    Args:
        section: the ``[plane]`` of the configuration.
        others: the rules of others.
        leading: for each locator, the rule of ours that leads its packets.
        tables: for each locator whose packets leave by its own uplink, the table by which they do.
    """
    others = list(others)
    earlier = [
        one
        for one in others
        if ROOM < one.priority < section.rule_priority and _is_for_an_uplink(section, one)
    ]
    last = section.rule_priority
    first = min((one.priority for one in earlier), default=last)
    # What comes behind a rule of another kind, such as one for a VPN, does not come before that.
    between = (one.priority for one in others if one not in earlier)
    end = min((one for one in between if one >= first - ROOM), default=last)
    led = {
        _copied(leading[locator], one, first - 1, locator)
        for one in earlier
        for locator in leading
        if one.priority < end and _leads(one, locator, tables)
    }
    if led:
        yield Rule(first - 2, GOTO, target=first, mark=section.mark)
        yield from led


def _copied(usual: Rule, rule: Rule, priority: int, locator: Locator) -> Rule:
    """The rule of ours for the packets from a locator that a rule of the operator is for."""
    is_unmarked = usual.is_unmarked and not rule.mark
    usual = usual._replace(priority=priority, source=locator, is_unmarked=is_unmarked)
    return usual._replace(mark=rule.mark, mask=rule.mask)


def _is_for_an_uplink(section: PlaneSection, rule: Rule) -> bool:
    """Whether a rule selects a table by the source or the mark of packets, for any destination."""
    is_other = rule.is_passing or rule.is_by_program or rule.is_inverted
    selects = rule.source is not None or rule.mark not in (0, section.mark)
    return rule.action == TO_TABLE and selects and not is_other and rule.destination is None


def _leads(rule: Rule, locator: Locator, tables: Mapping[Locator, int]) -> bool:
    """Whether a rule leads packets from a locator to the table by which they leave anyway.

    If that is not known, as of an address that was removed, it is that of its rule.
    """
    if rule.source is None:
        return tables.get(locator) == rule.table
    is_covered = Prefix(rule.source, rule.source_bits).covers(locator)
    return is_covered and tables.get(locator, rule.table) == rule.table


def is_led_before(section: PlaneSection, ours: Collection[int], rule: Rule) -> bool:
    """Whether a rule is one of these, for any locator.

    Args:
        section: the ``[plane]`` of the configuration.
        ours: every table of noid.
        rule: the rule.
    """
    if rule.priority >= section.rule_priority:
        return False
    if rule.action == GOTO:
        return rule.mark == section.mark and not rule.protocol and not rule.device
    return rule.action == TO_TABLE and rule.is_local and rule.table in ours
