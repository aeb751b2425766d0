# SPDX-License-Identifier: MIT
"""The routes by source of a router, in a table of their own, and the rules that lead to it.

The kernel tries rules one after another, but finds a route of a table by the bits of destination
and source: what a packet costs hardly depends on how many prefixes have a route.
"""

import contextlib
import errno
import socket
from collections.abc import Collection, Iterable
from ipaddress import IPv6Network
from typing import Final, NamedTuple

from noid.errors import PlatformError, Unsupported
from noid.host.gateways import Gateway, ask, forget, tell
from noid.host.messages import (
    CREATE,
    DELETE_ROUTE,
    DELETE_RULE,
    DUMP,
    GET_ROUTE,
    GET_RULE,
    NEW_ROUTE,
    NEW_RULE,
    REPLACE,
    ROUTE,
    RTA_DESTINATION,
    RTA_DEVICE,
    RTA_FROM,
    RTA_GATEWAY,
    RTA_METRIC,
    RTA_TABLE,
    STATIC,
    THROW,
    UNICAST,
    UNREACHABLE,
    attribute,
    attributes_of,
    number_attribute,
    number_in,
)
from noid.locators import Locator

FRA_DESTINATION, FRA_SOURCE, FRA_PRIORITY, FRA_SUPPRESSED_BITS, FRA_TABLE = 1, 2, 6, 14, 15
FRA_PROTOCOL: Final = 21
OWN: Final = frozenset(
    (FRA_DESTINATION, FRA_SOURCE, FRA_PRIORITY, FRA_SUPPRESSED_BITS, FRA_TABLE, FRA_PROTOCOL)
)
"""What the kernel says of a rule of ours; others also have a mark, a device, ports or users."""
INVERTED: Final = 0x2
"""A flag of a rule: it is for all other packets."""
NONE_SUPPRESSED: Final = 0xFFFFFFFF
TO_TABLE: Final = 1
WORST_METRIC: Final = 0xFFFFFFFE
LOOPBACK_ADDRESS: Final = IPv6Network("::1/128")
"""No forwarded packet has this source or destination."""
GONE: Final = (errno.ESRCH, errno.ENODEV, errno.ENETUNREACH)


class SourceRule(NamedTuple):
    """A policy routing rule that leads to a table.

    Attributes:
        priority: the smaller, the earlier it is tried.
        table: the routing table.
        source: the sources it is for; None: any.
        destination: the destinations it is for; None: any.
        longer_than: only routes to prefixes of more bits count; None: all.
    """

    priority: int
    table: int
    source: IPv6Network | None = None
    destination: IPv6Network | None = None
    longer_than: int | None = None


class SourceRoute(NamedTuple):
    """A route of a table of ours.

    Attributes:
        kind: UNICAST: a default route through a device; UNREACHABLE: one for packets that have no
            other; THROW: the rules that follow decide.
        source: the sources it is for; None: any.
        destination: the destinations it is for; None: any.
        device: index of the device, for UNICAST.
        gateway: the next hop, for UNICAST.
    """

    kind: int
    source: IPv6Network | None = None
    destination: IPv6Network | None = None
    device: int = 0
    gateway: Gateway | None = None


def routes(table: int) -> set[SourceRoute]:
    """The routes of a table, without those that cannot be ours.

    Raises:
        PlatformError: the kernel does not say.
    """
    found = set()
    body = ROUTE.pack(socket.AF_INET6, 0, 0, 0, 0, 0, 0, 0, 0) + number_attribute(RTA_TABLE, table)
    for route in ask("reading routes", GET_ROUTE, DUMP, body, NEW_ROUTE, absent=(errno.ENOENT,)):
        _, destination_bits, source_bits, _, _, _, _, kind, _ = ROUTE.unpack_from(route)
        attributes = attributes_of(route[ROUTE.size :])
        source = _network(attributes.get(RTA_FROM), source_bits)
        destination = _network(attributes.get(RTA_DESTINATION), destination_bits)
        if number_in(attributes, RTA_TABLE) != table:
            continue
        if kind == UNICAST and destination is None:
            address = attributes.get(RTA_GATEWAY)
            gateway = Gateway(Locator(address) if address else None)
            device = number_in(attributes, RTA_DEVICE)
            found.add(SourceRoute(UNICAST, source, device=device, gateway=gateway))
        elif kind == THROW or (
            kind == UNREACHABLE
            and destination is None
            and number_in(attributes, RTA_METRIC) == WORST_METRIC
        ):
            found.add(SourceRoute(kind, source, destination))
    return found


def put_route(table: int, route: SourceRoute) -> None:
    """Adds a route, in place of one of the same kind for the same packets.

    Raises:
        PlatformError: the kernel refuses.
    """
    tell("route by source", NEW_ROUTE, CREATE | REPLACE, _route(table, route))


def check_support(table: int) -> None:
    """Adds a route that has no effect, and deletes it.

    Raises:
        Unsupported: the kernel has no routes by source.
        PlatformError: the kernel refuses.
    """
    route = SourceRoute(THROW, LOOPBACK_ADDRESS, LOOPBACK_ADDRESS)
    try:
        put_route(table, route)
    except PlatformError as error:
        if error.errno == errno.EINVAL:
            raise Unsupported("a route by source", "a kernel with CONFIG_IPV6_SUBTREES") from None
        raise
    delete_route(table, route)


def delete_route(table: int, route: SourceRoute) -> None:
    """Deletes a route; no error if it does not exist.

    Raises:
        PlatformError: the kernel refuses.
    """
    tell("route by source", DELETE_ROUTE, 0, _route(table, route), GONE)


def delete_routes(table: int, found: Iterable[SourceRoute], staying: Collection[int] = ()) -> None:
    """Deletes routes, and the entries of gateways to which no route leads any more.

    Packets would wait until the gateway answers, and in a full table of neighbours there is no room
    again.

    Args:
        table: its number.
        found: the routes, of which others may have taken the place; those that are unreachable go
            last, or an interruption would leave others in a table that is not recognised as ours.
        staying: other tables that may lead to the gateways.

    Raises:
        PlatformError: the kernel refuses.
    """
    former = set(found)
    # What has been replaced is not deleted: without a gateway, that is the same as any other.
    for route in sorted(former & routes(table), key=lambda one: one.kind == UNREACHABLE):
        delete_route(table, route)
    hops = set(map(_hop, former))
    for device, address in hops.difference(*(map(_hop, routes(one)) for one in {table, *staying})):
        if address is not None:
            forget(device, address)


def clear(table: int, staying: Collection[int] = ()) -> bool:
    """Removes the routes of a table that has one that is UNREACHABLE, as ours have.

    Args:
        table: its number.
        staying: other tables that may lead to its gateways.

    Returns:
        Whether there were any.

    Raises:
        PlatformError: the kernel refuses.
    """
    found = routes(table)
    if all(route.kind != UNREACHABLE for route in found):
        return False  # it may be a table of others
    delete_routes(table, found, staying)
    return True


def _hop(route: SourceRoute) -> tuple[int, Locator | None]:
    return route.device, route.gateway.address if route.gateway else None


def rules(priorities: Collection[int]) -> set[SourceRule]:
    """The rules of some priorities that can be ours: no further conditions, and no bits of a host.

    Raises:
        PlatformError: the kernel does not say.
    """
    found = set()
    body = ROUTE.pack(socket.AF_INET6, 0, 0, 0, 0, 0, 0, 0, 0)
    for rule in ask("reading rules", GET_RULE, DUMP, body, NEW_RULE):
        _, destination_bits, source_bits, tos, _, _, _, action, flags = ROUTE.unpack_from(rule)
        attributes = attributes_of(rule[ROUTE.size :])
        priority = number_in(attributes, FRA_PRIORITY)
        if tos or flags & INVERTED or attributes.keys() - OWN:
            continue
        if priority in priorities and action == TO_TABLE:
            table = number_in(attributes, FRA_TABLE)
            with contextlib.suppress(ValueError):  # a prefix with bits of a host: not one of ours
                source = _network(attributes.get(FRA_SOURCE), source_bits)
                destination = _network(attributes.get(FRA_DESTINATION), destination_bits)
                bits = number_in(attributes, FRA_SUPPRESSED_BITS)
                longer_than = None if bits == NONE_SUPPRESSED else bits
                found.add(SourceRule(priority, table, source, destination, longer_than))
    return found


def add_rule(rule: SourceRule) -> None:
    """Adds a rule that does not exist; or there are two.

    The kernel can refuse one that exists (NLM_F_EXCL), but compares only the conditions that the
    new rule has: one for all packets "exists" with any other to the same table.

    Raises:
        PlatformError: the kernel refuses.
    """
    tell(f"rule {rule.priority}", NEW_RULE, CREATE, _rule(rule))


def delete_rules(found: Iterable[SourceRule]) -> None:
    """Deletes rules; no error if they do not exist.

    The kernel deletes the first that has all conditions that are named, and maybe more: those with
    more conditions go first.

    Raises:
        PlatformError: the kernel refuses.
    """
    for rule in sorted(found, key=lambda one: one.count(None)):
        tell(f"rule {rule.priority}", DELETE_RULE, 0, _rule(rule), (errno.ENOENT,))


# --- messages -------------------------------------------------------------------------------------


def _route(table: int, route: SourceRoute) -> bytes:
    bits = [one.prefixlen if one else 0 for one in (route.destination, route.source)]
    body = ROUTE.pack(socket.AF_INET6, *bits, 0, 0, STATIC, 0, route.kind, 0)
    for kind, one in ((RTA_DESTINATION, route.destination), (RTA_FROM, route.source)):
        if one is not None:
            body += attribute(kind, one.network_address.packed)
    if route.gateway is not None and route.gateway.address is not None:
        body += attribute(RTA_GATEWAY, route.gateway.address)
    if route.device:
        body += number_attribute(RTA_DEVICE, route.device)
    if route.kind == UNREACHABLE:
        body += number_attribute(RTA_METRIC, WORST_METRIC)
    return body + number_attribute(RTA_TABLE, table)


def _rule(rule: SourceRule) -> bytes:
    bits = [one.prefixlen if one else 0 for one in (rule.destination, rule.source)]
    body = ROUTE.pack(socket.AF_INET6, *bits, 0, 0, 0, 0, TO_TABLE, 0)
    for kind, one in ((FRA_DESTINATION, rule.destination), (FRA_SOURCE, rule.source)):
        if one is not None:
            body += attribute(kind, one.network_address.packed)
    if rule.longer_than is not None:
        body += number_attribute(FRA_SUPPRESSED_BITS, rule.longer_than)
    return (
        body
        + number_attribute(FRA_PRIORITY, rule.priority)
        + number_attribute(FRA_TABLE, rule.table)
    )


def _network(octets: bytes | None, bits: int) -> IPv6Network | None:
    return None if octets is None else IPv6Network((octets, bits))
