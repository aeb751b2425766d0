# SPDX-License-Identifier: MIT
"""Checks of what a border needs of its router, its LANs and its uplinks.

Each check reports success, or a problem and the command that fixes it. Nothing is changed, except
that a route without effect comes and goes; the only packets that leave are the kernel's own
neighbour solicitations.
"""

from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, Final

from noid.border_config import BorderConfig, ProviderTable
from noid.control.client import ask
from noid.doctor.findings import Finding, Health
from noid.errors import ShimError, Unsupported
from noid.host import gateways, nftables, source_routes
from noid.host.gateways import Gateway, Link
from noid.locators import format_locator

SYSCTL: Final = Path("/proc/sys/net/ipv6/conf")
SUBNET_BITS: Final = 64
EVERY_ROUTER: Final = "2"
"""Of accept_ra: advertisements are heard although the host forwards."""


def examine_border(config: BorderConfig) -> list[Finding]:
    """Everything that is wrong with a border, and what is right, in order.

    Args:
        config: that of its daemon.

    Raises:
        PlatformError: the kernel does not say what there is.
    """
    links = gateways.links()
    section = config.border
    return [
        _forwarding(),
        _routes_by_source(section.table),
        *(_lan(config, name, links.get(name)) for name in section.lans),
        *(
            _uplink(config, one, links.get(one.uplink))
            for one in section.providers
            if one.uplink and not config.is_behind_lan(one)
        ),
        _answer(),
        *_daemon(Path(section.socket)),
    ]


def _forwarding() -> Finding:
    if _switch("all", "forwarding") == "1":
        return Finding("forwarding", Health.OK, "this host forwards IPv6")
    fix = "sysctl -w net.ipv6.conf.all.forwarding=1"
    return Finding("forwarding", Health.WRONG, "this host does not forward IPv6", fix)


def _routes_by_source(table: int) -> Finding:
    check = "routes by source"
    try:
        source_routes.check_support(table)
    except Unsupported:
        fix = "use a kernel with CONFIG_IPV6_SUBTREES"
        return Finding(check, Health.WRONG, "this kernel has none", fix)
    except ShimError as error:
        return Finding(check, Health.UNKNOWN, str(error))
    return Finding(check, Health.OK, "this kernel has them")


def _prefixes(config: BorderConfig) -> list[IPv6Network]:
    return [IPv6Network(text) for one in config.border.providers for text in one.prefixes]


def _lan(config: BorderConfig, name: str, link: Link | None) -> Finding:
    """Hosts get an address of each prefix if the router has one, all with the same subnet."""
    check = f"LAN {name}"
    if link is None:
        fix = "correct border.lans, or create the device"
        return Finding(check, Health.WRONG, "there is no such device", fix)
    if _switch(name, "accept_ra") == EVERY_ROUTER:
        text = "hears router advertisements: a host there can give this router routes"
        return Finding(check, Health.WRONG, text, f"sysctl -w net.ipv6.conf.{name}.accept_ra=0")
    addresses = [IPv6Address(one) for one in gateways.addresses(link.index)]
    subnets: dict[int, IPv6Address] = {}
    missing = []
    for prefix in _prefixes(config):
        found = [one for one in addresses if one in prefix]
        if not found:
            missing.append(prefix)
        for one in found:
            subnet = (int(one) & ~int(prefix.netmask)) >> SUBNET_BITS
            subnets.setdefault(subnet, one)
    if not subnets:
        text = "has no address of the site: its hosts get none by router advertisements from here"
        return Finding(check, Health.UNKNOWN, text)
    if missing:
        text = f"has no address of {' '.join(map(str, missing))}"
        return Finding(check, Health.WRONG, text, f"ip -6 address add ADDRESS/64 dev {name}")
    if len(subnets) > 1:
        text = f"has different subnets below the prefixes: {' '.join(map(str, subnets.values()))}"
        fix = "give it the same subnet below each prefix: only the prefix is rewritten"
        return Finding(check, Health.WRONG, text, fix)
    return Finding(check, Health.OK, "has an address of each prefix, with the same subnet")


def _uplink(config: BorderConfig, provider: ProviderTable, link: Link | None) -> Finding:
    check, name = f"uplink {provider.uplink}", provider.uplink
    if link is None:
        fix = "correct the key uplink of this provider, or create the device"
        return Finding(check, Health.WRONG, "there is no such device", fix)
    if not link.carries:
        fix = f"ip link set {name} up, or look at its cable"
        return Finding(check, Health.WRONG, "has no carrier", fix)
    own = [IPv6Address(one) for one in gateways.addresses(link.index)]
    inside = [one for one in own if any(one in prefix for prefix in _prefixes(config))]
    if inside:
        text = f"{inside[0]} has a prefix of the site: packets from its neighbours are dropped"
        return Finding(check, Health.WRONG, text, f"ip -6 address del {inside[0]} dev {name}")
    configured = config.gateway_of(provider)
    gateway = Gateway(configured) if configured else gateways.gateway_of(link.index)
    if gateway is None:
        return Finding(check, Health.WRONG, "has no default route", _route_fix(name))
    if gateway.address is None:
        return Finding(check, Health.OK, "has a default route without a gateway")
    text = format_locator(gateway.address)
    if gateways.neighbour(link.index, gateway.address).answers is False:
        fix = f"ip -6 neigh show dev {name}; ask the provider"
        return Finding(check, Health.WRONG, f"the gateway {text} does not answer", fix)
    return Finding(check, Health.OK, f"by the gateway {text}")


def _route_fix(name: str) -> str:
    """A router hears advertisements only if it is told to."""
    if _switch(name, "accept_ra") != EVERY_ROUTER and _switch(name, "forwarding") == "1":
        return f"sysctl -w net.ipv6.conf.{name}.accept_ra=2, or set the key gateway"
    return f"ip -6 route add default via ROUTER dev {name}, or set the key gateway"


def _answer() -> Finding:
    try:
        nftables.listed("list tables ip6")
    except ShimError as error:
        fix = "install the package nftables, and run this as root"
        return Finding("answers to refused packets", Health.WRONG, f"code 0: {error}", fix)
    return Finding("answers to refused packets", Health.OK, "code 5, by nftables")


def _daemon(path: Path) -> Iterator[Finding]:
    try:
        status: dict[str, Any] = ask(path, "status")
    except ShimError as error:
        fix = "noid border run --config FILE"
        yield Finding("daemon", Health.WRONG, str(error), fix)
        return
    yield Finding("daemon", Health.OK, f"noid border {status['version']} is running")
    for row in status["providers"]:
        check = f"provider {row['provider']}"
        if row["works"]:
            yield Finding(check, Health.OK, "works")
        else:
            yield Finding(check, Health.WRONG, row["why"], "noid border status")
    for trouble in status["troubles"]:
        yield Finding("trouble", Health.WRONG, trouble)


def _switch(device: str, name: str) -> str:
    try:
        return (SYSCTL / device / name).read_text(encoding="ascii").strip()
    except OSError:
        return ""
