# SPDX-License-Identifier: MIT
"""The flows of the kernel plane: entries in the kernel's tables, and routes to their peers.

Flows name rows of the table of uplinks (rows.py), which is kept here too. The kernel's tables and
the device of ours are there from ``open`` on; ``plane.py`` does what they need of the host.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from noid.constants import MTU_MIN
from noid.counters import PlaneCounter
from noid.flows.clock import FlowClock
from noid.flows.events import UnansweredPacket
from noid.flows.flow import Flow
from noid.host.routes import Prefix
from noid.identifiers import Label
from noid.locators import Locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.layout import Interfaces
from noid.planes.bpf.left import LeftUplinks
from noid.planes.bpf.limits import Limits
from noid.planes.bpf.loading import Programs
from noid.planes.bpf.segments import Segments
from noid.planes.bpf.uses import Uses
from noid.planes.default_sources import DefaultSources
from noid.planes.delayed import Delayed
from noid.planes.inquiries import AT_ONCE, Inquiries
from noid.planes.paced import Paced
from noid.planes.rows import NO_ROW, Rows
from noid.planes.slow_path import PlaneDependencies, SlowPath
from noid.planes.steering import Steering
from noid.planes.uplink import NO_UPLINK, OWN_ROW, RECEIVES, SENDS, Uplink
from noid.wire import icmpv6

REFRESH_S = 0.1
"""Connections older than their route are led by it so long after it was added, all together."""
CHOSEN_S = 1.0
"""How long the choice for a peer holds while its name is resolved again and again."""
NARROW_S = 600.0
"""How long the size of packets holds that an error has said; as that of the kernel."""
FRAME_OCTETS = 14
"""The shortest packet that the kernel runs a program on."""

Choice = tuple[Locator, tuple[int, Locator]]
"""A peer, and the row of the uplink and the source for packets to it."""


class FlowTables(SlowPath):
    """The methods of the kernel plane for flows and AIDs; see ``noid.planes.base.DataPlane``.

    Args:
        surroundings: what it stands in.
        limits: what there is room for.
    """

    steering: Steering
    interfaces_of_ours: Interfaces
    programs: Programs | None = None

    def __init__(self, surroundings: PlaneDependencies, limits: Limits) -> None:
        super().__init__(surroundings)
        self.limits = limits
        self.rows = Rows(limits.uplinks)
        self.uses = Uses()
        self.watched: set[Locator] = set()
        self.unwatched: set[Locator] = set()
        self.chosen: dict[Locator, tuple[float, Sequence[Locator]]] = {}
        self.narrowed: dict[Locator, float] = {}
        self.is_led_elsewhere = False
        self.default_device = 0
        self.led_elsewhere: set[Locator] = set()
        self.inquiries = Inquiries(self._look_up)
        self.choosing = Paced(self._choose)
        self.default_sources = DefaultSources(
            self.not_left,
            self.working,
            self.rewriter.by_aids,
            chooses=lambda aid: aid in self.watched and not self._is_led_elsewhere(aid),
            chosen=lambda aid: self.steering.source_of(aid),
            preferred=self._spoken_from,
            choose=self._choose,
        )
        self.left = LeftUplinks(self._drop_left)
        self.refresh = Delayed(self._refresh, REFRESH_S)
        self.tables: dict[str, libbpf.Table] = {}
        self.segments = Segments(self.tables, self.rewriter.by_label)

    def install(self, flow: Flow) -> None:
        """Installs a flow."""
        previous = self.rewriter.by_aids.get(layout.aids_key(flow))
        before = self.rewriter.by_label.get(flow.local_label)
        super().install(flow)
        self.uses.take(flow)
        if previous is not None and previous.local_locator != flow.local_locator:
            left = self.rows.of.get(previous.local_locator, NO_ROW)
            self.left.add(left)
            if self._home(flow) == OWN_ROW:  # packets from its AID reach the peer from now on
                self.default_sources.look([flow.peer_aid])
            if flow.peer_aid in self.narrowed and self._mtu(left) < self._mtu(self._row(flow)):
                self.widen(flow.peer_aid)
        if previous is not None and previous.local_label not in self.rewriter.by_label:
            self._forget_label(previous.local_label)
        self._put(flow)
        if before is None or before.aside:  # a provisional flow has no route yet
            self._add_peer_routes([flow])

    def deliver(self, packet: bytes) -> None:
        """Delivers a complete packet to the stack of the host.

        One that is an error about the size of packets is delivered twice. A socket may cache the
        route by which its source was selected, and the kernel notes the size for that route. Then
        the socket takes the route of its source, which does not have it. Sockets that are not
        connected select their source for each packet: their route gets the size too.
        """
        super().deliver(packet)
        if icmpv6.is_too_big(packet):
            super().deliver(packet)
            aid, mtu = icmpv6.path_in(packet)
            if aid in self.watched:
                self.narrowed[aid] = time.monotonic() + NARROW_S
                self.steering.narrow_path(aid, max(mtu, MTU_MIN))

    def widen(self, aid: Locator) -> None:
        """Ends what ``deliver`` has done because of errors about the size of packets."""
        self.narrowed.pop(aid, None)
        self.steering.widen_path(aid)

    def _drop_left(self, row: int) -> None:
        if index := self.rows.uplinks.get(row, NO_UPLINK).ifindex:
            with self.counted(PlaneCounter.QUEUES_REFUSED):
                self.network.drop_queued(index)

    def keep_address(self, aid: Locator, *, kept: bool) -> None:
        """Keeps an AID deliverable, or ends that; while it is kept, servers answer from there."""
        super().keep_address(aid, kept=kept)
        if row := self.steering.keep_source(aid, kept=kept):
            asyncio.get_running_loop().call_soon(self._add_routes, row)

    def take_up(
        self, flows: Sequence[Flow], clocks: Sequence[FlowClock], aids: Sequence[Locator]
    ) -> None:
        """Installs many flows, and watches many AIDs; see ``DataPlane.take_up``."""
        labels, came, pairs, sent = [], [], [], []
        self.rows.take({flow.local_aid for flow in flows})
        for flow, clock in zip(flows, clocks, strict=True):
            super().install(flow)
            self.uses.take(flow)
            key = layout.label_key(flow.local_label)
            entry, far = layout.inbound_entries(flow, self._home(flow), clock)
            self._put_far(key, far)
            labels.append(key)
            came.append(entry)
            if flow.transmits:
                pairs.append(layout.aids_key(flow))
                sent.append(layout.outbound_entry(flow, self._row(flow), self.codepoints, clock))
        outbound, inbound = self.tables["outbound"], self.tables["inbound"]
        room = inbound.put_all(b"".join(labels), b"".join(came))
        room += outbound.put_all(b"".join(pairs), b"".join(sent))
        self.counts[PlaneCounter.FLOWS_WITHOUT_ROOM] += len(labels) + len(pairs) - room
        fresh = [aid for aid in dict.fromkeys(aids) if aid not in self.watched]
        room = self.tables["watched"].put_all(b"".join(fresh), layout.WATCHED.pack(0) * len(fresh))
        self.counts[PlaneCounter.PEERS_WITHOUT_ROOM] += len(fresh) - room
        self.unwatched.update(fresh[room:])
        self.watched.update(fresh)
        self._add_peer_routes(flows, asks=False)
        self.inquiries.add_all(flow.peer_aid for flow in flows)

    def _add_peer_routes(self, flows: Iterable[Flow], *, asks: bool = True) -> None:
        """Routes packets to the peers of flows, and chooses the AID they speak to as the source."""
        by_source: dict[tuple[int, Locator], list[Locator]] = {}
        for flow in flows:
            if flow.aside or not (row := self._home(flow)):
                continue
            by_source.setdefault((row, flow.local_aid), []).append(flow.peer_aid)
            if self._speaks_for(flow):
                self.uses.local_of[flow.peer_aid] = flow.local_aid
            self._remove_peer_route(self.uses.need_route(flow.local_label, (row, flow.peer_aid)))
        add = self.steering.add_peers
        fresh = [add(row, aids, one, asks=asks) for (row, one), aids in by_source.items()]
        aids = [aid for some in by_source.values() for aid in some if aid in self.watched]
        self.steering.choose(dict(filter(None, map(self._choice, aids))))
        if any(fresh):
            self.refresh.request()

    def _speaks_for(self, flow: Flow) -> bool:
        """Whether packets to the peer whose source is yet to be chosen get this AID.

        If programs speak to the peer from several, that of the kernel's own route: a server that is
        bound to no address answers from there without noid. While the uplink of the one before is
        down, the kernel's own route is not what it was when its conversations began.
        """
        before = self.uses.local_of.get(flow.peer_aid, flow.local_aid)
        if before == flow.local_aid or before + flow.peer_aid not in self.rewriter.by_aids:
            return True
        return self._sends(before) and self._default_source(flow.peer_aid) == flow.local_aid

    def _remove_peer_route(self, route: tuple[int, Locator] | None) -> None:
        if route is not None:
            self.steering.remove_peer(*route)

    def _refresh(self) -> None:
        self.forget_cached_routes(self.interfaces_of_ours.own)

    def _choice(self, aid: Locator) -> Choice | None:
        """Uplink and source for packets to a peer whose source is yet to be chosen, if any.

        Where the host sends to the peer by a device that is no uplink, that is left as it is.
        """
        return self._choice_of(aid, self._local_of(aid) or self._default_source(aid))

    def _local_of(self, aid: Locator) -> Locator | None:
        """AID(local) of a context with a peer, where packets to that leave by an uplink.

        None if it is to be left, and the context has no other locator.
        """
        local = self._spoken_from(aid)
        return local if local and self.default_sources.reaches(local, aid) else None

    def _spoken_from(self, aid: Locator) -> Locator | None:
        return None if self._is_led_elsewhere(aid) else self.uses.local_of.get(aid)

    def _is_led_elsewhere(self, aid: Locator) -> bool:
        return self.is_led_elsewhere or aid in self.led_elsewhere

    def _choice_of(self, aid: Locator, source: Locator | None) -> Choice | None:
        row = NO_ROW if source is None else self.rows.of.get(source, NO_ROW)
        is_refused = (row, aid) in self.steering.refused_to
        return (aid, (row, source)) if source is not None and row and not is_refused else None

    def _choose(self, aid: Locator) -> None:
        self._put_choice(aid, self._choice(aid))

    def _put_choice(self, aid: Locator, choice: Choice | None) -> None:
        if choice is None:
            self.steering.unchoose(aid)
        else:
            self.steering.choose(dict([choice]))

    def lead_elsewhere(self, is_led: bool) -> None:
        """Records whether packets of the host leave through a device that is not an uplink.

        Each question to the kernel takes long: of very many peers, most are looked up later.
        """
        if is_led != self.is_led_elsewhere:
            self.is_led_elsewhere = is_led
            aids = iter(list(self.watched))
            for aid in islice(aids, AT_ONCE):
                self._choose(aid)
            self.inquiries.add_all(aids)

    def locators_changed(self) -> None:
        """Chooses again the sources of packets to peers that are no longer to be used."""
        self.default_sources.look_at_all(self.watched)

    def routes_changed(self, prefixes: Iterable[Prefix]) -> None:
        """Looks up again how the host sends to the peers in these prefixes, if it does."""
        self.inquiries.add(prefixes, self.watched)

    def _look_up(self, aids: Sequence[Locator]) -> None:
        if self.steering.look_again(aids):
            self.refresh.request()
        for aid in filter(self.watched.__contains__, aids):
            default = self._default_source(aid)  # and whether an uplink leads there
            self._put_choice(aid, self._choice_of(aid, self._local_of(aid) or default))

    def remove(self, local_label: Label) -> None:
        """Removes a flow."""
        flow = self.rewriter.by_label.get(local_label)
        super().remove(local_label)
        self._forget_label(local_label)
        if flow is not None:
            self._put_outbound(flow)

    def _mtu(self, row: int) -> int:
        return self.rows.uplinks.get(row, NO_UPLINK).mtu

    def _row(self, flow: Flow) -> int:
        return self.rows.of.get(flow.local_locator, NO_ROW)

    def _home(self, flow: Flow) -> int:
        return self.rows.home(flow.local_aid)

    def _put(self, flow: Flow) -> None:
        """Lets the kernel receive and send by a flow."""
        key = layout.label_key(flow.local_label)
        inbound, outbound = self.tables["inbound"], self.tables["outbound"]
        clock = layout.clock_of(outbound.find(layout.aids_key(flow)), inbound.find(key))
        entry, far = layout.inbound_entries(flow, self._home(flow), clock)
        self._put_far(key, far)
        if not inbound.put(key, entry):
            self.counts[PlaneCounter.FLOWS_WITHOUT_ROOM] += 1
        self._put_outbound(flow)

    def _put_far(self, key: bytes, far: bytes) -> None:
        """Lets the kernel know the further locators of a flow, if it has any."""
        if far and not self.tables["far"].put(key, far):
            self.counts[PlaneCounter.FLOWS_WITHOUT_ROOM] += 1

    def _put_outbound(self, flow: Flow) -> None:
        """Lets the kernel send by the flow that has the AIDs of this one now, if one does."""
        key = layout.aids_key(flow)
        table = self.tables["outbound"]
        having = self.rewriter.by_aids.get(key)
        if having is None or not having.transmits:
            table.remove(key)
            return
        clock = layout.clock_of(table.find(key), None)
        entry = layout.outbound_entry(having, self._row(having), self.codepoints, clock)
        if not table.put(key, entry):
            self.counts[PlaneCounter.FLOWS_WITHOUT_ROOM] += 1

    def _forget_label(self, local_label: Label) -> None:
        key = layout.label_key(local_label)
        for name in ("inbound", "far", "activities"):
            self.tables[name].remove(key)
        self._remove_peer_route(self.uses.drop(local_label))

    def _take_uplink(self, row: int, uplink: Uplink) -> None:
        """Uses an uplink as it is now. Packets appear on it once all its routes are there."""
        if uplink.flags & ~self.steering.uplinks.get(row, NO_UPLINK).flags & SENDS:
            self.inquiries.add_all(self.steering.peers.get(row, ()))
        if self.steering.set_uplink(row, uplink):
            self._put_row(row, uplink)
            return
        self._put_row(row, uplink._replace(flags=uplink.flags & ~RECEIVES))
        asyncio.get_running_loop().call_soon(self._add_routes, row)

    def _add_routes(self, row: int) -> None:
        """Goes on adding the very many routes of an uplink that has gone or come back."""
        if not self.steering.go_on(row):
            asyncio.get_running_loop().call_soon(self._add_routes, row)
        elif row != OWN_ROW:
            self._put_row(row, self.rows.uplinks.get(row, NO_UPLINK))

    def _put_row(self, row: int, uplink: Uplink) -> None:
        self.chosen.clear()  # others may be better now
        if not self.tables["uplinks"].put(layout.ROW.pack(row), layout.uplink_row(uplink)):
            self.counts[PlaneCounter.UPLINKS_WITHOUT_ROOM] += 1

    def watch(self, aid: Locator) -> None:
        """Makes the kernel report plain packets to this AID, and routes them to the programs.

        A peer that is watched already may get another default source: uplinks come and go. The
        question to the kernel takes a millisecond, and a local user may resolve a name with many
        addresses again and again, or very many names: then the kernel chooses for a while.
        """
        now_s, sources = time.monotonic(), self.sources(aid)
        since_s, before = self.chosen.get(aid, (-CHOSEN_S, ()))
        if aid not in self.watched:
            if not self.tables["watched"].put(aid, layout.WATCHED.pack(0)):
                self.counts[PlaneCounter.PEERS_WITHOUT_ROOM] += 1
                self.unwatched.add(aid)
            self.watched.add(aid)
        elif now_s < since_s + CHOSEN_S and sources == before:
            return
        if self._local_of(aid) is not None:
            self._choose(aid)  # without a question
        elif not self.choosing.put(aid):
            self.chosen.pop(aid, None)
            return
        self.chosen[aid] = now_s, sources

    def _widen(self) -> None:
        """Forgets sizes that errors have said long ago."""
        now_s = time.monotonic()
        for aid in [aid for aid, until_s in self.narrowed.items() if until_s < now_s]:
            del self.narrowed[aid]
            self.steering.narrow_path(aid, None)

    def _watch_again(self) -> None:
        """Watches those for which there was no room, as far as there is now."""
        unwatched = list(self.unwatched)
        room = self.tables["watched"].put_all(
            b"".join(unwatched), layout.WATCHED.pack(0) * len(unwatched)
        )
        self.unwatched.difference_update(unwatched[:room])

    def _default_source(self, aid: Locator) -> Locator | None:
        """The locator that programs get as their source: of the uplink the kernel would take.

        Another if nothing leaves by that now; None if the kernel would take no uplink.
        """
        locators = self.sources(aid)
        first, device = None, 0
        with self.counted(PlaneCounter.QUERIES_REFUSED):
            first, device = self.network.default_route(aid, mark=self.section.mark)
        uplinks = {uplink.ifindex for uplink in self.rows.uplinks.values()}
        if device and device not in uplinks | {self.default_device}:
            self.led_elsewhere.add(aid)
            return None
        self.led_elsewhere.discard(aid)
        if first in locators and self._sends(first):
            return first
        row = NO_ROW if first is None else self.rows.of.get(first, NO_ROW)
        nearest = [one for one in locators if self.rows.of.get(one) == row and self._sends(one)]
        working = [one for one in locators if self._sends(one)]
        return next(iter((*nearest, *working, *locators)), None)

    def _sends(self, locator: Locator) -> bool:
        uplink = self.rows.uplinks.get(self.rows.of.get(locator, NO_ROW))
        return uplink is not None and bool(uplink.flags & SENDS)

    def unwatch(self, aid: Locator) -> None:
        """Stops the reports, and removes the route."""
        if aid in self.watched:
            self.watched.discard(aid)
            self.unwatched.discard(aid)
            self.chosen.pop(aid, None)
            self.narrowed.pop(aid, None)
            self.choosing.drop(aid)
            self.led_elsewhere.discard(aid)
            self.tables["watched"].remove(aid)
            self.uses.local_of.pop(aid, None)
            self.steering.unchoose(aid)

    def heard(self, local_label: Label, *, unasked: bool = False) -> None:
        """Marks the packets of a flow as answered; see ``SoftwareDatapath.heard``.

        A program writes the entry: the daemon would overwrite concurrent updates of the programs.
        """
        super().heard(local_label, unasked=unasked)
        assert self.programs is not None
        with self.counted(PlaneCounter.HEARD_REFUSED):
            word = layout.heard_word(local_label, unasked=unasked)
            self.programs.try_out("host_heard", word.ljust(FRAME_OCTETS, bytes(1)))

    def received_ns(self, local_label: Label) -> int:
        """When a flow last received something, by the monotonic clock; 0 if never."""
        entry = self.tables["inbound"].find(layout.label_key(local_label))
        return max(layout.received_ns(entry), super().received_ns(local_label))

    def heard_ns(self, local_label: Label) -> int:
        """When a flow last received data or a keepalive, by the same clock; 0 if never."""
        entry = self.tables["inbound"].find(layout.label_key(local_label))
        return max(layout.heard_ns(entry), super().heard_ns(local_label))

    def completed(self, event: UnansweredPacket) -> UnansweredPacket:
        """The event, with what the programs know of its flow."""
        clock = layout.clock_of(*self.segments.entries(event.local_label))
        return replace(
            event,
            received_ns=self.received_ns(event.local_label),
            gap_ns=clock.gap_ns,
            packets=clock.unanswered,
        )
