# SPDX-License-Identifier: MIT
"""The commands that correct what the doctor finds, as they are typed on this host.

A word in capitals is what only the operator knows: an address, or a router that nothing names.
"""

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from noid.constants import MTU_MIN
from noid.host.gateways import gateway_of
from noid.host.rules import Rule
from noid.host.source_routes import routes
from noid.host.survey import Device, OwnAddress
from noid.locators import Locator, format_locator, parse_locator

FIRST_TABLE: Final = 101
PRIORITY: Final = 31_901
"""Of a rule by source: after those of VPNs and of noid, before the main table."""
OWN_PRIORITIES: Final = 5
"""Rules of noid, from ``plane.rule_priority``."""
INTERFACE_IDENTIFIER: Final = slice(8, 16)
ADDRESSES: Final = Path("/proc/net/if_inet6")
TEMPORARY, PERMANENT = 0x01, 0x80
"""IFA_F_TEMPORARY [RFC 8981]; IFA_F_PERMANENT: set by hand, not by a router advertisement."""
TUN_DRIVER: Final = Path("/sys/class/misc/tun")


class Configured(NamedTuple):
    """An address as the kernel lists it.

    Attributes:
        device: the name of the device that it is on.
        prefix_bits: length of its prefix.
        flags: such as TEMPORARY.
    """

    device: str
    prefix_bits: int
    flags: int


def of_route(locator: Locator, device: str, index: int, table: int, priority: int) -> str:
    """Leads packets from a locator out by the device it is on.

    Args:
        locator: the locator.
        device: the device; empty if it is not known.
        index: its number; 0 if it is not known.
        table: a routing table that is free.
        priority: of the rule.
    """
    gateway = gateway_of(index) if index else None
    via = "via ROUTER "
    if gateway is not None:
        via = f"via {format_locator(gateway.address)} " if gateway.address else ""
    return (
        f"ip -6 rule add from {format_locator(locator)} lookup {table} priority {priority}; "
        f"ip -6 route add default {via}dev {device or 'DEVICE'} table {table}"
    )


def free_tables(rules: Iterable[Rule]) -> Iterator[int]:
    """Routing tables that no rule names and that have no default route."""
    named = {rule.table for rule in rules}
    return (n for n in itertools.count(FIRST_TABLE) if n not in named and not routes(n))


def priority_of(locator: Locator, rules: Iterable[Rule], first_own: int) -> int:
    """The priority at which a rule for a source counts: before one that is there for it already.

    Args:
        locator: the source.
        rules: those there are.
        first_own: priority of the first rule of noid.
    """
    last_own = first_own + OWN_PRIORITIES - 1
    there = [one.priority for one in rules if one.source == locator and one.priority > last_own + 1]
    return min([PRIORITY, *(one - 1 for one in there)])


def of_mtu(devices: Iterable[Device]) -> str:
    """Gives devices the MTU that IPv6 needs."""
    small = (one.name for one in devices if one.mtu < MTU_MIN)
    return "; ".join(f"ip link set {name} mtu {MTU_MIN}" for name in small)


def of_identifiers(own: Sequence[OwnAddress]) -> str:
    """Gives every locator the interface identifier of the first."""
    wanted = own[0].locator[INTERFACE_IDENTIFIER]
    configured = _configured()
    commands: list[str] = []
    for one in own[1:]:
        if one.locator[INTERFACE_IDENTIFIER] == wanted:
            continue
        found = configured.get(one.locator, Configured(one.interface, 64, PERMANENT))
        if found.flags & PERMANENT:
            same = format_locator(Locator(one.locator[:8] + wanted))
            set_it = f"ip -6 address add {same}/{found.prefix_bits} dev {one.interface}"
        else:
            token = format_locator(Locator(bytes(8) + wanted))
            set_it = f"ip token set {token} dev {one.interface}"
        old = f"{format_locator(one.locator)}/{found.prefix_bits}"
        commands += [set_it, f"ip -6 address del {old} dev {one.interface}"]
    return "; ".join(commands)


def of_tun(path: Path) -> str:
    """Makes the device of the TUN driver appear."""
    if TUN_DRIVER.exists():  # the driver is there, as in a container
        return f"mkdir -p {path.parent}; mknod {path} c 10 200"
    return "modprobe tun"


def of_sources(sources: Sequence[str], locators: Sequence[str]) -> str:
    """Keeps programs from sending from addresses that are no locators.

    Args:
        sources: these addresses.
        locators: those of the host.
    """
    configured = _configured()
    found = {one: configured.get(parse_locator(one)) for one in sources}
    temporary = {one: at for one, at in found.items() if at and at.flags & TEMPORARY}
    commands = [
        f"sysctl -w net/ipv6/conf/{at.device}/use_tempaddr=0; "
        f"ip -6 address del {one}/{at.prefix_bits} dev {at.device}"
        for one, at in temporary.items()
    ]
    others = [one for one in sources if one not in temporary]
    if others:
        listed = json.dumps([*locators, *others])
        commands.append(f"let them bind to a locator, or set [host] locators = {listed}")
    return "; ".join([*commands, "noid reload"])


def with_words(command: str, *words: str) -> str:
    """A command with the options that the doctor was called with, as far as there are any."""
    return " ".join([command, *filter(None, words)])


def _configured() -> dict[Locator, Configured]:
    found = {}
    for line in _lines(ADDRESSES):
        address, _, bits, _, flags, device = line.split()
        configured = Configured(device, int(bits, 16), int(flags, 16))
        found[Locator(bytes.fromhex(address))] = configured
    return found


def _lines(path: Path) -> Collection[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return ()
