# SPDX-License-Identifier: MIT
"""The faults of a lab, as data: what each of them changes, and on which node.

Nothing here touches the machine; ``changes`` carries the effects out and undoes them.
"""

import enum
from dataclasses import dataclass
from typing import Final

from noid.errors import UsageError
from noid.lab import topology
from noid.lab.topology import BORDERS, HOSTS, Rule, Topology


class Fault(enum.Enum):
    """A fault of a provider, of the access line of a host, or of its uplink.

    The values are the names of ``noid lab cut --how``. Neighbour discovery (ND) of the host fails
    where it fails in reality.
    """

    SILENT = "silent"
    """The provider forwards nothing. Links stay up and its router answers ND."""
    ONE_WAY = "one-way"
    """The provider forwards nothing to the host; packets from the host pass. ND works."""
    ONE_WAY_UP = "one-way-up"
    """The provider forwards nothing from the host; packets to the host pass. ND works."""
    ACCESS = "access"
    """The access line of the host drops everything silently: carrier stays, ND fails."""
    CARRIER = "carrier"
    """The host loses the carrier. Its addresses and routes are static and stay."""
    ADMIN = "admin"
    """The host's uplink is set down. The kernel removes its addresses and routes."""
    ROUTER = "router"
    """The access router is dead behind a switch: carrier stays, nothing answers, ND fails."""
    ROUTER_REPLACED = "router-replaced"
    """The router has another link-layer address, which it does not advertise."""
    ADDRESS = "address"
    """The host's addresses of that provider are removed."""
    ROUTE = "route"
    """The host's default routes through that provider are removed; link and address stay."""
    RA = "ra"
    """The router withdraws itself by a router advertisement of lifetime 0."""


FAULT_TEXTS: Final = {
    Fault.SILENT: "the provider forwards nothing; its router answers neighbour discovery",
    Fault.ONE_WAY: "the provider forwards nothing to the host",
    Fault.ONE_WAY_UP: "the provider forwards nothing from the host",
    Fault.ACCESS: "the access line passes nothing, neighbour discovery included; carrier stays",
    Fault.CARRIER: "the host loses the carrier; addresses and routes stay",
    Fault.ADMIN: "the host's uplink is set down",
    Fault.ROUTER: "the router is dead behind a switch: carrier stays, nothing answers",
    Fault.ROUTER_REPLACED: "the router gets another link-layer address and does not advertise it",
    Fault.ADDRESS: "the host's address of this provider is removed",
    Fault.ROUTE: "the host's default routes through this provider are removed",
    Fault.RA: "the router withdraws itself by a router advertisement (variant ra)",
}
"""Each fault in one line, for people."""

OF_THE_LINK: Final = frozenset({Fault.CARRIER, Fault.ROUTER_REPLACED})
"""Faults of links with a link-layer header."""
OF_THE_CARD: Final = frozenset({Fault.CARRIER, Fault.ADMIN})
"""Faults that affect everything behind a card."""
REPLACED_BIT: Final = 0x04
"""Neither the group bit nor the bit of local administration."""
OF_THE_PROVIDER: Final = frozenset({Fault.SILENT, Fault.ROUTER})
"""Faults that affect every customer of the provider; the others affect one host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blackholed:
    """A node drops what matches policy rules, without an answer."""

    node: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A node neither receives nor sends anything on interfaces, below neighbour discovery.

    Attributes:
        table: the name of the nftables table that drops.
    """

    node: str
    interfaces: tuple[str, ...]
    table: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """An interface is set down; its addresses and routes return when it is set up.

    Attributes:
        node: the node.
        line: the interface that is set down.
        interface: the one above it, or the same, which loses addresses and routes.
        number: of the provider, from 1.
    """

    node: str
    line: str
    interface: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Relinked:
    """An interface has another link-layer address."""

    node: str
    interface: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unaddressed:
    """An interface has no address of a provider."""

    node: str
    interface: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrouted:
    """A node has no route through a provider."""

    node: str
    interface: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """The router of a provider is no longer a default router of a host."""

    node: str
    host: str
    number: int


Effect = Blackholed | Dropped | Down | Relinked | Unaddressed | Unrouted | Withdrawn


def effect(plan: Topology, fault: Fault, number: int, host: str) -> Effect:
    """What a fault changes.

    Args:
        plan: the network.
        fault: the fault.
        number: of the provider, from 1.
        host: the host that is hit, unless all customers are.

    Raises:
        UsageError: there is no such provider or host, or the network cannot have that fault.
    """
    if host not in HOSTS:
        raise UsageError(f"there is no host {host!r}; there are {', '.join(HOSTS)}")
    topology.check_provider(number)
    _check(plan, fault, number, host)
    isp, customer, uplink = f"isp{number}", f"cust{host}", plan.uplink(host, number)
    match fault:
        case Fault.SILENT:
            return Blackholed(node=isp, rules=topology.provider_cut(number))
        case Fault.ONE_WAY:
            return Blackholed(node=isp, rules=topology.downstream_cut(number, host))
        case Fault.ONE_WAY_UP:
            return Blackholed(node=isp, rules=topology.upstream_cut(number, host))
        case Fault.ACCESS:
            return Dropped(node=isp, interfaces=(customer,), table=f"noid_access_{host}")
        case Fault.ROUTER:
            return Dropped(node=isp, interfaces=plan.interfaces(isp), table="noid_router")
        case Fault.CARRIER:
            line = plan.card(isp, customer)
            return Down(node=isp, line=line, interface=customer, number=number)
        case Fault.ADMIN:
            node, edge = plan.edge(host, number)
            if node not in BORDERS:
                node, edge = host, uplink
            return Down(node=node, line=edge, interface=edge, number=number)
        case Fault.ROUTER_REPLACED:
            return Relinked(node=isp, interface=customer)
        case Fault.ADDRESS:
            return Unaddressed(node=host, interface=uplink, number=number)
        case Fault.ROUTE:
            return Unrouted(node=host, interface=uplink, number=number)
        case Fault.RA:
            return Withdrawn(node=isp, host=host, number=number)


def _check(plan: Topology, fault: Fault, number: int, host: str) -> None:
    """Refuses a fault that a network cannot have, or that would affect both providers."""
    if fault in OF_THE_LINK and plan.link(f"isp{number}", f"cust{host}").kind == "tun":
        raise UsageError(f"{fault.value}: this uplink has neither carrier nor link-layer address")
    is_shared = plan.uplink(host, 1) == plan.uplink(host, 2)
    if fault in OF_THE_CARD and is_shared and plan.edge(host, number)[0] not in BORDERS:
        raise UsageError(f"{fault.value}: {host} has one card for both providers")
    if fault is Fault.RA and not plan.learns(host, number):
        raise UsageError(
            f"ra: {host} does not learn from router {number}; build the lab with --variant ra, "
            "where a learns from router 1"
        )


def replacement(link_address: str) -> str:
    """Another link-layer address: one bit of the first octet is inverted."""
    first, _, rest = link_address.partition(":")
    return f"{int(first, 16) ^ REPLACED_BIT:02x}:{rest}"


def drop_commands(dropped: Dropped) -> str:
    """The nftables commands that make a node drop everything on interfaces."""
    name = f"netdev {dropped.table}"
    chains = (
        f'add chain {name} {interface}_{hook} {{ type filter hook {hook} device "{interface}" '
        "priority -500; policy drop; }"
        for interface in dropped.interfaces
        for hook in ("ingress", "egress")
    )
    return "\n".join((f"add table {name}", *chains))


def pass_commands(dropped: Dropped) -> str:
    """The nftables commands that undo ``drop_commands``, also where there is nothing to undo."""
    name = f"netdev {dropped.table}"
    return f"add table {name}\ndelete table {name}"
