# SPDX-License-Identifier: MIT
"""What a node is asked to configure: addresses, routes, rules, and interfaces above others.

All of it happens in the network namespace of the calling thread.
"""

import contextlib
import errno
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address, IPv6Interface
from pathlib import Path
from typing import Any, Final, Literal

from noid.errors import PlatformError, Unsupported
from noid.host.library import IPRoute, NetlinkError
from noid.lab.topology import MARK_MASK, Address, Layer, Route, Rule

SYSCTL_DIRECTORY: Final = Path("/proc/sys/net")
NO_DUPLICATE_DETECTION: Final = 0x02
"""IFA_F_NODAD: the address is usable at once."""
FOREVER: Final = 0xFFFFFFFF
VLAN: Final = 10
LEARNED_METRIC: Final = 100
"""Of a default route that is learnt of provider 1, as of the planned one."""
OPTIONS: Final = {"bridge": "CONFIG_BRIDGE", "vlan": "CONFIG_VLAN_8021Q"}
"""What a kernel is to be built with for each kind of interface."""


def add_layer(kernel: IPRoute, layer: Layer) -> None:
    """Adds a bridge over its ports, or a VLAN device over its card.

    Raises:
        Unsupported: the kernel has no such interfaces.
    """
    below = [index(kernel, name) for name in layer.over]
    of_vlan = {"link": below[0], "vlan_id": VLAN} if layer.kind == "vlan" else {}
    try:
        kernel.link("add", ifname=layer.interface, kind=layer.kind, **of_vlan)
    except NetlinkError as error:
        if error.code != errno.EOPNOTSUPP:
            raise
        raise Unsupported(
            f"interface kind {layer.kind}", f"it needs a kernel with {OPTIONS[layer.kind]}"
        ) from None
    if layer.kind == "bridge":
        for port in below:
            kernel.link("set", index=port, master=index(kernel, layer.interface))


def let_learn(address: Address) -> None:
    """Lets an interface listen to router advertisements, and make that very address of them.

    Raises:
        PlatformError: the kernel refuses.
    """
    switches = SYSCTL_DIRECTORY / "ipv6/conf" / address.interface
    for switch, value in (("autoconf", 1), ("ra_defrtr_metric", LEARNED_METRIC), ("accept_ra", 1)):
        (switches / switch).write_text(str(value))
    token = IPv6Address(int(IPv6Interface(address.text).ip) & (2**64 - 1))
    _ip("token", "set", str(token), "dev", address.interface)


def has_learnt(interface: str) -> bool:
    """Whether a node has a default route by a router advertisement on an interface."""
    done = subprocess.run(
        ["ip", "-6", "route", "show", "default", "dev", interface, "proto", "ra"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout != ""


def forget_neighbours(interface: str) -> None:
    """Lets a node ask for the neighbours on a link again.

    Raises:
        PlatformError: the kernel refuses.
    """
    _ip("neigh", "flush", "dev", interface)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PlatformError(f"ip {' '.join(words)}", done.returncode, done.stderr.strip())


def add_address(kernel: IPRoute, address: Address) -> None:
    """Adds an address that is usable at once, unless the node is to learn it."""
    if not address.learned:
        kernel.addr(
            "add",
            **_address_arguments(kernel, address),
            flags=NO_DUPLICATE_DETECTION,
            preferred_lft=0 if address.deprecated else FOREVER,
            valid_lft=FOREVER,
        )


def delete_address(kernel: IPRoute, address: Address) -> None:
    """Deletes an address, however the node came by it."""
    kernel.addr("del", **_address_arguments(kernel, address))


def add_route(kernel: IPRoute, route: Route) -> None:
    """Adds a route, unless the node is to learn it."""
    if not route.learned:
        kernel.route("add", **_route_arguments(kernel, route))


def delete_route(kernel: IPRoute, route: Route) -> None:
    """Deletes a route, however the node came by it."""
    kernel.route("del", **_route_arguments(kernel, route))


def _address_arguments(kernel: IPRoute, address: Address) -> dict[str, Any]:
    text, _, length = address.text.partition("/")
    return {
        "index": index(kernel, address.interface),
        "family": socket.AF_INET6,
        "address": text,
        "prefixlen": int(length),
    }


def _route_arguments(kernel: IPRoute, route: Route) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "family": socket.AF_INET6,
        "dst": route.destination,
        "priority": route.metric,
        "table": route.table,
    }
    if route.source:
        wanted["prefsrc"] = route.source
    if route.gateway:
        return wanted | {"gateway": route.gateway}
    return wanted | {"oif": index(kernel, route.interface)}


def change_rules(command: Literal["add", "del"], rules: Iterable[Rule]) -> int:
    """Adds or removes policy rules in the namespace we are in, those that are to be changed.

    Returns:
        The monotonic time in ns just before the first change.
    """
    done = errno.EEXIST if command == "add" else errno.ENOENT
    with IPRoute() as kernel:
        began_ns = time.monotonic_ns()
        for rule in rules:
            with unless(done):
                kernel.rule(command, **_rule_arguments(rule))
    return began_ns


def _rule_arguments(rule: Rule) -> dict[str, Any]:
    wanted: dict[str, Any] = {"family": socket.AF_INET6, "priority": rule.priority}
    if rule.source:
        wanted["src"], _, length = rule.source.partition("/")
        wanted["src_len"] = int(length)
    if rule.destination:
        wanted["dst"], _, length = rule.destination.partition("/")
        wanted["dst_len"] = int(length)
    if rule.incoming:
        wanted["iifname"] = rule.incoming
    if rule.mark:
        wanted |= {"fwmark": rule.mark, "fwmask": MARK_MASK}
    if rule.table is None:
        wanted["action"] = "blackhole"
    else:
        wanted["table"] = rule.table
    return wanted


def index(kernel: IPRoute, interface: str) -> int:
    """The index of an interface of the namespace we are in."""
    (found,) = kernel.link_lookup(ifname=interface)
    return int(found)


@contextlib.contextmanager
def unless(*numbers: int) -> Iterator[None]:
    """Passes over errors of the kernel that say there was nothing to change."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in numbers:
            raise


@contextlib.contextmanager
def kernel_errors(operation: str) -> Iterator[None]:
    """Raises errors of the kernel as PlatformError."""
    try:
        yield
    except NetlinkError as error:
        raise PlatformError(operation, error.code, str(error.args[-1])) from None
    except OSError as error:
        advice = error.strerror or str(error)
        if error.errno in (errno.EPERM, errno.EACCES):
            advice += "; run as root"
        raise PlatformError(operation, error.errno or 0, advice) from None
