# SPDX-License-Identifier: MIT
"""The networks a lab can be built as: that of ``topology``, with one thing as some users have it.

Nothing here touches the machine. What concerns one uplink concerns uplink 1 of host a.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal, get_args

from noid.lab.topology import (
    HOSTS,
    LAN,
    MARK_MASK,
    Layer,
    Link,
    Route,
    Rule,
    Ruleset,
    Topology,
    locators,
    site,
    topology,
)

Variant = Literal["plain", "firewall", "marks", "l3", "bridge", "vlan", "one-lan", "ra"]

VARIANTS: Final[tuple[Variant, ...]] = get_args(Variant)
VARIANT_TEXTS: Final[dict[Variant, str]] = {
    "plain": "nothing else",
    "firewall": "both hosts filter by reverse path, as firewalld does, and by connection state",
    "marks": "both hosts route by firewall marks besides source rules",
    "l3": "uplink 1 of host a has no link-layer header",
    "bridge": "uplink 1 of host a is a bridge",
    "vlan": "uplink 1 of host a is a VLAN device",
    "one-lan": "host a has one card, in a LAN with the routers of both providers",
    "ra": "host a learns address and default route of uplink 1 by router advertisements",
}
"""Each variant in one line, for people."""

MARK_PRIORITY: Final = 500
"""Before the source rules."""
MARK_SHIFT: Final = 8
FIREWALL: Final = """\
table inet firewall {
  chain prerouting {
    type filter hook prerouting priority -145; policy accept;
    icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
    meta nfproto ipv6 fib saddr . mark . iif oif missing counter drop
  }
  chain input {
    type filter hook input priority 0; policy drop;
    iif "lo" accept
    icmpv6 type { 200, nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
    meta l4proto 224-239 accept
    ct state established,related accept
    ct state invalid counter drop
    icmpv6 type { echo-request, packet-too-big, destination-unreachable } accept
    meta l4proto { tcp, udp } th dport { 80, 5201, 7000-7999 } ct state new accept
  }
}
"""
"""firewalld's reverse-path filter; a filter by connection state that lets M6 pass."""


def plan_of(variant: Variant) -> Topology:
    """The network of a variant."""
    return _CHANGES[variant](topology())


def _with_firewall(plan: Topology) -> Topology:
    return replace(plan, rulesets=tuple(Ruleset(node=host, text=FIREWALL) for host in HOSTS))


def _with_marks(plan: Topology) -> Topology:
    """Connections are marked by their source, and the mark chooses the table, as mwan3 has it."""
    rules = tuple(
        Rule(node=host, priority=MARK_PRIORITY, mark=_mark(number), table=100 + number)
        for host in HOSTS
        for number in (1, 2)
    )
    rulesets = tuple(Ruleset(node=host, text=_marking(host)) for host in HOSTS)
    return replace(plan, rules=plan.rules + rules, rulesets=rulesets)


def _marking(host: str) -> str:
    lines = "".join(
        f"    meta mark & {MARK_MASK:#x} == 0 ip6 saddr {site(number, host)} "
        f"meta mark set meta mark | {_mark(number):#x}\n"
        for number in (1, 2)
    )
    chain = "type route hook output priority -150; policy accept;"
    return f"table ip6 marks {{\n  chain output {{\n    {chain}\n{lines}  }}\n}}\n"


def _mark(number: int) -> int:
    return number << MARK_SHIFT


def _with_l3_uplink(plan: Topology) -> Topology:
    """A tunnel device, as of PPP or a modem with raw IP: routes name the device, no next hop."""
    links = tuple(
        replace(link, kind="tun") if link.left == ("a", "up1") else link for link in plan.links
    )
    first = plan.routes_through("a", "up1", 1)
    routes = tuple(
        replace(route, gateway="", interface="up1") if route in first else route
        for route in plan.routes
    )
    return replace(plan, links=links, routes=routes)


def _with_bridge(plan: Topology) -> Topology:
    links = _renamed(plan.links, ("a", "up1"), ("a", "port1"))
    return replace(plan, links=links, layers=(_layer("a", "up1", "port1", "bridge"),))


def _with_vlan(plan: Topology) -> Topology:
    links = _renamed(plan.links, ("a", "up1"), ("a", "card1"))
    links = _renamed(links, ("isp1", "custa"), ("isp1", "linea"))
    layers = (_layer("a", "up1", "card1", "vlan"), _layer("isp1", "custa", "linea", "vlan"))
    return replace(plan, links=links, layers=layers)


def _with_one_lan(plan: Topology) -> Topology:
    """A switch between one card of a and the routers of both providers.

    Both addresses are on one card, so that the route has to say which one goes to which router.
    """
    others = tuple(link for link in plan.links if link.left[0] != "a")
    card = Link(left=(LAN, "hosta"), right=("a", "up0"))
    routers = tuple(Link(left=(LAN, isp), right=(isp, "custa")) for isp in ("isp1", "isp2"))
    addresses = tuple(
        replace(address, interface="up0") if address.node == "a" else address
        for address in plan.addresses
    )
    sources = {
        route: source
        for number, source in enumerate(locators("a"), start=1)
        for route in plan.routes_through("a", f"up{number}", number)
    }
    routes = tuple(replace(route, source=sources.get(route, "")) for route in plan.routes)
    return replace(
        plan,
        nodes=(*plan.nodes, LAN),
        links=(*others, card, *routers),
        layers=(_layer(LAN, "switch", "hosta isp1 isp2", "bridge"),),
        addresses=addresses,
        routes=routes,
    )


def _with_advertisements(plan: Topology) -> Topology:
    """The default route in the main table is learnt; source 1 has no table of its own."""

    def without_own_table(routes: tuple[Route, ...]) -> tuple[Route, ...]:
        own = [one for one in routes if one.node == "a" and one.table == 101]
        return tuple(route for route in routes if route not in own)

    addresses = tuple(
        replace(address, learned=True)
        if address.node == "a" and address.interface == "up1"
        else address
        for address in plan.addresses
    )
    first = plan.routes_through("a", "up1", 1)
    routes = tuple(
        replace(route, gateway="", interface="up1", learned=True) if route in first else route
        for route in without_own_table(plan.routes)
    )
    rules = tuple(rule for rule in plan.rules if rule.node != "a" or rule.table != 101)
    return replace(plan, addresses=addresses, routes=routes, rules=rules)


def _layer(node: str, interface: str, over: str, kind: Literal["bridge", "vlan"]) -> Layer:
    return Layer(node=node, interface=interface, over=tuple(over.split()), kind=kind)


def _renamed(
    links: tuple[Link, ...], old: tuple[str, str], new: tuple[str, str]
) -> tuple[Link, ...]:
    """The links with another name of one end."""

    def name(end: tuple[str, str]) -> tuple[str, str]:
        return new if end == old else end

    return tuple(replace(one, left=name(one.left), right=name(one.right)) for one in links)


_CHANGES: Final[dict[Variant, Callable[[Topology], Topology]]] = {
    "plain": lambda plan: plan,
    "firewall": _with_firewall,
    "marks": _with_marks,
    "l3": _with_l3_uplink,
    "bridge": _with_bridge,
    "vlan": _with_vlan,
    "one-lan": _with_one_lan,
    "ra": _with_advertisements,
}
