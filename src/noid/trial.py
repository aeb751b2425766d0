"""A place to try packets: they pass the host's own rules, and none of them leaves the host.

One TAP device of our own stands for the shim's: what programs send to its peer comes out of it, as
what they send to a peer comes out of the shim's device. A packet is put on the ingress of an uplink
by a BPF program on that device, so it arrives there as from the network. An nftables table of our
own traces the packets, records those that have passed every chain, and drops those to its
stranger behind all others. Device, table and rule are removed afterwards.
"""

import contextlib
import ctypes
import fcntl
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from noid import nftables
from noid.config import PlaneSection
from noid.constants import LOCATORS_MAX, TRIAL_SUFFIX
from noid.errors import PlatformError, ShimError, Unsupported
from noid.locators import Locator, format_locator, parse_locator
from noid.netlink import HostNetwork
from noid.plane import libbpf
from noid.plane.requirements import SCHED_CLS

TUN_PATH: Final = "/dev/net/tun"
TUNSETIFF: Final = 0x400454CA
TAP_FLAGS: Final = 0x0002 | 0x1000 | 0x8000
"""IFF_TAP, IFF_NO_PI and IFF_TUN_EXCL."""
SIOCGIFFLAGS: Final = 0x8913
SIOCSIFFLAGS: Final = 0x8914
SIOCGIFHWADDR: Final = 0x8927
IFF_NOARP: Final = 0x80
INTERFACE_REQUEST: Final = "16s24s"
ETHERNET_OCTETS: Final = 14
ETHERTYPE_IPV6: Final = b"\x86\xdd"
FRAME_OCTETS_MAX: Final = 2_048
MTU: Final = 1_500
WAIT_S: Final = 0.5
"""A packet that has not arrived after so long was dropped: none of them leaves this host."""

NOWHERE: Final = parse_locator("2000::")
"""Addresses that begin like this are of no host, and only a default route leads to them."""
RANDOM_OCTETS: Final = 8
TABLE: Final = "noid-try"
LEFT_MAX: Final = 32 * LOCATORS_MAX
"""Room for every protocol that is tried from every locator."""
CANARY_PORT: Final = 9
"""UDP port (discard) of the packets that show how far the trace has come."""

OWN_TABLE: Final = f"""\
table inet {TABLE} {{{{
    set left {{{{
        typeof meta l4proto . ip6 saddr
        size {LEFT_MAX}
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


@dataclass(slots=True)
class Trial:
    """The place, set up.

    The addresses are others each time: connection tracking knows nothing of them.

    Attributes:
        stranger: of no host; the table of our own drops what goes there.
        peer: of no host; routed into the trial device, as the shim routes its peers.
        device: name of the trial device.
        tap: its descriptor.
        trace: the decisions of the host's rules so far.
    """

    stranger: Locator
    peer: Locator
    device: str
    tap: int
    trace: nftables.Trace

    def inject(self, device: str, packet: bytes) -> None:
        """Lets an IPv6 packet arrive on a device, the trial device included."""
        index = 0 if device == self.device else socket.if_nametoindex(device)
        source = b"\x02\x00" + index.to_bytes(4)
        os.write(self.tap, _link_address(device) + source + ETHERTYPE_IPV6 + packet)

    def sent_by_device(self, protocol: int, source_port: int) -> bytes | None:
        """The next IPv6 packet of a socket that comes out of the trial device, or None."""
        until_s = time.monotonic() + WAIT_S
        while (left_s := until_s - time.monotonic()) > 0:
            if not select.select([self.tap], [], [], left_s)[0]:
                break
            packet = os.read(self.tap, FRAME_OCTETS_MAX)[ETHERNET_OCTETS:]
            if packet[6:7] == bytes((protocol,)) and packet[40:42] == source_port.to_bytes(2):
                return packet
        return None

    def left(self) -> set[tuple[int, Locator]]:
        """Next header and source of the packets to the stranger that passed every chain."""
        found = set()
        for entry in nftables.listed(f"list set inet {TABLE} left"):
            for element in entry.get("set", {}).get("elem", ()):
                protocol, source = element.get("elem", {}).get("val", element)["concat"]
                found.add((int(protocol), parse_locator(source)))
        return found

    def drops(self) -> dict[nftables.Traced, nftables.Drop]:
        """What the host's rules have dropped so far."""
        self.catch_up()
        return self.trace.drops(except_table=TABLE)

    def catch_up(self) -> None:
        """Waits until the trace shows what was sent last.

        Raises:
            PlatformError: it shows nothing.
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
def set_up(network: HostNetwork, section: PlaneSection, uplinks: Sequence[str]) -> Iterator[Trial]:
    """Sets the place up while the block runs.

    Args:
        network: the host's.
        section: the ``[plane]`` of the configuration.
        uplinks: names of the devices on which packets will arrive.

    Raises:
        ShimError, OSError: it cannot be set up.
    """
    device = f"{section.device}{TRIAL_SUFFIX}"
    stranger, peer = _nobody(), _nobody()
    table = section.table ^ 1
    with contextlib.ExitStack() as stack:
        tap = _open_tap(device)
        stack.callback(os.close, tap)
        _add_flag(device, IFF_NOARP)
        index = network.bring_up(device, MTU)
        program = _injector()
        stack.callback(os.close, program)
        network.attach_filter(index, program, egress=False)
        network.add_rule(priority=section.rule_priority, table=table, except_mark=section.mark)
        stack.callback(network.remove_rule, priority=section.rule_priority, table=table)
        network.lead(peer, device=index, table=table, source=None)
        _remove_tables()
        stack.callback(_remove_tables)
        ends = {"stranger": format_locator(stranger), "peer": format_locator(peer)}
        nftables.run(OWN_TABLE.format_map(ends))
        with contextlib.suppress(ShimError):  # a kernel without such chains
            devices = ", ".join(f'"{one}"' for one in uplinks)
            nftables.run(EARLY_TABLE.format(devices=devices, **ends))
        trial = Trial(stranger, peer, device, tap, stack.enter_context(nftables.tracing()))
        trial.catch_up()
        yield trial


def _remove_tables() -> None:
    for family in ("inet", "netdev"):
        with contextlib.suppress(ShimError):
            nftables.run(f"delete table {family} {TABLE}\n")


def _nobody() -> Locator:
    """A random address that begins like NOWHERE."""
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
