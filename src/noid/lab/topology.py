# SPDX-License-Identifier: MIT
r"""What the lab looks like, as data: nothing here touches the machine.

Two hosts, a and b, each a customer of the same two providers; every host is multihomed and none of
them routes for the others. The name server stands behind the backbone.

                   +----------- isp1 -----------+         2001:db8:1::/48
              up1 /              |               \ up1
        a -------+     dns ---- core              +------- b
              up2 \              |               / up2
                   +----------- isp2 -----------+         2001:db8:2::/48

A packet leaves a host over the provider whose address it carries, because a provider drops what
claims a source outside its own prefix (BCP 38). A pair of addresses of both providers is possible
too: it travels isp1 - core - isp2. A provider that dies here keeps its links up and forwards
nothing: the host is told nothing, which is the case a shim exists for.
"""

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Final, Literal

from noid.errors import UsageError

HOSTS: Final = ("a", "b")
PROVIDERS: Final = ("isp1", "isp2")
NODES: Final = ("core", *PROVIDERS, "dns", *HOSTS)
"""In the order they are built."""
LAN: Final = "lan"
"""A node of its own for a switch, in the one network that has one."""
BORDER: Final = "border"
"""The router of host a's site (``sites``)."""
SECOND_BORDER: Final = "border2"
"""The other router of that site, where each provider has one."""
BORDER_OF_B: Final = "borderb"
BORDERS: Final = (BORDER, SECOND_BORDER, BORDER_OF_B)
ALL_NODES: Final = (*NODES, LAN, *BORDERS)

PROVIDER_PREFIXES: Final = {"isp1": "2001:db8:1::/48", "isp2": "2001:db8:2::/48"}
NAME_SERVER: Final = "2001:db8:c::53"
PLAIN_ADDRESS: Final = "2001:db8:1:b::c"
"""Of b, and of the name plain.example, which has no M6 record."""
MTU_OCTETS: Final = 1500

MAIN_TABLE: Final = 254
CUT_PRIORITY: Final = 1
"""Right behind the kernel's rule 0, so that neighbour discovery and the router itself live on."""
DOWNSTREAM_PRIORITY: Final = 2
UPSTREAM_PRIORITY: Final = 3
MARK_MASK: Final = 0xFF00
"""The bits of a firewall mark that rules look at."""
INGRESS_PRIORITY: Final = 100
SOURCE_PRIORITY: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link between two nodes; an end is (node, interface).

    Attributes:
        left: one end.
        right: the other end.
        kind: a veth pair, or a pair of TUN devices, which have no link-layer header.
    """

    left: tuple[str, str]
    right: tuple[str, str]
    kind: Literal["veth", "tun"] = "veth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """An interface above others: a bridge over its ports, or a VLAN device over a card."""

    node: str
    interface: str
    over: tuple[str, ...]
    kind: Literal["bridge", "vlan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address of an interface, with its prefix length.

    Attributes:
        node: whose it is.
        interface: where it is.
        text: address and prefix length, such as ``2001:db8:c::53/64``.
        deprecated: packets may be sent to it, but it is not selected as a source by default.
        learned: the node makes it itself, of the prefix of a router advertisement.
    """

    node: str
    interface: str
    text: str
    deprecated: bool = False
    learned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route through a gateway, or out of an interface whose link has no next hops.

    Attributes:
        node: where it stands.
        destination: a prefix.
        gateway: the next hop, or empty.
        interface: where there is no gateway.
        source: the preferred source address; the kernel's own choice if empty.
        metric: the lowest is taken.
        table: where it stands.
        learned: the node makes it itself, of a router advertisement.
    """

    node: str
    destination: str
    gateway: str
    interface: str = ""
    source: str = ""
    metric: int = 1024
    table: int = MAIN_TABLE
    learned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A routing policy rule.

    Attributes:
        node: where it stands.
        priority: the lowest is asked first.
        source: prefix the source must be in; any if empty.
        destination: prefix the destination must be in; any if empty.
        incoming: interface the packet came in on; any if empty.
        mark: firewall mark of the packet, under ``MARK_MASK``; any if 0.
        table: the table to look in, or None: drop the packet and say nothing.
    """

    node: str
    priority: int
    source: str = ""
    destination: str = ""
    incoming: str = ""
    mark: int = 0
    table: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruleset:
    """nftables rules of a node, in the syntax of ``nft -f``."""

    node: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A name in the DNS, with its addresses and whether it announces M6."""

    text: str
    addresses: tuple[str, ...]
    m6: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The whole network."""

    nodes: tuple[str, ...]
    links: tuple[Link, ...]
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]
    rules: tuple[Rule, ...]
    names: tuple[Name, ...]
    layers: tuple[Layer, ...] = ()
    rulesets: tuple[Ruleset, ...] = ()

    def interfaces(self, node: str) -> tuple[str, ...]:
        """The names of a node's ends of links, and of what is above them."""
        above = (layer.interface for layer in self.layers if layer.node == node)
        return (*_ends(self.links, node), *above)

    def uplink(self, host: str, number: int) -> str:
        """The name of a host's interface towards provider ``number``, counted from 1."""
        own = f"up{number}"
        return own if own in self.interfaces(host) else "up0"

    def card(self, node: str, interface: str) -> str:
        """The interface that is the end of a link: itself, or the first of those below it."""
        below = (
            layer.over[0]
            for layer in self.layers
            if (layer.node, layer.interface) == (node, interface)
        )
        return next(below, interface)

    def link(self, node: str, interface: str) -> Link:
        """The link of an interface, or of what is below it."""
        end = (node, self.card(node, interface))
        return next(link for link in self.links if end in (link.left, link.right))

    def edge(self, host: str, number: int) -> tuple[str, str]:
        """The node and its interface at the other end of a provider's line to a host."""
        customer = (f"isp{number}", self.card(f"isp{number}", f"cust{host}"))
        link = self.link(*customer)
        return link.left if link.right == customer else link.right

    def learns(self, host: str, number: int) -> bool:
        """Whether a host has its address of a provider by router advertisements."""
        addresses = self.addresses_of(host, self.uplink(host, number), number)
        return any(address.learned for address in addresses)

    def addresses_of(self, node: str, interface: str, number: int) -> tuple[Address, ...]:
        """The addresses of an interface that are of provider ``number``."""
        return tuple(
            address
            for address in self.addresses
            if (address.node, address.interface) == (node, interface)
            and _is_of(number, address.text)
        )

    def routes_through(self, node: str, interface: str, number: int) -> tuple[Route, ...]:
        """The routes of a node through provider ``number``.

        Args:
            node: whose routes.
            interface: of the node; routes without a gateway belong to the provider behind it.
            number: of the provider, from 1.
        """
        return tuple(
            route
            for route in self.routes
            if route.node == node
            and (_is_of(number, route.gateway) if route.gateway else route.interface == interface)
        )


def locators(host: str) -> tuple[str, ...]:
    """The addresses of a host that may be locators, the first provider's first."""
    return tuple(f"2001:db8:{number}:{host}::{host}" for number in _numbers())


def forwards(node: str) -> bool:
    """Whether a node is a router."""
    return node in ("core", *BORDERS, *PROVIDERS)


def interfaces(node: str) -> tuple[str, ...]:
    """The names of a node's ends of links."""
    return _ends(_links(), node)


def check_provider(number: int) -> None:
    """Refuses the number of a provider that is not there.

    Raises:
        UsageError: there is no such provider.
    """
    if number not in _numbers():
        raise UsageError(f"there is no provider {number}; there are {_numbers()[-1]}")


def provider_cut(number: int) -> tuple[Rule, ...]:
    """The rules that make provider ``number``, counted from 1, forward nothing in any direction.

    Raises:
        UsageError: there is no such provider.
    """
    check_provider(number)
    node = f"isp{number}"
    return tuple(
        Rule(node=node, priority=CUT_PRIORITY, incoming=interface) for interface in interfaces(node)
    )


def downstream_cut(number: int, host: str) -> tuple[Rule, ...]:
    """The rules that make provider ``number`` forward nothing to a host."""
    node = f"isp{number}"
    return tuple(
        Rule(
            node=node,
            priority=DOWNSTREAM_PRIORITY,
            incoming=interface,
            destination=site(number, host),
        )
        for interface in interfaces(node)
        if interface != f"cust{host}"
    )


def upstream_cut(number: int, host: str) -> tuple[Rule, ...]:
    """The rules that make provider ``number`` forward nothing from a host."""
    return (Rule(node=f"isp{number}", priority=UPSTREAM_PRIORITY, incoming=f"cust{host}"),)


def site(number: int, host: str) -> str:
    """The prefix that provider ``number`` has delegated to a host."""
    return f"2001:db8:{number}:{host}::/64"


def topology() -> Topology:
    """The network of the drawing above."""
    return Topology(
        nodes=NODES,
        links=_links(),
        addresses=_addresses(),
        routes=_routes(),
        rules=_ingress_rules() + _source_rules(),
        names=(
            *(Name(text=f"{host}.example", addresses=locators(host), m6=True) for host in HOSTS),
            Name(text="plain.example", addresses=(PLAIN_ADDRESS,), m6=False),
        ),
    )


def _ends(links: tuple[Link, ...], node: str) -> tuple[str, ...]:
    ends = (end for link in links for end in (link.left, link.right))
    return tuple(interface for owner, interface in ends if owner == node)


def _is_of(number: int, text: str) -> bool:
    """Whether an address, with or without a prefix length, is of a provider."""
    prefix = IPv6Network(PROVIDER_PREFIXES[f"isp{number}"])
    return IPv6Address(text.partition("/")[0]) in prefix


def _numbers() -> range:
    return range(1, len(PROVIDERS) + 1)


def _links() -> tuple[Link, ...]:
    customers = tuple(
        Link(left=(host, f"up{number}"), right=(f"isp{number}", f"cust{host}"))
        for host in HOSTS
        for number in _numbers()
    )
    backbone = tuple(Link(left=("core", isp), right=(isp, "core")) for isp in PROVIDERS)
    return (*backbone, Link(left=("core", "dns"), right=("dns", "core")), *customers)


def _addresses() -> tuple[Address, ...]:
    found = [
        Address(node="core", interface="dns", text="2001:db8:c::1/64"),
        Address(node="dns", interface="core", text=f"{NAME_SERVER}/64"),
    ]
    for number in _numbers():
        isp, backbone = f"isp{number}", f"2001:db8:ff:{number}"
        found.append(Address(node="core", interface=isp, text=f"{backbone}::1/64"))
        found.append(Address(node=isp, interface="core", text=f"{backbone}::2/64"))
        for host in HOSTS:
            site = f"2001:db8:{number}:{host}"
            found.append(Address(node=isp, interface=f"cust{host}", text=f"{site}::1/64"))
            found.append(Address(node=host, interface=f"up{number}", text=f"{site}::{host}/64"))
    found.append(
        # Deprecated, or b would take it as the source of its own connections.
        Address(node="b", interface="up1", text=f"{PLAIN_ADDRESS}/64", deprecated=True)
    )
    return tuple(found)


def _routes() -> tuple[Route, ...]:
    found = [Route(node="dns", destination="::/0", gateway="2001:db8:c::1")]
    for number in _numbers():
        isp, backbone = f"isp{number}", f"2001:db8:ff:{number}"
        prefix = PROVIDER_PREFIXES[isp]
        found.append(Route(node="core", destination=prefix, gateway=f"{backbone}::2"))
        found.append(Route(node=isp, destination="::/0", gateway=f"{backbone}::1"))
        for host in HOSTS:
            gateway = f"2001:db8:{number}:{host}::1"
            own = Route(node=host, destination="::/0", gateway=gateway, table=100 + number)
            shared = Route(node=host, destination="::/0", gateway=gateway, metric=100 * number)
            found += [own, shared]
    return tuple(found)


def _ingress_rules() -> tuple[Rule, ...]:
    """BCP 38: a customer's packets are routed if the provider's prefix holds their source."""
    found: list[Rule] = []
    for isp in PROVIDERS:
        for host in HOSTS:
            customer = f"cust{host}"
            allowed = Rule(
                node=isp,
                priority=INGRESS_PRIORITY,
                source=PROVIDER_PREFIXES[isp],
                incoming=customer,
                table=MAIN_TABLE,
            )
            refused = Rule(node=isp, priority=INGRESS_PRIORITY + 1, incoming=customer)
            found += [allowed, refused]
    return tuple(found)


def _source_rules() -> tuple[Rule, ...]:
    """The source address chooses the uplink."""
    return tuple(
        Rule(
            node=host,
            priority=SOURCE_PRIORITY + number,
            source=site(number, host),
            table=100 + number,
        )
        for host in HOSTS
        for number in _numbers()
    )
