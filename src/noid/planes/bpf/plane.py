# SPDX-License-Identifier: MIT
"""The kernel plane: eBPF programs on the uplinks, which keep running without the daemon.

The programs (``programs/host.bpf.c``) do to packets what rewrite.py says, by two tables: AIDs find
the locators on the way out, the flow label finds the AIDs on the way in. This room fills the tables
and hears the programs' reports. What is rare they hand over to the slow path. Packets to M6 peers
have routes of ours (steering.py), so that they reach the programs after any failure of an uplink.

Programs, tables and attachments are pinned on a BPF file system. When the daemon ends, however it
ends, they go on; the next daemon puts its own in their place between two packets [D36], and
``take_down`` removes everything.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from noid.config import Plane
from noid.constants import MTU_MIN
from noid.counters import KERNEL_COUNTERS, PlaneCounter
from noid.errors import PlatformError, ShimError
from noid.flows.events import SourceMoved, UnansweredPacket
from noid.host.routes import DeletedRoute, Difference, PeerRoute
from noid.host.survey import Device, Survey
from noid.identifiers import Label
from noid.locators import Locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.attachments import Uplinks
from noid.planes.bpf.bpffs import Pinned
from noid.planes.bpf.carried import PASSING_TABLES, TABLES, pin_of
from noid.planes.bpf.features import TIMERS, explained, missing
from noid.planes.bpf.kernel_flows import FlowTables
from noid.planes.bpf.layout import Interfaces
from noid.planes.bpf.limits import LIMITS, Limits
from noid.planes.bpf.loading import Programs, other_version
from noid.planes.bpf.pins import (
    object_code,
    our_pins,
    our_tables,
    own_devices,
    prepare_pins,
    take_down,
)
from noid.planes.bpf.reports import event_of
from noid.planes.bpf.segmenter import Segmenter
from noid.planes.bpf.stalled import StalledConnections
from noid.planes.receivers import divide
from noid.planes.rows import NO_ROW, sums
from noid.planes.rules import choosing, keep_rules, rules_of
from noid.planes.slow_path import PlaneDependencies
from noid.planes.steering import Steering
from noid.planes.uplink import ETHERNET, OWN_ROW, RECEIVES, UPLINKS_MAX, Uplink

LOG_NAME = "verifier.log"
HANDED_OVER_AT_ONCE = 16
"""Packets that are taken in one turn of what the programs hand over, which strangers may send."""
OTHER_MAPS = ("counts", "reports", "set_ups")
"""Maps of the programs besides the tables."""
FILTERS = ("host_named", "host_others")
"""The programs that say which socket takes a control message."""


class BpfPlane(FlowTables):
    """See ``noid.planes.base.DataPlane``.

    Args:
        surroundings: what it stands in.
        interfaces: globs of the uplinks.
        directory: where the verifier's log goes when the kernel refuses.
        referrals: whether packets to peers that no program has resolved are reported [D34].
        timers: whether timers of the kernel are used, where it has any.
        limits: what there is room for.
    """

    def __init__(
        self,
        surroundings: PlaneDependencies,
        *,
        interfaces: Sequence[str],
        directory: Path,
        referrals: bool,
        timers: bool = True,
        limits: Limits = LIMITS,
    ) -> None:
        super().__init__(surroundings, limits)
        self.interfaces = interfaces
        self.directory = directory
        self.referrals = referrals
        self.pins = Path(self.section.pins)
        self.pinned = Pinned(self.pins)
        self.uplinks = Uplinks(self.network, self.pins, self.section.hook)
        self.refused: dict[str, ShimError] = {}
        self.missing: set[int] = set()
        self.seen: Survey
        self.stays = True
        self.is_started = False
        self.has_timers = timers
        self.ours: dict[Locator, int] = {}
        self.kernel_counts: libbpf.Table | None = None
        self.rings: list[libbpf.Reports] = []

    kind: Plane = "bpf"
    at_once = HANDED_OVER_AT_ONCE

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
        self.segmenter = Segmenter(self.network, self.section.device)
        pair = self.segmenter.make(self.mtu, sums=sums(self.seen))
        self.interfaces_of_ours = Interfaces(self.device_index, pair.entry, pair.exit)
        refused, at_once = self._routes_refused, self.limits.routes_at_once
        self.steering = Steering(self.network, self.section, pair.exit, refused, at_once, self.led)

    def _routes_refused(self, count: int) -> None:
        self.counts[PlaneCounter.ROUTES_REFUSED] += count

    def _load(self, code: bytes) -> None:
        contexts, limits = self.section.contexts, self.limits
        with explained():
            self.has_timers &= not missing(maps=(), functions=TIMERS)
            self.programs = Programs(
                code,
                sizes={
                    "outbound": contexts,
                    "inbound": contexts,
                    "far": contexts,
                    "watched": contexts + limits.known_peers,
                    "ours": limits.own_addresses,
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
        orders = super().send_again, self.deliver
        self.stalled = StalledConnections(self.programs, self.segments, *orders, self.counted)
        maps = self.programs.maps
        every = {**TABLES, **PASSING_TABLES}
        if not maps.keys() >= {*every, *OTHER_MAPS}:
            raise other_version()
        self.tables |= {name: libbpf.Table(maps[name], *sizes) for name, sizes in every.items()}
        index, link = self.segmenter.pair.exit, self.segmenter.pair.link
        self._put_row(OWN_ROW, Uplink(index, self.mtu, link, ETHERNET | RECEIVES))
        octets = layout.COUNT.size * libbpf.processors()
        self.kernel_counts = libbpf.Table(maps["counts"], 4, octets)
        self.rings.append(libbpf.Reports(maps["reports"], self._on_report))
        with self.counted(PlaneCounter.FILTERS_REFUSED):
            divide(self.receivers, [self.programs.programs[name] for name in FILTERS])
        self.rings.append(libbpf.Reports(maps["set_ups"], self._on_report, limits.reports_at_once))
        for ring in self.rings:
            asyncio.get_running_loop().add_reader(ring.fileno(), ring.consume)

    def start(self) -> None:
        """Attaches the programs; they replace those of an earlier daemon."""
        slow, _, own = self.interfaces_of_ours
        self._attach_ours({slow, own})
        self.network_changed(self._survey())
        if self.refused:
            raise next(iter(self.refused.values()))
        if self.stays:
            self.uplinks.leave_others((own, slow))
        for name in TABLES:
            libbpf.pin(self.tables[name].descriptor, pin_of(self.pins, name))
        for path in set(our_tables(self.pins)).difference(self._pins()):
            path.unlink(missing_ok=True)  # of another edition
        self.stays = self.is_started = True
        self._compare_all(map(self.steering.table_of, range(UPLINKS_MAX)))
        if not self.has_timers:
            self.segments.scan(lambda event: self.notify(self.completed(event)))
        super().start()

    def close(self) -> None:
        """Ends the slow path; attached programs keep running without it."""
        pending = (self.segments, self.choosing, self.inquiries, self.default_sources, self.left)
        for one in pending:
            one.close()
        self.refresh.cancel()
        for ring in self.rings:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(ring.fileno())
            ring.close()
        self.rings.clear()
        super().close()
        if self.is_started:
            self.is_started = False
            with self.counted(PlaneCounter.RULES_REFUSED):
                self.network.remove_rules([choosing(self.section)])
        self.uplinks.close()
        if self.programs is not None:
            self.stalled.close()
            self.programs.close()
            self.programs = None
        if not self.stays:
            list(take_down(self.section, self.network))

    # --- the host -----------------------------------------------------------------------------

    def network_changed(self, survey: Survey) -> None:
        """Restores everything of the plane that differs; counts what others removed."""
        known, self.seen = self.seen.devices, survey
        self._keep_devices(survey)
        self._keep_pins()
        indexes = {device.index for device in survey.devices}
        self.uplinks.leave(self.uplinks.others(survey.devices), staying=indexes)
        with self.counted(PlaneCounter.QUERIES_REFUSED):
            self.missing |= self.uplinks.lost()
        self.missing &= {*self.interfaces_of_ours, *indexes}
        self._attach_uplinks(survey.devices, known)
        with self.counted(PlaneCounter.UPLINKS_REFUSED):
            self._attach_ours(self.missing.intersection(self.interfaces_of_ours))
        self._know(survey)
        self._watch_again()
        self._widen()
        self._keep_rules(survey)

    def _attach_uplinks(self, devices: Iterable[Device], known: Collection[Device]) -> None:
        """Attaches the programs to what has changed; an uplink that refused is asked again."""
        assert self.programs is not None
        asked_before, self.refused = self.refused, {}
        for device in devices:
            is_as_before = device in known and device.name in self.uplinks.modes
            is_missing = device.index in self.missing
            if is_as_before and device.name not in asked_before and not is_missing:
                continue
            try:
                self.uplinks.attach(device, self.programs.programs)
                self.missing.discard(device.index)
                self.has_restored("programs", [device.name] * is_missing)
            except ShimError as error:
                self.refused[device.name] = error
                self.counts[PlaneCounter.UPLINKS_REFUSED] += 1

    def _attach_ours(self, indexes: Collection[int]) -> None:
        """Attaches the programs of those of our own devices."""
        assert self.programs is not None
        programs = self.programs.programs
        slow, out, own = self.interfaces_of_ours
        if own in indexes:
            both = {"egress": programs["host_own"], "ingress": programs["host_segments"]}
            self.uplinks.attach_own(own, both)
        if slow in indexes:
            self.uplinks.attach_passing(slow, "ingress", programs["host_delivered"])
        self.missing.difference_update(indexes)
        every = zip((self.section.device, *self.segmenter.names), (slow, out, own), strict=True)
        names = (name for name, index in every if index in indexes)
        self.has_restored("programs", names if self.is_started else ())

    def _keep_devices(self, survey: Survey) -> None:
        """The devices of ours; routes by one that was removed went with it."""
        mtu = max(survey.mtu, MTU_MIN) if survey.mtu else self.mtu
        self.keep_device(survey, mtu)
        self.mtu = mtu
        with self.counted(PlaneCounter.DEVICES_REFUSED):
            changed = self.segmenter.keep(survey.ours, mtu, sums=sums(survey))
            self.has_restored("devices", changed)
            if changed:
                self._compare_all(self.steering.tables())

    def _pins(self) -> dict[Path, libbpf.Table]:
        return {pin_of(self.pins, name): self.tables[name] for name in TABLES}

    def _keep_pins(self) -> None:
        """The pins of the tables; those of the programs are the uplinks' affair."""
        if not self.is_started:
            return
        missing = {path: table for path, table in self._pins().items() if not path.exists()}
        with self.counted(PlaneCounter.PINS_REFUSED):
            if missing:
                prepare_pins(self.pins)
            for path, table in missing.items():
                libbpf.pin(table.descriptor, path)
            self.has_restored("pins", (path.name for path in missing))

    def is_intact(self) -> bool:
        """Whether BPF links and pins exist, whose removal the kernel does not report."""
        with contextlib.suppress(PlatformError):  # the next survey counts it
            return not (self.missing or self.uplinks.lost_links()) and self.pinned.has(self._pins)
        return False

    def link_lost(self, index: int, *, is_up: bool) -> None:
        """Sends nothing by a device that has lost its carrier, or has gone down; at once."""
        for row, uplink in self.rows.lose(index, RECEIVES * is_up).items():
            self._put_row(row, uplink)
            self.steering.lose_uplink(row, is_up=is_up)
            if not is_up:
                asyncio.get_running_loop().call_soon(self._add_routes, row)

    def routes_deleted(self, deleted: Iterable[DeletedRoute]) -> None:
        """Restores routes of ours that others have deleted."""
        self.has_restored("routes", self.steering.restore(deleted))

    def tables_of_routes(self) -> list[int]:
        """The routing tables that have routes of ours."""
        return self.steering.tables()

    def wanted_routes(self, table: int) -> Iterable[PeerRoute]:
        """The routes that a routing table is to have now, made when they are iterated over."""
        return self.steering.wanted(table)

    def correct_table(self, table: int, found: Difference) -> None:
        """Corrects a routing table."""
        self.has_restored("routes", self.steering.correct(table, found))

    def _compare_all(self, tables: Iterable[int]) -> None:
        """Compares many tables with the routes they are to have, and corrects them."""
        for table in tables:
            with self.counted(PlaneCounter.QUERIES_REFUSED):
                added = self.steering.correct(
                    table, self.network.difference(table, self.wanted_routes(table))
                )
                self.has_restored("routes", added if self.is_started else ())

    @property
    def keeping(self) -> str:
        """The name of the device that AIDs are kept on."""
        return self.segmenter.names[1]

    def modes(self) -> dict[str, str]:
        """How packets pass each uplink."""
        return dict(self.uplinks.modes)

    def _know(self, survey: Survey) -> None:
        """Tells the programs what there is: the uplinks, and which addresses are this host's."""
        in_use = self.uses.addresses
        devices = [one for one in survey.devices if one.name not in self.refused]
        self.heard_on = {one.index for one in devices}
        self.default_device = survey.default_device if survey.default_device in self.heard_on else 0
        changed, moved = self.rows.update(devices, in_use, survey.leaving, survey.addresses)
        self.counts[PlaneCounter.UPLINKS_WITHOUT_ROOM] += len(self.rows.without)
        for row, uplink in changed.items():
            self._take_uplink(row, uplink)
        self.lead_elsewhere(survey.is_led_elsewhere)
        rows = self.rows.of
        now = {address: rows.get(address, NO_ROW) for address in survey.addresses}
        now |= {address: rows.get(address, NO_ROW) for address in in_use}
        for address in self.ours.keys() - now.keys():
            self.tables["ours"].remove(address)
            del self.ours[address]
        for address, row in now.items():
            if self.ours.get(address) == row:
                continue
            if self.tables["ours"].put(address, layout.ROW.pack(row)):
                self.ours[address] = row
            else:
                self.counts[PlaneCounter.ADDRESSES_WITHOUT_ROOM] += 1
        if moved & in_use.keys():
            for flow in list(self.rewriter.by_label.values()):
                if flow.local_aid in moved or flow.local_locator in moved:
                    self._put(flow)
                    self._add_peer_routes([flow])

    def _keep_rules(self, survey: Survey) -> None:
        locators = {*self.locators(), *self.uses.addresses}
        bare = {
            address
            for device in survey.devices
            if device.name in self.refused
            for address in device.addresses
        }
        rows = {one: row for one in locators - bare if (row := self.rows.home(one))}
        others, tables, names = survey.rules, survey.tables(self.locators()), self.rows.names
        wanted = rules_of(
            self.section, rows, by_source=True, others=others, tables=tables, uplinks=names
        )
        before = self.steering.rules
        with self.counted(PlaneCounter.RULES_REFUSED):
            lost = before & keep_rules(self.network, self.section, wanted, others)
            self.steering.rules = wanted
            self.has_restored("rules", (str(rule.priority) for rule in lost))
        missing = list(filter(self.steering.keep_neighbour, list(self.steering.uplinks)))
        self.has_restored("neighbours", map(self.rows.name_of, missing * self.is_started))

    # --- orders -----------------------------------------------------------------------------------

    def send_again(self, local_label: Label, packet: bytes, silent_ns: int = 0) -> None:
        """Sends the last TCP segments of a flow again, or the packet if none is stored."""
        flow = self.rewriter.by_label.get(local_label)
        if flow is not None:
            packet = self.stalled.add(flow, self.segments.last(flow) or packet, silent_ns)
        if packet:
            super().send_again(local_label, packet)

    def counters(self) -> Counter[PlaneCounter]:
        """The counters so far, of the kernel and of the daemon."""
        counts = self.counts.copy()
        assert self.kernel_counts is not None
        for number, counter in enumerate(KERNEL_COUNTERS):
            each = self.kernel_counts.find(number.to_bytes(4, "little")) or b""
            counts[counter] += sum(value for (value,) in layout.COUNT.iter_unpack(each))
        return counts

    # --- reports ------------------------------------------------------------------------------

    def hear_contexts(self) -> None:
        """Control messages that name a context, and what the programs report of contexts."""
        self.rings[0].consume()
        super().hear_contexts()

    def _on_device(self) -> None:
        self.hear_contexts()
        super()._on_device()

    def _on_report(self, report: bytes) -> None:
        """What a program says."""
        head = layout.Report.of(report)
        copy = report[layout.REPORT.size : layout.REPORT.size + head.octets]
        if head.kind == layout.ReportKind.MESSAGE_SEEN:
            if (arrival := self.datapath.arrival_of(copy)) is not None:
                self.arrived(arrival)
            return
        match event := event_of(head, copy):
            case None:
                return
            case SourceMoved(followed=True):
                if flow := self.rewriter.by_label.get(event.local_label):
                    flow.peer_locator = flow.peer_source = event.source
            case UnansweredPacket():
                self.counts[PlaneCounter.UNANSWERED_PACKETS] += 1
                event = self.completed(event)
        self.notify(event)
