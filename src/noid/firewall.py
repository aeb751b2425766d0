"""Whether this host's own firewall lets M6 through: tried, and mended by what ``nft`` understands.

Packets come in from a stranger and leave for one, by a device that exists for this moment only:
what a host sends to itself passes firewalls that stop everybody else. A firewall that looks at the
name of the device may still differ on an uplink, and one beyond this host is not seen at all.
"""

import contextlib
import enum
import json
import os
import secrets
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from noid.constants import TRIAL_SUFFIX, Codepoints
from noid.locators import Locator, format_locator
from noid.netlink import HostNetwork
from noid.plane.devices import open_tun
from noid.routes import PeerRoute
from noid.wire import ipv6

SLOTS: Final = 8
WAIT_S: Final = 0.5
"""What has not arrived after so long never will: no packet leaves this host."""
PACKET_OCTETS_MAX: Final = 2_048
MARK_OCTETS: Final = 16
MAIN_TABLE: Final = 254
MTU: Final = 1_500
ICMPV6: Final = ipv6.ICMPV6
NFT_SECONDS: Final = 5
NFT_PATH: Final = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class Direction(enum.Enum):
    """Which way packets are eaten; the value is what nftables calls the hooks they pass."""

    IN = ("prerouting", "input")
    OUT = ("output", "postrouting")


@dataclass(frozen=True, slots=True)
class Eaten:
    """What did not get through.

    Attributes:
        direction: coming in or leaving.
        headers: next headers.
        control: whether M6's control messages did not.
    """

    direction: Direction
    headers: tuple[int, ...]
    control: bool


def try_out(
    network: HostNetwork, device: str, points: Codepoints, locator: Locator, stranger: Locator
) -> list[Eaten]:
    """Lets one packet of each kind come in and leave.

    Args:
        network: the host's.
        device: name of the shim's device; that of the trial begins like it.
        points: the code points of M6.
        locator: of this host.
        stranger: where packets come from and go to; nobody's address.

    Raises:
        ShimError, OSError: it cannot be tried.
    """
    firsts = points.rewritable_first, points.fixed_first
    headers = [first + slot for first in firsts for slot in range(SLOTS)]
    with contextlib.ExitStack() as stack:
        name = f"{device}{TRIAL_SUFFIX}"
        tun = stack.enter_context(_device(network, name, stranger))
        sockets = {
            header: stack.enter_context(_raw(header, name, locator))
            for header in (*headers, ICMPV6)
        }
        arrived = {
            Direction.IN: _come_in(tun, sockets, points, locator, stranger),
            Direction.OUT: _leave(tun, sockets, points, stranger),
        }
    found = []
    for direction, these in arrived.items():
        lost = tuple(header for header in headers if header not in these)
        if lost or ICMPV6 not in these:
            found.append(Eaten(direction, lost, ICMPV6 not in these))
    return found


def mend(eaten: Eaten, points: Codepoints) -> str:
    """The commands that let it through: first of all in every chain that filters that way."""
    matches = []
    if eaten.headers:
        matches.append(f"meta l4proto {{ {', '.join(ranges(eaten.headers))} }}")
    if eaten.control:
        matches.append(f"icmpv6 type {points.icmpv6_type}")
    chains = _filters(eaten.direction) or ["inet TABLE CHAIN"]
    return "; ".join(
        f"nft 'insert rule {chain} {match} accept'" for chain in chains for match in matches
    )


def ranges(numbers: tuple[int, ...]) -> list[str]:
    """Numbers as nft writes them, such as 224-231."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return [f"{one[0]}-{one[-1]}" if len(one) > 1 else f"{one[0]}" for one in found]


def _filters(direction: Direction) -> list[str]:
    """Family, table and name of each chain that IPv6 packets of a direction pass."""
    program = shutil.which("nft", path=NFT_PATH)
    if program is None:
        return []
    arguments = [program, "-j", "list", "chains"]
    try:
        said = subprocess.run(arguments, capture_output=True, check=True, timeout=NFT_SECONDS)
        entries: list[dict[str, Any]] = json.loads(said.stdout)["nftables"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return []
    chains = [entry["chain"] for entry in entries if "chain" in entry]
    return [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("hook") in direction.value
        and chain.get("type") == "filter"
        and chain["family"] in ("inet", "ip6")
    ]


@contextlib.contextmanager
def _device(network: HostNetwork, name: str, stranger: Locator) -> Iterator[int]:
    """A TUN device by which the stranger is reached; it goes with the block."""
    tun = open_tun(name)
    try:
        network.add_routes([PeerRoute(stranger, MAIN_TABLE, network.bring_up(name, MTU), 1024)])
        yield tun
    finally:
        os.close(tun)


def _raw(header: int, device: str, locator: Locator) -> socket.socket:
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, header)
    raw.setblocking(False)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    raw.bind((format_locator(locator), 0))
    return raw


def _come_in(
    tun: int,
    sockets: dict[int, socket.socket],
    points: Codepoints,
    locator: Locator,
    stranger: Locator,
) -> set[int]:
    """The next headers of which a packet that comes in reaches its socket."""
    mark = secrets.token_bytes(MARK_OCTETS)
    for header in sockets:
        payload = _payload(header, points, mark)
        if header == ICMPV6:
            total = ipv6.checksum(stranger, locator, header, payload)
            payload = payload[:2] + total.to_bytes(2) + payload[4:]
        fixed = ipv6.Header(
            source=stranger,
            destination=locator,
            next_header=header,
            payload_octets=len(payload),
        )
        os.write(tun, fixed.encode() + payload)
    numbers = {one.fileno(): header for header, one in sockets.items()}
    return {numbers[place] for place, _ in _arriving(numbers, mark, len(numbers))}


def _leave(
    tun: int, sockets: dict[int, socket.socket], points: Codepoints, stranger: Locator
) -> set[int]:
    """The next headers of which a packet that is sent leaves by the device."""
    mark = secrets.token_bytes(MARK_OCTETS)
    for header, one in sockets.items():
        with contextlib.suppress(PermissionError):  # a firewall that rejects says so
            one.sendto(_payload(header, points, mark), (format_locator(stranger), 0))
    return {octets[6] for _, octets in _arriving([tun], mark, len(sockets))}


def _payload(header: int, points: Codepoints, mark: bytes) -> bytes:
    return (bytes((points.icmpv6_type, 0, 0, 0)) if header == ICMPV6 else b"") + mark


def _arriving(places: Iterable[int], mark: bytes, wanted: int) -> list[tuple[int, bytes]]:
    """The packets with a mark that come to descriptors, and to which; so many are waited for."""
    poll = select.poll()
    for place in places:
        poll.register(place, select.POLLIN)
    found: list[tuple[int, bytes]] = []
    until_s = time.monotonic() + WAIT_S
    while len(found) < wanted and (left_s := until_s - time.monotonic()) > 0:
        for place, _ in poll.poll(left_s * 1_000):
            with contextlib.suppress(BlockingIOError):
                octets = os.read(place, PACKET_OCTETS_MAX)
                if octets.endswith(mark):
                    found.append((place, octets))
    return found
