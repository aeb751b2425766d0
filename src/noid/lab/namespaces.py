# SPDX-License-Identifier: MIT
"""Builds a topology: network namespaces, veth pairs, addresses, routes and rules.

Everything is created inside the namespaces of the lab, by netlink; no interface of it is ever seen
in the namespace of the machine. What is asked of the kernel here comes from ``topology`` alone.
"""

import contextlib
import ctypes
import functools
import itertools
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from noid.host.library import Ethtool, IPRoute, netns
from noid.lab import advertisement, nft, routing
from noid.lab.topology import (
    HOSTS,
    MTU_OCTETS,
    Address,
    Layer,
    Route,
    Rule,
    Ruleset,
    Topology,
    forwards,
    site,
)

PREFIX: Final = "noid-"
RUN_DIRECTORY: Final = Path("/run/netns")
ETC_DIRECTORY: Final = Path("/etc/netns")

CLONE_NEWNET: Final = 0x40000000
RECEIVE_BUFFER: Final = "4096 131072 262144"
"""Small receive windows, so that data that has arrived does not hide an outage."""

TEACHING_S: Final = 10.0
TEACHING_INTERVAL_S: Final = 0.05
"""Between two router advertisements."""

Returned = TypeVar("Returned")
Planned = TypeVar("Planned", Address, Layer, Route, Rule, Ruleset)


def namespace(lab: str, node: str) -> str:
    """The name of a node's namespace."""
    return f"{PREFIX}{lab}-{node}"


def present(lab: str, nodes: Iterable[str]) -> list[str]:
    """The nodes whose namespaces exist."""
    return [node for node in nodes if (RUN_DIRECTORY / namespace(lab, node)).exists()]


def create(lab: str, plan: Topology) -> None:
    """Makes the nodes, and those of their links that consist of devices of the kernel.

    Raises:
        Unsupported: the kernel has no interfaces of a kind.
        PlatformError: the kernel refuses.
    """
    with routing.kernel_errors("build the network"):
        for node in plan.nodes:
            _create(namespace(lab, node))
            inside(namespace(lab, node), functools.partial(_set_switches, node))
        _everywhere(lab, plan, _add_links, _add_layers)


def configure(lab: str, plan: Topology) -> None:
    """Configures the network, after all its links exist.

    Raises:
        Unsupported: nftables is not installed.
        PlatformError: the kernel refuses.
    """
    with routing.kernel_errors("configure the network"):
        _everywhere(lab, plan, _set_up, _configure)
    for number, host in itertools.product((1, 2), HOSTS):
        if plan.learns(host, number):
            teach(lab, plan, number, host)


def _everywhere(lab: str, plan: Topology, *steps: Callable[[str, str, Topology], None]) -> None:
    """Each step on all nodes before the next step.

    A link carries nothing until both ends are up, and a route needs a link that does.
    """
    for step in steps:
        for node in plan.nodes:
            inside(namespace(lab, node), functools.partial(step, lab, node, plan))


def advertise(
    lab: str, number: int, host: str, *, lifetime_s: int = advertisement.LIFETIME_S
) -> int:
    """Sends one router advertisement from the router of a provider to a host.

    Args:
        lab: the name of the lab.
        number: of the provider, from 1.
        host: to which customer.
        lifetime_s: how long it is a default router; 0 withdraws it.

    Returns:
        The monotonic time in ns just before.

    Raises:
        PlatformError: the kernel refuses.
    """
    message = advertisement.advertisement(site(number, host), lifetime_s=lifetime_s)
    send = functools.partial(advertisement.send, f"cust{host}", message)
    with routing.kernel_errors("advertise a router"):
        return inside(namespace(lab, f"isp{number}"), send)


def teach(lab: str, plan: Topology, number: int, host: str) -> None:
    """Sends router advertisements to a host until it has learnt the route, or for some seconds.

    A host drops what arrives before its interface is ready. Where a fault keeps it from learning,
    it is not taught.

    Raises:
        PlatformError: the kernel refuses.
    """
    learnt = functools.partial(routing.has_learnt, plan.uplink(host, number))
    deadline = time.monotonic() + TEACHING_S
    while time.monotonic() < deadline:
        advertise(lab, number, host)
        if inside(namespace(lab, host), learnt):
            return
        time.sleep(TEACHING_INTERVAL_S)


def remove(lab: str, nodes: Iterable[str]) -> None:
    """Removes the namespaces with all that is in them, and their files under /etc/netns.

    Raises:
        PlatformError: the kernel refuses.
    """
    with routing.kernel_errors("remove the network"):
        for node in nodes:
            name = namespace(lab, node)
            if (RUN_DIRECTORY / name).exists():
                netns.remove(name)
            shutil.rmtree(ETC_DIRECTORY / name, ignore_errors=True)


def write_etc(lab: str, node: str, files: dict[str, str]) -> None:
    """Writes files that programs on a node see in /etc."""
    directory = ETC_DIRECTORY / namespace(lab, node)
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        # Bound over the machine's own file, which has to be there for that.
        if Path("/etc", name).exists():
            (directory / name).write_text(text, encoding="utf-8")


def mount_groups(directory: Path) -> None:
    """Mounts the control groups for the programs of a lab, if the kernel has version 2.

    ``ip netns exec`` hides those of the machine, which are the same.
    """
    directory.mkdir()
    subprocess.run(
        ["mount", "-t", "cgroup2", "none", directory], check=False, stderr=subprocess.DEVNULL
    )


def sent_octets(lab: str, node: str, interface: str) -> int:
    """The octets that an interface has sent since it was made.

    Raises:
        PlatformError: the kernel refuses.
    """

    def read() -> int:
        with IPRoute() as kernel:
            (link,) = kernel.link("get", ifname=interface)
            return int(link.get_attr("IFLA_STATS64")["tx_bytes"])

    return inside(namespace(lab, node), read)


def set_features(lab: str, node: str, interface: str, features: Iterable[str], *, on: bool) -> None:
    """Turns features of an interface on or off, as ethtool -K does.

    Raises:
        PlatformError: the kernel refuses.
    """

    def turn() -> None:
        with routing.kernel_errors(f"features of {interface}"), Ethtool() as ethtool:
            answer = ethtool.get_features(interface)
            for name in features:
                answer.features[name].enable = on
            ethtool.set_features(interface, answer)

    inside(namespace(lab, node), turn)


def inside(name: str, function: Callable[[], Returned]) -> Returned:
    """Calls a function in a network namespace, and returns its result.

    A namespace belongs to a thread, not to a process: the function gets a thread of its own, and
    the sockets it opens stay in that namespace wherever they are used. Nothing is forked: a forked
    child would inherit our signal handlers and, interrupted, undo the lab a second time.

    Raises:
        PlatformError: there is no such namespace, or the kernel refuses.
    """

    def enter_and_call() -> Returned:
        with routing.kernel_errors(f"enter {name}"):
            netns.setns(name, flags=0)
        return function()

    return _in_thread(enter_and_call)


def members(lab: str, nodes: Iterable[str]) -> dict[int, str]:
    """The processes in the namespaces of a lab, regardless of their parent: pid to node."""
    identities: dict[tuple[int, int], str] = {}
    for node in nodes:
        with contextlib.suppress(OSError):
            status = (RUN_DIRECTORY / namespace(lab, node)).stat()
            identities[status.st_dev, status.st_ino] = node
    found: dict[int, str] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                status = os.stat(f"{entry.path}/ns/net")
                node_found = identities.get((status.st_dev, status.st_ino))
                if node_found is not None:
                    found[int(entry.name)] = node_found
    return found


def _create(name: str) -> None:
    """Makes a namespace, first as that of a thread, then under its name."""

    def unshare_and_bind() -> None:
        library = ctypes.CDLL(None, use_errno=True)
        if library.unshare(CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        netns.attach(name, threading.get_native_id())

    _in_thread(unshare_and_bind)


def _in_thread(function: Callable[[], Returned]) -> Returned:
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(function).result()


def _set_switches(node: str) -> None:
    """The sysctls of a node, before it has any interface, so that all of them inherit."""
    for scope in ("all", "default"):
        for switch, value in (
            ("disable_ipv6", 0),
            ("accept_ra", 0),
            ("accept_dad", 0),
            ("dad_transmits", 0),
            ("forwarding", int(forwards(node))),
        ):
            (routing.SYSCTL_DIRECTORY / "ipv6/conf" / scope / switch).write_text(str(value))
    (routing.SYSCTL_DIRECTORY / "ipv4/tcp_rmem").write_text(RECEIVE_BUFFER)


def _add_links(lab: str, node: str, plan: Topology) -> None:
    """The links whose left end is here; the right end is created in its own namespace."""
    with IPRoute() as kernel:
        for link in plan.links:
            (left, interface), (right, right_interface) = link.left, link.right
            if left == node and link.kind == "veth":
                peer = {
                    "ifname": right_interface,
                    "net_ns_fd": namespace(lab, right),
                    "mtu": MTU_OCTETS,
                }
                kernel.link("add", ifname=interface, kind="veth", mtu=MTU_OCTETS, peer=peer)


def _add_layers(lab: str, node: str, plan: Topology) -> None:
    """Bridges and VLAN devices, above the links."""
    with IPRoute() as kernel:
        for layer in _of(node, plan.layers):
            routing.add_layer(kernel, layer)


def _set_up(lab: str, node: str, plan: Topology) -> None:
    with IPRoute() as kernel:
        for interface in ("lo", *plan.interfaces(node)):
            kernel.link("set", index=routing.index(kernel, interface), state="up")


def _configure(lab: str, node: str, plan: Topology) -> None:
    with IPRoute() as kernel:
        for address in _of(node, plan.addresses):
            if address.learned:
                routing.let_learn(address)
            routing.add_address(kernel, address)
        for route in _of(node, plan.routes):
            routing.add_route(kernel, route)
    routing.change_rules("add", _of(node, plan.rules))
    for ruleset in _of(node, plan.rulesets):
        nft.run(ruleset.text)


def _of(node: str, planned: Iterable[Planned]) -> Iterator[Planned]:
    return (one for one in planned if one.node == node)
