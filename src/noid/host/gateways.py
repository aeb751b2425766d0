# SPDX-License-Identifier: MIT
"""What a router needs to know of its uplinks.

Each question is one message to the kernel about one thing: a router may have very many routes and
neighbours, and the answer is not to depend on their number.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from noid.errors import PlatformError
from noid.host.links import FAR_AWAY, LINK_CARRIES, UNUSABLE
from noid.host.messages import (
    ACKNOWLEDGE,
    ADDRESS,
    ANSWER_OCTETS,
    CREATE,
    DELETE_NEIGHBOUR,
    DONE,
    DUMP,
    ERROR,
    GET_ADDRESS,
    GET_LINK,
    GET_NEIGHBOUR,
    GET_ROUTE,
    IFA_ADDRESS,
    IFA_LOCAL,
    IFLA_IFNAME,
    LINK,
    NDA_DESTINATION,
    NDA_LINK_ADDRESS,
    NEIGHBOUR,
    NEW_ADDRESS,
    NEW_LINK,
    NEW_NEIGHBOUR,
    NEW_ROUTE,
    REPLACE,
    ROUTE,
    RTA_DESTINATION,
    RTA_DEVICE,
    RTA_GATEWAY,
    TYPE_AT,
    UNICAST,
    attribute,
    attributes_of,
    check_requests,
    error_at,
    number_attribute,
    number_in,
    replies,
    request,
)
from noid.locators import LOCATOR_OCTETS, Locator

NEIGHBOUR_USE: Final = 0x01
NEIGHBOUR_KEPT: Final = 0x10
"""NTF_EXT_LEARNED: the entry does not make room for others when the table is full."""
NEIGHBOUR_FAILED, NEIGHBOUR_PERMANENT = 0x20, 0x80
NEIGHBOUR_KNOWN: Final = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80
"""Reachable, stale, delay, probe, none needed, permanent."""
ETHERNET: Final = 1
PATIENCE_S: Final = 5.0
NO_ROUTE: Final = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.ENODEV)


@dataclass(frozen=True, slots=True)
class Link:
    """A device.

    Attributes:
        index: its number.
        name: its name.
        carries: whether it is up and something is at the other end of its link.
        has_ethernet: whether its packets have a link-layer header, of 14 octets.
    """

    index: int
    name: str
    carries: bool
    has_ethernet: bool


class Gateway(NamedTuple):
    """The default next hop of a device; without an address on a point-to-point link."""

    address: Locator | None


def links() -> dict[str, Link]:
    """The devices of this host, by name.

    Raises:
        PlatformError: the kernel does not say.
    """
    found = {}
    for body in ask("reading links", GET_LINK, DUMP, LINK.pack(0, 0, 0, 0, 0), NEW_LINK):
        _, kind, index, flags, _ = LINK.unpack_from(body)
        octets = attributes_of(body[LINK.size :])[IFLA_IFNAME].rstrip(b"\0")
        name = os.fsdecode(octets)  # a device may have any octets in its name
        found[name] = Link(index, name, flags & LINK_CARRIES == LINK_CARRIES, kind == ETHERNET)
    return found


def gateway_of(device: int) -> Gateway | None:
    """The default next hop of a device, from any default route; None: there is none.

    Raises:
        PlatformError: the kernel does not say.
    """
    body = ROUTE.pack(socket.AF_INET6, 128, 0, 0, 0, 0, 0, 0, 0)
    body += attribute(RTA_DESTINATION, FAR_AWAY) + number_attribute(RTA_DEVICE, device)
    for route in ask("reading routes", GET_ROUTE, 0, body, NEW_ROUTE, absent=NO_ROUTE):
        attributes = attributes_of(route[ROUTE.size :])
        if route[TYPE_AT] != UNICAST or number_in(attributes, RTA_DEVICE) != device:
            return None
        address = attributes.get(RTA_GATEWAY)
        return Gateway(Locator(address) if address else None)
    return None


def addresses(device: int) -> list[Locator]:
    """The addresses of a device from which packets can be sent.

    Raises:
        PlatformError: the kernel does not say.
    """
    found = []
    body = ADDRESS.pack(socket.AF_INET6, 0, 0, 0, device)
    for one in ask("reading addresses", GET_ADDRESS, DUMP, body, NEW_ADDRESS, absent=NO_ROUTE):
        _, _, flags, _, index = ADDRESS.unpack_from(one)
        attributes = attributes_of(one[ADDRESS.size :])
        address = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS, b"")
        if index == device and not flags & UNUSABLE and len(address) == LOCATOR_OCTETS:
            found.append(Locator(address))
    return found


class Neighbour(NamedTuple):
    """What the kernel knows of a neighbour.

    Attributes:
        answers: whether it answers neighbour solicitations; None: not known at present.
        link_address: its link-layer address; empty: not known, or the link has none.
        is_permanent: whether the operator has set its entry.
    """

    answers: bool | None
    link_address: bytes
    is_permanent: bool = False


def neighbour(device: int, address: Locator) -> Neighbour:
    """What the kernel knows of a neighbour.

    Raises:
        PlatformError: the kernel does not say.
    """
    body = NEIGHBOUR.pack(socket.AF_INET6, 0, device, 0, 0, 0)
    body += attribute(NDA_DESTINATION, address)
    for found in ask(
        "reading neighbours", GET_NEIGHBOUR, 0, body, NEW_NEIGHBOUR, absent=(errno.ENOENT,)
    ):
        state = NEIGHBOUR.unpack_from(found)[3]
        if state & NEIGHBOUR_FAILED:
            return Neighbour(False, b"")
        link_address = attributes_of(found[NEIGHBOUR.size :]).get(NDA_LINK_ADDRESS, b"")
        answers = True if state & NEIGHBOUR_KNOWN else None
        return Neighbour(answers, link_address, bool(state & NEIGHBOUR_PERMANENT))
    return Neighbour(None, b"")


def ask_for(device: int, address: Locator) -> None:
    """Makes the kernel solicit a neighbour, as for a packet to it, and keep its entry.

    The table is one for all neighbours of the host, and full while someone sends packets to very
    many addresses of a LAN.

    Raises:
        PlatformError: the kernel refuses.
    """
    flags = NEIGHBOUR_USE | NEIGHBOUR_KEPT
    body = NEIGHBOUR.pack(socket.AF_INET6, 0, device, 0, flags, 0)
    body += attribute(NDA_DESTINATION, address)
    harmless = (errno.ENETDOWN, errno.ENODEV, errno.ENOBUFS)
    tell("neighbour", NEW_NEIGHBOUR, CREATE | REPLACE, body, harmless)


def forget(device: int, address: Locator) -> None:
    """Deletes the entry of a neighbour, unless it is permanent; no error if it does not exist.

    Raises:
        PlatformError: the kernel refuses.
    """
    if neighbour(device, address).is_permanent:
        return
    body = NEIGHBOUR.pack(socket.AF_INET6, 0, device, 0, 0, 0)
    body += attribute(NDA_DESTINATION, address)
    gone = (errno.ENOENT, errno.ENODEV, errno.ENETDOWN)
    tell("neighbour", DELETE_NEIGHBOUR, 0, body, gone)


# --- messages -------------------------------------------------------------------------------------


def ask(
    what: str, kind: int, flags: int, body: bytes, answer: int, *, absent: Collection[int] = ()
) -> list[bytes]:
    """The answers to a request, without their headers; none if the object does not exist."""
    found: list[bytes] = []
    with _kernel(what) as kernel:
        check_requests(kernel)
        kernel.sendto(request(kind, flags, body), (0, 0))
        for got, data, start, end in replies(kernel):
            if got == DONE:
                break
            if got == ERROR:
                _refuse(what, error_at(data, start), absent)
                break
            if got == answer:
                found.append(data[start:end])
                if not flags & DUMP:
                    break
    return found


def tell(what: str, kind: int, flags: int, body: bytes, harmless: Collection[int] = ()) -> None:
    """Makes a request; no error if the kernel says that it is done already."""
    with _kernel(what) as kernel:
        kernel.sendto(request(kind, flags | ACKNOWLEDGE, body), (0, 0))
        _refuse(what, error_at(kernel.recv(ANSWER_OCTETS)), harmless)


@contextlib.contextmanager
def _kernel(what: str) -> Iterator[socket.socket]:
    """A socket for one request; a refusal by the system becomes a PlatformError."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
            kernel.settimeout(PATIENCE_S)
            kernel.bind((0, 0))
            yield kernel
    except OSError as error:
        raise PlatformError(what, error.errno or 0, str(error.strerror or error)) from None


def _refuse(what: str, number: int, harmless: Collection[int]) -> None:
    if number and number not in harmless:
        advice = os.strerror(number)
        if number in (errno.EPERM, errno.EACCES):
            advice = "permission denied; run as root, or with CAP_NET_ADMIN"
        raise PlatformError(what, number, advice)
