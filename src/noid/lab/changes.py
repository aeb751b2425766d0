# SPDX-License-Identifier: MIT
"""Applies and undoes faults: the requests to the kernel for what ``faults`` describes.

Each change and each undoing can be repeated. A fault that is in force is on record in the directory
of the lab, so that another process can undo it.
"""

import errno
import functools
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, assert_never

from noid.host.library import IPRoute
from noid.lab import advertisement, faults, namespaces, nft, routing
from noid.lab.faults import (
    OF_THE_CARD,
    OF_THE_PROVIDER,
    Blackholed,
    Down,
    Dropped,
    Effect,
    Fault,
    Relinked,
    Unaddressed,
    Unrouted,
    Withdrawn,
)
from noid.lab.namespaces import Returned
from noid.lab.topology import Address, Route, Topology, site

EVERY_HOST: Final = "all"
"""In a record, instead of a host: the fault affects all customers of a provider."""
RECORD_PARTS: Final = 3


def cut(lab: str, plan: Topology, records: Path, fault: Fault, number: int, host: str) -> int:
    """Applies a fault, and returns the time just before, in ns.

    Args:
        lab: the name of the lab.
        plan: its network.
        records: the directory of the faults in force.
        fault: the fault.
        number: of the provider, from 1.
        host: the host that is hit, unless all customers are.

    Raises:
        UsageError: there is no such provider or host, or the network cannot have that fault.
        PlatformError: the kernel refuses.
    """
    effect = faults.effect(plan, fault, number, host)
    record = _record(records, fault, number, host)
    with routing.kernel_errors(f"fault {fault.value}"):
        if not record.exists():
            records.mkdir(exist_ok=True)
            record.write_text(_inside(lab, effect, functools.partial(_original, effect)))
        return _inside(lab, effect, functools.partial(_apply, plan, effect, record.read_text()))


def heal(lab: str, plan: Topology, records: Path, fault: Fault, number: int, host: str) -> int:
    """Undoes a fault if it is in force; as ``cut``."""
    effect = faults.effect(plan, fault, number, host)
    record = _record(records, fault, number, host)
    if not record.exists():
        return time.monotonic_ns()
    with routing.kernel_errors(f"heal {fault.value}"):
        undo = functools.partial(_undo, plan, effect, record.read_text())
        began_ns = _inside(lab, effect, undo)
        if isinstance(effect, Relinked):
            # The host knows the router by the address it had.
            forget = functools.partial(routing.forget_neighbours, plan.uplink(host, number))
            namespaces.inside(namespaces.namespace(lab, host), forget)
        if isinstance(effect, Down | Unaddressed | Unrouted) and plan.learns(host, number):
            namespaces.teach(lab, plan, number, host)
    record.unlink(missing_ok=True)
    return began_ns


def in_force(records: Path) -> list[tuple[Fault, int, str]]:
    """The faults on record: fault, provider, and host or ``EVERY_HOST``.

    They are in the order in which they can be undone: links that are down first, because routes
    need them, then the latest first.
    """
    found = [path for path in records.glob("*") if path.name.count(".") == RECORD_PARTS - 1]
    found.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    parts = [path.name.split(".") for path in found]
    faults_found = [(Fault(how), int(number), host) for number, host, how in parts]
    return sorted(faults_found, key=lambda one: one[0] not in OF_THE_CARD)


def _record(records: Path, fault: Fault, number: int, host: str) -> Path:
    return records / f"{number}.{EVERY_HOST if fault in OF_THE_PROVIDER else host}.{fault.value}"


def _inside(lab: str, effect: Effect, function: Callable[[], Returned]) -> Returned:
    return namespaces.inside(namespaces.namespace(lab, effect.node), function)


def _original(effect: Effect) -> str:
    """What is needed to undo an effect: the link-layer address that it replaces."""
    if not isinstance(effect, Relinked):
        return ""
    with IPRoute() as kernel:
        (link,) = kernel.link("get", ifname=effect.interface)
        return str(link.get_attr("IFLA_ADDRESS"))


def _apply(plan: Topology, effect: Effect, original: str) -> int:
    match effect:
        case Blackholed():
            return routing.change_rules("add", effect.rules)
        case Dropped():
            return nft.run(f"{faults.pass_commands(effect)}\n{faults.drop_commands(effect)}")
        case Down():
            return _set_link(effect.line, state="down")
        case Relinked():
            return _set_link(effect.interface, address=faults.replacement(original))
        case Unaddressed():
            return _remove_addresses(
                plan.addresses_of(effect.node, effect.interface, effect.number)
            )
        case Unrouted():
            return _remove_routes(plan.routes_through(effect.node, effect.interface, effect.number))
        case Withdrawn():
            return _advertise(effect, lifetime_s=0)
    assert_never(effect)


def _undo(plan: Topology, effect: Effect, original: str) -> int:
    match effect:
        case Blackholed():
            return routing.change_rules("del", effect.rules)
        case Dropped():
            return nft.run(faults.pass_commands(effect))
        case Down():
            began_ns = _set_link(effect.line, state="up")
            _set_link(effect.interface, state="up")
            _restore(plan, effect)
            return began_ns
        case Relinked():
            return _set_link(effect.interface, address=original)
        case Unaddressed() | Unrouted():
            return _restore(plan, effect)
        case Withdrawn():
            return _advertise(effect, lifetime_s=advertisement.LIFETIME_S)
    assert_never(effect)


def _advertise(effect: Withdrawn, *, lifetime_s: int) -> int:
    prefix = site(effect.number, effect.host)
    message = advertisement.advertisement(prefix, lifetime_s=lifetime_s)
    return advertisement.send(f"cust{effect.host}", message)


def _set_link(interface: str, **values: str) -> int:
    with IPRoute() as kernel:
        index = routing.index(kernel, interface)
        began_ns = time.monotonic_ns()
        kernel.link("set", index=index, **values)
    return began_ns


def _remove_addresses(addresses: Iterable[Address]) -> int:
    with IPRoute() as kernel:
        began_ns = time.monotonic_ns()
        for address in addresses:
            with routing.unless(errno.EADDRNOTAVAIL):
                routing.delete_address(kernel, address)
    return began_ns


def _remove_routes(routes: Iterable[Route]) -> int:
    with IPRoute() as kernel:
        began_ns = time.monotonic_ns()
        for route in routes:
            with routing.unless(errno.ESRCH):
                routing.delete_route(kernel, route)
    return began_ns


def _restore(plan: Topology, effect: Down | Unaddressed | Unrouted) -> int:
    """Adds the planned addresses and routes that an interface lacks, as ``ifup`` does."""
    with IPRoute() as kernel:
        began_ns = time.monotonic_ns()
        for address in plan.addresses_of(effect.node, effect.interface, effect.number):
            with routing.unless(errno.EEXIST):
                routing.add_address(kernel, address)
        for route in plan.routes_through(effect.node, effect.interface, effect.number):
            with routing.unless(errno.EEXIST):
                routing.add_route(kernel, route)
    return began_ns
