# SPDX-License-Identifier: MIT
"""Reads and changes links, addresses, routes and rules of this host by the netlink library."""

import contextlib
import errno
import functools
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from noid.errors import PlatformError
from noid.host import clsact, routes
from noid.host.library import Ethtool, IPRoute, NetlinkError
from noid.host.links import (
    FAR_AWAY,
    FLAG_NO_DAD,
    FLAG_NO_PREFIX_ROUTE,
    PASSING_ADDRESS,
    SCOPE_GLOBAL,
)
from noid.host.lookup import Packet
from noid.host.pairs import Pair, veth
from noid.host.reading import IPV6_CONF, Reader, own_end
from noid.host.routes import Difference, PeerRoute
from noid.host.rules import Rule, read_rule
from noid.host.survey import Survey
from noid.locators import Locator, format_locator

FOREVER = 0xFFFFFFFF
NO_DEVICE = -1
"""In the place of the index of the device to which a route leads."""
NEIGHBOUR_INCOMPLETE = 0x01
NEIGHBOUR_VALID = 0x02 | 0x04 | 0x08 | 0x10
"""NUD_REACHABLE, _STALE, _DELAY and _PROBE: it has answered, lately or long ago."""
NEIGHBOUR_PERMANENT = 0x80
NEIGHBOUR_ROUTER = 0x80
"""NTF_ROUTER: the kernel keeps what it learns of the MTU of paths behind a neighbour."""
NEIGHBOUR_USE = 0x01
"""NTF_USE (linux/neighbour.h): treats the entry as if a packet were sent to the neighbour."""
MULTICAST = "ff00::/8"
TABLE_LOCAL = 255
ADDRESS_GENERATION_NONE = "1"
IFF_NOARP = 0x80
MTU_MAX = 65_535
"""Of a device of Ethernet's kind in Linux (ETH_MAX_MTU)."""
CUTTING = ("tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation")
SUMMING = "tx-checksum-ip-generic"


Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _on_worker(method: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Runs a method of HostNetwork on its worker thread, and waits for it.

    The netlink library runs an event loop of its own, which it cannot do on the thread of ours. A
    call takes about a millisecond, and few are made. A refusal is raised as PlatformError.
    """

    @functools.wraps(method)
    def call(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        network = arguments[0]
        assert isinstance(network, HostNetwork)
        with _explained(method.__name__):
            return network.worker.submit(method, *arguments, **options).result()

    return call


class HostNetwork:
    """The addresses, routes, rules and devices of this host."""

    def __init__(self) -> None:
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="netlink")
        self._route = self.worker.submit(IPRoute).result()
        self._ethtool = self.worker.submit(Ethtool).result()
        self._reader = Reader(self._route, self._ethtool)

    def close(self) -> None:
        """Closes the netlink socket."""
        self.worker.submit(self._ethtool.close).result()
        self.worker.submit(self._route.close).result()
        self.worker.shutdown()

    @_on_worker
    def survey(self, interfaces: Sequence[str], *, excluded: Sequence[str]) -> Survey:
        """The current state of this host.

        Args:
            interfaces: globs of the uplinks, such as ``eth*``.
            excluded: devices of our own, which never count.

        Raises:
            PlatformError: the kernel does not say.
        """
        with _explained("reading links, addresses and rules"):
            return self._reader.survey(interfaces, excluded)

    @_on_worker
    def make_pair(
        self, name: str, other: str, *, mtu: int, sums: bool, before: Pair | None = None
    ) -> Pair:
        """Two joined devices of noid; those of an earlier run are reused.

        What is sent on ``name`` arrives on ``other`` cut to segments, since neither says it could
        take super-packets, and summed up unless ``sums`` says that a later device will do that. How
        long they may be the uplinks say, each for its own: ``other`` takes any, but for IPv6.

        Args:
            name: of the device that packets are sent to.
            other: of the one they come out of.
            mtu: of the first, for what has no other route.
            sums: whether sums may be left to a later device.
            before: what they were before others removed them, and are to be again.
        """
        with _explained(f"devices {name} and {other}"):
            if not self._route.link_lookup(ifname=name):
                self._route.link("add", **veth(name, other, before))
            found = []
            for one, octets in ((name, mtu), (other, MTU_MAX)):
                index = int(self._route.link_lookup(ifname=one)[0])
                (IPV6_CONF / one / "addr_gen_mode").write_text(ADDRESS_GENERATION_NONE)
                self._route.link("set", index=index, mtu=octets, flags=IFF_NOARP, change=IFF_NOARP)
                self._route.link("set", index=index, state="up")
                self._remove_multicast_route(index)
                found.append(index)
            with Ethtool() as ethtool:
                answer = ethtool.get_features(name)
                for feature in CUTTING:
                    answer.features[feature].enable = False
                answer.features[SUMMING].enable = sums
                ethtool.set_features(name, answer)
            (link,) = self._route.link("get", index=found[1])
            (IPV6_CONF / other / "mtu").write_text(str(mtu))
            return Pair(found[0], found[1], bytes.fromhex(link.get("address").replace(":", "")))

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
        """Attaches a BPF program to a device by clsact, in place of our previous one."""
        with _explained("attach the BPF programs by clsact"):
            clsact.attach(self._route, ifindex, program, egress=egress)

    @_on_worker
    def has_filter(self, ifindex: int, *, egress: bool) -> bool:
        """Whether our program is still on a device by clsact."""
        return clsact.has_ours(self._route, ifindex, egress=egress)

    @_on_worker
    def detach_filters(self, ifindex: int) -> bool:
        """Removes our programs from a device's clsact; returns whether there were any."""
        return clsact.detach(self._route, ifindex)

    @_on_worker
    def detach_egress_filter(self, ifindex: int) -> bool:
        """Removes our program from what leaves by a device; returns whether there was one."""
        return clsact.detach(self._route, ifindex, [clsact.EGRESS])

    @_on_worker
    def bring_up(self, device: str, mtu: int) -> int:
        """Sets a device of noid up, without addresses or neighbours; returns its index."""
        with _explained(f"device {device}"):
            (IPV6_CONF / device / "addr_gen_mode").write_text(ADDRESS_GENERATION_NONE)
            index = int(self._route.link_lookup(ifname=device)[0])
            self._route.link("set", index=index, mtu=mtu, flags=IFF_NOARP, change=IFF_NOARP)
            self._route.link("set", index=index, state="up")
            self._remove_multicast_route(index)
            return index

    def _remove_multicast_route(self, index: int) -> None:
        """Prevents programs from sending multicast by a device of noid.

        The kernel adds such a route to a device that is set up or gets an address.
        """
        with contextlib.suppress(NetlinkError):
            family, kind = socket.AF_INET6, "multicast"
            self._route.route(
                "del", family=family, dst=MULTICAST, oif=index, table=TABLE_LOCAL, type=kind
            )

    @_on_worker
    def add_rules(self, rules: Collection[Rule]) -> None:
        """Adds rules, those that are tried last first; no error if one exists.

        Raises:
            PlatformError: the kernel refuses one; the others are added.
        """
        refused: list[PlatformError] = []
        for rule in sorted(rules, key=lambda one: one.priority, reverse=True):
            try:
                with _explained(f"ip -6 rule priority {rule.priority}"):
                    self._route.rule("add", **rule.arguments())
            except PlatformError as error:
                refused += [error] * (error.errno != errno.EEXIST)
        if refused:
            raise refused[0]

    @_on_worker
    def remove_rules(self, rules: Collection[Rule]) -> None:
        """Removes rules, those that are tried first first; no error if one does not exist.

        Of one priority, those that select by most first: what a request does not name may have any
        value in the rule that the kernel removes.
        """
        for rule in sorted(rules, key=lambda one: (one.priority, -len(one.arguments()))):
            with contextlib.suppress(NetlinkError):
                self._route.rule("del", **rule.arguments())

    @_on_worker
    def rules(self) -> tuple[Rule, ...]:
        """Every policy routing rule for IPv6."""
        with _explained("reading rules"):
            return tuple(map(read_rule, self._route.get_rules(family=socket.AF_INET6)))

    @_on_worker
    def drop_queued(self, device: int) -> None:
        """Drops the packets that wait for a neighbour on a device, which may never answer.

        TCP sends nothing again that is still in a queue of its own host.
        """
        with contextlib.suppress(NetlinkError):
            for one in self._route.get_neighbours(family=socket.AF_INET6, ifindex=device):
                if one["state"] & NEIGHBOUR_INCOMPLETE:
                    self._route.neigh("del", ifindex=device, dst=one.get("dst"))

    # Routes have sockets of their own. They do not wait for the worker, nor it for them.

    def add_routes(self, wanted: Sequence[PeerRoute]) -> int:
        """Adds routes to single addresses; returns how many the kernel refused."""
        with _explained("routes to the peers"):
            return routes.add(wanted)

    def remove_routes(self, gone: Sequence[PeerRoute]) -> None:
        """Removes such routes; one that is gone already is no error."""
        with _explained("routes to the peers"):
            routes.remove(gone)

    def routes(self, table: int, count: int = 1) -> set[PeerRoute]:
        """The routes to single addresses of a routing table, and of some that follow it."""
        with _explained(f"routes of table {table}"):
            return routes.listed(table, count)

    def difference(self, table: int, wanted: Iterable[PeerRoute]) -> Difference:
        """How a routing table differs from the routes to single addresses that it is to have."""
        with _explained(f"routes of table {table}"):
            return routes.difference(table, wanted)

    def refused(self, packets: Sequence[Packet]) -> set[Packet]:
        """Returns those of some packets that the host refuses by their destination."""
        with _explained("routes to the peers"):
            return self._reader.refused(packets)

    @_on_worker
    def keep_neighbour(self, device: int, address: Locator, link: bytes) -> bool:
        """Adds a permanent neighbour to a device if it is missing; returns whether it was.

        Raises:
            PlatformError: the kernel refuses, such as when the device is gone.
        """
        entry = {
            "family": socket.AF_INET6,
            "ifindex": device,
            "dst": format_locator(address),
            "lladdr": link.hex(":"),
            "state": NEIGHBOUR_PERMANENT,
            "flags": NEIGHBOUR_ROUTER,
        }
        with _explained(f"neighbour {entry['dst']}"):
            # What is looked for right after a deletion is there, and not permanent.
            for one in self._neighbour(device, format_locator(address)):
                is_same = one.get("lladdr") == entry["lladdr"]
                is_kept = one["state"] & NEIGHBOUR_PERMANENT and one["flags"] & NEIGHBOUR_ROUTER
                if is_same and is_kept:
                    return False
            self._route.neigh("replace", **entry)
        return True

    def _neighbour(self, device: int, address: str) -> list[Any]:
        """One entry, not all: a network can fill the table."""
        try:
            ends = {"family": socket.AF_INET6, "ifindex": device, "dst": address}
            return list(self._route.neigh("get", **ends))
        except NetlinkError as error:
            if error.code != errno.ENOENT:
                raise
            return []

    @_on_worker
    def remove_neighbour(self, device: int, address: Locator) -> None:
        """Removes a neighbour; one that is gone already is no error."""
        with contextlib.suppress(NetlinkError):
            text = format_locator(address)
            self._route.neigh("del", family=socket.AF_INET6, ifindex=device, dst=text)

    @_on_worker
    def ask_for_gateways(self, sources: Collection[Locator]) -> None:
        """Makes the kernel verify that the gateways of some addresses are reachable.

        It does so by itself only when something is sent to them. A gateway that is replaced while
        everything leaves by another uplink would be known by the link-layer address it had.
        """
        for source in sources:
            route = self._reader.taken(FAR_AWAY, source=source)
            if route.gateway is not None:
                with contextlib.suppress(NetlinkError):
                    self._use_neighbour(route.device, format_locator(route.gateway))

    @_on_worker
    def answered_for(self, addresses: Mapping[Locator, int]) -> frozenset[Locator]:
        """The addresses that a neighbour on a device has answered for.

        Asks for each address, so that a later call knows.

        Args:
            addresses: the addresses, each with the index of the device.
        """
        found = set()
        for address, device in addresses.items():
            text = format_locator(address)
            with contextlib.suppress(NetlinkError):
                if any(one["state"] & NEIGHBOUR_VALID for one in self._neighbour(device, text)):
                    found.add(address)
                self._use_neighbour(device, text)
        return frozenset(found)

    def _use_neighbour(self, device: int, address: str) -> None:
        """Makes the kernel verify that a neighbour is reachable; a permanent entry stays."""
        with contextlib.suppress(NetlinkError):
            if any(one["state"] & NEIGHBOUR_PERMANENT for one in self._neighbour(device, address)):
                return  # the kernel would forget what the operator has set
        ends = {"family": socket.AF_INET6, "ifindex": device, "dst": address}
        self._route.neigh("replace", flags=NEIGHBOUR_USE, state=0, **ends)

    @_on_worker
    def neighbour_devices(self, address: Locator) -> frozenset[int]:
        """The devices that have a certain permanent neighbour."""
        with _explained("reading neighbours"):
            text = format_locator(address)
            found = self._route.get_neighbours(family=socket.AF_INET6, dst=text)
            return frozenset(
                int(one["ifindex"]) for one in found if one["state"] == NEIGHBOUR_PERMANENT
            )

    @_on_worker
    def add_address(self, aid: Locator, device: int) -> None:
        """Adds an address of this host to a device of noid, for connections that use it [D23].

        It is deprecated there, so that nothing new is sent from it.
        """
        with _explained(f"address {format_locator(aid)}"):
            self._route.addr("replace", preferred=0, valid=FOREVER, **_host_address(aid, device))
            self._remove_multicast_route(device)

    @_on_worker
    def remove_address(self, aid: Locator, device: int) -> None:
        """Removes that address again; no error if it is not there."""
        with contextlib.suppress(NetlinkError):
            self._route.addr("del", **_host_address(aid, device))

    @_on_worker
    def addresses_on(self, device: int) -> frozenset[Locator]:
        """The addresses of global scope on a device."""
        with _explained("reading addresses"):
            found = self._route.get_addr(family=socket.AF_INET6, index=device)
            return frozenset(
                own_end(one)
                for one in found
                if one["scope"] == SCOPE_GLOBAL and one["index"] == device
            )

    @_on_worker
    def forget_cached_routes(self, device: int) -> None:
        """Makes every socket of the host look up its route again.

        A connected socket caches its route. A more specific route that is added later in
        another table does not invalidate it. The kernel invalidates all cached routes when an
        address is added or deleted; so noid adds and deletes one, on a device without traffic.
        """
        with _explained("forgetting cached routes"):
            for command in ("replace", "del"):  # it is there if its removal failed before
                self._route.addr(
                    command,
                    index=device,
                    family=socket.AF_INET6,
                    address=format_locator(PASSING_ADDRESS),
                    prefixlen=128,
                    flags=FLAG_NO_DAD,
                )
            self._remove_multicast_route(device)

    @_on_worker
    def default_route(self, destination: Locator, *, mark: int) -> tuple[Locator | None, int]:
        """The route to a destination that the kernel would use without the shim.

        Returns:
            The source it would choose, and the index of the device; None and 0 if there is no
            route, None and NO_DEVICE if the operator's route says that nothing is to be sent.
        """
        return self._reader.default_route(destination, no_device=NO_DEVICE, mark=mark)

    @_on_worker
    def uplink(self, source: Locator, destination: Locator) -> str | None:
        """The device by which a packet between these leaves, as policy routing has it."""
        device = self._reader.taken(destination, source=source).device
        with contextlib.suppress(NetlinkError):
            if device:
                return str(next(iter(self._route.link("get", index=device))).get("ifname"))
        return None


def _host_address(aid: Locator, device: int) -> dict[str, Any]:
    return {
        "index": device,
        "family": socket.AF_INET6,
        "address": format_locator(aid),
        "prefixlen": 128,
        "flags": FLAG_NO_DAD | FLAG_NO_PREFIX_ROUTE,
    }


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
