# SPDX-License-Identifier: MIT
"""Which routes the kernel would take for packets: many questions in one call."""

import os
import socket
from collections.abc import Sequence
from itertools import islice
from typing import Final, NamedTuple

from noid.host.links import FAR_AWAY
from noid.host.messages import (
    ERROR,
    GET_ROUTE,
    HOST_BITS,
    NEW_ROUTE,
    ROUTE,
    RTA_DESTINATION,
    RTA_DEVICE,
    RTA_FROM,
    RTA_GATEWAY,
    RTA_MARK,
    RTA_METRICS,
    RTA_SOURCE,
    RTA_TABLE,
    RTA_UID,
    TYPE_AT,
    UNICAST,
    attribute,
    attributes_of,
    error_at,
    number_attribute,
    number_in,
    replies,
    request,
)
from noid.host.rules import Rule
from noid.locators import Locator

AT_ONCE: Final = 100
"""Questions in one call; the answers fit the socket's buffer."""
USERS: Final = (65_534, 4_294_967_294)
"""Users that own no process on most hosts."""


class Packet(NamedTuple):
    """A packet of this host.

    Attributes:
        destination: where to.
        source: its source; None if it has none yet.
        device: index of the device that it is to leave by, if the rules lead there; 0 for any.
        mark: its firewall mark.
    """

    destination: Locator
    source: Locator | None = None
    device: int = 0
    mark: int = 0


class Taken(NamedTuple):
    """The route that a packet would take.

    Attributes:
        error: why it would not leave, as an error number; 0 if it would.
        device: index of the device; 0 if it would not leave.
        source: the address it would have; None if there is none.
        gateway: the next hop; None for the destination itself.
        table: number of the routing table.
        metrics: what the route says of the path, as RTA_METRICS has it.
    """

    error: int = 0
    device: int = 0
    source: Locator | None = None
    gateway: Locator | None = None
    table: int = 0
    metrics: bytes = b""


def routes_taken(packets: Sequence[Packet], uid: int) -> list[Taken]:
    """The routes that some packets would take, in their order.

    Args:
        packets: the packets.
        uid: the user that sends them.

    Raises:
        OSError: the kernel does not answer.
    """
    found: list[Taken] = []
    if not packets:
        return found
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        for first in range(0, len(packets), AT_ONCE):
            some = packets[first : first + AT_ONCE]
            messages = (request(GET_ROUTE, 0, _question(one, uid)) for one in some)
            kernel.sendto(b"".join(messages), (0, 0))
            # In the order of the questions, either a route or an error.
            found += (_taken(*answer) for answer in islice(replies(kernel), len(some)))
    return found


def refused(packets: Sequence[Packet], uid: int) -> set[Packet]:
    """Returns those of some packets that the host refuses by their destination.

    If the host refuses packets to any destination, that does not count: a lost uplink may be the
    reason.

    Args:
        packets: the packets.
        uid: the user that sends them.

    Raises:
        OSError: the kernel does not answer.
    """
    ways = zip(packets, routes_taken(packets, uid), strict=True)
    errors = {packet: way.error for packet, way in ways if way.error}
    to_all = dict.fromkeys(packet._replace(destination=FAR_AWAY) for packet in errors)
    defaults = dict(zip(to_all, routes_taken([*to_all], uid), strict=True))
    return {
        packet
        for packet, error in errors.items()
        if defaults[packet._replace(destination=FAR_AWAY)].error != error
    }


def _question(packet: Packet, uid: int) -> bytes:
    source_bits = 0 if packet.source is None else HOST_BITS
    body = ROUTE.pack(socket.AF_INET6, HOST_BITS, source_bits, 0, 0, 0, 0, 0, 0)
    body += attribute(RTA_DESTINATION, packet.destination) + number_attribute(RTA_UID, uid)
    body += b"" if packet.source is None else attribute(RTA_FROM, packet.source)
    for kind, number in ((RTA_DEVICE, packet.device), (RTA_MARK, packet.mark)):
        body += number_attribute(kind, number) if number else b""
    return body


def _taken(kind: int, data: bytes, start: int, end: int) -> Taken:
    """The route in an answer."""
    if kind == ERROR:
        return Taken(error_at(data, start))
    if kind != NEW_ROUTE or data[start + TYPE_AT] != UNICAST:
        return Taken()
    attributes = attributes_of(data[start + ROUTE.size : end])
    chosen, gateway = attributes.get(RTA_SOURCE), attributes.get(RTA_GATEWAY)
    return Taken(
        device=number_in(attributes, RTA_DEVICE),
        source=Locator(chosen) if chosen else None,
        gateway=Locator(gateway) if gateway else None,
        table=number_in(attributes, RTA_TABLE),
        metrics=attributes.get(RTA_METRICS, b""),
    )


def usual_user(rules: tuple[Rule, ...]) -> int:
    """A user for whom no rule is: packets of its programs take the routes that all others take.

    This process may run as a user whom a rule leads elsewhere.
    """
    users = (os.getuid(), 0, *USERS)
    return next((one for one in users if not any(rule.is_for(one) for rule in rules)), users[0])
