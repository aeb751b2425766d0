# SPDX-License-Identifier: MIT
"""The test environment: packets pass the rules of the host, and none of them leaves the host.

Packets to a peer have the routes that a data plane would add: with the kernel plane through the
uplink of their source, and through a device of noid while that uplink is down; with the TUN plane
always through a device of noid. A TAP device represents the device of noid. A BPF program on the
TAP device injects packets at the ingress of an uplink, so that they arrive as from the network. An
nftables table traces the packets. Its last chain records and drops packets to the peer and to the
stranger. Device, table, routes and rules are removed after the test.
"""

import contextlib
import ctypes
import fcntl
import os
import secrets
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, assert_never

from noid.config import Plane, PlaneSection
from noid.constants import LOCATORS_MAX, TRIAL_SUFFIX
from noid.errors import PlatformError, ShimError, Unsupported
from noid.host import nftables
from noid.host.netlink import HostNetwork
from noid.host.routes import PeerRoute
from noid.host.rules import Rule
from noid.locators import Locator, format_locator, parse_locator
from noid.planes.bpf import libbpf
from noid.planes.bpf.features import SCHED_CLS
from noid.planes.steering import BY_OURS, BY_UPLINK
from noid.planes.uplink import UPLINKS_MAX
from noid.wire import ipv6

TUN_PATH: Final = "/dev/net/tun"
TUNSETIFF: Final = 0x400454CA
TAP_FLAGS: Final = 0x0002 | 0x1000 | 0x8000
"""IFF_TAP, IFF_NO_PI and IFF_TUN_EXCL."""
SIOCGIFFLAGS: Final = 0x8913
SIOCSIFFLAGS: Final = 0x8914
SIOCGIFHWADDR: Final = 0x8927
IFF_NOARP: Final = 0x80
INTERFACE_REQUEST: Final = "16s24s"
ETHERTYPE_IPV6: Final = b"\x86\xdd"
MTU: Final = 1_500
WAIT_S: Final = 1.5
"""A packet that has not arrived after this time was dropped: none of them leaves this host, but a
busy one may take long to handle it."""

NOWHERE: Final = parse_locator("2000::")
"""Prefix of addresses that belong to no host and that only a default route matches."""
RANDOM_OCTETS: Final = 8
STAYS: Final = "ff01::6d36"
"""A multicast address of interface-local scope: Linux sends nothing there (RFC 4291 §2.7.1).

The destination of the first packet of a conversation is replaced by it. If our table dropped the
packet, connection tracking would forget the connection: it confirms new ones after the last chain.
"""
TABLE: Final = "noid-try"
LEFT_MAX: Final = 32 * LOCATORS_MAX
"""Entries for every tested protocol from every locator."""
BEGUN_MAX: Final = 2 * LOCATORS_MAX
"""Entries for a conversation from every locator, with its uplink up and down."""
CANARY_PORT: Final = 9
"""UDP port (discard) of the packets that mark a position in the trace."""

OWN_TABLE: Final = f"""\
table inet {TABLE} {{{{
    set left {{{{
        typeof meta l4proto . ip6 saddr
        size {LEFT_MAX}
        flags dynamic
    }}}}
    set begun {{{{
        typeof ip6 saddr . tcp sport . tcp sequence
        size {BEGUN_MAX}
        flags dynamic
    }}}}
    set said {{{{
        typeof ip6 saddr . udp sport
        size {BEGUN_MAX}
        flags dynamic
    }}}}
    chain arrived {{{{
        type filter hook prerouting priority -2147483648
        ip6 saddr {{{{ {{stranger}}, {{peer}} }}}} meta nftrace set 1
    }}}}
    chain sent {{{{
        type filter hook output priority -2147483648
        ip6 daddr {{{{ {{stranger}}, {{peer}} }}}} meta nftrace set 1
    }}}}
    chain last {{{{
        type filter hook postrouting priority 2147483647
        ip6 daddr {{stranger}} udp dport {CANARY_PORT} drop
        ip6 daddr {{stranger}} add @left {{{{ meta l4proto . ip6 saddr }}}} drop
        ip6 daddr {{peer}} tcp flags & (syn | ack) == syn \
            add @begun {{{{ ip6 saddr . tcp sport . tcp sequence }}}} ip6 daddr set {STAYS} accept
        ip6 daddr {{peer}} meta l4proto udp \
            add @said {{{{ ip6 saddr . udp sport }}}} ip6 daddr set {STAYS} accept
        ip6 daddr {{peer}} drop
    }}}}
}}}}
"""
EARLY_TABLE: Final = f"""\
table netdev {TABLE} {{{{
    chain arrived {{{{
        type filter hook ingress devices = {{{{ {{devices}} }}}} priority -2147483648
        ip6 saddr {{{{ {{stranger}}, {{peer}} }}}} meta nftrace set 1
    }}}}
}}}}
"""


def leads_by_uplinks(kind: Plane) -> bool:
    """Whether a plane routes packets to peers through uplinks, and not through its own device."""
    match kind:
        case "bpf":
            return True
        case "tun":
            return False
        case _:
            assert_never(kind)


@dataclass(slots=True)
class Trial:
    """The test environment after ``set_up``.

    The addresses are new each time, so that connection tracking has no entries for them.

    Attributes:
        network: the host's.
        kind: the data plane whose routes are added.
        places: the locators, and the uplink of each.
        stranger: an address of no host, without a route of noid.
        peer: an address of no host, routed as a data plane routes its peers.
        device: name of the trial device.
        index: its interface index.
        tap: its descriptor.
        by_uplink: the routes to the peer that exist while the uplinks are up.
        trace: the decisions of the host's rules so far.
    """

    network: HostNetwork
    kind: Plane
    places: Mapping[Locator, str]
    stranger: Locator
    peer: Locator
    device: str
    index: int
    tap: int
    by_uplink: list[PeerRoute]
    trace: nftables.Trace

    @property
    def leads_by_uplinks(self) -> bool:
        """Whether packets to the peer are routed through uplinks while these are up."""
        return leads_by_uplinks(self.kind)

    def device_of(self, locator: Locator, *, in_outage: bool) -> str:
        """The device of packets between a locator and the peer."""
        return self.device if in_outage or not self.leads_by_uplinks else self.places[locator]

    def begin_outage(self) -> None:
        """Configures the trial device as noid configures its device while uplinks are down.

        Raises:
            PlatformError: the kernel refuses.
        """
        self.network.remove_routes(self.by_uplink)
        for locator in self.places:
            self.network.add_address(locator, self.index)

    def inject(self, device: str, packet: bytes) -> None:
        """Injects an IPv6 packet at the ingress of a device; the trial device is permitted."""
        index = 0 if device == self.device else socket.if_nametoindex(device)
        source = b"\x02\x00" + index.to_bytes(4)
        os.write(self.tap, _link_address(device) + source + ETHERTYPE_IPV6 + packet)

    def left(self) -> set[tuple[int, Locator]]:
        """Next header and source of the packets to the stranger that passed every chain."""
        return {(int(protocol), parse_locator(source)) for protocol, source in _elements("left")}

    def begun(self) -> dict[tuple[int, Locator, int], int]:
        """Conversations with the peer whose first packet passed every chain.

        Returns:
            For the protocol, source and port of each, the sequence number of the SYN, or 0.
        """
        found = {
            (ipv6.TCP, parse_locator(source), int(port)): int(sequence)
            for source, port, sequence in _elements("begun")
        }
        said = {
            (ipv6.UDP, parse_locator(source), int(port)): 0 for source, port in _elements("said")
        }
        return found | said

    def drops(self) -> dict[nftables.Traced, nftables.Drop]:
        """The packets that the host's rules have dropped so far."""
        self.catch_up()
        return self.trace.drops(except_table=TABLE)

    def catch_up(self) -> None:
        """Waits until the trace contains all packets sent so far.

        Raises:
            PlatformError: the trace shows no packet.
        """
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as canary:
            canary.bind(("::", 0))
            sign = f"udp sport {canary.getsockname()[1]} "

            def provoke() -> None:
                with contextlib.suppress(OSError):
                    canary.sendto(b"", (format_locator(self.stranger), CANARY_PORT))

            if not self.trace.wait_for(sign, provoke):
                raise PlatformError("nft monitor trace", 0, "shows no packet")


@contextlib.contextmanager
def set_up(
    network: HostNetwork, section: PlaneSection, places: Mapping[Locator, str], kind: Plane
) -> Iterator[Trial]:
    """Sets the test environment up while the block runs.

    Args:
        network: the host's.
        section: the ``[plane]`` of the configuration.
        places: the host's locators, and the name of the uplink of each.
        kind: the data plane whose routes to add.

    Raises:
        ShimError, OSError: the set-up fails.
    """
    device = f"{section.device}{TRIAL_SUFFIX}"
    stranger, peer = _nobody(), _nobody()
    with contextlib.ExitStack() as stack:
        tap = _open_tap(device)
        stack.callback(os.close, tap)
        _add_flag(device, IFF_NOARP)
        index = network.bring_up(device, MTU)
        program = _injector()
        stack.callback(os.close, program)
        network.attach_filter(index, program, egress=False)
        tables = dict(enumerate(places, start=section.table + UPLINKS_MAX))
        rules = [  # before those of a plane
            Rule(section.rule_priority, table=table, source=locator, is_local=True)
            for table, locator in tables.items()
        ]
        stack.callback(network.remove_rules, rules)
        network.add_rules(rules)
        by_uplink = [
            PeerRoute(peer, table, socket.if_nametoindex(places[locator]), BY_UPLINK)
            for table, locator in tables.items()
            if leads_by_uplinks(kind)
        ]
        by_ours = [PeerRoute(peer, table, index, BY_OURS) for table in tables]
        stack.callback(network.remove_routes, by_uplink)
        if network.add_routes([*by_uplink, *by_ours]):
            raise PlatformError("routes for the trial", 0, "the kernel refuses them")
        stack.enter_context(_own_tables(stranger, peer, places.values()))
        trace = stack.enter_context(nftables.tracing())
        trial = Trial(network, kind, places, stranger, peer, device, index, tap, by_uplink, trace)
        trial.catch_up()
        yield trial


@contextlib.contextmanager
def _own_tables(stranger: Locator, peer: Locator, uplinks: Iterable[str]) -> Iterator[None]:
    """The nftables tables, while the block runs; those of a trial that was killed are replaced."""
    ends = {"stranger": format_locator(stranger), "peer": format_locator(peer)}
    _remove_tables()
    try:
        nftables.run(OWN_TABLE.format_map(ends))
        with contextlib.suppress(ShimError):  # the kernel has no such chains
            devices = ", ".join(f'"{one}"' for one in sorted(set(uplinks)))
            nftables.run(EARLY_TABLE.format(devices=devices, **ends))
        yield
    finally:
        _remove_tables()


def _remove_tables() -> None:
    for family in ("inet", "netdev"):
        with contextlib.suppress(ShimError):
            nftables.run(f"delete table {family} {TABLE}\n")


def _elements(name: str) -> Iterator[list[Any]]:
    """The elements of a set of the own table."""
    for entry in nftables.listed(f"list set inet {TABLE} {name}"):
        for element in entry.get("set", {}).get("elem", ()):
            yield element.get("elem", {}).get("val", element)["concat"]


def _nobody() -> Locator:
    """A random address with the prefix NOWHERE."""
    return Locator(NOWHERE[:-RANDOM_OCTETS] + secrets.token_bytes(RANDOM_OCTETS))


def _open_tap(device: str) -> int:
    try:
        tap = os.open(TUN_PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Unsupported("the TUN driver", f"{TUN_PATH} is missing; try: modprobe tun") from None
    try:
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", device.encode(), TAP_FLAGS))
    except OSError:
        os.close(tap)
        raise
    return tap


def _add_flag(device: str, flag: int) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH22x", device.encode(), 0)
        answer = fcntl.ioctl(any_socket, SIOCGIFFLAGS, request)
        flags = int(struct.unpack("16sH22x", answer)[1]) | flag
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", device.encode(), flags))


def _link_address(device: str) -> bytes:
    """6 octets; zero where a device has no Ethernet address."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack(INTERFACE_REQUEST, device.encode(), b"")
        return fcntl.ioctl(any_socket, SIOCGIFHWADDR, request)[18:24]


def _instruction(code: int, registers: int, offset: int, value: int) -> bytes:
    return struct.pack("<BBhi", code, registers, offset, value)


INJECTOR: Final = b"".join(
    (
        _instruction(0xBF, 0x16, 0, 0),  # r6 = packet
        _instruction(0x20, 0, 0, 8),  # r0 = the last 4 octets of its source address
        _instruction(0x15, 0x00, 4, 0),  # if r0 == 0: leave with TC_ACT_OK
        _instruction(0xBF, 0x01, 0, 0),  # r1 = r0, an interface index
        _instruction(0xB7, 0x02, 0, 1),  # r2 = BPF_F_INGRESS
        _instruction(0x85, 0, 0, 23),  # r0 = bpf_redirect(r1, r2)
        _instruction(0x95, 0, 0, 0),  # leave with r0
        _instruction(0x95, 0, 0, 0),
    )
)
"""Redirects a frame to the ingress of the device that its source address names."""


def _injector() -> int:
    """The program INJECTOR, loaded."""
    load = libbpf.library().bpf_prog_load
    load.argtypes = [
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
    ]
    program = int(load(SCHED_CLS, b"noid_try", b"Dual MIT/GPL", INJECTOR, len(INJECTOR) // 8, None))
    if program < 0:
        raise PlatformError("load a BPF program", -program, os.strerror(-program))
    return program
