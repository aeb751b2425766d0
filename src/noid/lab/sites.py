# SPDX-License-Identifier: MIT
r"""The network of ``topology`` with hosts in sites: one card, behind the borders of the site.

    one:             +-- up1 --- isp1 ---      two-borders:  +-- lan0 border -- up1 --- isp1 ---
    a -- up0 --- lan0 border                   a -- up0 -- switch
                     +-- up2 --- isp2 ---                    +-- lan0 border2 - up2 --- isp2 ---

A border has routes by source, as any router of a site with two providers needs. Nothing here
touches the machine.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from typing import Final, Literal, NamedTuple, get_args

from noid.lab.topology import (
    BORDER,
    BORDER_OF_B,
    LAN,
    PROVIDER_PREFIXES,
    SECOND_BORDER,
    SOURCE_PRIORITY,
    Address,
    Layer,
    Link,
    Route,
    Rule,
    Topology,
    locators,
    site,
    topology,
)

Sites = Literal["one", "both", "two-borders"]

SITES: Final[tuple[Sites, ...]] = get_args(Sites)
SITES_TEXTS: Final[dict[Sites, str]] = {
    "one": "host a is in a site with a border",
    "both": "each host is in a site with a border",
    "two-borders": "host a is in a site with a border for each provider",
}
"""Each network in one line, for people."""
NUMBERS: Final = (1, 2)
LAN_DEVICE: Final = "lan0"


class Router(NamedTuple):
    """A border.

    Attributes:
        node: where it runs.
        host: whose site it is of.
        numbers: of the providers to which it has an uplink, from 1.
    """

    node: str
    host: str
    numbers: tuple[int, ...]


ROUTERS: Final[dict[Sites, tuple[Router, ...]]] = {
    "one": (Router(BORDER, "a", NUMBERS),),
    "both": (Router(BORDER, "a", NUMBERS), Router(BORDER_OF_B, "b", NUMBERS)),
    "two-borders": (Router(BORDER, "a", (1,)), Router(SECOND_BORDER, "a", (2,))),
}


def sites_plan(sites: Sites) -> Topology:
    """The network with its borders."""
    routers = ROUTERS[sites]
    hosts = sorted({one.host for one in routers})
    return reduce(
        lambda plan, host: _with_site(plan, host, [one for one in routers if one.host == host]),
        hosts,
        topology(),
    )


def router_of_line(number: int, host: str) -> str:
    """The address of a provider's router on its line to the site of a host."""
    return f"{_line(number, host)}::1"


def router_in_lan(number: int, host: str) -> str:
    """The address, of a provider's prefix, of the border that has the line to the provider."""
    return site(number, host).removesuffix("/64") + "1"


def _with_site(plan: Topology, host: str, routers: list[Router]) -> Topology:
    nodes = [one.node for one in routers] + [LAN] * (len(routers) > 1)
    return replace(
        plan,
        nodes=(*plan.nodes, *nodes),
        links=(
            *(link for link in plan.links if link.left[0] != host),
            *_links(host, routers),
        ),
        layers=(*plan.layers, *_layers(host, routers)),
        addresses=(*_moved(plan, host, routers), *_addresses(host, routers)),
        routes=(*_own_routes(plan, host), *_routes(host, routers)),
        rules=(
            *plan.rules,
            *(
                Rule(
                    node=router.node,
                    priority=SOURCE_PRIORITY + number,
                    source=site(number, host),
                    table=100 + number,
                )
                for router in routers
                for number in NUMBERS
            ),
        ),
    )


def _links(host: str, routers: list[Router]) -> Iterator[Link]:
    for router in routers:
        for number in router.numbers:
            yield Link(left=(router.node, f"up{number}"), right=(f"isp{number}", f"cust{host}"))
    if len(routers) == 1:
        yield Link(left=(host, "up0"), right=(routers[0].node, LAN_DEVICE))
        return
    yield Link(left=(LAN, f"host{host}"), right=(host, "up0"))
    for router in routers:
        yield Link(left=(LAN, router.node), right=(router.node, LAN_DEVICE))


def _layers(host: str, routers: list[Router]) -> Iterator[Layer]:
    if len(routers) > 1:
        ports = (f"host{host}", *(one.node for one in routers))
        yield Layer(node=LAN, interface="switch", over=ports, kind="bridge")


def _moved(plan: Topology, host: str, routers: list[Router]) -> Iterator[Address]:
    """The addresses there are; a provider's router in the network of the host is a border now."""
    owners = {f"isp{number}": one.node for one in routers for number in one.numbers}
    for address in plan.addresses:
        if address.node == host:
            yield replace(address, interface="up0")
        elif address.interface == f"cust{host}":
            yield replace(address, node=owners[address.node], interface=LAN_DEVICE)
        else:
            yield address


def _addresses(host: str, routers: list[Router]) -> Iterator[Address]:
    """The addresses of the lines, and of each border in the networks of the others."""
    for router in routers:
        for number in NUMBERS:
            if number in router.numbers:
                isp, line = f"isp{number}", _line(number, host)
                yield Address(
                    node=isp,
                    interface=f"cust{host}",
                    text=f"{router_of_line(number, host)}/64",
                )
                yield Address(node=router.node, interface=f"up{number}", text=f"{line}::2/64")
            else:
                text = site(number, host).replace("::/64", "::2/64")
                yield Address(node=router.node, interface=LAN_DEVICE, text=text)


def _own_routes(plan: Topology, host: str) -> Iterator[Route]:
    """The routes of a plan; each default route of the host has the source that belongs to it."""
    own = dict(zip((router_in_lan(one, host) for one in NUMBERS), locators(host), strict=True))
    for route in plan.routes:
        yield replace(route, source=own[route.gateway]) if route.node == host else route


def _routes(host: str, routers: list[Router]) -> Iterator[Route]:
    for router in routers:
        for number in NUMBERS:
            if number in router.numbers:
                up = router_of_line(number, host)
                back = f"{_line(number, host)}::2"
                yield Route(node=f"isp{number}", destination=site(number, host), gateway=back)
            else:
                up = router_in_lan(number, host)
            yield Route(node=router.node, destination="::/0", gateway=up, metric=100 * number)
            yield Route(node=router.node, destination="::/0", gateway=up, table=100 + number)


def _line(number: int, host: str) -> str:
    """The prefix of the line between a border and a provider, without its end."""
    return PROVIDER_PREFIXES[f"isp{number}"].removesuffix("::/48") + f":f{host}"
