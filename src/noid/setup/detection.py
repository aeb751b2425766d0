# SPDX-License-Identifier: MIT
"""Uplinks of this host from the output of ``ip``: their prefixes and the next hop of each."""

import ipaddress
import json
import os
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from typing import Any, Final, NamedTuple

from noid.errors import PlatformError
from noid.host.programs import find_program
from noid.locators import Locator, is_global_unicast

MAIN: Final = "254"
"""Number of the main table; ``ip`` omits it when it lists all tables."""
SCOPE_GLOBAL: Final = "0"
"""As ``ip -N`` writes it."""
LIMIT_S: Final = 20.0
"""Time limit of a command; one that takes longer is ended and has failed."""
TENTATIVE_S: Final = 5.0
"""Time to wait for addresses that the kernel still tests for duplicates; it takes a second."""
POLL_S: Final = 0.1


class Default(NamedTuple):
    """A default route.

    Attributes:
        table: number of its routing table.
        device: the device it leads to.
        gateway: the next hop; empty on a point-to-point link.
        metric: the kernel uses the route with the least metric.
    """

    table: str
    device: str
    gateway: str
    metric: int


class FromRule(NamedTuple):
    """A rule that selects by source.

    Attributes:
        prefix: of sources.
        table: number of the routing table it leads to.
    """

    prefix: IPv6Network
    table: str


class Link(NamedTuple):
    """The state of a device.

    Attributes:
        idle: why it carries no packets: it is down, or has no carrier; empty if it carries some.
        is_port: whether it is a port of another device, such as a bridge.
    """

    idle: str
    is_port: bool


@dataclass(frozen=True, slots=True)
class Uplink:
    """A device with locators and a default route.

    Attributes:
        device: its name.
        gateway: the next hop; empty on a point-to-point link.
        prefixes: of its locators.
        locators: the addresses on it that are locators, as text.
    """

    device: str
    gateway: str
    prefixes: tuple[IPv6Network, ...]
    locators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Routing:
    """The state of the host's routing.

    Attributes:
        networks: the addresses of each device with the lengths of their prefixes.
        defaults: the default routes of every table.
        rules: the rules that select by source.
        tables: every table that a route or a rule names.
        links: the state of each device.
        untested: address and device of the addresses that the kernel tests for duplicates once
            their device has a carrier.
    """

    networks: dict[str, tuple[ipaddress.IPv6Interface, ...]]
    defaults: tuple[Default, ...]
    rules: tuple[FromRule, ...]
    tables: frozenset[str]
    links: Mapping[str, Link] = field(default_factory=dict)
    untested: tuple[tuple[str, str], ...] = ()


def run(command: Sequence[str]) -> str:
    """The output of a command.

    Raises:
        Unsupported: the program is not installed.
        PlatformError: it fails, and the text has the last line of its error output; or the system
            does not start it.
    """
    environment = os.environ | {"LC_ALL": "C.UTF-8"}  # errors are compared with English ones
    try:
        done = subprocess.run(
            [find_program(command[0]), *command[1:]],
            capture_output=True,
            text=True,
            errors="replace",  # a device may have any octets in its name
            timeout=LIMIT_S,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise PlatformError(" ".join(command), 0, f"timed out after {LIMIT_S:.0f} s") from None
    except OSError as error:  # such as that no process can be made
        raise PlatformError(" ".join(command), error.errno or 0, str(error.strerror)) from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise PlatformError(" ".join(command), 0, said[-1])
    return done.stdout


def read_routing() -> Routing:
    """Reads addresses, routes and rules with ``ip``, once no address is tentative.

    Raises:
        Unsupported: ``ip`` is not installed.
        PlatformError: it fails.
    """
    deadline_s = time.monotonic() + TENTATIVE_S
    while _is_tentative(_ip("address show up")) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    words = ("address show", "route show table all", "rule show", "link show")
    return routing(*map(_ip, words))


def _ip(words: str) -> Any:
    return json.loads(run(["ip", "-N", "-json", "-6", *words.split()]) or "[]")


def _is_tentative(addresses: Any) -> bool:
    """Whether the kernel tests an address of a link with a carrier for duplicates."""
    return any(
        one.get("tentative") and not one.get("dadfailed")
        for link in addresses
        if "LOWER_UP" in link.get("flags", ())
        for one in link["addr_info"]
    )


def routing(addresses: Any, routes: Any, rules: Any, links: Any = ()) -> Routing:
    """The state of the routing, from the output of ``ip -N -json -6`` for each of the four."""
    networks = {
        link["ifname"]: tuple(
            ipaddress.IPv6Interface(f"{one['local']}/{one['prefixlen']}")
            for one in link["addr_info"]
            if "local" in one
        )
        for link in addresses
        if link.get("ifname")
    }
    tables = {str(one.get("table", MAIN)) for one in (*routes, *rules)}
    states = {link["ifname"]: _state(link) for link in links}
    return Routing(
        networks,
        tuple(_defaults(routes)),
        tuple(_rules(rules)),
        frozenset(tables),
        states,
        tuple(_untested(addresses, states)),
    )


def _state(link: Any) -> Link:
    why = "" if "LOWER_UP" in link["flags"] else "has no carrier"
    return Link(why if "UP" in link["flags"] else "is down", "master" in link)


def _untested(addresses: Any, states: Mapping[str, Link]) -> Iterator[tuple[str, str]]:
    for link in addresses:
        state = states.get(link.get("ifname", ""))
        if state is not None and state.idle:
            for one in link["addr_info"]:
                is_lasting = not one.keys() & {"dadfailed", "temporary"}
                if one.get("tentative") and is_lasting and one.get("scope") == SCOPE_GLOBAL:
                    yield one["local"], link["ifname"]


def _defaults(routes: Any) -> Iterator[Default]:
    for route in routes:
        if route.get("dst") != "default" or route.get("type", "unicast") != "unicast":
            continue
        table, metric = str(route.get("table", MAIN)), int(route.get("metric", 0))
        for hop in route.get("nexthops") or [route]:
            if "dev" in hop:
                yield Default(table, hop["dev"], hop.get("gateway", ""), metric)


def _rules(rules: Any) -> Iterator[FromRule]:
    for rule in rules:
        plain = not rule.keys() & {"fwmark", "iif", "oif", "suppress_prefixlen", "not"}
        if plain and rule.get("src", "all") != "all" and "table" in rule:
            prefix = IPv6Network(f"{rule['src']}/{rule.get('srclen', 128)}")
            yield FromRule(prefix, str(rule["table"]))


def uplinks(
    found: Routing, locators: Iterable[tuple[str, str]], ours: Collection[str] = ()
) -> tuple[Uplink, ...]:
    """The devices that have locators and a default route.

    Args:
        found: the state of the routing.
        locators: address and device of each locator.
        ours: the tables of an earlier set-up, whose routes are ignored.
    """
    on: dict[str, list[str]] = {}
    for address, device in locators:
        on.setdefault(device, []).append(address)
    result = []
    for device, addresses in on.items():
        ways = [one for one in found.defaults if one.device == device and one.table not in ours]
        if ways:
            best = min(ways, key=lambda one: (one.table != MAIN, one.metric))
            prefixes = _prefixes(found, device, addresses)
            result.append(Uplink(device, best.gateway, prefixes, tuple(addresses)))
    return tuple(result)


def _prefixes(found: Routing, device: str, addresses: list[str]) -> tuple[IPv6Network, ...]:
    """The prefixes of addresses; if a prefix is on two devices, the addresses as /128."""
    elsewhere = {
        one.network for name, ones in found.networks.items() if name != device for one in ones
    }
    result: dict[IPv6Network, None] = {}
    for one in found.networks.get(device, ()):
        if str(one.ip) in addresses:
            shared = any(one.network.overlaps(other) for other in elsewhere)
            result[IPv6Network(one.ip) if shared else one.network] = None
    return tuple(result)


def with_address(found: Routing) -> set[str]:
    """The devices that have an address which may be a locator."""
    return {
        device
        for device, ones in found.networks.items()
        if any(is_global_unicast(Locator(one.ip.packed)) for one in ones)
    }


def why_unusable(found: Routing, device: str, ours: Collection[str] = ()) -> str:
    """Why a device is no uplink now; empty if neither state, address nor route is the reason.

    Args:
        found: the state of the routing.
        device: its name.
        ours: as for ``uplinks``.
    """
    state = found.links.get(device)
    if state is None:
        return "does not exist now"
    if state.idle:
        return state.idle
    if device not in with_address(found):
        return "has no global IPv6 address"
    is_way = any(one.device == device and one.table not in ours for one in found.defaults)
    return "" if is_way else "has no default route"


def is_routed(found: Routing, uplink: Uplink, prefix: IPv6Network, ours: Collection[str]) -> bool:
    """Whether a rule that is not ours routes a prefix through its uplink."""
    for rule in found.rules:
        if rule.table not in ours and prefix.subnet_of(rule.prefix):
            ways = [one for one in found.defaults if one.table == rule.table]
            return any(one.device == uplink.device for one in ways)
    return False
