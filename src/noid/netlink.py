"""Everything noid says to rtnetlink; the one room besides the lab that imports pyroute2."""

import contextlib
import errno
import fnmatch
import functools
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from pyroute2 import IPRoute
from pyroute2.ethtool import Ethtool
from pyroute2.netlink.exceptions import NetlinkError

from noid import routes
from noid.errors import PlatformError
from noid.locators import Locator, format_locator, is_global_unicast, parse_locator

LOOPBACK = "lo"
SCOPE_GLOBAL = 0
TABLE_LOCAL = 255
FLAG_TEMPORARY = 0x01
FLAG_NO_DAD = 0x02
FLAG_DAD_FAILED = 0x08
FLAG_DEPRECATED = 0x20
FLAG_TENTATIVE = 0x40
UNUSABLE = FLAG_TEMPORARY | FLAG_DAD_FAILED | FLAG_TENTATIVE
LINK_CARRIES = 0x1 | 0x10000
"""IFF_UP and IFF_LOWER_UP: the link is wanted, and there is something at its other end."""
PASSING_ADDRESS = "fe80::6d36"
RULE_INVERT = 0x02
GROUPS = 0x1 | 0x100 | 0x400 | 0x40000
"""RTMGRP_LINK, _IPV6_IFADDR, _IPV6_ROUTE, and that of RTNLGRP_IPV6_RULE (linux/rtnetlink.h)."""
MESSAGE = struct.Struct("=IHHII")
"""struct nlmsghdr: octets, type, flags, sequence number, port."""
ROUTE_MESSAGES = frozenset({24, 25})
"""RTM_NEWROUTE, RTM_DELROUTE."""
ROUTE_UNICAST = 1
FAR_AWAY = "2000::"
"""An address of nobody's, to which the route of the wide world leads."""
FAR_AWAY_BITS = 16
"""A route that leads there has a prefix no longer than this."""
IPV6_CONF = Path("/proc/sys/net/ipv6/conf")
ADDRESS_GENERATION_NONE = "1"
ARPHRD_ETHER = 1
IFF_UP = 0x1
IFF_NOARP = 0x80
MTU_MAX = 65_535
"""Of a device of Ethernet's kind in Linux (ETH_MAX_MTU)."""
CLSACT_HANDLE = 0xFFFF0000
CLSACT_EGRESS = 0xFFFFFFF3
CLSACT_INGRESS = 0xFFFFFFF2
FILTER_PRIORITY = 0x6D36
"""Of our filters on clsact: what is there with another is somebody else's."""
CUTTING = ("tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation")
SUMMING = "tx-checksum-ip-generic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A network device whose packets the shim is to see.

    Attributes:
        index: its number.
        name: its name.
        mtu: octets of IPv6 it carries.
        has_ethernet: whether its packets have a link-layer header, of 14 octets.
        addresses: the IPv6 addresses on it.
        features: the names of what it does for the stack, as ``ethtool -k`` calls them.
    """

    index: int
    name: str
    mtu: int
    has_ethernet: bool
    addresses: frozenset[Locator]
    features: frozenset[str]


Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class OwnAddress(NamedTuple):
    """An address of this host that may be a locator.

    Attributes:
        locator: the address.
        interface: where it is.
        deprecated: nothing new should use it (RFC 4862 §5.5.4).
        broken: its link is down, or has lost its carrier [D20].
        leads_out: packets from it to the wide world leave by that interface.
    """

    locator: Locator
    interface: str
    deprecated: bool
    broken: bool
    leads_out: bool


def _on_worker(method: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Runs a method of HostNetwork on its worker thread, and waits for it.

    The netlink library runs an event loop of its own, which it cannot do on the thread of ours. A
    call takes about a millisecond, and few are made.
    """

    @functools.wraps(method)
    def call(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        network = arguments[0]
        assert isinstance(network, HostNetwork)
        return network.worker.submit(method, *arguments, **options).result()

    return call


class HostNetwork:
    """The addresses, routes, rules and devices of this host."""

    def __init__(self) -> None:
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="netlink")
        self._route = self.worker.submit(IPRoute).result()

    def close(self) -> None:
        """Closes the netlink socket."""
        self.worker.submit(self._route.close).result()
        self.worker.shutdown()

    @_on_worker
    def locators(self, interfaces: Sequence[str], *, excluded: str) -> tuple[OwnAddress, ...]:
        """The addresses that may be locators [D23], in the kernel's order.

        Global unicast, permanent or public, on an interface one of the globs names.

        Args:
            interfaces: globs such as ``eth*``.
            excluded: a device of our own that never counts.
        """
        links = {link["index"]: link for link in self._route.get_links()}
        found: list[OwnAddress] = []
        for address in self._route.get_addr(family=socket.AF_INET6):
            link = links.get(address["index"])
            if link is None:
                continue
            name = str(link.get("ifname"))
            flags = address.get("flags") or 0
            if name in (LOOPBACK, excluded) or address["scope"] != SCOPE_GLOBAL or flags & UNUSABLE:
                continue
            locator = parse_locator(str(address.get("address")))
            if is_global_unicast(locator) and any(
                fnmatch.fnmatchcase(name, pattern) for pattern in interfaces
            ):
                found.append(
                    OwnAddress(
                        locator,
                        name,
                        deprecated=bool(flags & FLAG_DEPRECATED),
                        broken=(link["flags"] & LINK_CARRIES) != LINK_CARRIES,
                        leads_out=self._leads_out(locator, link["index"]),
                    )
                )
        return tuple(found)

    def _leads_out(self, source: Locator, index: int) -> bool:
        """Whether policy routing takes packets from an address out by a certain interface."""
        try:
            routes = list(
                self._route.route(
                    "get",
                    family=socket.AF_INET6,
                    dst=FAR_AWAY,
                    src=format_locator(source),
                    oif=index,
                )
            )
        except NetlinkError:
            return False
        return any(route.get("oif") == index and route["type"] == ROUTE_UNICAST for route in routes)

    @_on_worker
    def least_mtu(self, interfaces: Sequence[str], default: int) -> int:
        """The least MTU among the interfaces that are up and that one of the globs names."""
        mtus = [
            int(link.get("mtu"))
            for link in self._route.get_links()
            if link.get("ifname") != LOOPBACK
            and link["flags"] & 1
            and any(fnmatch.fnmatchcase(str(link.get("ifname")), one) for one in interfaces)
        ]
        return min(mtus, default=default)

    @_on_worker
    def devices(self, interfaces: Sequence[str], *, excluded: Sequence[str]) -> tuple[Device, ...]:
        """The devices one of the globs names, that are up, loopback and ``excluded`` apart."""
        addresses: dict[int, set[Locator]] = {}
        for one in self._route.get_addr(family=socket.AF_INET6):
            addresses.setdefault(one["index"], set()).add(parse_locator(str(one.get("address"))))
        with Ethtool() as ethtool:
            return tuple(
                Device(
                    index=int(link["index"]),
                    name=name,
                    mtu=int(link.get("mtu")),
                    has_ethernet=link["ifi_type"] == ARPHRD_ETHER,
                    addresses=frozenset(addresses.get(link["index"], ())),
                    features=_features(ethtool, name),
                )
                for link in self._route.get_links()
                if (name := str(link.get("ifname"))) not in (LOOPBACK, *excluded)
                and link["flags"] & IFF_UP
                and any(fnmatch.fnmatchcase(name, one) for one in interfaces)
            )

    @_on_worker
    def make_pair(self, name: str, other: str, *, mtu: int, sums: bool) -> tuple[int, int]:
        """Two devices of ours, joined; those an earlier run left behind are taken over.

        What is sent on ``name`` arrives on ``other`` cut to segments, since neither says it could
        take super-packets, and summed up unless ``sums`` says that a later device will do that. How
        long they may be the uplinks say, each for its own: ``other`` takes any.

        Args:
            name: of the device that packets are sent to.
            other: of the one they come out of.
            mtu: of the first, for what has no other route.
            sums: whether sums may be left to a later device.

        Returns:
            The index of each.
        """
        with _explained(f"devices {name} and {other}"):
            if not self._route.link_lookup(ifname=name):
                self._route.link("add", ifname=name, kind="veth", peer={"ifname": other})
            found = []
            for one, octets in ((name, mtu), (other, MTU_MAX)):
                index = int(self._route.link_lookup(ifname=one)[0])
                (IPV6_CONF / one / "addr_gen_mode").write_text(ADDRESS_GENERATION_NONE)
                self._route.link("set", index=index, mtu=octets, flags=IFF_NOARP, change=IFF_NOARP)
                self._route.link("set", index=index, state="up")
                found.append(index)
            with Ethtool() as ethtool:
                answer = ethtool.get_features(name)
                for feature in CUTTING:
                    answer.features[feature].enable = False
                answer.features[SUMMING].enable = sums
                ethtool.set_features(name, answer)
            return found[0], found[1]

    @_on_worker
    def remove_device(self, name: str) -> bool:
        """Removes a device of ours; returns whether it was there."""
        indexes = self._route.link_lookup(ifname=name)
        for index in indexes:
            with contextlib.suppress(NetlinkError):
                self._route.link("del", index=index)
        return bool(indexes)

    @_on_worker
    def attach_filter(self, ifindex: int, program: int, *, egress: bool) -> None:
        """Puts a BPF program on a device by clsact, in the place of ours that may be there."""
        with _explained("attach the BPF programs by clsact"):
            with contextlib.suppress(NetlinkError):
                self._route.tc("add", "clsact", ifindex)
            self._route.tc(
                "replace-filter",
                "bpf",
                ifindex,
                handle=1,
                fd=program,
                name="noid",
                parent=CLSACT_EGRESS if egress else CLSACT_INGRESS,
                prio=FILTER_PRIORITY,
                classid=1,
                direct_action=True,
            )

    @_on_worker
    def detach_filters(self, ifindex: int) -> bool:
        """Removes our programs from a device's clsact, and that too if nobody else uses it.

        Returns:
            Whether there were any.
        """
        found = left = 0
        for parent in (CLSACT_EGRESS, CLSACT_INGRESS):
            try:
                self._route.tc("del-filter", "bpf", ifindex, parent=parent, prio=FILTER_PRIORITY)
                found += 1
            except NetlinkError:
                continue
            left += len(list(self._route.get_filters(index=ifindex, parent=parent)))
        if found and not left:
            with contextlib.suppress(NetlinkError):
                self._route.tc("del", "clsact", ifindex)
        return bool(found)

    @_on_worker
    def bring_up(self, device: str, mtu: int) -> int:
        """Takes a device of ours into use, without addresses; returns its index."""
        with _explained(f"device {device}"):
            (IPV6_CONF / device / "addr_gen_mode").write_text(ADDRESS_GENERATION_NONE)
            index = int(self._route.link_lookup(ifname=device)[0])
            self._route.link("set", index=index, mtu=mtu, state="up")
            return index

    @_on_worker
    def add_rule(
        self, *, priority: int, table: int, except_mark: int, keep_routes: bool = False
    ) -> None:
        """Lets every packet but those with a mark consult a routing table, at a priority.

        A rule that an earlier run left behind is taken over, and its routes if they are to be kept.
        """
        if keep_routes and self._rules(priority, table):
            return
        self._remove_rule(priority, table)
        with _explained(f"ip -6 rule priority {priority}"):
            self._route.rule(
                "add",
                family=socket.AF_INET6,
                priority=priority,
                table=table,
                fwmark=except_mark,
                flags=RULE_INVERT,
            )

    @_on_worker
    def remove_rule(self, *, priority: int, table: int) -> bool:
        """Removes the rules at a priority that consult a table, and the routes of the table.

        Returns:
            Whether there were such rules.
        """
        return self._remove_rule(priority, table)

    def _remove_rule(self, priority: int, table: int) -> bool:
        found = False
        with contextlib.suppress(NetlinkError):
            self._route.flush_routes(family=socket.AF_INET6, table=table)
        for _ in range(self._rules(priority, table)):
            found = True
            with contextlib.suppress(NetlinkError):
                self._route.rule("del", family=socket.AF_INET6, priority=priority, table=table)
        return found

    def _rules(self, priority: int, table: int) -> int:
        """How many rules there are at a priority that consult a table."""
        return sum(
            rule.get("priority") == priority and rule.get("table") == table
            for rule in self._route.get_rules(family=socket.AF_INET6)
        )

    @_on_worker
    def lead(self, aid: Locator, *, device: int, table: int, source: Locator | None) -> None:
        """Routes one address to a device, with the source that programs get by default."""
        with _explained(f"route to {format_locator(aid)}"):
            self._route.route(
                "replace",
                family=socket.AF_INET6,
                dst=f"{format_locator(aid)}/128",
                oif=device,
                table=table,
                **({} if source is None else {"prefsrc": format_locator(source)}),
            )

    @_on_worker
    def lead_all(self, aids: Sequence[Locator], *, device: int, table: int) -> int:
        """Routes very many addresses to a device; returns how many the kernel refused."""
        with _explained("routes to the peers"):
            return routes.change(aids, device=device, table=table)

    @_on_worker
    def unlead_all(self, aids: Sequence[Locator], *, device: int, table: int) -> None:
        """Removes very many such routes."""
        with _explained("routes to the peers"):
            routes.change(aids, device=device, table=table, remove=True)

    @_on_worker
    def led(self, *, device: int, table: int) -> set[Locator]:
        """The addresses that a routing table leads to a device, one by one."""
        with _explained(f"routes of table {table}"):
            return routes.leading_to(device, table)

    @_on_worker
    def unlead(self, aid: Locator, *, table: int) -> None:
        """Removes such a route; one that is gone already is no error."""
        with contextlib.suppress(NetlinkError):
            self._route.route(
                "del", family=socket.AF_INET6, dst=f"{format_locator(aid)}/128", table=table
            )

    @_on_worker
    def keep_local(self, aid: Locator) -> None:
        """Lets the host take in what comes for an address that it has no more [D23]."""
        with _explained(f"local route to {format_locator(aid)}"):
            self._route.route("replace", **self._local_route(aid))

    @_on_worker
    def leave_local(self, aid: Locator) -> None:
        """Ends that; where it has ended already that is no error."""
        with contextlib.suppress(NetlinkError):
            self._route.route("del", **self._local_route(aid))

    def _local_route(self, aid: Locator) -> dict[str, Any]:
        return {
            "family": socket.AF_INET6,
            "type": "local",
            "table": TABLE_LOCAL,
            "dst": f"{format_locator(aid)}/128",
            "oif": self._route.link_lookup(ifname=LOOPBACK)[0],
        }

    @_on_worker
    def forget_cached_routes(self, device: int) -> None:
        """Makes every socket of the host look its route up again.

        A connected socket keeps the route it found, and a more specific one that appears later in
        another table does not disturb it. Whenever an address comes or goes, the kernel forgets all
        such routes; so one comes and goes, on a device of ours, where nobody can use it.
        """
        with _explained("forgetting cached routes"):
            for command in ("add", "del"):
                self._route.addr(
                    command,
                    index=device,
                    family=socket.AF_INET6,
                    address=PASSING_ADDRESS,
                    prefixlen=128,
                    flags=FLAG_NO_DAD,
                )

    @_on_worker
    def local_addresses(self) -> frozenset[Locator]:
        """Every address of this host's, whatever device has it.

        Not read out of the local routes: with them come all others, and a router has very many.
        """
        with _explained("reading local addresses"):
            found = self._route.get_addr(family=socket.AF_INET6)
            return frozenset(parse_locator(str(one.get("address"))) for one in found)

    @_on_worker
    def default_source(self, destination: Locator, *, mark: int) -> Locator | None:
        """The source the kernel would choose for a destination, the shim apart."""
        try:
            routes = list(
                self._route.route(
                    "get", family=socket.AF_INET6, dst=format_locator(destination), mark=mark
                )
            )
        except NetlinkError:
            return None
        text = routes[0].get("prefsrc") if routes else None
        return None if text is None else parse_locator(str(text))

    @_on_worker
    def uplink(self, source: Locator, destination: Locator) -> str | None:
        """The device by which a packet between these leaves, as policy routing has it."""
        ends = {"src": format_locator(source), "dst": format_locator(destination)}
        try:
            routes = list(self._route.route("get", family=socket.AF_INET6, **ends))
            links = list(self._route.link("get", index=int(routes[0].get("oif")))) if routes else []
        except NetlinkError:
            return None
        return str(links[0].get("ifname")) if links else None


def _features(ethtool: Ethtool, name: str) -> frozenset[str]:
    """What a device does for the stack; nothing where it does not say."""
    try:
        answer = ethtool.get_features(name)
    except (NetlinkError, OSError):
        return frozenset()
    return frozenset(name for name, feature in answer.features.items() if feature.enable)


def network_changes() -> socket.socket:
    """A socket that becomes readable when a device, address, route or rule of IPv6 changes.

    ``heard_change`` reads it; HostNetwork says what there is now.
    """
    watching = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    watching.setblocking(False)
    watching.bind((0, GROUPS))
    return watching


def heard_change(watching: socket.socket) -> bool:
    """Reads all there is to read, and whether any of it may matter.

    Routes to somewhere in particular do not: many come and go, and some are ours.
    """
    matters = False
    while True:
        try:
            data = watching.recv(65536)
        except BlockingIOError:
            return matters
        except OSError:
            return True  # there was too much of it to keep
        at = 0
        while at + MESSAGE.size < len(data):
            octets, kind, *_ = MESSAGE.unpack_from(data, at)
            prefix_bits = data[at + MESSAGE.size + 1]
            matters |= kind not in ROUTE_MESSAGES or prefix_bits <= FAR_AWAY_BITS
            at += max(octets + 3 & ~3, MESSAGE.size)


@contextlib.contextmanager
def _explained(operation: str) -> Iterator[None]:
    """A refusal by the kernel, as a PlatformError that says what to do."""
    try:
        yield
    except NetlinkError as error:
        number = int(error.code)
        raise PlatformError(operation, number, _advice(number, str(error))) from None
    except OSError as error:
        number = error.errno or 0
        raise PlatformError(operation, number, _advice(number, str(error.strerror))) from None


def _advice(number: int, text: str) -> str:
    if number in (errno.EPERM, errno.EACCES):
        return "permission denied; run as root, or with CAP_NET_ADMIN and CAP_NET_RAW"
    if number == errno.EAFNOSUPPORT:
        return "this kernel has no IPv6 policy routing (CONFIG_IPV6_MULTIPLE_TABLES)"
    return text
