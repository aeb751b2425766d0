"""The data plane in the kernel: eBPF programs on the uplinks, which go on without the daemon.

The programs (``noid/bpf/host.bpf.c``) do to packets what rewrite.py says, by two tables: AIDs find
the locators on the way out, the flow label finds the AIDs on the way in. This room fills the tables
and hears the programs' reports. What is rare they hand over to the slow path: protocols without a
slot, control messages in a slot, packets for a context that is not proven, packets too long for the
uplink of their flow.

Packets to M6 peers are routed into devices of ours (steering.py), so that they reach the programs
whatever becomes of the uplinks. Flows name rows of the table of uplinks (rows.py), so that a
failure of an uplink is one update.

Programs, tables and attachments are pinned on a BPF file system. When the daemon ends, however it
ends, they go on; the next daemon puts its own in their place between two packets [D36], and
``take_down`` removes everything.
"""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from noid.constants import KNOWN_PEERS_MAX, MTU_MIN
from noid.engine.events import SourceMoved, UlpPacketSeen, UnansweredPacket, UnknownPeerSeen
from noid.errors import PlatformError, ShimError
from noid.locators import Locator
from noid.plane import layout, libbpf, steering
from noid.plane.carried import TABLES, pin_of
from noid.plane.copies import finished
from noid.plane.devices import open_tap
from noid.plane.layout import Clock, Interfaces
from noid.plane.pins import (
    NEW_SUFFIX,
    object_code,
    our_pins,
    our_tables,
    own_devices,
    prepare_pins,
    segmenter_names,
    take_down,
)
from noid.plane.requirements import TIMERS, explained, missing
from noid.plane.rewrite import Flow
from noid.plane.rows import NO_ROW, Rows, lacks
from noid.plane.slow import SlowPath, Surroundings
from noid.plane.steering import Routes, keep_rules, rules_of
from noid.plane.uplinks import Uplinks
from noid.survey import Survey
from noid.wire import ipv6

LOG_NAME = "verifier.log"
OWN_ADDRESSES_MAX = 4_096
"""Addresses of this host at which it takes M6 packets of unknown contexts."""
SCAN_INTERVAL_S = 0.02
SCANNED_MAX = 256
"""How often, and how many, flows are looked at for silence where the kernel has no timers."""
NO_ROOM_FOR_OURS = "addresses of this host the kernel has no room for"
NO_ROOM = "flows the kernel has no room for"
NO_ROOM_TO_WATCH = "peers the kernel has no room to watch"
REFUSED = "routes refused"
RULES_REFUSED = "rules refused"
UPLINKS_REFUSED = "uplinks that refused the programs"
RESTORED = "things restored that were removed"


class BpfPlane(SlowPath):
    """See ``noid.plane.base.DataPlane``.

    Args:
        surroundings: what it stands in.
        interfaces: globs of the uplinks.
        directory: where the verifier's log goes when the kernel refuses.
        referrals: whether packets to peers nobody has told us of are to be reported [D34].
    """

    def __init__(
        self,
        surroundings: Surroundings,
        *,
        interfaces: Sequence[str],
        directory: Path,
        referrals: bool,
    ) -> None:
        super().__init__(surroundings)
        self.interfaces = interfaces
        self.directory = directory
        self.referrals = referrals
        self.pins = Path(self.section.pins)
        self.uplinks = Uplinks(self.network, self.pins, self.section.hook)
        self.refused: dict[str, ShimError] = {}
        self.rows = Rows()
        self.seen: Survey
        self.in_use: Counter[Locator] = Counter()
        self.local_of: dict[Locator, Locator] = {}
        self.peers: Counter[Locator] = Counter()
        self.new_device = -1
        self.stays = True
        self.has_timers = True
        self.watched: set[Locator] = set()
        self.ours: dict[Locator, int] = {}
        self.left: set[Locator] = set()
        self.scanning: asyncio.TimerHandle | None = None
        self.programs: libbpf.Programs | None = None
        self.tables: dict[str, libbpf.Table] = {}
        self.kernel_counts: libbpf.Table | None = None
        self.reports: libbpf.Reports | None = None

    kind = "bpf"

    # --- life ---------------------------------------------------------------------------------

    @property
    def own_devices(self) -> tuple[str, ...]:
        """The names of every device of ours."""
        return own_devices(self.section.device)

    def open(self) -> None:
        """Loads the programs; see ``DataPlane.open``."""
        code = object_code()
        prepare_pins(self.pins)
        self.stays = bool(our_pins(self.pins))
        self.seen = self._survey()
        super().open()
        try:
            self._make_devices()
            self._load(code)
            self._know(self.seen)
        except BaseException:
            self.close()
            raise

    def _survey(self) -> Survey:
        return self.network.survey(self.interfaces, excluded=self.own_devices)

    def _make_devices(self) -> None:
        """The devices that packets are routed to, and the one that cuts super-packets before."""
        sums = not any(lacks(device) & layout.SUM for device in self.seen.devices)
        out, cut = segmenter_names(self.section.device)
        segmenter, own = self.network.make_pair(out, cut, mtu=self.mtu, sums=sums)
        self.network.set_mtu(cut, self.mtu, only_ipv6=True)
        name = f"{self.section.device}{NEW_SUFFIX}"
        self.new_device = open_tap(name)
        self.new_index = self.network.bring_up(name, self.mtu)
        self.interfaces_of_ours = Interfaces(self.device_index, segmenter, own)
        table = self.section.table
        self.new_routes = Routes(self.network, table, self.new_index, self._routes_refused)
        self.routes = Routes(self.network, table + 1, own, self._routes_refused)
        self.left = set(self.routes.actual())

    def _routes_refused(self, count: int) -> None:
        self.counts[REFUSED] += count

    def _load(self, code: bytes) -> None:
        contexts = self.section.contexts
        with explained():
            self.has_timers = not missing(maps=(), functions=TIMERS)
            self.programs = libbpf.Programs(
                code,
                sizes={
                    "outbound": contexts,
                    "inbound": contexts,
                    "far": contexts,
                    "watched": contexts + KNOWN_PEERS_MAX,
                    "ours": OWN_ADDRESSES_MAX,
                },
                constants=layout.settings(
                    self.codepoints,
                    mark=self.section.mark,
                    devices=self.interfaces_of_ours,
                    referrals=self.referrals,
                    timers=self.has_timers,
                ),
                log_path=self.directory / LOG_NAME,
            )
        maps = self.programs.maps
        self.tables = {name: libbpf.Table(maps[name], *sizes) for name, sizes in TABLES.items()}
        processors = libbpf.processors()
        self.kernel_counts = libbpf.Table(maps["counts"], 4, layout.COUNT.size * processors)
        self.reports = libbpf.Reports(maps["reports"], self._on_report)
        loop = asyncio.get_running_loop()
        loop.add_reader(self.reports.fileno(), self.reports.consume)

    def start(self) -> None:
        """Attaches the programs, in the place of those of an earlier daemon."""
        assert self.programs is not None
        programs = self.programs.programs
        slow, _, own = self.interfaces_of_ours
        both = {"egress": programs["host_own"], "ingress": programs["host_segments"]}
        self.uplinks.attach_own(own, both)
        self.uplinks.attach_passing(self.new_index, "egress", programs["host_own"])
        self.uplinks.attach_passing(slow, "ingress", programs["host_delivered"])
        self.network_changed(self._survey())
        if self.refused:
            raise next(iter(self.refused.values()))
        if self.stays:
            self.uplinks.leave_others((own, self.new_index, slow))
        pinned = {pin_of(self.pins, name): table for name, table in self.tables.items()}
        for path, table in pinned.items():
            libbpf.pin(table.descriptor, path)
        for path in set(our_tables(self.pins)).difference(pinned):
            path.unlink(missing_ok=True)  # of another edition
        self.stays = True
        self.routes.compare(self.left | set(self.routes.wanted))
        self.left.clear()
        if not self.has_timers:
            self._scan()
        super().start()

    def close(self) -> None:
        """Ends the slow path; the programs go on without it, if there were any before or now."""
        if self.scanning is not None:
            self.scanning.cancel()
        if self.reports is not None:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self.reports.fileno())
            self.reports.close()
            self.reports = None
        super().close()
        self.uplinks.close()
        if self.new_device >= 0:
            os.close(self.new_device)
            self.new_device = -1
        if self.programs is not None:
            self.programs.close()
            self.programs = None
        if not self.stays:
            list(take_down(self.section, self.network))

    # --- the host -----------------------------------------------------------------------------

    def network_changed(self, survey: Survey) -> None:
        """Makes everything as it is to be, whatever has changed it; counts what others removed.

        An uplink that refuses the programs, such as one that has gone by now, is asked again.
        """
        assert self.programs is not None
        programs = self.programs.programs
        known, self.seen = self.seen.devices, survey
        lost = set(self.uplinks.lost(programs))
        self.uplinks.leave(set(self.uplinks.modes) - {device.name for device in survey.devices})
        asked_before, self.refused = self.refused, {}
        for device in survey.devices:
            is_as_before = device in known and device.name in self.uplinks.modes
            if is_as_before and device.name not in {*asked_before, *lost}:
                continue
            try:
                self.uplinks.attach(device, programs)
            except ShimError as error:
                self.refused[device.name] = error
                self.counts[UPLINKS_REFUSED] += 1
        self.counts[RESTORED] += len(lost)
        self._know(survey)
        self._keep_rules(survey)

    def link_lost(self, index: int, *, is_up: bool) -> None:
        """Sends nothing by a device that has lost its carrier, or has gone down; at once."""
        for row, uplink in self.rows.lose(index, layout.RECEIVES * is_up).items():
            self.tables["uplinks"].put(layout.ROW.pack(row), layout.uplink_row(uplink))

    def routes_deleted(self, deleted: Iterable[tuple[int, Locator]]) -> None:
        """Restores routes of ours that others have deleted."""
        aids = [aid for table, aid in deleted if table == self.section.table]
        kept = [aid for table, aid in deleted if table == self.section.table + 1]
        self.counts[RESTORED] += self.new_routes.restore(aids) + self.routes.restore(kept)

    def compare_routes(self) -> None:
        """Compares every route of ours with what there is."""
        for routes in (self.new_routes, self.routes):
            self.counts[RESTORED] += routes.compare(set(routes.actual()))

    def keep_address(self, aid: Locator, *, kept: bool) -> None:
        """Keeps an AID deliverable whose uplink has lost the address, or ends that [D23]."""
        own = self.interfaces_of_ours.own
        (self.network.add_address if kept else self.network.remove_address)(aid, own)

    def kept_addresses(self) -> frozenset[Locator]:
        """The AIDs that are kept so, by an earlier daemon too."""
        return self.network.addresses_on(self.interfaces_of_ours.own)

    def modes(self) -> dict[str, str]:
        """How packets pass each uplink."""
        return dict(self.uplinks.modes)

    def _know(self, survey: Survey) -> None:
        """Tells the programs what there is: the uplinks, and which addresses are this host's."""
        changed, moved = self.rows.update(survey.devices, self.in_use)
        for row, uplink in changed.items():
            self.tables["uplinks"].put(layout.ROW.pack(row), layout.uplink_row(uplink))
        if survey.mtu and survey.mtu != self.mtu:
            self._resize(max(survey.mtu, MTU_MIN))
        rows = self.rows.of
        now = {address: rows.get(address, NO_ROW) for address in survey.addresses}
        now |= {address: rows.get(address, NO_ROW) for address in self.in_use}
        for address in self.ours.keys() - now.keys():
            self.tables["ours"].remove(address)
            del self.ours[address]
        for address, row in now.items():
            if self.ours.get(address) == row:
                continue
            if self.tables["ours"].put(address, layout.ROW.pack(row)):
                self.ours[address] = row
            else:
                self.counts[NO_ROOM_FOR_OURS] += 1
        if moved & self.in_use.keys():
            for flow in list(self.rewriter.by_label.values()):
                if flow.local_aid in moved or flow.local_locator in moved:
                    self._put(flow)

    def _resize(self, mtu: int) -> None:
        """The least MTU of the uplinks is another now."""
        self.mtu = mtu
        out, cut = segmenter_names(self.section.device)
        try:
            for name in (out, self.section.device, f"{self.section.device}{NEW_SUFFIX}"):
                self.network.set_mtu(name, mtu)
            self.network.set_mtu(cut, mtu, only_ipv6=True)
        except PlatformError:
            self.counts[REFUSED] += 1

    def _keep_rules(self, survey: Survey) -> None:
        sources = frozenset(one.locator for one in survey.locators) | self.in_use.keys()
        wanted = rules_of(self.section, sources)
        had = steering.ours_among(self.section, survey.rules)
        try:
            missing_rules = keep_rules(self.network, self.section, wanted, survey.rules)
        except PlatformError:
            self.counts[RULES_REFUSED] += 1
            return
        if had:
            self.counts[RESTORED] += missing_rules

    # --- orders -------------------------------------------------------------------------------

    def install(self, flow: Flow) -> None:
        """Uses a flow."""
        previous = self.rewriter.by_aids.get(layout.aids_key(flow))
        is_new = flow.local_label not in self.rewriter.by_label
        self._forget_uses(flow.local_label)
        super().install(flow)
        self._use(flow)
        if previous is not None and previous.local_label not in self.rewriter.by_label:
            self._forget_uses(previous.local_label, previous)
            self._forget_label(previous.local_label)
        self._put(flow)
        if is_new:
            self._lead([flow])

    def take_up(
        self, flows: Sequence[Flow], clocks: Sequence[Clock], aids: Sequence[Locator]
    ) -> None:
        """Uses many flows at once, and watches many AIDs; see ``DataPlane.take_up``."""
        labels, came, pairs, sent = [], [], [], []
        for flow, clock in zip(flows, clocks, strict=True):
            super().install(flow)
            self._use(flow)
            key = layout.label_key(flow.local_label)
            entry, far = layout.inbound_entries(flow, self._home(flow), clock)
            if far:
                self.tables["far"].put(key, far)
            labels.append(key)
            came.append(entry)
            if flow.transmits:
                pairs.append(layout.aids_key(flow))
                sent.append(layout.outbound_entry(flow, self._row(flow), self.codepoints, clock))
        outbound, inbound = self.tables["outbound"], self.tables["inbound"]
        room = inbound.put_all(b"".join(labels), b"".join(came))
        room += outbound.put_all(b"".join(pairs), b"".join(sent))
        self.counts[NO_ROOM] += len(labels) + len(pairs) - room
        fresh = [aid for aid in dict.fromkeys(aids) if aid not in self.watched]
        room = self.tables["watched"].put_all(b"".join(fresh), layout.WATCHED.pack(0) * len(fresh))
        self.counts[NO_ROOM_TO_WATCH] += len(fresh) - room
        self.watched.update(fresh)
        self._lead(flows)

    def _lead(self, flows: Iterable[Flow]) -> None:
        """Routes the peers of flows into devices of ours, with the AID they speak to as source."""
        aids = {flow.peer_aid: flow.local_aid for flow in flows if not flow.aside}
        self.local_of |= aids
        self.routes.add({aid: None for aid in aids})
        self.new_routes.add({aid: own for aid, own in aids.items() if aid in self.watched})

    def remove(self, local_label: int) -> None:
        """Forgets a flow."""
        flow = self.rewriter.by_label.get(local_label)
        self._forget_uses(local_label)
        super().remove(local_label)
        self._forget_label(local_label)
        if flow is not None:
            self._put_outbound(flow)
            if not self.peers[flow.peer_aid]:
                del self.peers[flow.peer_aid]
                self.local_of.pop(flow.peer_aid, None)
                self.routes.remove([flow.peer_aid])

    def _use(self, flow: Flow) -> None:
        self.peers[flow.peer_aid] += 1
        self.in_use[flow.local_aid] += 1
        self.in_use[flow.local_locator] += 1

    def _forget_uses(self, local_label: int, flow: Flow | None = None) -> None:
        flow = flow or self.rewriter.by_label.get(local_label)
        if flow is None:
            return
        self.peers[flow.peer_aid] -= 1
        for one in (flow.local_aid, flow.local_locator):
            self.in_use[one] -= 1
            if not self.in_use[one]:
                del self.in_use[one]

    def _row(self, flow: Flow) -> int:
        return self.rows.of.get(flow.local_locator, NO_ROW)

    def _home(self, flow: Flow) -> int:
        return self.rows.of.get(flow.local_aid, NO_ROW)

    def _put(self, flow: Flow) -> None:
        """Lets the kernel receive and send by a flow."""
        key = layout.label_key(flow.local_label)
        inbound, outbound = self.tables["inbound"], self.tables["outbound"]
        clock = layout.clock_of(outbound.find(layout.aids_key(flow)), inbound.find(key))
        entry, far = layout.inbound_entries(flow, self._home(flow), clock)
        if far:
            self.tables["far"].put(key, far)
        if not inbound.put(key, entry):
            self.counts[NO_ROOM] += 1
        self._put_outbound(flow)

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
            self.counts[NO_ROOM] += 1

    def _forget_label(self, local_label: int) -> None:
        key = layout.label_key(local_label)
        for name in ("inbound", "far", "activities"):
            self.tables[name].remove(key)

    def watch(self, aid: Locator) -> None:
        """Lets the kernel report what goes to this AID plainly, and routes it to a device of ours.

        A peer that is watched already may get another default source: uplinks come and go.
        """
        if aid not in self.watched:
            if not self.tables["watched"].put(aid, layout.WATCHED.pack(0)):
                self.counts[NO_ROOM_TO_WATCH] += 1
            self.watched.add(aid)
        self.new_routes.add({aid: self.local_of.get(aid) or self._default_source(aid)})

    def _default_source(self, aid: Locator) -> Locator | None:
        """The locator that programs get as their source: of the uplink the kernel would take.

        Another if nothing leaves by that now.
        """
        locators = self.locators()
        first = self.network.default_source(aid, mark=self.section.mark)
        if first in locators and self._sends(first):
            return first
        row = NO_ROW if first is None else self.rows.of.get(first, NO_ROW)
        nearest = [one for one in locators if self.rows.of.get(one) == row and self._sends(one)]
        working = [one for one in locators if self._sends(one)]
        return next(iter((*nearest, *working, *locators)), None)

    def _sends(self, locator: Locator) -> bool:
        uplink = self.rows.uplinks.get(self.rows.of.get(locator, NO_ROW))
        return uplink is not None and bool(uplink.flags & layout.SENDS)

    def unwatch(self, aid: Locator) -> None:
        """Stops doing so."""
        if aid in self.watched:
            self.watched.discard(aid)
            self.tables["watched"].remove(aid)
            self.new_routes.remove([aid])

    def send_again(self, local_label: int, packet: bytes) -> None:
        """Sends the last TCP segment of a flow once more, or the packet where there is none."""
        entry = self.tables["activities"].find(layout.label_key(local_label))
        copy, segment_octets = (b"", 0) if entry is None else layout.latest_of(entry)
        flow = self.rewriter.by_label.get(local_label)
        if flow is not None and copy[8 : ipv6.HEADER_OCTETS] == layout.aids_key(flow):
            packet = finished(copy, segment_octets)
        super().send_again(local_label, packet)

    def received_ns(self, local_label: int) -> int:
        """When a flow last received something, by the monotonic clock; 0 if never."""
        entry = self.tables["inbound"].find(layout.label_key(local_label))
        in_kernel = layout.received_ns(entry) if entry is not None else 0
        return max(in_kernel, super().received_ns(local_label))

    def counters(self) -> dict[str, int]:
        """What happened so far, in the kernel and here."""
        counts = self.counts.copy()
        assert self.kernel_counts is not None
        for number, name in enumerate(layout.COUNTS):
            each = self.kernel_counts.find(number.to_bytes(4, "little")) or b""
            counts[name] += sum(value for (value,) in layout.COUNT.iter_unpack(each))
        return dict(+counts)

    # --- reports ------------------------------------------------------------------------------

    def _on_report(self, report: bytes) -> None:
        """What a program says."""
        head = layout.REPORT.unpack_from(report)
        kind, label, silent_ns, source, followed, segment_octets, octets, _ = head
        copy = report[layout.REPORT.size : layout.REPORT.size + octets]
        local_label = int.from_bytes(label, "big")
        match kind:
            case layout.SOURCE_MOVED:
                flow = self.rewriter.by_label.get(local_label)
                if flow is not None and followed:
                    flow.peer_locator = Locator(source)
                self.notify(SourceMoved(local_label, Locator(source), bool(followed)))
            case layout.UNKNOWN_PEER:
                self.notify(UnknownPeerSeen(Locator(source)))
            case layout.PLAIN_PACKET if octets >= ipv6.HEADER_OCTETS:
                self.notify(UlpPacketSeen(finished(copy, segment_octets)))
            case layout.UNANSWERED_PACKET if octets >= ipv6.HEADER_OCTETS:
                self.counts["unanswered packets"] += 1
                packet = finished(copy, segment_octets)
                self.notify(UnansweredPacket(local_label, packet, silent_ns))

    def _scan(self) -> None:
        """Looks for flows whose last segment stays unanswered, in the place of the timers."""
        self.scanning = asyncio.get_running_loop().call_later(SCAN_INTERVAL_S, self._scan)
