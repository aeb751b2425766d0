# SPDX-License-Identifier: MIT
"""The slow path: what a plane does in Python: a device and sockets around the packet path.

A TUN device is where packets of the host's programs come out and where packets for them go in. Raw
sockets with a firewall mark send; one for ICMPv6 hears control messages and errors. The TUN plane
sends everything this way. The plane in the kernel sends what is rare: what it hands over comes out
of the device as it is, whether it was on its way out or in.
"""

import asyncio
import contextlib
import errno
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from noid.config import PlaneSection
from noid.constants import (
    CONTROL_OCTETS_MAX,
    TRIAL_SUFFIX,
    Codepoints,
)
from noid.counters import PlaneCounter
from noid.errors import PlatformError
from noid.flows.flow import Flow
from noid.flows.rewrite import Arrival, Refusal
from noid.flows.software import Deliver, Effect, SoftwareDatapath, Transmit
from noid.host.netlink import HostNetwork
from noid.host.survey import Survey
from noid.identifiers import Label
from noid.locators import Locator
from noid.planes.base import Notify
from noid.planes.default_sources import DefaultSources
from noid.planes.devices import open_tun
from noid.planes.privileges import SOCKETS, advice
from noid.planes.receivers import PACKET_OCTETS_MAX, icmpv6_receivers, receive
from noid.planes.restored import Restored
from noid.planes.senders import Senders, open_sender
from noid.wire import icmpv6, ipv6
from noid.wire.control import Code

BATCH_MAX = 64
"""Packets read from one descriptor before the others are read."""
STRANGERS_AT_ONCE = 8
"""Messages of strangers that are taken before those of contexts, and everything else, again."""
SEND_ERRORS = {
    errno.EPERM: PlaneCounter.SENDS_NOT_PERMITTED,
    errno.EACCES: PlaneCounter.SENDS_NOT_PERMITTED,
    errno.ENETUNREACH: PlaneCounter.SENDS_WITHOUT_ROUTE,
    errno.EHOSTUNREACH: PlaneCounter.SENDS_WITHOUT_ROUTE,
    errno.ENETDOWN: PlaneCounter.SENDS_WITHOUT_ROUTE,
    errno.ENODEV: PlaneCounter.SENDS_WITHOUT_ROUTE,
    errno.EADDRNOTAVAIL: PlaneCounter.SENDS_WITHOUT_ROUTE,
    errno.EINVAL: PlaneCounter.SENDS_WITHOUT_ROUTE,  # the source is no address of this host
    errno.ENOBUFS: PlaneCounter.SENDS_WITHOUT_ROOM,
    errno.EAGAIN: PlaneCounter.SENDS_WITHOUT_ROOM,
    errno.ENOMEM: PlaneCounter.SENDS_WITHOUT_ROOM,
}
"""What the kernel says when it refuses a packet; any other error is SENDS_REFUSED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneDependencies:
    """The environment of a plane.

    Attributes:
        section: the ``[plane]`` of the configuration.
        codepoints: the numbers in use.
        network: the host's routes and devices.
        mtu: of the device of the slow path: the least of the uplinks'.
        notify: where to report.
        locators: this host's locators.
        sources: those of them that may be the default source for an address, the best first; all
            if this is not given.
        not_left: those of them that are not to be left, as deprecated ones are; all if this is not
            given.
        working: those of the last whose uplinks work, as far as is known; all if this is not given.
        led: called with an address when the plane begins to choose the source of packets to it, or
            ends to do so.
    """

    section: PlaneSection
    codepoints: Codepoints
    network: HostNetwork
    mtu: int
    notify: Notify
    locators: Callable[[], tuple[Locator, ...]]
    sources: Callable[[Locator], tuple[Locator, ...]] | None = None
    not_left: Callable[[], tuple[Locator, ...]] | None = None
    working: Callable[[], tuple[Locator, ...]] | None = None
    led: Callable[[Locator, bool], None] = lambda aid, is_led: None


class SlowPath:
    """The parts that planes share; see ``noid.planes.base.DataPlane``.

    Args:
        surroundings: what it stands in.
    """

    default_sources: DefaultSources
    at_once = BATCH_MAX
    """Packets read from the device before other descriptors are read."""

    def __init__(self, surroundings: PlaneDependencies) -> None:
        self.section = surroundings.section
        self.codepoints = surroundings.codepoints
        self.network = surroundings.network
        self.mtu = surroundings.mtu
        self.notify = surroundings.notify
        self.locators = surroundings.locators
        self.sources = surroundings.sources or (lambda aid: self.locators())
        self.not_left = surroundings.not_left or surroundings.locators
        self.working = surroundings.working or self.not_left
        self.led = surroundings.led
        self.datapath = SoftwareDatapath(self.codepoints, secrets.randbits(64) | 1)
        self.rewriter = self.datapath.rewriter
        self.counts = self.datapath.counts
        self.restored = Restored()
        self.device = -1
        self.device_index = 0
        self.receivers: list[socket.socket] = []
        self.heard_on: Collection[int] | None = None
        """Devices over which data of contexts is received; None: all."""
        self.senders = Senders(self.section.mark)

    # --- life ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Creates the device and the sockets; see ``DataPlane.open``."""
        try:
            self.device = open_tun(self.section.device)
            self.device_index = self.network.bring_up(self.section.device, self.mtu)
            with raw_socket_errors():
                control = self.codepoints.icmpv6_type
                self.receivers += icmpv6_receivers(control, icmpv6.ERROR_TYPES)
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Processes the packets that have arrived since ``open``, and later ones."""
        loop = asyncio.get_running_loop()
        of_contexts, of_strangers, *_ = self.receivers
        loop.add_reader(of_contexts, self.hear_contexts)
        loop.add_reader(of_strangers, self._on_stranger, of_strangers)
        loop.add_reader(self.device, self._on_device)

    @property
    def own_devices(self) -> tuple[str, ...]:
        """The names of all devices of noid."""
        return (self.section.device, f"{self.section.device}{TRIAL_SUFFIX}")

    def keep_device(self, survey: Survey, mtu: int) -> bool:
        """Makes the device as it is to be; returns whether others had changed it."""
        name = self.section.device
        found = survey.ours.get(name)
        is_there = found is not None and found.index == self.device_index
        if found is None or not is_there:
            changed = [name]
        else:
            changed = [f"state of {name}"] * (not found.is_up)
            changed += [f"MTU of {name}"] * (found.mtu != self.mtu)
        if changed or mtu != self.mtu:
            with self.counted(PlaneCounter.DEVICES_REFUSED):
                if not is_there:
                    self._open_again()
                self.network.bring_up(name, mtu)
                self.has_restored("devices", changed)
        return bool(changed)

    def _open_again(self) -> None:
        loop = asyncio.get_running_loop()
        if self.device >= 0:
            loop.remove_reader(self.device)
            os.close(self.device)
            self.device = -1
        self.device = open_tun(self.section.device, self.device_index)
        loop.add_reader(self.device, self._on_device)

    def link_lost(self, index: int, *, is_up: bool) -> None:
        """No action: the slow path does not depend on uplinks."""

    @property
    def keeping(self) -> str:
        """The name of the device that AIDs are kept on."""
        return self.section.device

    def keep_address(self, aid: Locator, *, kept: bool) -> None:
        """Keeps an AID deliverable whose uplink has lost the address, or ends that [D23]."""
        with self.counted(PlaneCounter.ADDRESSES_REFUSED):
            index = socket.if_nametoindex(self.keeping)
            (self.network.add_address if kept else self.network.remove_address)(aid, index)

    def forget_cached_routes(self, device: int) -> None:
        """Makes connections take a route through a device of ours that is newer than they are."""
        with self.counted(PlaneCounter.ADDRESSES_REFUSED):
            self.network.forget_cached_routes(device)

    def is_intact(self) -> bool:
        """True: the kernel reports the removal of every object of the slow path."""
        return True

    def has_restored(self, kind: str, names: Iterable[str]) -> None:
        """Counts things of a kind that others had removed or changed, and notes their names."""
        self.counts[PlaneCounter.OBJECTS_RESTORED] += self.restored.note(kind, names)

    @contextlib.contextmanager
    def counted(self, refusal: PlaneCounter) -> Iterator[None]:
        """Counts refusals of the kernel in the block, instead of raising."""
        try:
            yield
        except (PlatformError, OSError):
            self.counts[refusal] += 1

    def modes(self) -> dict[str, str]:
        """Empty: there is only one way."""
        return {}

    def close(self) -> None:
        """Removes everything that ``open`` created; may be called repeatedly."""
        with contextlib.suppress(RuntimeError):
            loop = asyncio.get_running_loop()
            for descriptor in (self.device, *(one.fileno() for one in self.receivers)):
                if descriptor >= 0:
                    loop.remove_reader(descriptor)
        if self.device >= 0:
            os.close(self.device)
            self.device = -1
        for one in self.receivers:
            one.close()
        self.receivers.clear()
        self.senders.close()

    # --- orders -------------------------------------------------------------------------------

    def install(self, flow: Flow) -> None:
        """Installs a flow."""
        before = self.rewriter.by_aids.get(flow.local_aid + flow.peer_aid)
        self.datapath.install(flow)
        if before is not None and before.local_locator != flow.local_locator:
            self.default_sources.look([flow.peer_aid])

    def remove(self, local_label: Label) -> None:
        """Removes a flow."""
        flow = self.rewriter.by_label.get(local_label)
        self.datapath.remove(local_label)
        if flow is not None:
            self.default_sources.look([flow.peer_aid])

    def send_again(self, local_label: Label, packet: bytes, silent_ns: int = 0) -> None:
        """Sends a packet of the ULP again through its flow, if the flow still exists."""
        self._carry_out(self.datapath.again(local_label, packet))

    def send(self, packet: bytes) -> None:
        """Sends a packet; a packet that is too long for its path is counted."""
        if self._transmit(packet, is_control=True):
            self.counts[PlaneCounter.CONTROL_TOO_BIG] += 1

    def deliver(self, packet: bytes) -> None:
        """Writes a packet to the device, so that the stack receives it."""
        try:
            os.write(self.device, packet)
        except OSError:
            self.counts[PlaneCounter.DELIVERIES_REFUSED] += 1

    def heard(self, local_label: Label, *, unasked: bool = False) -> None:
        """Marks the packets of a flow as answered; see ``SoftwareDatapath.heard``."""
        self.datapath.heard(local_label, time.monotonic_ns(), unasked=unasked)

    def received_ns(self, local_label: Label) -> int:
        """When a flow last received something, by the monotonic clock; 0 if never."""
        return self.datapath.received_ns(local_label)

    def heard_ns(self, local_label: Label) -> int:
        """When a flow last received data or a keepalive, by the same clock; 0 if never."""
        return self.datapath.heard_ns(local_label)

    def counters(self) -> Counter[PlaneCounter]:
        """The counters so far."""
        return self.counts.copy()

    # --- out ----------------------------------------------------------------------------------

    def _on_device(self) -> None:
        """Packets of the host's programs, and what the kernel hands over."""
        for _ in range(self.at_once):
            try:
                packet = os.read(self.device, PACKET_OCTETS_MAX)
            except BlockingIOError:
                return
            except OSError as error:
                self.counts[PlaneCounter.DEVICE_ERRORS] += 1
                if error.errno == errno.EBADFD:  # others have removed it
                    asyncio.get_running_loop().remove_reader(self.device)
                return
            if len(packet) < ipv6.HEADER_OCTETS or packet[0] >> 4 != ipv6.VERSION:
                continue
            if ipv6.stays_on_link(packet):
                self.counts[PlaneCounter.PACKETS_ON_LINK] += 1
                continue
            arrival = self.datapath.arrival_of(packet)
            if arrival is None:
                self._carry_out(self.datapath.from_host(packet, time.monotonic_ns()), packet)
            else:
                self.arrived(arrival)

    def _carry_out(self, effects: Iterable[Effect], original: bytes = b"") -> None:
        """Executes the effects of the packet path, in order.

        Args:
            effects: the effects.
            original: the packet of a program that they are about; empty where it is none.
        """
        for effect in effects:
            match effect:
                case Transmit():
                    mtu = self._transmit(effect.packet)
                    if mtu and original:
                        self._too_big(original, mtu - (len(effect.packet) - len(original)))
                case Deliver():
                    self.deliver(effect.packet)
                case _:
                    self.notify(effect)

    def _transmit(self, packet: bytes, *, is_control: bool = False) -> int:
        """Sends a packet.

        Returns:
            0, or the path's MTU where the packet is longer than that.
        """
        try:
            return self.senders.send(packet, is_control=is_control)
        except OSError as error:
            self.counts[SEND_ERRORS.get(error.errno or 0, PlaneCounter.SENDS_REFUSED)] += 1
        return 0

    def _too_big(self, packet: bytes, mtu: int) -> None:
        """Tells the ULP how long its packets may be, quoting what it sent [D27]."""
        self.counts[PlaneCounter.PACKETS_TOO_BIG] += 1
        header = ipv6.Header.decode_unchecked(packet)
        error = icmpv6.ErrorMessage(
            type=icmpv6.PACKET_TOO_BIG,
            code=0,
            value=max(mtu, CONTROL_OCTETS_MAX),
            quote=packet,
        )
        self.deliver(error.encode_packet(header.destination, header.source))

    # --- in -----------------------------------------------------------------------------------

    def arrived(self, arrival: Arrival | Refusal) -> None:
        """An M6 packet."""
        self._carry_out(self.datapath.arrived(arrival, time.monotonic_ns()))

    def hear_contexts(self) -> None:
        """Plain control messages that name a context."""
        self._on_icmp(self.receivers[0], BATCH_MAX)

    def _on_stranger(self, of_strangers: socket.socket) -> None:
        """Plain control messages of strangers, and ICMPv6 errors, after those of contexts."""
        self.hear_contexts()
        self._on_icmp(of_strangers, STRANGERS_AT_ONCE)

    def _on_icmp(self, icmp: socket.socket, count: int) -> None:
        for _ in range(count):
            arrival = receive(icmp, ipv6.ICMPV6)
            if arrival is None:
                return
            if isinstance(arrival, Refusal):
                self.arrived(arrival)
                continue
            is_elsewhere = self.heard_on is not None and arrival.device not in self.heard_on
            if is_elsewhere and self._is_init(arrival):
                self.counts[PlaneCounter.INITS_ELSEWHERE] += 1
                continue
            now_ns = time.monotonic_ns()
            self._carry_out(self.datapath.icmpv6_arrived(arrival, now_ns, in_slot=False))

    def _is_init(self, arrival: Arrival) -> bool:
        return arrival.payload[:2] == bytes((self.codepoints.icmpv6_type, Code.INIT))


def check_permission(mark: int) -> None:
    """Finds out before anything is made whether this process may send marked raw packets.

    Raises:
        PlatformError: it may not.
    """
    with raw_socket_errors():
        open_sender(mark).close()


@contextlib.contextmanager
def raw_socket_errors() -> Iterator[None]:
    """A refusal by the system, as a PlatformError that says what to do."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        raise PlatformError("raw sockets", number, advice(number, of=SOCKETS)) from None
