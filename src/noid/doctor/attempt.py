# SPDX-License-Identifier: MIT
"""One run of the firewall test: each packet is sent once.

A packet passes if our own nftables table sees it after all other chains, or if a socket of ours
receives it. ``firewall`` lists the packets.
"""

import contextlib
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Collection, Mapping
from typing import Final

from noid.constants import Codepoints
from noid.doctor.losses import PROTOCOLS, Direction, Form, Probe
from noid.doctor.trial import WAIT_S, Trial
from noid.host.nftables import Traced
from noid.locators import Locator, format_locator
from noid.wire import ipv6
from noid.wire.slots import m6_next_headers

PORT: Final = 443
"""Destination port of the test conversations."""
CODE_UNKNOWN: Final = 255
"""Code of the test control messages; receivers ignore it [draft §3.3]."""
MARK_OCTETS: Final = 16
PACKET_OCTETS_MAX: Final = 2_048
SYN_ACK: Final = 0x12
WINDOW: Final = 0xFFFF


class Attempt:
    """Sends each packet once.

    Args:
        trial: the test environment.
        points: the code points of M6.
        socket_mark: firewall mark of noid's own packets.
    """

    def __init__(self, trial: Trial, points: Codepoints, socket_mark: int) -> None:
        self.trial = trial
        self.points = points
        self.socket_mark = socket_mark
        self.headers = m6_next_headers(points)
        self.mark = secrets.token_bytes(MARK_OCTETS)
        # Control messages arrive before the kernel plane has routes to a peer. The TUN plane has
        # routes before any context.
        self.sender = trial.stranger if trial.leads_by_uplinks else trial.peer
        self.talking: set[tuple[Locator, int]] = set()

    def traced(self, probe: Probe) -> Traced:
        """The probe in the form in which a trace shows it."""
        is_inbound = probe.direction is Direction.IN
        alone = self.sender if is_inbound else self.trial.stranger
        is_alone = probe.form in (Form.CONTROL, Form.DATA)
        other = format_locator(alone if is_alone else self.trial.peer)
        own = format_locator(probe.locator)
        ends = (other, own) if is_inbound else (own, other)
        kind = self.points.icmpv6_type if probe.form is Form.CONTROL else -1
        return Traced(probe.device, *ends, probe.protocol, kind)

    def lost(self) -> list[Probe]:
        """The probes that were dropped."""
        # Outbound packets first: connection tracking then accepts the answers.
        found = [*self._forms_out(), *self._forms_in()]
        if not self.trial.leads_by_uplinks:
            # Without a context, answers arrive as plain packets.
            return [*found, *self._converse(Form.PLAIN), *self._converse(Form.RESTORED)]
        found += self._converse(Form.RESTORED)
        self.trial.begin_outage()
        return [*found, *self._converse(Form.RESTORED, in_outage=True)]

    # --- control messages and M6 next headers ---

    def _forms_out(self) -> list[Probe]:
        probes = []
        for locator, device in self.trial.places.items():
            for protocol in (*self.headers, ipv6.ICMPV6):
                form = Form.CONTROL if protocol == ipv6.ICMPV6 else Form.DATA
                probes.append(Probe(form, Direction.OUT, device, locator, protocol))
                self._send(locator, protocol)
            for protocol in PROTOCOLS:
                self._begin(locator, protocol, self.trial.stranger).close()
        left = self.trial.left()
        # If rules drop packets to the stranger, they also drop those to a peer.
        self.talking = {
            (locator, protocol)
            for locator in self.trial.places
            for protocol in PROTOCOLS
            if (protocol, locator) in left
        }
        return [probe for probe in probes if (probe.protocol, probe.locator) not in left]

    def _send(self, locator: Locator, protocol: int) -> None:
        with _raw(protocol, locator) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.socket_mark)
            with contextlib.suppress(OSError):  # rules that drop it, also ours, cause an error
                raw.sendto(self._payload(protocol), (format_locator(self.trial.stranger), 0))

    def _payload(self, protocol: int) -> bytes:
        if protocol != ipv6.ICMPV6:
            return self.mark
        return bytes((self.points.icmpv6_type, CODE_UNKNOWN, 0, 0)) + self.mark

    def _forms_in(self) -> list[Probe]:
        probes = []
        for locator, device in self.trial.places.items():
            probes.append(Probe(Form.CONTROL, Direction.IN, device, locator, ipv6.ICMPV6))
            if not self.trial.leads_by_uplinks:
                probes += [
                    Probe(Form.DATA, Direction.IN, device, locator, header)
                    for header in self.headers
                ]
        with contextlib.ExitStack() as stack:
            sockets = {
                stack.enter_context(_raw(probe.protocol, probe.locator)): probe for probe in probes
            }
            for probe in probes:
                self._inject(probe)
            arrived = {sockets[one] for one in _arriving(sockets, self.mark)}
        return [probe for probe in probes if probe not in arrived]

    def _inject(self, probe: Probe) -> None:
        payload = self._payload(probe.protocol)
        if probe.form is Form.CONTROL:
            payload = _summed(payload, 2, self.sender, probe.locator, ipv6.ICMPV6)
        header = ipv6.plain_header(self.sender, probe.locator, probe.protocol, len(payload))
        self.trial.inject(probe.device, header + payload)

    # --- conversations with a peer ---

    def _converse(self, form: Form, *, in_outage: bool = False) -> list[Probe]:
        """Starts conversations with a peer and injects its answers; returns the lost probes.

        Args:
            form: of the answers.
            in_outage: whether the uplinks are down.
        """
        begun: dict[socket.socket, tuple[Locator, int]] = {}
        waiting: dict[socket.socket, Probe] = {}
        lost = []
        with contextlib.ExitStack() as stack:
            for locator, protocol in sorted(self.talking):
                one = self._begin(locator, protocol, self.trial.peer)
                begun[stack.enter_context(one)] = locator, protocol
            passed = self.trial.begun()
            for one, (locator, protocol) in begun.items():
                own = self.trial.device_of(locator, in_outage=in_outage)
                device = self.trial.places[locator] if form is Form.PLAIN else own
                port = int(one.getsockname()[1])
                sequence = passed.get((protocol, locator, port))
                if sequence is None:
                    out = Probe(Form.PLAIN, Direction.OUT, own, locator, protocol, in_outage)
                    lost.append(out)
                    continue
                waiting[one] = Probe(form, Direction.IN, device, locator, protocol, in_outage)
                self.trial.inject(device, self._answer(locator, protocol, port, sequence))
            answered = _answered(waiting)
        return lost + [probe for one, probe in waiting.items() if one not in answered]

    def _begin(self, locator: Locator, protocol: int, peer: Locator) -> socket.socket:
        """A socket whose first packet to a peer has been sent."""
        kind = socket.SOCK_STREAM if protocol == ipv6.TCP else socket.SOCK_DGRAM
        one = socket.socket(socket.AF_INET6, kind)
        one.setblocking(False)
        one.bind((format_locator(locator), 0))
        with contextlib.suppress(OSError):
            if protocol == ipv6.TCP:
                # close() then sends a reset and leaves no connection.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.connect((format_locator(peer), PORT))
        with contextlib.suppress(OSError):
            if protocol == ipv6.UDP:
                one.send(self.mark)
        return one

    def _answer(self, locator: Locator, protocol: int, port: int, sequence: int) -> bytes:
        """The answer of the peer: SYN-ACK to a SYN; the same datagram to a datagram."""
        peer, ports = self.trial.peer, PORT.to_bytes(2) + port.to_bytes(2)
        if protocol == ipv6.TCP:
            acknowledged = (sequence + 1) & 0xFFFFFFFF
            rest = struct.pack(">IIBBHHH", 1, acknowledged, 5 << 4, SYN_ACK, WINDOW, 0, 0)
            segment = _summed(ports + rest, 16, peer, locator, protocol)
        else:
            octets = len(ports) + 4 + len(self.mark)
            datagram = ports + octets.to_bytes(2) + b"\0\0" + self.mark
            segment = _summed(datagram, 6, peer, locator, protocol)
        return ipv6.plain_header(peer, locator, protocol, len(segment)) + segment


def _summed(octets: bytes, at: int, source: Locator, destination: Locator, protocol: int) -> bytes:
    """An upper-layer packet with its checksum filled in; the field has to be zero."""
    total = ipv6.checksum(source, destination, protocol, octets)
    return octets[:at] + total.to_bytes(2) + octets[at + 2 :]


def _raw(protocol: int, locator: Locator) -> socket.socket:
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, protocol)
    raw.setblocking(False)
    raw.bind((format_locator(locator), 0))
    return raw


def _arriving(sockets: Collection[socket.socket], mark: bytes) -> set[socket.socket]:
    """The sockets that receive a packet with the mark; waits until all have or WAIT_S is over."""
    found: set[socket.socket] = set()
    until_s = time.monotonic() + WAIT_S
    while len(found) < len(sockets) and (left_s := until_s - time.monotonic()) > 0:
        waiting = [one for one in sockets if one not in found]
        for one in select.select(waiting, [], [], left_s)[0]:
            with contextlib.suppress(BlockingIOError):
                if os.read(one.fileno(), PACKET_OCTETS_MAX).endswith(mark):
                    found.add(one)
    return found


def _answered(probes: Mapping[socket.socket, Probe]) -> set[socket.socket]:
    """The sockets that get an answer; waits until each has an answer or error, or WAIT_S."""
    found: set[socket.socket] = set()
    waiting = set(probes)
    until_s = time.monotonic() + WAIT_S
    while waiting and (left_s := until_s - time.monotonic()) > 0:
        tcp = [one for one in waiting if probes[one].protocol == ipv6.TCP]
        readable, writable, _ = select.select(waiting.difference(tcp), tcp, [], left_s)
        waiting.difference_update(readable, writable)
        found.update(one for one in readable if _received(one))
        found.update(
            one for one in writable if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        )
    return found


def _received(one: socket.socket) -> bool:
    """Whether the socket has a datagram rather than an error."""
    with contextlib.suppress(OSError):
        return bool(one.recv(PACKET_OCTETS_MAX))
    return False
