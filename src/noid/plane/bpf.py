"""The data plane in the kernel: eBPF programs on the uplinks, which go on without the daemon.

The programs (``noid/bpf/host.bpf.c``) do to packets what rewrite.py says, by two tables: AIDs find
the locators on the way out, the flow label finds the AIDs on the way in. This room fills the tables
and hears the programs' reports. What is rare they hand over to the slow path: protocols without a
slot, control messages in a slot, packets for a context that is not proven, packets too long for the
uplink of their flow.

Packets to M6 peers have routes of ours (steering.py), so that they reach the programs whatever
becomes of the uplinks. Flows name rows of the table of uplinks (rows.py), so that a
failure of an uplink is one update.

Programs, tables and attachments are pinned on a BPF file system. When the daemon ends, however it
ends, they go on; the next daemon puts its own in their place between two packets [D36], and
``take_down`` removes everything.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from noid.constants import KNOWN_PEERS_MAX, MTU_MIN, SECOND
from noid.engine.events import SourceMoved, UlpPacketSeen, UnansweredPacket, UnknownPeerSeen
from noid.errors import PlatformError, ShimError
from noid.locators import Locator, is_global_unicast
from noid.plane import layout, libbpf, steering
from noid.plane.carried import PASSING_TABLES, TABLES, pin_of
from noid.plane.copies import finished
from noid.plane.flows import FlowTables
from noid.plane.layout import Interfaces
from noid.plane.pins import (
    object_code,
    our_pins,
    our_tables,
    own_devices,
    prepare_pins,
    segmenter_names,
    take_down,
)
from noid.plane.requirements import TIMERS, explained, missing
from noid.plane.rows import NO_ROW, lacks
from noid.plane.slow import Surroundings
from noid.plane.steering import Steering, keep_rules, rules_of
from noid.plane.uplinks import Uplinks
from noid.routes import PeerRoute
from noid.survey import Survey
from noid.wire import ipv6

LOG_NAME = "verifier.log"
OWN_ADDRESSES_MAX = 4_096
"""Addresses of this host at which it takes M6 packets of unknown contexts."""
SCAN_INTERVAL_S = 0.05
SCANNED_MAX = 64
"""How often, and how many, flows are looked at for silence where the kernel has no timers."""
FEW_PATIENCE = SECOND // 16
"""Receivers answer a few packets later than many, but not so late."""
KEPT_TIME = 120 * SECOND
"""How old a segment may be that is sent again: TCP itself gives up later."""
NO_ROOM_FOR_OURS = "addresses of this host the kernel has no room for"
REFUSED = "routes refused"
RULES_REFUSED = "rules refused"
UPLINKS_REFUSED = "uplinks that refused the programs"
RESTORED = "things restored that were removed"


class BpfPlane(FlowTables):
    """See ``noid.plane.base.DataPlane``.

    Args:
        surroundings: what it stands in.
        interfaces: globs of the uplinks.
        directory: where the verifier's log goes when the kernel refuses.
        referrals: whether packets to peers nobody has told us of are to be reported [D34].
        timers: whether timers of the kernel are used, where it has any.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        *,
        interfaces: Sequence[str],
        directory: Path,
        referrals: bool,
        timers: bool = True,
    ) -> None:
        super().__init__(surroundings)
        self.interfaces = interfaces
        self.directory = directory
        self.referrals = referrals
        self.pins = Path(self.section.pins)
        self.uplinks = Uplinks(self.network, self.pins, self.section.hook)
        self.refused: dict[str, ShimError] = {}
        self.seen: Survey
        self.stays = True
        self.has_timers = timers
        self.ours: dict[Locator, int] = {}
        self.scanning: asyncio.TimerHandle | None = None
        self.scan: Iterator[bytes] = iter(())
        self.programs: libbpf.Programs | None = None
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
        """The pair of devices that cuts super-packets; its far end takes what has no uplink."""
        sums = not any(lacks(device) & layout.SUM for device in self.seen.devices)
        out, cut = segmenter_names(self.section.device)
        segmenter, own, self.own_link = self.network.make_pair(out, cut, mtu=self.mtu, sums=sums)
        self.network.set_mtu(cut, self.mtu, only_ipv6=True)
        self.interfaces_of_ours = Interfaces(self.device_index, segmenter, own)
        self.steering = Steering(self.network, self.section, own, self._routes_refused)

    def _routes_refused(self, count: int) -> None:
        self.counts[REFUSED] += count

    def _load(self, code: bytes) -> None:
        contexts = self.section.contexts
        with explained():
            self.has_timers &= not missing(maps=(), functions=TIMERS)
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
        every = {**TABLES, **PASSING_TABLES}
        self.tables = {name: libbpf.Table(maps[name], *sizes) for name, sizes in every.items()}
        flags = layout.ETHERNET | layout.RECEIVES
        ours = layout.Uplink(self.interfaces_of_ours.own, self.mtu, self.own_link, flags)
        self._put_row(layout.OWN_ROW, ours)
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
        self.uplinks.attach_passing(slow, "ingress", programs["host_delivered"])
        self.network_changed(self._survey())
        if self.refused:
            raise next(iter(self.refused.values()))
        if self.stays:
            self.uplinks.leave_others((own, slow))
        pinned = {pin_of(self.pins, name): self.tables[name] for name in TABLES}
        for path, table in pinned.items():
            libbpf.pin(table.descriptor, path)
        for path in set(our_tables(self.pins)).difference(pinned):
            path.unlink(missing_ok=True)  # of another edition
        self.stays = True
        for row in range(1, layout.UPLINKS_MAX):
            self.compare_table(self.steering.table_of(row))
        if not self.has_timers:
            self._scan()
        super().start()

    def close(self) -> None:
        """Ends the slow path; the programs go on without it, if there were any before or now."""
        for timer in (self.scanning, self.refreshing):
            if timer is not None:
                timer.cancel()
        if self.reports is not None:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self.reports.fileno())
            self.reports.close()
            self.reports = None
        super().close()
        self.uplinks.close()
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
            self._put_row(row, uplink)
            if not is_up:
                self.steering.lose_uplink(row)

    def routes_deleted(self, deleted: Iterable[tuple[int, Locator]]) -> None:
        """Restores routes of ours that others have deleted."""
        self.counts[RESTORED] += self.steering.restore(deleted)

    def tables_of_routes(self) -> list[int]:
        """The routing tables that have routes of ours."""
        return self.steering.tables()

    def compare_table(self, table: int, actual: Collection[PeerRoute] | None = None) -> None:
        """Makes a routing table as it is to be."""
        if actual is None:
            with contextlib.suppress(PlatformError):
                actual = self.network.routes(table)
        self.counts[RESTORED] += self.steering.compare(table, actual or ())

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
        in_use = self.uses.addresses
        changed, moved = self.rows.update(survey.devices, in_use)
        for row, uplink in changed.items():
            self._take_uplink(row, uplink)
        if survey.mtu and survey.mtu != self.mtu:
            self._resize(max(survey.mtu, MTU_MIN))
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
                self.counts[NO_ROOM_FOR_OURS] += 1
        if moved & in_use.keys():
            for flow in list(self.rewriter.by_label.values()):
                if flow.local_aid in moved or flow.local_locator in moved:
                    self._put(flow)
                    self._lead([flow])

    def _take_uplink(self, row: int, uplink: layout.Uplink) -> None:
        """Uses an uplink as it is now. Packets appear on it once all its routes are there."""
        if self.steering.set_uplink(row, uplink):
            self._put_row(row, uplink)
            return
        self._put_row(row, uplink._replace(flags=uplink.flags & ~layout.RECEIVES))
        asyncio.get_running_loop().call_soon(self._add_routes, row)

    def _add_routes(self, row: int) -> None:
        """Goes on adding the very many routes of an uplink that has come back."""
        if self.steering.go_on(row):
            self._put_row(row, self.rows.uplinks.get(row, layout.NO_UPLINK))
        else:
            asyncio.get_running_loop().call_soon(self._add_routes, row)

    def _put_row(self, row: int, uplink: layout.Uplink) -> None:
        self.tables["uplinks"].put(layout.ROW.pack(row), layout.uplink_row(uplink))

    def _resize(self, mtu: int) -> None:
        """The least MTU of the uplinks is another now."""
        self.mtu = mtu
        out, cut = segmenter_names(self.section.device)
        try:
            for name in (out, self.section.device):
                self.network.set_mtu(name, mtu)
            self.network.set_mtu(cut, mtu, only_ipv6=True)
        except PlatformError:
            self.counts[REFUSED] += 1

    def _keep_rules(self, survey: Survey) -> None:
        locators = {one.locator for one in survey.locators} | self.uses.addresses.keys()
        rows = {one: row for one in locators if (row := self.rows.of.get(one, NO_ROW))}
        given = {one for one in survey.addresses | locators if is_global_unicast(one)}
        wanted = rules_of(self.section, rows, given)
        had = steering.ours_among(self.section, survey.rules)
        try:
            lost = keep_rules(self.network, self.section, wanted, survey.rules)
        except PlatformError:
            self.counts[RULES_REFUSED] += 1
            return
        neighbours = sum(map(self.steering.keep_neighbour, list(self.steering.uplinks)))
        if had:
            self.counts[RESTORED] += lost + neighbours

    # --- orders -----------------------------------------------------------------------------------

    def send_again(self, local_label: int, packet: bytes) -> None:
        """Sends the last TCP segment of a flow once more, else the packet if there is one."""
        entry = self.tables["activities"].find(layout.label_key(local_label))
        flow = self.rewriter.by_label.get(local_label)
        if entry is not None and flow is not None:
            kept = layout.kept_in(entry)
            is_its_own = kept.packet[8 : ipv6.HEADER_OCTETS] == layout.aids_key(flow)
            if is_its_own and time.monotonic_ns() - kept.at_ns < KEPT_TIME:
                packet = finished(kept.packet, kept.segment_octets)
        if packet:
            super().send_again(local_label, packet)

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
        """Looks for flows whose last segment stays unanswered, where the kernel has no timers."""
        self.scanning = asyncio.get_running_loop().call_later(SCAN_INTERVAL_S, self._scan)
        some = list(islice(self.scan, SCANNED_MAX))
        for key in some:
            self._look_at(key)
        if len(some) < SCANNED_MAX:
            self.scan = self.tables["activities"].keys()

    def _look_at(self, key: bytes) -> None:
        flow = self.rewriter.by_label.get(int.from_bytes(key, "big"))
        activity = self.tables["activities"].find(key)
        if flow is None or activity is None:
            return
        sent = self.tables["outbound"].find(layout.aids_key(flow))
        came = self.tables["inbound"].find(key)
        silent_ns = layout.silence(sent, came, time.monotonic_ns())
        if silent_ns > max(flow.silence_ns, FEW_PATIENCE):
            kept = layout.kept_in(activity)
            packet = finished(kept.packet, kept.segment_octets)
            self.notify(UnansweredPacket(flow.local_label, packet, silent_ns))
