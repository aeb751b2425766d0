# SPDX-License-Identifier: MIT
r"""The network of ``topology`` with host a in a site: one card, behind the border of the site.

                        +-- up1 --- isp1 ---
    a -- up0 --- lan0 border
                        +-- up2 --- isp2 ---

The border has routes by source, as any router of a site with two providers needs. Nothing here
touches the machine.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from noid.lab.inventory import PINS
from noid.lab.topology import (
    BORDER,
    PROVIDER_PREFIXES,
    SOURCE_PRIORITY,
    Address,
    Link,
    Route,
    Rule,
    Topology,
    site,
    topology,
)

NUMBERS: Final = (1, 2)
LAN_DEVICE: Final = "lan0"


def site_plan() -> Topology:
    """The network with the border."""
    plan = topology()
    return replace(
        plan,
        nodes=(*plan.nodes, BORDER),
        links=_links(plan),
        addresses=_addresses(plan),
        routes=(*_routes(plan), *_routes_of_the_site()),
        rules=(
            *plan.rules,
            *(
                Rule(
                    node=BORDER,
                    priority=SOURCE_PRIORITY + number,
                    source=site(number, "a"),
                    table=100 + number,
                )
                for number in NUMBERS
            ),
        ),
    )


def border_toml(directory: Path) -> str:
    """The configuration of the border's daemon."""
    lines = [
        "[border]",
        f'lans = ["{LAN_DEVICE}"]',
        "hold_s = 0.2",
        f'pins = "{directory}/{PINS}/{BORDER}"',
        f'socket = "{directory}/{BORDER}.sock"',
    ]
    for number in NUMBERS:
        lines += [
            "[[border.providers]]",
            f'name = "isp{number}"',
            f'uplink = "up{number}"',
            f'prefixes = ["{site(number, "a")}"]',
        ]
    return "\n".join(lines) + "\n"


def _links(plan: Topology) -> tuple[Link, ...]:
    others = (link for link in plan.links if link.left[0] != "a")
    uplinks = (Link(left=(BORDER, f"up{one}"), right=(f"isp{one}", "custa")) for one in NUMBERS)
    return (*others, *uplinks, Link(left=("a", "up0"), right=(BORDER, LAN_DEVICE)))


def _addresses(plan: Topology) -> tuple[Address, ...]:
    found = []
    for address in plan.addresses:
        if address.node == "a":
            found.append(replace(address, interface="up0"))
        elif address.interface == "custa":
            # The address of the provider's router is the border's, as a's gateway.
            found.append(replace(address, node=BORDER, interface=LAN_DEVICE))
        else:
            found.append(address)
    for number in NUMBERS:
        isp, link = f"isp{number}", _link(number)
        found.append(Address(node=isp, interface="custa", text=f"{link}::1/64"))
        found.append(Address(node=BORDER, interface=f"up{number}", text=f"{link}::2/64"))
    return tuple(found)


def _routes(plan: Topology) -> tuple[Route, ...]:
    """Those that are there; each default route of a has the source that belongs to it."""
    sources = {f"2001:db8:{one}:a::1": f"2001:db8:{one}:a::a" for one in NUMBERS}
    return tuple(
        replace(route, source=sources[route.gateway]) if route.node == "a" else route
        for route in plan.routes
    )


def _routes_of_the_site() -> list[Route]:
    found = []
    for number in NUMBERS:
        up = f"{_link(number)}::1"
        found += [
            Route(
                node=f"isp{number}", destination=site(number, "a"), gateway=f"{_link(number)}::2"
            ),
            Route(node=BORDER, destination="::/0", gateway=up, metric=100 * number),
            Route(node=BORDER, destination="::/0", gateway=up, table=100 + number),
        ]
    return found


def _link(number: int) -> str:
    """The prefix of the link between the border and a provider, without its end."""
    return PROVIDER_PREFIXES[f"isp{number}"].removesuffix("::/48") + ":fa"
