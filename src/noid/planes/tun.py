# SPDX-License-Identifier: MIT
"""The TUN data plane: works on every Linux, in user space, by the law of datapath.

Routes towards the AIDs of known peers lead into the TUN device of the slow path, which is all there
is here. M6 packets arrive on sixteen raw sockets, one for each next header, which also keeps the
kernel from answering them with a parameter problem.

When the process ends, however it ends, the device goes and its routes with it: the host is as
before.
"""

import asyncio
import socket
from collections.abc import Iterable, Mapping, Sequence

from noid.config import Plane
from noid.counters import PlaneCounter
from noid.errors import PlatformError
from noid.flows.clock import FlowClock
from noid.flows.flow import Flow
from noid.host.routes import DeletedRoute, Difference, PeerRoute, Prefix
from noid.host.rules import Rule
from noid.host.survey import Survey
from noid.locators import Locator
from noid.planes import steering
from noid.planes.default_sources import DefaultSources
from noid.planes.delayed import Delayed
from noid.planes.inquiries import Inquiries
from noid.planes.receivers import receive, receiver
from noid.planes.rules import NO_TABLES, keep_rules, rules_of
from noid.planes.slow_path import BATCH_MAX, SlowPath, raw_socket_errors
from noid.planes.steering import BY_OURS
from noid.wire.slots import m6_next_headers

REFRESH_S = 0.01
"""New routes are made known to connected sockets together, this long after the first of them."""


class TunPlane(SlowPath):
    """See ``noid.planes.base.DataPlane``; made like any ``SlowPath``."""

    kind: Plane = "tun"
    wanted: dict[Locator, PeerRoute]
    rules: frozenset[Rule] = frozenset()
    devices: frozenset[int] = frozenset()
    is_steering = False

    def open(self) -> None:
        """Makes the device and the sockets; see ``DataPlane.open``."""
        self.wanted = {}
        self.led_elsewhere: set[Locator] = set()
        self.is_led_elsewhere = False
        self.inquiries = Inquiries(self._look_up_some)
        self.refresh = Delayed(self._refresh, REFRESH_S)
        self.default_sources = DefaultSources(
            self.not_left,
            self.working,
            self.rewriter.by_aids,
            chooses=lambda aid: aid in self.wanted,
            chosen=self._source_of,
            choose=self._look_up,
        )
        super().open()
        try:
            self._open_receivers()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Adds the routing rules."""
        super().start()
        self.is_steering = True
        self._keep_rules(self.network.rules(), NO_TABLES)

    def network_changed(self, survey: Survey) -> None:
        """Restores what others have removed: the device, its routes, the rules."""
        self.devices = frozenset(device.index for device in survey.devices)
        if self.is_steering:
            if self.keep_device(survey, self.mtu):
                self._restore(list(self.wanted.values()))
            with self.counted(PlaneCounter.RULES_REFUSED):
                self._keep_rules(survey.rules, survey.tables(self.locators()))
            if survey.is_led_elsewhere != self.is_led_elsewhere:
                self.is_led_elsewhere = survey.is_led_elsewhere
                self.inquiries.add_all((*self.wanted, *self.led_elsewhere))

    def _keep_rules(self, actual: Sequence[Rule], tables: Mapping[Locator, int]) -> None:
        wanted = rules_of(self.section, {}, by_source=False, others=actual, tables=tables)
        lost = self.rules & keep_rules(self.network, self.section, wanted, actual)
        self.has_restored("rules", (str(rule.priority) for rule in lost))
        self.rules = wanted

    def routes_deleted(self, deleted: Iterable[DeletedRoute]) -> None:
        """Restores routes of ours that others have deleted."""
        lost = [
            self.wanted[one.aid]
            for one in deleted
            if one.table == self.section.table and one.aid in self.wanted
        ]
        self._restore(lost)

    def _restore(self, lost: Sequence[PeerRoute]) -> None:
        self._add(lost)
        if lost:
            self.refresh.request()
        self.has_restored("routes", (f"table {route.table}" for route in lost))

    def routes_changed(self, prefixes: Iterable[Prefix]) -> None:
        """Looks up anew by which device the host sends to the peers in these prefixes."""
        self.inquiries.add(prefixes, (*self.wanted, *self.led_elsewhere))

    def locators_changed(self) -> None:
        """Chooses again the sources of packets to peers that are no longer to be used."""
        self.default_sources.look_at_all(self.wanted)

    def _source_of(self, aid: Locator) -> Locator | None:
        route = self.wanted.get(aid)
        return None if route is None else route.source

    def _look_up_some(self, aids: Iterable[Locator]) -> None:
        for aid in aids:
            self._look_up(aid)

    def _look_up(self, aid: Locator) -> None:
        if aid in self.led_elsewhere or aid in self.wanted:
            self.unwatch(aid)
            self.watch(aid)

    def tables_of_routes(self) -> list[int]:
        """The routing tables that have routes of ours."""
        return [self.section.table]

    def wanted_routes(self, table: int) -> Iterable[PeerRoute]:
        """The routes that the table is to have now."""
        return list(self.wanted.values())

    def correct_table(self, table: int, found: Difference) -> None:
        """Makes a routing table as it is to be."""
        wanted = set(self.wanted.values())
        self._remove(list(found.extra - wanted))
        self._restore(list(found.missing & wanted))

    def _add(self, routes: Sequence[PeerRoute]) -> None:
        try:
            self.counts[PlaneCounter.ROUTES_REFUSED] += (
                self.network.add_routes(routes) if routes else 0
            )
        except PlatformError:
            self.counts[PlaneCounter.ROUTES_REFUSED] += len(routes)

    def _remove(self, routes: Sequence[PeerRoute]) -> None:
        with self.counted(PlaneCounter.ROUTES_REFUSED):
            self.network.remove_routes(routes)

    def close(self) -> None:
        """Removes everything ``open`` made; may be called at any time, any number of times."""
        self.refresh.cancel()
        for one in (self.inquiries, self.default_sources):
            one.close()
        if self.is_steering:
            self.is_steering = False
            with self.counted(PlaneCounter.RULES_REFUSED):
                steering.take_down(self.network, self.section)
        super().close()

    def _open_receivers(self) -> None:
        loop = asyncio.get_running_loop()
        with raw_socket_errors():
            for next_header in m6_next_headers(self.codepoints):
                one = receiver(next_header)
                self.receivers.append(one)
                loop.add_reader(one, self._on_m6, one, next_header)

    def _on_m6(self, one: socket.socket, next_header: int) -> None:
        for _ in range(BATCH_MAX):
            arrival = receive(one, next_header)
            if arrival is None:
                return
            self.arrived(arrival)

    def take_up(
        self, flows: Sequence[Flow], clocks: Sequence[FlowClock], aids: Sequence[Locator]
    ) -> None:
        """Uses many flows at once, and watches many AIDs."""
        for flow in flows:
            self.install(flow)
        for aid in aids:
            self.watch(aid)

    def watch(self, aid: Locator) -> None:
        """Leads an AID into the device, with the source address it would have had anyway."""
        if aid in self.wanted:
            return
        source, device = None, 0
        with self.counted(PlaneCounter.QUERIES_REFUSED):
            source, device = self.network.default_route(aid, mark=self.section.mark)
        if device and self.devices and device not in self.devices:
            self.led_elsewhere.add(aid)  # by a device that is no uplink, such as a VPN's
            return
        locators = self.sources(aid)
        if locators and source not in locators:
            source = locators[0]
        route = PeerRoute(aid, self.section.table, self.device_index, BY_OURS, source=source)
        self.wanted[aid] = route
        self._add([route])
        self.led(aid, True)
        self.refresh.request()

    def _refresh(self) -> None:
        self.forget_cached_routes(self.device_index)

    def widen(self, aid: Locator) -> None:
        """Replaces the route, by which the kernel stores the size that an error has said."""
        if aid in self.wanted:
            self._add([self.wanted[aid]])

    def unwatch(self, aid: Locator) -> None:
        """Lets an AID be reached without the shim."""
        self.led_elsewhere.discard(aid)
        route = self.wanted.pop(aid, None)
        if route is not None:
            self._remove([route])
            self.led(aid, False)
