"""Whether this host's own rules let M6 through: tried with packets, and what to change if not.

A peer's packets pass the rules of a host in three forms, and each is tried on every uplink:

- control messages, ICMPv6, in both directions;
- the M6 next headers, out of the host, and into it unless the data plane in the kernel takes them
  off the uplink before any rule sees them;
- plain packets between AIDs: out by the shim's device, and in where the data plane restores them,
  which is the uplink that owns AID(local), or the shim's device with the TUN plane and for packets
  of the slow path. TCP and UDP conversations are tried, so connection tracking and reverse-path
  filters take part.

A restored packet keeps to the uplink it arrived on while the AID's own is down. Whether rules
allow that is tried too, with the routes that the host has now.

Not tried: rules beyond this host, rules on the exact name of the shim's device (the trial device
has that name and a suffix), and connections from peers to servers of this host, whose rules are
the same with and without M6.
"""

import contextlib
import enum
import itertools
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from noid import nftables
from noid.config import PlaneSection
from noid.constants import LOCATORS_MAX, TRIAL_SUFFIX, Codepoints
from noid.errors import ShimError
from noid.locators import Locator, format_locator
from noid.netlink import HostNetwork
from noid.nftables import Drop, Traced
from noid.trial import WAIT_S, Trial, set_up
from noid.wire import ipv6
from noid.wire.slots import m6_next_headers

PORT: Final = 443
"""Of the conversations that are tried."""
CODE_UNKNOWN: Final = 255
"""Of the control messages; receivers ignore it [draft §3.3]."""
MARK_OCTETS: Final = 16
PACKET_OCTETS_MAX: Final = 2_048
ROUNDS_MAX: Final = 4
"""Tries with fixes; more chains that drop one after another are left to the operator."""
SYN_ACK: Final = 0x12
WINDOW: Final = 0xFFFF
PROTOCOLS: Final = {ipv6.TCP: "TCP", ipv6.UDP: "UDP"}


class Direction(enum.Enum):
    """Which way a packet goes."""

    IN = "inbound"
    OUT = "outbound"


class Form(enum.Enum):
    """How a packet of M6 looks to the rules."""

    CONTROL = "control"
    DATA = "data"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Probe:
    """One packet that is tried.

    Attributes:
        form: how it looks.
        direction: which way it goes.
        device: where it arrives, or by what it leaves.
        locator: of this host: its destination or source.
        protocol: its next header.
        in_outage: whether it arrives there only while the uplink of its AID is down.
    """

    form: Form
    direction: Direction
    device: str
    locator: Locator
    protocol: int
    in_outage: bool = False


Lost = dict[Probe, Drop | None]
"""What did not get through, and what dropped it if a rule of nftables did."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Probes that one thing drops.

    Attributes:
        probes: at least one; of one form, direction and ``in_outage``.
        drop: what drops them, or None where no rule of nftables does.
        rule: the rule that lets them through, as ``nft insert rule`` takes it; or empty.
    """

    probes: tuple[Probe, ...]
    drop: Drop | None
    rule: str

    @property
    def command(self) -> str:
        """The command that inserts the rule, or where to look if there is none."""
        if not self.rule:
            return "no nftables rule drops it; see ip6tables-legacy -S and tc filter show"
        return f"nft 'insert rule {self.rule}'"

    @property
    def in_outage(self) -> bool:
        """Whether it concerns only the time while an uplink is down."""
        return self.probes[0].in_outage


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a try ended.

    Attributes:
        lost: what is lost, by what drops it.
        untried: names of the protocols of which no conversation could be begun.
    """

    lost: tuple[Loss, ...]
    untried: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fix:
    """A rule that was inserted.

    Attributes:
        loss: what it was inserted for.
        undo: the command of nft that deletes it.
    """

    loss: Loss
    undo: str

    def helped(self, lost: Iterable[Loss]) -> bool:
        """Whether nothing that it was inserted for is lost any more."""
        still = {probe for loss in lost for probe in loss.probes}
        return still.isdisjoint(self.loss.probes)


class Firewall:
    """The rules of one host.

    Args:
        network: the host's.
        section: the ``[plane]`` of the configuration.
        points: the code points of M6.
        places: the host's locators, and the uplink of each; LOCATORS_MAX of them are tried.
        kind: the data plane that runs; empty if none does.
    """

    def __init__(
        self,
        network: HostNetwork,
        section: PlaneSection,
        points: Codepoints,
        places: Mapping[Locator, str],
        kind: str = "",
    ) -> None:
        self.network = network
        self.section = section
        self.points = points
        self.places = dict(itertools.islice(places.items(), LOCATORS_MAX))
        self.kind = kind

    def try_out(self) -> Outcome:
        """Tries a packet of each kind on every uplink, in both directions.

        Raises:
            ShimError, OSError: it cannot be tried.
        """
        uplinks = sorted(set(self.places.values()))
        with set_up(self.network, self.section, uplinks) as trial:
            attempt = _Attempt(trial, self)
            lost = [*attempt.out(), *attempt.into()]
            drops = trial.drops() if lost else {}
        named = {probe: drops.get(attempt.traced(probe)) for probe in lost}
        begun = {protocol for _, protocol in attempt.talking}
        untried = tuple(name for number, name in PROTOCOLS.items() if number not in begun)
        return Outcome(tuple(losses(named, self.points, self.section.device)), untried)

    def fix(self) -> tuple[list[Fix], list[Fix], Outcome]:
        """Inserts the rules that are missing, keeps those that help, and tries again.

        Returns:
            The fixes that helped, those that were undone because they did not, and how the last
            try ended.

        Raises:
            ShimError, OSError: it cannot be tried; what was inserted is undone.
        """
        fixes: list[Fix] = []
        try:
            for _ in range(ROUNDS_MAX):
                outcome = self.try_out()
                if not _insert(outcome.lost, fixes):
                    break
            else:
                outcome = self.try_out()
            useless = [fix for fix in fixes if not fix.helped(outcome.lost)]
        except BaseException:
            _undo(fixes)
            raise
        _undo(useless)
        helped = [fix for fix in fixes if fix not in useless]
        return helped, useless, self.try_out() if useless else outcome


def _insert(lost: Iterable[Loss], fixes: list[Fix]) -> bool:
    """Inserts the rules that are missing, each once; returns whether there were any."""
    tried = {fix.loss.rule for fix in fixes}
    before = len(fixes)
    for loss in lost:
        if loss.rule and loss.rule not in tried:
            tried.add(loss.rule)
            with contextlib.suppress(ShimError):  # nft refuses: what is lost stays so
                fixes.append(Fix(loss, nftables.insert(loss.rule)))
    return len(fixes) > before


def _undo(fixes: Sequence[Fix]) -> None:
    for fix in reversed(fixes):
        with contextlib.suppress(ShimError):
            nftables.run(f"{fix.undo}\n")


# --- what is lost, for people ---------------------------------------------------------------------


def losses(lost: Lost, points: Codepoints, device: str) -> list[Loss]:
    """What was lost, together where one rule drops it and one rule helps.

    Args:
        lost: each probe, and what dropped it.
        points: the code points of M6.
        device: name of the shim's device.
    """
    groups: dict[tuple[Drop | None, Form, Direction, bool], list[Probe]] = {}
    for probe, drop in lost.items():
        key = drop, probe.form, probe.direction, _is_ours(probe.device, device)
        groups.setdefault(key, []).append(probe)
    found = []
    for (drop, *_), probes in groups.items():
        rule = "" if drop is None else _rule(drop, probes, points, device)
        for in_outage in (False, True):
            these = tuple(one for one in probes if one.in_outage is in_outage)
            if these:
                found.append(Loss(these, drop, rule))
    return found


def describe(loss: Loss, points: Codepoints) -> str:
    """What is lost and what drops it, in one line."""
    first = loss.probes[0]
    match first.form:
        case Form.CONTROL:
            what = f"ICMPv6 type {points.icmpv6_type}"
        case Form.DATA:
            what = f"next headers {', '.join(ranges({one.protocol for one in loss.probes}))}"
        case Form.PLAIN:
            names = (PROTOCOLS[one] for one in sorted({one.protocol for one in loss.probes}))
            kind = "restored" if first.direction is Direction.IN else "plain"
            what = f"{kind} packets ({', '.join(names)})"
    drop = loss.drop
    by = "something other than nftables" if drop is None else f"{drop.chain} ({drop.rule})"
    places = " ".join(sorted({one.device for one in loss.probes}))
    text = f"{by} drops {first.direction.value} {what} on {places}"
    if loss.in_outage:
        aids = " ".join(sorted({format_locator(one.locator) for one in loss.probes}))
        text += f" for {aids} while its own uplink is down"
    return text


def ranges(numbers: Collection[int]) -> list[str]:
    """Numbers as nft writes them, such as 224-231."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return [f"{one[0]}-{one[-1]}" if len(one) > 1 else f"{one[0]}" for one in found]


def _rule(drop: Drop, probes: Sequence[Probe], points: Codepoints, device: str) -> str:
    """The narrowest rule that accepts the probes where they are dropped."""
    first = probes[0]
    match first.form, first.direction:
        case Form.CONTROL, _:
            match = f"icmpv6 type {points.icmpv6_type}"
        case Form.DATA, _:
            match = f"meta l4proto {_set(ranges({one.protocol for one in probes}))}"
        case _, Direction.OUT:
            match = f'oifname "{device}*"'
        case _:
            names = {one.device for one in probes}
            ours = _is_ours(first.device, device)
            devices = [f'"{device}*"'] if ours else [f'"{one}"' for one in sorted(names)]
            aids = sorted({format_locator(one.locator) for one in probes})
            match = f"iifname {_set(devices)} ip6 daddr {_set(aids)}"
            if nftables.sees_connections(drop.chain):
                match += " ct state established,related"
    return f"{drop.chain} {match} accept"


def _is_ours(name: str, device: str) -> bool:
    """Whether a name is that of the trial device, which stands for the shim's."""
    return name == f"{device}{TRIAL_SUFFIX}"


def _set(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{{ {', '.join(values)} }}"


# --- one attempt ----------------------------------------------------------------------------------


class _Attempt:
    """Each packet once.

    Args:
        trial: where.
        firewall: what is known of the host.
    """

    def __init__(self, trial: Trial, firewall: Firewall) -> None:
        self.trial = trial
        self.points = firewall.points
        self.places = firewall.places
        self.kind = firewall.kind
        self.socket_mark = firewall.section.mark
        self.headers = m6_next_headers(self.points)
        self.mark = secrets.token_bytes(MARK_OCTETS)
        self.talking: set[tuple[Locator, int]] = set()

    def traced(self, probe: Probe) -> Traced:
        """The probe as a trace shows it."""
        other = format_locator(self.trial.peer if probe.form is Form.PLAIN else self.trial.stranger)
        own = format_locator(probe.locator)
        ends = (other, own) if probe.direction is Direction.IN else (own, other)
        kind = self.points.icmpv6_type if probe.form is Form.CONTROL else -1
        return Traced(probe.device, *ends, probe.protocol, kind)

    # --- out ---

    def out(self) -> list[Probe]:
        """What does not leave; no answer is sent into the host before."""
        probes = []
        for locator, device in self.places.items():
            for protocol in (*self.headers, ipv6.ICMPV6):
                form = Form.CONTROL if protocol == ipv6.ICMPV6 else Form.DATA
                probes.append(Probe(form, Direction.OUT, device, locator, protocol))
                self._send(locator, protocol)
            for protocol in PROTOCOLS:
                self._begin(locator, protocol, self.trial.stranger).close()
        left = self.trial.left()
        # What the host lets nobody send tells nothing of M6.
        self.talking = {
            (locator, protocol)
            for locator in self.places
            for protocol in PROTOCOLS
            if (protocol, locator) in left
        }
        return [probe for probe in probes if (probe.protocol, probe.locator) not in left]

    def _send(self, locator: Locator, protocol: int) -> None:
        with _raw(protocol, locator) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.socket_mark)
            with contextlib.suppress(OSError):  # the rules that drop it, ours among them, say so
                raw.sendto(self._payload(protocol), (format_locator(self.trial.stranger), 0))

    def _payload(self, protocol: int) -> bytes:
        if protocol != ipv6.ICMPV6:
            return self.mark
        return bytes((self.points.icmpv6_type, CODE_UNKNOWN, 0, 0)) + self.mark

    # --- in ---

    def into(self) -> list[Probe]:
        """What does not reach a socket of the host."""
        found: list[Probe] = []
        for locator, device in self.places.items():
            found += self._forms_into(locator, device)
        for locator, protocol in sorted(self.talking):
            for device, in_outage in self._restoring(locator):
                probe = self._converse(locator, protocol, device, in_outage=in_outage)
                if probe is not None and probe not in found:
                    found.append(probe)
        return found

    def _forms_into(self, locator: Locator, device: str) -> list[Probe]:
        probes = [Probe(Form.CONTROL, Direction.IN, device, locator, ipv6.ICMPV6)]
        if self.kind != "bpf":
            probes += [
                Probe(Form.DATA, Direction.IN, device, locator, header) for header in self.headers
            ]
        stranger = self.trial.stranger
        with contextlib.ExitStack() as stack:
            sockets = {
                stack.enter_context(_raw(probe.protocol, locator)): probe for probe in probes
            }
            for probe in probes:
                payload = self._payload(probe.protocol)
                if probe.form is Form.CONTROL:
                    payload = _summed(payload, 2, stranger, locator, ipv6.ICMPV6)
                packet = ipv6.plain_header(stranger, locator, probe.protocol, len(payload))
                self.trial.inject(device, packet + payload)
            arrived = {sockets[one] for one in _arriving(sockets, self.mark)}
        return [probe for probe in probes if probe not in arrived]

    def _restoring(self, locator: Locator) -> Iterator[tuple[str, bool]]:
        """Where packets for an AID appear, and whether only in an outage."""
        yield self.trial.device, False  # what the slow path restores, of either plane
        if self.kind == "tun":
            return
        own = self.places[locator]
        yield own, False
        for other in sorted(set(self.places.values()) - {own}):
            yield other, True

    def _converse(
        self, locator: Locator, protocol: int, device: str, *, in_outage: bool
    ) -> Probe | None:
        """Begins a conversation with a peer, restores its answer; returns what is lost."""
        with self._begin(locator, protocol, self.trial.peer) as one:
            sent = self.trial.sent_by_device(protocol, one.getsockname()[1])
            if sent is None:
                return Probe(Form.PLAIN, Direction.OUT, self.trial.device, locator, protocol)
            self.trial.inject(device, _answer(sent))
            if _is_answered(one, protocol):
                return None
        return Probe(Form.PLAIN, Direction.IN, device, locator, protocol, in_outage)

    def _begin(self, locator: Locator, protocol: int, peer: Locator) -> socket.socket:
        """A socket whose first packet to a peer has been sent."""
        kind = socket.SOCK_STREAM if protocol == ipv6.TCP else socket.SOCK_DGRAM
        one = socket.socket(socket.AF_INET6, kind)
        one.setblocking(False)
        one.bind((format_locator(locator), 0))
        with contextlib.suppress(OSError):
            if protocol == ipv6.TCP:
                # Ends with a reset, and so at once.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.connect((format_locator(peer), PORT))
        with contextlib.suppress(OSError):
            if protocol == ipv6.UDP:
                one.send(self.mark)
        return one


def _answer(packet: bytes) -> bytes:
    """What a peer answers: a SYN with SYN-ACK, a datagram with the same."""
    local, peer = Locator(packet[8:24]), Locator(packet[24:40])
    ports = packet[42:44] + packet[40:42]
    if packet[6] == ipv6.TCP:
        (sequence,) = struct.unpack_from(">I", packet, 44)
        acknowledged = (sequence + 1) & 0xFFFFFFFF
        rest = struct.pack(">IIBBHHH", 1, acknowledged, 5 << 4, SYN_ACK, WINDOW, 0, 0)
        segment = _summed(ports + rest, 16, peer, local, ipv6.TCP)
    else:
        datagram = ports + packet[44:46] + b"\0\0" + packet[48:]
        segment = _summed(datagram, 6, peer, local, ipv6.UDP)
    return ipv6.plain_header(peer, local, packet[6], len(segment)) + segment


def _summed(octets: bytes, at: int, source: Locator, destination: Locator, protocol: int) -> bytes:
    """An upper-layer packet with its checksum, whose field is zero, filled in."""
    total = ipv6.checksum(source, destination, protocol, octets)
    return octets[:at] + total.to_bytes(2) + octets[at + 2 :]


def _is_answered(one: socket.socket, protocol: int) -> bool:
    if protocol == ipv6.TCP:
        _, writable, _ = select.select([], [one], [], WAIT_S)
        return bool(writable) and not one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    readable, _, _ = select.select([one], [], [], WAIT_S)
    with contextlib.suppress(OSError):
        return bool(readable) and bool(one.recv(PACKET_OCTETS_MAX))
    return False


def _raw(protocol: int, locator: Locator) -> socket.socket:
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, protocol)
    raw.setblocking(False)
    raw.bind((format_locator(locator), 0))
    return raw


def _arriving(sockets: Collection[socket.socket], mark: bytes) -> set[socket.socket]:
    """The sockets to which a packet with a mark comes, until it has come to all."""
    found: set[socket.socket] = set()
    until_s = time.monotonic() + WAIT_S
    while len(found) < len(sockets) and (left_s := until_s - time.monotonic()) > 0:
        waiting = [one for one in sockets if one not in found]
        for one in select.select(waiting, [], [], left_s)[0]:
            with contextlib.suppress(BlockingIOError):
                if os.read(one.fileno(), PACKET_OCTETS_MAX).endswith(mark):
                    found.add(one)
    return found
