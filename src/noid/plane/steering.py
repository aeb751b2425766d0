"""Leads packets to M6 peers into devices of ours, whatever becomes of the uplinks [D50].

The kernel resolves the route and the neighbour of a packet before programs on the uplink see it. A
packet that is to leave by another uplink must not wait for the neighbours of the first, so it is
routed into a device of ours, which has none. Four kinds of rules stand before all others, and only
for packets of the host's own programs:

    P      from all fwmark MARK goto P+3      noid's own packets
    P+1    from LOCATOR lookup TABLE+1        one for each locator: it is the source already
    P+2    from all lookup TABLE              a source is yet to be chosen
    P+3    from all nop

Routes in TABLE choose a locator as the source. They lead into a device that goes with the daemon:
without it, the kernel chooses the source as it does without noid. Routes in TABLE+1 lead into a
device that stays. A failure of an uplink changes none of them.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

from noid.config import PlaneSection
from noid.errors import PlatformError
from noid.locators import Locator
from noid.netlink import HostNetwork
from noid.rules import GOTO, NOTHING, Rule

RULES = 4
"""Priorities that our rules take, from ``rule_priority`` on."""


class Routes:
    """The routes of one table: wanted, and made known to the kernel.

    Args:
        network: the host's.
        table: number of the routing table.
        device: index of the device they lead to.
        refused: is told how many the kernel refused.
    """

    def __init__(
        self, network: HostNetwork, table: int, device: int, refused: Callable[[int], None]
    ) -> None:
        self.network = network
        self.table = table
        self.device = device
        self.refused = refused
        self.wanted: dict[Locator, Locator | None] = {}

    def add(self, sources: dict[Locator, Locator | None]) -> None:
        """Wants routes to these AIDs, each with its default source, None for none."""
        fresh = {
            aid: source
            for aid, source in sources.items()
            if aid not in self.wanted or self.wanted[aid] != source
        }
        self.wanted |= fresh
        self._tell(fresh)

    def remove(self, aids: Iterable[Locator]) -> None:
        """Wants no routes to these any more."""
        gone = [aid for aid in aids if aid in self.wanted]
        for aid in gone:
            del self.wanted[aid]
        if gone:
            try:
                self.network.remove_routes(gone, device=self.device, table=self.table)
            except PlatformError:
                self.refused(len(gone))

    def adopt(self) -> None:
        """Takes the routes of an earlier daemon as wanted, until ``remove`` says otherwise."""
        self.wanted = dict(self.actual())

    def actual(self) -> dict[Locator, Locator | None]:
        """What the kernel has; nothing where it does not say."""
        try:
            return self.network.routed(device=self.device, table=self.table)
        except PlatformError:
            return {}

    def restore(self, aids: Iterable[Locator]) -> int:
        """Adds those of these that are wanted once more; returns how many that are."""
        lost = {aid: self.wanted[aid] for aid in aids if aid in self.wanted}
        self._tell(lost)
        return len(lost)

    def compare(self, actual: Collection[Locator]) -> int:
        """Restores what is wanted and not there, removes the rest; returns how many were lost."""
        stale = [aid for aid in actual if aid not in self.wanted]
        if stale:
            self.network.remove_routes(stale, device=self.device, table=self.table)
        return self.restore([aid for aid in self.wanted if aid not in actual])

    def _tell(self, some: dict[Locator, Locator | None]) -> None:
        if not some:
            return
        aids, sources = list(some), list(some.values())
        try:
            refused = self.network.add_routes(aids, sources, device=self.device, table=self.table)
        except PlatformError:
            refused = len(some)
        if refused:
            self.refused(refused)


def rules_of(section: PlaneSection, locators: Collection[Locator] = ()) -> frozenset[Rule]:
    """The rules a plane wants.

    Args:
        section: the ``[plane]`` of the configuration.
        locators: sources whose packets go to the device that stays, if there is one.
    """
    first, table = section.rule_priority, section.table
    return frozenset(
        {
            Rule(first, GOTO, target=first + RULES - 1, mark=section.mark),
            *(Rule(first + 1, table=table + 1, source=one, is_local=True) for one in locators),
            Rule(first + 2, table=table, is_local=True),
            Rule(first + RULES - 1, NOTHING),
        }
    )


def ours_among(section: PlaneSection, rules: Iterable[Rule]) -> frozenset[Rule]:
    """Those of some rules that a plane has made, with whatever locators."""
    fixed = rules_of(section)
    by_source = (section.rule_priority + 1, section.table + 1)
    return frozenset(
        rule for rule in rules if rule in fixed or (rule.priority, rule.table) == by_source
    )


def keep_rules(
    network: HostNetwork, section: PlaneSection, wanted: frozenset[Rule], actual: Sequence[Rule]
) -> int:
    """Adds rules that are wanted and removes those of ours that are not.

    Returns:
        How many were missing.

    Raises:
        PlatformError: the kernel refuses one.
    """
    there = ours_among(section, actual)
    network.add_rules(wanted - there)
    network.remove_rules(there - wanted)
    return len(wanted - there)


def take_down(network: HostNetwork, section: PlaneSection) -> int:
    """Removes all rules of a plane and empties its tables; returns how many rules there were."""
    there = ours_among(section, network.rules())
    network.remove_rules(there)
    for table in (section.table, section.table + 1):
        network.flush_table(table)
    return len(there)
