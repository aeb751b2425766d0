"""The topology made real: network namespaces, veth pairs, addresses, routes and rules.

Everything is created inside the namespaces of the lab, by netlink; no interface of it is ever seen
in the namespace of the machine. What is asked of the kernel here comes from ``topology`` alone.
"""

import contextlib
import ctypes
import errno
import functools
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pyroute2 import IPRoute, netns
from pyroute2.ethtool import Ethtool
from pyroute2.netlink.exceptions import NetlinkError

from noid.errors import PlatformError
from noid.lab.topology import MTU_OCTETS, Address, Route, Rule, Topology, forwards

PREFIX: Final = "noid-"
RUN_DIRECTORY: Final = Path("/run/netns")
ETC_DIRECTORY: Final = Path("/etc/netns")
SYSCTL_DIRECTORY: Final = Path("/proc/sys/net")

NO_DUPLICATE_DETECTION: Final = 0x02
"""IFA_F_NODAD: the address is usable at once."""
CLONE_NEWNET: Final = 0x40000000
FOREVER: Final = 0xFFFFFFFF
RECEIVE_BUFFER: Final = "4096 131072 262144"
"""Small receive windows: what has already arrived must not hide for long that nothing comes."""

Returned = TypeVar("Returned")


def namespace(lab: str, node: str) -> str:
    """The name of a node's namespace."""
    return f"{PREFIX}{lab}-{node}"


def present(lab: str, nodes: Iterable[str]) -> list[str]:
    """Those of the nodes whose namespaces are there."""
    return [node for node in nodes if (RUN_DIRECTORY / namespace(lab, node)).exists()]


def build(lab: str, plan: Topology) -> None:
    """Makes the whole network, ready for packets when it returns.

    Raises:
        PlatformError: the kernel refuses.
    """
    with kernel_errors("build the network"):
        for node in plan.nodes:
            _create(namespace(lab, node))
            inside(namespace(lab, node), functools.partial(_set_switches, node))
        # Each step everywhere before the next: a link carries nothing until both ends are up, and a
        # route needs a link that does.
        for step in (_add_links, _set_up, _configure):
            for node in plan.nodes:
                inside(namespace(lab, node), functools.partial(step, lab, node, plan))


def remove(lab: str, nodes: Iterable[str]) -> None:
    """Removes the namespaces with all that is in them, and their files under /etc/netns.

    Raises:
        PlatformError: the kernel refuses.
    """
    with kernel_errors("remove the network"):
        for node in nodes:
            name = namespace(lab, node)
            if (RUN_DIRECTORY / name).exists():
                netns.remove(name)
            shutil.rmtree(ETC_DIRECTORY / name, ignore_errors=True)


def write_etc(lab: str, node: str, files: dict[str, str]) -> None:
    """Files that stand in /etc for the programs started on a node."""
    directory = ETC_DIRECTORY / namespace(lab, node)
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        # Bound over the machine's own file, which has to be there for that.
        if Path("/etc", name).exists():
            (directory / name).write_text(text, encoding="utf-8")


def sent_octets(lab: str, node: str, interface: str) -> int:
    """What an interface has sent since it was made, in octets.

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
        with kernel_errors(f"features of {interface}"), Ethtool() as ethtool:
            answer = ethtool.get_features(interface)
            for name in features:
                answer.features[name].enable = on
            ethtool.set_features(interface, answer)

    inside(namespace(lab, node), turn)


def inside(name: str, function: Callable[[], Returned]) -> Returned:
    """What a function returns when it runs in a network namespace.

    A namespace belongs to a thread, not to a process: the function gets a thread of its own, and
    the sockets it opens stay in that namespace wherever they are used. Nothing is forked: a forked
    child would inherit our signal handlers and, interrupted, undo the lab a second time.

    Raises:
        PlatformError: there is no such namespace, or the kernel refuses.
    """

    def enter_and_call() -> Returned:
        with kernel_errors(f"enter {name}"):
            netns.setns(name, flags=0)
        return function()

    return _in_thread(enter_and_call)


def members(lab: str, nodes: Iterable[str]) -> dict[int, str]:
    """The processes on the nodes of a lab, whoever started them: pid to node."""
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
            (SYSCTL_DIRECTORY / "ipv6/conf" / scope / switch).write_text(str(value))
    (SYSCTL_DIRECTORY / "ipv4/tcp_rmem").write_text(RECEIVE_BUFFER)


def _add_links(lab: str, node: str, plan: Topology) -> None:
    """The links whose left end is here; the right end is born where it belongs."""
    with IPRoute() as kernel:
        for link in plan.links:
            (left, interface), (right, right_interface) = link.left, link.right
            if left == node:
                peer = {
                    "ifname": right_interface,
                    "net_ns_fd": namespace(lab, right),
                    "mtu": MTU_OCTETS,
                }
                kernel.link("add", ifname=interface, kind="veth", mtu=MTU_OCTETS, peer=peer)


def _set_up(lab: str, node: str, plan: Topology) -> None:
    with IPRoute() as kernel:
        for interface in ("lo", *plan.interfaces(node)):
            kernel.link("set", index=index(kernel, interface), state="up")


def _configure(lab: str, node: str, plan: Topology) -> None:
    with IPRoute() as kernel:
        for address in plan.addresses:
            if address.node == node:
                change_address("add", kernel, address)
        for route in plan.routes:
            if route.node == node:
                change_route("add", kernel, route)
        for rule in plan.rules:
            if rule.node == node:
                kernel.rule("add", **_rule_arguments(rule))


def change_address(command: Literal["add", "del"], kernel: IPRoute, address: Address) -> None:
    """Adds an address that is usable at once, or deletes it, in the namespace we are in."""
    text, _, length = address.text.partition("/")
    kernel.addr(
        command,
        index=index(kernel, address.interface),
        family=socket.AF_INET6,
        address=text,
        prefixlen=int(length),
        flags=NO_DUPLICATE_DETECTION,
        preferred_lft=0 if address.deprecated else FOREVER,
        valid_lft=FOREVER,
    )


def change_route(command: Literal["add", "del"], kernel: IPRoute, route: Route) -> None:
    """Adds or deletes a route in the namespace we are in."""
    kernel.route(
        command,
        family=socket.AF_INET6,
        dst=route.destination,
        gateway=route.gateway,
        priority=route.metric,
        table=route.table,
    )


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
    """The one place where the errors of the kernel become ours."""
    try:
        yield
    except NetlinkError as error:
        raise PlatformError(operation, error.code, str(error.args[-1])) from None
    except OSError as error:
        advice = error.strerror or str(error)
        if error.errno in (errno.EPERM, errno.EACCES):
            advice += "; run as root"
        raise PlatformError(operation, error.errno or 0, advice) from None
