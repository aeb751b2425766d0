# SPDX-License-Identifier: MIT
"""Routes packets to M6 peers so that they reach our programs after any uplink failure [D50].

The kernel resolves the route and the neighbour of a packet before programs on the uplink see it. A
packet for another uplink must not wait for the neighbours of the first. Therefore packets
to M6 peers have separate routes, through the uplink they would use anyway, to a placeholder
neighbour: its entry is permanent, and the programs replace it by the real one. Rules, routes of
programs and filters by uplink work as without noid. When the uplink goes down, the kernel
deletes these routes, and the remaining ones lead to a device of noid that has no neighbours.

TABLE+ROW, of the uplink with that row (rows.py), has a route for each peer of a context, and TABLE
has one for each peer that programs may connect to, unless the host reaches it through a device that
is not an uplink, such as that of a VPN. The rules that lead packets there are in rules.py.

A peer to which a route or rule of the host refuses packets, such as a blackhole route, has no route
in TABLE+ROW.

While the uplink of an AID is down, the routes of TABLE to the peers of its contexts lead to that
device, too, and name the AID: a server that is bound to no address goes on to answer from there.
The daemon adds them then. They are not there before, because without a daemon nothing keeps the AID
on the host.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice

from noid.config import PlaneSection
from noid.errors import PlatformError
from noid.host.lookup import Packet
from noid.host.netlink import HostNetwork
from noid.host.routes import DeletedRoute, Difference, PeerRoute, with_mtu
from noid.host.rules import Rule
from noid.locators import Locator, parse_locator
from noid.planes.rows import NO_ROW
from noid.planes.rules import ours_among
from noid.planes.uplink import ETHERNET, NO_UPLINK, SENDS, UPLINKS_MAX, Uplink

MTU_OF_ROUTES_MAX = 65_520
"""Octets; what a route says beyond them the kernel takes for them."""
GATEWAY = parse_locator("fe80::6e6f:6964")
GATEWAY_LINK = bytes.fromhex("020000006d36")
"""The neighbour that is none; the programs know it by its link-layer address."""
BY_UPLINK, BY_OURS = 100, 200
"""Metrics: the uplink is taken while it is up, the device of ours otherwise."""


class Steering:
    """The intended routes of a plane, and their installation.

    Args:
        network: the host's.
        section: the ``[plane]`` of the configuration.
        own: index of the device of noid.
        refused: called with the number of routes that the kernel refused.
        at_once: routes added in one turn when an uplink goes or comes back.
        led: called with each address for which a source is selected from now on, or no longer.
    """

    def __init__(
        self,
        network: HostNetwork,
        section: PlaneSection,
        own: int,
        refused: Callable[[int], None],
        at_once: int,
        led: Callable[[Locator, bool], None] = lambda aid, is_led: None,
    ) -> None:
        self.network = network
        self.section = section
        self.own = own
        self.refused = refused
        self.at_once = at_once
        self.led = led
        self.uplinks: dict[int, Uplink] = {}
        self.peers: dict[int, set[Locator]] = {}
        self.refused_to: set[tuple[int, Locator]] = set()
        self.sources: dict[int, Locator] = {}
        self.new: dict[Locator, tuple[int, Locator]] = {}
        self.narrow: dict[Locator, int] = {}
        self.kept: set[Locator] = set()
        self.rules: frozenset[Rule] = frozenset()
        self._waiting: dict[int, Iterator[PeerRoute]] = {}
        self._removed: set[DeletedRoute] = set()

    # --- what is wanted -----------------------------------------------------------------------

    def table_of(self, row: int) -> int:
        """The routing table of an uplink."""
        return self.section.table + row

    def tables(self) -> list[int]:
        """Every table that has, or may have, routes of noid."""
        return [self.section.table, *map(self.table_of, self.peers)]

    def wanted(self, table: int) -> Iterator[PeerRoute]:
        """The intended routes of a table, generated during the iteration.

        The iteration may run in another thread, and may miss concurrent changes.
        """
        if table == self.section.table:
            return self._routes_of_new(dict(self.new))
        row = table - self.section.table
        aids = frozenset(self.peers.get(row, ()))
        return chain(self._by_uplink(row, aids), self._by_ours(row, aids))

    def _by_uplink(self, row: int, aids: Iterable[Locator]) -> Iterator[PeerRoute]:
        uplink = self.uplinks.get(row, NO_UPLINK)
        table = self.table_of(row)
        if uplink.ifindex:
            for aid in self._allowed(row, aids):
                yield _route(aid, table, uplink)

    def _by_ours(self, row: int, aids: Iterable[Locator]) -> Iterator[PeerRoute]:
        table = self.table_of(row)
        return (PeerRoute(aid, table, self.own, BY_OURS) for aid in self._allowed(row, aids))

    def _allowed(self, row: int, aids: Iterable[Locator]) -> Iterator[Locator]:
        """Returns the peers to which the host does not refuse packets from an uplink."""
        return (aid for aid in aids if (row, aid) not in self.refused_to)

    def _routes_of_new(self, new: dict[Locator, tuple[int, Locator]]) -> Iterator[PeerRoute]:
        table = self.section.table
        for aid, (row, source) in new.items():
            uplink = self.uplinks.get(row, NO_UPLINK)
            if uplink.ifindex:
                route = _route(aid, table, uplink, source)
            elif source in self.kept and aid in self.peers.get(row, ()):
                route = PeerRoute(aid, table, self.own, BY_OURS, source=source)
            else:
                continue
            mtu = self.narrow.get(aid)
            yield route if mtu is None else route._replace(metrics=with_mtu(route.metrics, mtu))

    # --- orders -------------------------------------------------------------------------------

    def add_peers(
        self, row: int, aids: Iterable[Locator], source: Locator, *, asks: bool = True
    ) -> bool:
        """Routes to peers for packets from the locators of an uplink, one of which is ``source``.

        Args:
            row: of the uplink.
            aids: the peers.
            source: the locator.
            asks: whether the kernel is asked if it refuses packets; otherwise with ``look_again``.

        Returns:
            Whether any is new.
        """
        known = self.peers.setdefault(row, set())
        fresh = [aid for aid in dict.fromkeys(aids) if aid not in known]
        known.update(fresh)
        self.sources[row] = source
        if asks:
            self._note_refusals(row, fresh)
        self._add([*self._by_ours(row, fresh), *self._by_uplink(row, fresh)])
        return bool(fresh)

    def remove_peer(self, row: int, aid: Locator) -> None:
        """Removes them."""
        if aid in self.peers.get(row, ()):
            self._remove([*self._by_uplink(row, [aid]), *self._by_ours(row, [aid])])
            self.refused_to.discard((row, aid))
            self.peers[row].discard(aid)
            if not self.peers[row]:
                del self.peers[row], self.sources[row]

    def look_again(self, aids: Sequence[Locator]) -> bool:
        """Removes the routes to peers to which the host refuses packets now, and adds the others.

        Returns:
            Whether any is new.
        """
        removed, fresh = list[PeerRoute](), list[PeerRoute]()
        for row, known in self.peers.items():
            some = [aid for aid in aids if aid in known]
            before = {*self._by_uplink(row, some), *self._by_ours(row, some)}
            self._note_refusals(row, some)
            now = {*self._by_uplink(row, some), *self._by_ours(row, some)}
            removed += before - now
            fresh += now - before
        self._remove(removed)
        self._add(fresh)
        return bool(fresh)

    def _note_refusals(self, row: int, aids: Sequence[Locator]) -> None:
        """Asks the kernel to which peers it would refuse packets from an uplink without noid.

        While the uplink cannot send, only whether it still refuses those that it refused before: a
        route that is gone with the uplink may have come before one that refuses a larger prefix.
        """
        if not self.uplinks.get(row, NO_UPLINK).flags & SENDS:
            aids = [aid for aid in aids if (row, aid) in self.refused_to]
        packets = [Packet(aid, self.sources[row], mark=self.section.mark) for aid in aids]
        with contextlib.suppress(PlatformError):  # the kernel does not say: as before
            refused = self.network.refused(packets)
            self.refused_to.difference_update((row, aid) for aid in aids)
            self.refused_to.update((row, one.destination) for one in refused)

    def choose(self, choices: dict[Locator, tuple[int, Locator]]) -> bool:
        """Selects uplink and source of packets to peers that have no source yet.

        Args:
            choices: for each peer the row of the uplink, and the locator.

        Returns:
            Whether anything is other than before.
        """
        fresh = {aid: one for aid, one in choices.items() if self.new.get(aid) != one}
        for aid in fresh:
            if aid not in self.new:  # a difference of the keys would go through all peers
                self.led(aid, True)
        before = set(self._routes_of_new({aid: self.new[aid] for aid in self.new.keys() & fresh}))
        self.new |= fresh
        for aid in self.narrow.keys() & fresh.keys():
            del self.narrow[aid]
        now = list(self._routes_of_new(fresh))
        replaced = {(one.aid, one.metric) for one in now}
        self._add(now)
        self._remove([one for one in before if (one.aid, one.metric) not in replaced])
        return bool(fresh)

    def narrow_path(self, aid: Locator, mtu: int | None) -> None:
        """Limits packets to a peer whose source is yet to be chosen to what their path carries.

        The kernel notes the size that an error says for the route of the source that the packet
        had, and a socket without a source uses the other one for each packet.

        Args:
            aid: the address.
            mtu: octets of IPv6, which make no limit larger; None ends the limit.
        """
        before = self.narrow.get(aid, MTU_OF_ROUTES_MAX)
        if aid in self.new and (aid in self.narrow if mtu is None else mtu < before):
            if mtu is None:
                del self.narrow[aid]
            else:
                self.narrow[aid] = mtu
            self._add(list(self._routes_of_new({aid: self.new[aid]})))

    def widen_path(self, aid: Locator) -> None:
        """Ends all limits to the length of packets to a peer: the kernel has them by route."""
        self.narrow.pop(aid, None)
        new = {aid: self.new[aid]} if aid in self.new else {}
        rows = [row for row, aids in self.peers.items() if aid in aids]
        self._add([*self._routes_of_new(new), *chain(*(self._by_uplink(r, [aid]) for r in rows))])

    def unchoose(self, aid: Locator) -> None:
        """Removes the selection: the kernel selects again."""
        if aid in self.new:
            self.led(aid, False)
            _, source = chosen = self.new.pop(aid)
            kept = PeerRoute(aid, self.section.table, self.own, BY_OURS, source=source)
            self._remove([*self._routes_of_new({aid: chosen}), kept])
            self.narrow.pop(aid, None)

    def keep_source(self, source: Locator, *, kept: bool) -> int:
        """An AID is on a device of noid from now on, or no longer.

        Returns:
            The row of its uplink if there are routes to add with ``go_on``, and 0 otherwise.
        """
        if not kept:
            self.kept.discard(source)
            return NO_ROW
        self.kept.add(source)
        row = next((row for row, one in self.new.values() if one == source), NO_ROW)
        if row and not self.uplinks.get(row, NO_UPLINK).ifindex:
            self._waiting[row] = self._routes_of_row(row)
            return row
        return NO_ROW

    def source_of(self, aid: Locator) -> Locator | None:
        """The source that is selected for packets to a peer; None: the kernel selects."""
        chosen = self.new.get(aid)
        return None if chosen is None else chosen[1]

    def set_uplink(self, row: int, uplink: Uplink) -> bool:
        """Updates an uplink.

        Returns:
            Whether its routes are complete; otherwise ``go_on`` adds the rest.
        """
        before = self.uplinks.get(row, NO_UPLINK)
        self.uplinks[row] = uplink
        is_other = _said_by(before) != _said_by(uplink)
        if is_other:
            self.keep_neighbour(row)
            self._waiting[row] = self._routes_of_row(row)
            self.go_on(row)
        return row not in self._waiting

    def _routes_of_row(self, row: int) -> Iterator[PeerRoute]:
        """The routes that depend on the state of an uplink."""
        mine = {aid: one for aid, one in self.new.items() if one[0] == row}
        return iter([*self._routes_of_new(mine), *self._by_uplink(row, self.peers.get(row, ()))])

    def keep_neighbour(self, row: int) -> bool:
        """Adds the placeholder neighbour if it is missing; returns whether it was."""
        uplink = self.uplinks[row]
        if not uplink.ifindex or _gateway(uplink) is None:
            return False  # it has no neighbours
        try:
            return self.network.keep_neighbour(uplink.ifindex, GATEWAY, GATEWAY_LINK)
        except PlatformError:
            return False  # the device is gone, and so we are told

    def go_on(self, row: int) -> bool:
        """Adds some of the routes of an uplink that has changed; returns whether that is all."""
        some = list(islice(self._waiting.get(row, iter(())), self.at_once))
        # Some may have lost their peer since.
        self._add([one for one in some if self._is_wanted(one)])
        if len(some) < self.at_once:
            self._waiting.pop(row, None)
        return row not in self._waiting

    def lose_uplink(self, row: int, *, is_up: bool = False) -> None:
        """An uplink has lost its carrier, or is down: then the kernel deletes its routes.

        ``go_on`` adds those of AIDs that are on the device of noid.
        """
        if is_up:
            before = self.uplinks.get(row, NO_UPLINK)
            self.uplinks[row] = before._replace(flags=before.flags & ~SENDS)
            return
        self.uplinks[row] = NO_UPLINK
        self._waiting[row] = self._routes_of_row(row)

    # --- what others have done ----------------------------------------------------------------

    def restore(self, deleted: Iterable[DeletedRoute]) -> list[str]:
        """Adds routes that are wanted and that others deleted; returns their tables."""
        lost: list[PeerRoute] = []
        for one in deleted:
            if one in self._removed:
                self._removed.discard(one)
            else:
                routes = self._routes_of(one.table, one.aid)
                lost += (route for route in routes if route.metric == one.metric)
        return [f"table {route.table}" for route in lost[: self._add(lost)]]

    def _routes_of(self, table: int, aid: Locator) -> Iterator[PeerRoute]:
        """The routes to a peer that a table is to have."""
        row = table - self.section.table
        if row == NO_ROW and aid in self.new:
            yield from self._routes_of_new({aid: self.new[aid]})
        elif aid in self.peers.get(row, ()):
            yield from self._by_uplink(row, [aid])
            yield from self._by_ours(row, [aid])

    def correct(self, table: int, found: Difference) -> list[str]:
        """Adds what a table lacks and removes the rest.

        Args:
            table: its number.
            found: how it differed from ``wanted`` a moment ago; what has changed since is left.

        Returns:
            The table, as often as a route was missing.
        """
        if table - self.section.table in self._waiting:
            return []
        others = set(self.tables()) - {table}
        self._removed = {one for one in self._removed if one.table in others}
        self._remove([one for one in found.extra if not self._is_wanted(one)])
        added = self._add([one for one in found.missing if self._is_wanted(one)])
        return [f"table {table}"] * added

    def _is_wanted(self, route: PeerRoute) -> bool:
        return route in self._routes_of(route.table, route.aid)

    def _add(self, routes: Sequence[PeerRoute]) -> int:
        """Adds routes; returns how many the kernel took."""
        refused = 0
        if routes:
            try:
                refused = self.network.add_routes(routes)
            except PlatformError:
                refused = len(routes)
        if refused:
            self.refused(refused)
        return len(routes) - refused

    def _remove(self, routes: Sequence[PeerRoute]) -> None:
        if routes:
            # The kernel's messages about these are not to be taken for what others do.
            self._removed.update(DeletedRoute(one.table, one.aid, one.metric) for one in routes)
            try:
                self.network.remove_routes(routes)
            except PlatformError:
                self.refused(len(routes))


def _route(aid: Locator, table: int, uplink: Uplink, source: Locator | None = None) -> PeerRoute:
    """The route to a peer by an uplink, with what the default route says of the path."""
    return PeerRoute(
        aid, table, uplink.ifindex, BY_UPLINK, _gateway(uplink), source, uplink.metrics
    )


def _said_by(uplink: Uplink) -> tuple[object, ...]:
    """What routes have of an uplink."""
    return uplink.ifindex, _gateway(uplink), uplink.metrics


def _gateway(uplink: Uplink) -> Locator | None:
    """The neighbour for packets to M6 peers; None where a device has no neighbours."""
    return GATEWAY if uplink.flags & ETHERNET else None


def take_down(network: HostNetwork, section: PlaneSection) -> int:
    """Removes all rules and routes of a plane; returns how many rules there were."""
    there = ours_among(section, network.rules())
    network.remove_rules(there)
    network.remove_routes(list(network.routes(section.table, UPLINKS_MAX)))
    for index in network.neighbour_devices(GATEWAY):
        network.remove_neighbour(index, GATEWAY)
    return len(there)
