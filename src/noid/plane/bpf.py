"""The data plane in the kernel: eBPF programs on the uplinks, which go on without the daemon.

The programs (``noid/bpf/host.bpf.c``) do to packets what rewrite.py says, by two tables: AIDs find
the locators on the way out, the flow label finds the AIDs on the way in. This room fills the tables
and hears the programs' reports. What is rare they hand over to the slow path: protocols without a
slot, control messages in a slot, packets for a context that is not proven, packets too long for the
uplink of their flow.

Programs, tables and attachments are pinned on a BPF file system. When the daemon ends, however it
ends, they go on; the next daemon puts its own in their place between two packets [D36], and
``take_down`` removes everything.
"""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

from noid.config import PlaneSection
from noid.constants import KNOWN_PEERS_MAX, TRIAL_SUFFIX
from noid.engine.events import SourceMoved, UlpPacketSeen, UnansweredPacket, UnknownPeerSeen
from noid.errors import PlatformError, ShimError, Unsupported
from noid.locators import Locator
from noid.netlink import Device, HostNetwork
from noid.plane import layout, libbpf
from noid.plane.carried import TABLES, pin_of
from noid.plane.copies import finished
from noid.plane.layout import Clock
from noid.plane.requirements import explained
from noid.plane.rewrite import Flow
from noid.plane.slow import SlowPath, Surroundings
from noid.plane.uplinks import Uplinks, lacks, ways
from noid.wire import ipv6

OBJECT = "host.bpf.o"
LAST_RULE_PRIORITY = 40_000
"""Of the rule that leads what has no route any more to the shim; behind every other."""
LOG_NAME = "verifier.log"
OWN_ADDRESSES_MAX = 4_096
"""Addresses of this host at which it takes M6 packets of unknown contexts."""
NO_ROOM_FOR_OURS = "addresses of this host the kernel has no room for"
NO_ROOM = "flows the kernel has no room for"
REFUSED = "routes refused"
UPLINKS_REFUSED = "uplinks that refused the programs"
NO_WAY = layout.Way(ifindex=0, mtu=0)


def segmenter_names(device: str) -> tuple[str, str]:
    """The pair that cuts super-packets: where they go in, and where their segments come out."""
    return f"{device}-out", f"{device}-cut"


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
        self.devices: tuple[Device, ...] = ()
        self.refused: dict[str, ShimError] = {}
        self.ways: dict[bytes, layout.Way] = {}
        self.segmenter = 0
        self.stays = True
        self.watched: set[Locator] = set()
        self.ours: set[Locator] = set()
        self.led: set[Locator] = set()
        self.programs: libbpf.Programs | None = None
        self.tables: dict[str, libbpf.Table] = {}
        self.kernel_counts: libbpf.Table | None = None
        self.reports: libbpf.Reports | None = None

    kind = "bpf"

    # --- life ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Loads the programs; see ``DataPlane.open``."""
        code = object_code()
        prepare_pins(self.pins)
        self.stays = bool(our_pins(self.pins))
        super().open()
        try:
            self._make_segmenter()
            section = self.section
            self.network.add_rule(
                priority=LAST_RULE_PRIORITY,
                table=section.table,
                except_mark=section.mark,
                keep_routes=True,
            )
            self.led = self.network.led(device=self.segmenter, table=section.table)
            self._load(code)
            self.ways = ways(self._present())
        except BaseException:
            self.close()
            raise

    def _make_segmenter(self) -> None:
        """The pair of devices that cuts super-packets, and sums up where an uplink would not."""
        sums = not any(lacks(device) & layout.SUM for device in self._present())
        self.segmenter, self.segments = self.network.make_pair(
            *segmenter_names(self.section.device), mtu=self.mtu, sums=sums
        )

    def _load(self, code: bytes) -> None:
        contexts = self.section.contexts
        with explained():
            self.programs = libbpf.Programs(
                code,
                sizes={
                    "outbound": contexts,
                    "inbound": contexts,
                    "far": contexts,
                    "watched": KNOWN_PEERS_MAX,
                    "ours": OWN_ADDRESSES_MAX,
                },
                constants=layout.settings(
                    self.codepoints,
                    mark=self.section.mark,
                    slow_ifindex=self.device_index,
                    segmenter_ifindex=self.segmenter,
                    referrals=self.referrals,
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
        self.uplinks.attach_segmenter(self.segments, programs["host_segments"])
        self.links_changed()
        if self.refused:
            raise next(iter(self.refused.values()))
        if self.stays:
            self.uplinks.leave_others(self.segments)
        pinned = {pin_of(self.pins, name): table for name, table in self.tables.items()}
        for path, table in pinned.items():
            libbpf.pin(table.descriptor, path)
        for path in set(our_tables(self.pins)).difference(pinned):
            path.unlink(missing_ok=True)  # of another edition
        self.stays = True
        stale = sorted(self.led - self.watched)
        self.network.unlead_all(stale, device=self.segmenter, table=self.section.table)
        self.led.clear()
        super().start()

    def close(self) -> None:
        """Ends the slow path; the programs go on without it, if there were any before or now."""
        if self.reports is not None:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self.reports.fileno())
            self.reports.close()
            self.reports = None
        super().close()
        if self.programs is not None:
            self.programs.close()
            self.programs = None
        if not self.stays:
            list(take_down(self.section, self.network))

    def links_changed(self) -> None:
        """Puts the programs on uplinks that have come, and sends by what there is now.

        An uplink that refuses them, such as one that has gone meanwhile, is asked again next time.
        """
        assert self.programs is not None
        self._know_ours()
        known, self.devices = self.devices, self._present()
        self.uplinks.leave(set(self.uplinks.modes) - {device.name for device in self.devices})
        asked_before, self.refused = self.refused, {}
        for device in self.devices:
            if device in known and device.name not in asked_before:
                continue
            try:
                self.uplinks.attach(device, self.programs.programs)
            except ShimError as error:
                self.refused[device.name] = error
                self.counts[UPLINKS_REFUSED] += 1
        flows = list(self.rewriter.by_aids.values())
        # What an uplink has lost still leaves by it until the engine has found another locator.
        used = {flow.local_locator for flow in flows}
        last = {locator: way for locator, way in self.ways.items() if locator in used}
        before, self.ways = self.ways, {**last, **ways(self.devices)}
        for flow in flows:
            if before.get(flow.local_locator) != self.ways.get(flow.local_locator):
                self._put_outbound(flow)

    def _know_ours(self) -> None:
        """Tells the programs which addresses are this host's; what is for another passes them.

        AIDs of flows are, though their address may have left its interface [D23].
        """
        aids = {flow.local_aid for flow in self.rewriter.by_label.values()}
        now = self.network.local_addresses() | aids
        for address in self.ours - now:
            self.tables["ours"].remove(address)
        self.ours &= now
        for address in now - self.ours:
            if self.tables["ours"].put(address, layout.PRESENT.pack(1)):
                self.ours.add(address)
            else:
                self.counts[NO_ROOM_FOR_OURS] += 1

    def modes(self) -> dict[str, str]:
        """How packets pass each uplink."""
        return dict(self.uplinks.modes)

    def _present(self) -> tuple[Device, ...]:
        device = self.section.device
        ours = (device, *segmenter_names(device), f"{device}{TRIAL_SUFFIX}")
        return self.network.devices(self.interfaces, excluded=ours)

    # --- orders -------------------------------------------------------------------------------

    def install(self, flow: Flow) -> None:
        """Uses a flow."""
        previous = self.rewriter.by_aids.get(layout.aids_key(flow))
        super().install(flow)
        if previous is not None and previous.local_label not in self.rewriter.by_label:
            self._forget_label(previous.local_label)
        key = layout.label_key(flow.local_label)
        inbound, outbound = self.tables["inbound"], self.tables["outbound"]
        clock = layout.clock_of(outbound.find(layout.aids_key(flow)), inbound.find(key))
        entry, far = layout.inbound_entries(flow, clock)
        if far:
            self.tables["far"].put(key, far)
        if not inbound.put(key, entry):
            self.counts[NO_ROOM] += 1
        self._put_outbound(flow)

    def take_up(
        self, flows: Sequence[Flow], clocks: Sequence[Clock], aids: Sequence[Locator]
    ) -> None:
        """Uses many flows at once, and watches many AIDs; see ``DataPlane.take_up``."""
        labels, came, pairs, sent = [], [], [], []
        for flow, clock in zip(flows, clocks, strict=True):
            super().install(flow)
            key = layout.label_key(flow.local_label)
            entry, far = layout.inbound_entries(flow, clock)
            if far:
                self.tables["far"].put(key, far)
            labels.append(key)
            came.append(entry)
            way = self.ways.get(flow.local_locator, NO_WAY)
            if flow.transmits and way.ifindex:
                pairs.append(layout.aids_key(flow))
                sent.append(layout.outbound_entry(flow, way, self.codepoints, clock))
        outbound, inbound = self.tables["outbound"], self.tables["inbound"]
        room = inbound.put_all(b"".join(labels), b"".join(came))
        room += outbound.put_all(b"".join(pairs), b"".join(sent))
        self.counts[NO_ROOM] += len(labels) + len(pairs) - room
        fresh = [aid for aid in dict.fromkeys(aids) if aid not in self.watched]
        self.tables["watched"].put_all(b"".join(fresh), layout.WATCHED.pack(0) * len(fresh))
        self.watched.update(fresh)
        self._lead([aid for aid in fresh if aid not in self.led])

    def _lead(self, aids: Sequence[Locator]) -> None:
        """Catches what has no other route to any of these."""
        if not aids:
            return
        try:
            table = self.section.table
            self.counts[REFUSED] += self.network.lead_all(aids, device=self.segmenter, table=table)
        except PlatformError:
            self.counts[REFUSED] += len(aids)

    def remove(self, local_label: int) -> None:
        """Forgets a flow."""
        flow = self.rewriter.by_label.get(local_label)
        super().remove(local_label)
        self._forget_label(local_label)
        if flow is not None:
            self._put_outbound(flow)

    def _put_outbound(self, flow: Flow) -> None:
        """Lets the kernel send by the flow that has the AIDs of this one now, if one does."""
        key = layout.aids_key(flow)
        table = self.tables["outbound"]
        having = self.rewriter.by_aids.get(key)
        way = NO_WAY if having is None else self.ways.get(having.local_locator, NO_WAY)
        if having is None or not having.transmits or not way.ifindex:
            table.remove(key)
            return
        clock = layout.clock_of(table.find(key), None)
        if not table.put(key, layout.outbound_entry(having, way, self.codepoints, clock)):
            self.counts[NO_ROOM] += 1

    def _forget_label(self, local_label: int) -> None:
        key = layout.label_key(local_label)
        self.tables["inbound"].remove(key)
        self.tables["far"].remove(key)

    def watch(self, aid: Locator) -> None:
        """Lets the kernel report what goes to this AID plainly, and catches what has no route."""
        if aid in self.watched:
            return
        self.tables["watched"].put(aid, layout.WATCHED.pack(0))
        self.watched.add(aid)
        if aid not in self.led:
            self._lead([aid])

    def unwatch(self, aid: Locator) -> None:
        """Stops doing so."""
        if aid in self.watched:
            self.watched.discard(aid)
            self.led.discard(aid)
            self.tables["watched"].remove(aid)
            self.network.unlead(aid, table=self.section.table)

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


def object_code() -> bytes:
    """The compiled programs.

    Raises:
        Unsupported: this installation has none.
    """
    try:
        return resources.files("noid.bpf").joinpath(OBJECT).read_bytes()
    except FileNotFoundError:
        raise Unsupported(
            "the compiled data plane",
            "install noid again; its build makes it with clang or ziglang",
        ) from None


def prepare_pins(pins: Path) -> None:
    """Makes the directory of the pins, on a BPF file system, mounting one where there is none.

    Raises:
        PlatformError: it cannot be made.
    """
    try:
        pins.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PlatformError(
            f"plane.pins {pins}",
            error.errno or 0,
            f"{error.strerror}; name a directory on a BPF file system (mount -t bpf)",
        ) from None
    if not libbpf.is_bpffs(pins):
        libbpf.mount_bpffs(pins)
    with contextlib.suppress(OSError):
        os.chmod(pins, stat.S_IRWXU)


def our_pins(pins: Path) -> list[Path]:
    """What a plane has pinned there; the kernel's own files and others' pins apart."""
    sides = ("egress", "ingress", "early")
    links = (path for side in sides for path in pins.glob(f"link-*-{side}"))
    return sorted([*links, *our_tables(pins)])


def our_tables(pins: Path) -> list[Path]:
    """The tables among them, of whatever edition."""
    return [path for name in TABLES for path in pins.glob(f"map-{name}-*")]


def take_down(section: PlaneSection, network: HostNetwork) -> Iterator[str]:
    """Removes everything a plane in the kernel left behind; says what, piece by piece."""
    pins = Path(section.pins)
    for path in our_pins(pins):
        path.unlink(missing_ok=True)
        yield f"pin {path}"
    ours = segmenter_names(section.device)
    for index, name in socket.if_nameindex():
        with contextlib.suppress(ShimError):
            if network.detach_filters(index):
                yield f"filters on {name}"
    for name in ours:
        if network.remove_device(name):
            yield f"device {name}"
    if network.remove_rule(priority=LAST_RULE_PRIORITY, table=section.table):
        yield f"rule {LAST_RULE_PRIORITY}"
