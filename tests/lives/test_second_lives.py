# SPDX-License-Identifier: MIT
"""After any history a plane without flows is as it was before its first one."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from noid.constants import MTU_MIN
from noid.counters import PlaneCounter
from noid.flows.clock import FlowClock
from noid.flows.flow import Flow
from noid.host.netlink import HostNetwork
from noid.host.routes import Prefix
from noid.identifiers import Label
from noid.locators import Locator, is_global_unicast, parse_locator
from noid.planes import paced
from noid.planes.bpf import kernel_flows, layout
from noid.planes.bpf.limits import Limits
from noid.planes.bpf.pins import own_devices, take_down
from noid.planes.bpf.plane import BpfPlane
from noid.planes.rows import CUTS_TCP
from noid.planes.rules import ours_among
from noid.planes.tun import TunPlane
from noid.planes.uplink import NO_UPLINK
from noid.wire import icmpv6, ipv6
from tests.contents import attributes, sizes
from tests.namespaces import in_network_namespace, ip
from tests.planes.keeping import (
    AID,
    OTHER,
    end_and_leave,
    make_plane,
    make_uplinks,
    set_features,
)
from tests.planes.test_bpf import random_flow

SEEDS = range(4)
STEPS = 60
CONTEXTS = 16
LABELS = range(1, 9)
OWN = (AID, OTHER)
PEERS = [parse_locator(f"2001:db8:3::{number:x}") for number in range(1, 25)]
OF_PEERS, REFUSED = "2001:db8:3::/64", "2001:db8:3::1/128"
PUT_OFF_S = 0.3
"""Longer than anything is put off, with nothing before it."""
KEPT = parse_locator("2001:db8:7::7")
GLOB = ("up*",)
OF_TABLES = frozenset({"outbound", "inbound", "far", "watched", "activities"})
COUNTED = frozenset({"counts", "unknown", "control", "named"})
GROWING = COUNTED | {"seen"}
"""What counts, and what the last look at the host found."""
KEPT_ON_PURPOSE = {"inquiries._peers", "steering.uplinks"}
"""The set of watched peers, which has another name there, and each row that there was."""
NOT_STATE = frozenset({"network", "section", "refused", "own", "uplinks", "rules"})


@dataclass
class Life:
    """A plane and what was done to it.

    Attributes:
        plane: started.
        network: the host's.
        chance: decides everything.
        watched: the peers that are watched.
        flows: those that are installed, by F(local).
    """

    plane: BpfPlane | TunPlane
    network: HostNetwork
    chance: random.Random
    watched: set[Locator] = field(default_factory=set)
    flows: dict[int, Flow] = field(default_factory=dict)

    # --- what may happen --------------------------------------------------------------------------

    def install(self) -> None:
        """A context begins or changes; its peer is watched first, as the engine does it."""
        flow = self.flow(Label(self.chance.choice(LABELS)))
        others = [
            label
            for label, other in self.flows.items()
            if other.local_aid + other.peer_aid == flow.local_aid + flow.peer_aid
        ]
        if not flow.aside:
            self.watch_one(flow.peer_aid)
        self.plane.install(flow)
        for label in others:
            self.forget(Label(label))
        self.flows[flow.local_label] = flow

    def flow(self, label: Label) -> Flow:
        """Any flow with locators of this host and its peers; a label keeps its AIDs."""
        found, before = random_flow(self.chance), self.flows.get(label)
        own = list(OWN)
        peers = self.chance.sample(PEERS, self.chance.choice((1, 2, 5, 16)))
        self.chance.shuffle(own)
        if before is not None:
            own.sort(key=before.local_aid.__ne__)
            peers = [before.peer_aid, *(one for one in peers if one != before.peer_aid)][:16]
        found.local_label = label
        found.local_aid, found.local_locator = own
        found.peer_aid, found.peer_locator = peers[0], self.chance.choice(peers)
        found.local_locators, found.peer_locators = frozenset(own), frozenset(peers)
        found.verified_locators = frozenset(peers) if found.transmits else frozenset()
        return found

    def forget(self, label: Label) -> None:
        if label in self.flows:
            self.plane.remove(label)
            del self.flows[label]

    def remove(self) -> None:
        """A context goes, and its peer with it, if no other has it."""
        self.forget(Label(self.chance.choice(LABELS)))
        used = {flow.peer_aid for flow in self.flows.values()}
        for aid in self.watched - used:
            self.plane.unwatch(aid)
        self.watched &= used

    def watch(self) -> None:
        """The kernel's table has no room for all of them."""
        for aid in self.chance.sample(PEERS, len(PEERS) // 2):
            self.watch_one(aid)

    def watch_one(self, aid: Locator) -> None:
        self.plane.watch(aid)
        self.watched.add(aid)

    def take_up(self) -> None:
        """A flow of an earlier daemon."""
        free = [label for label in LABELS if label not in self.flows]
        if not free:
            return
        flow = self.flow(Label(free[0]))
        taken = {other.local_aid + other.peer_aid for other in self.flows.values()}
        if flow.local_aid + flow.peer_aid not in taken and not flow.aside:
            self.plane.take_up([flow], [FlowClock()], [flow.peer_aid])
            self.watched.add(flow.peer_aid)
            self.flows[flow.local_label] = flow

    def keep_address(self) -> None:
        self.plane.keep_address(KEPT, kept=self.chance.random() < 0.5)

    def see(self) -> None:
        self.plane.network_changed(self.network.survey(GLOB, excluded=own_devices("noid0")))

    def lead_elsewhere(self) -> None:
        """A VPN begins or ends, by which the host reaches its peers."""
        verb = "replace" if self.chance.random() < 0.5 else "flush"
        ip(f"route {verb} {OF_PEERS} dev vpn")
        self.plane.routes_changed([Prefix(PEERS[0], 64)])

    def refuse(self) -> None:
        """The operator refuses packets to a peer, or does not any more."""
        verb = "replace blackhole" if self.chance.random() < 0.5 else "flush exact"
        ip(f"route {verb} {REFUSED}")
        self.plane.routes_changed([Prefix(PEERS[0], 64)])

    def narrow(self) -> None:
        """A router says that the path to a peer carries less."""
        aid = self.chance.choice(PEERS)
        quote = ipv6.Header(source=AID, destination=aid, next_header=ipv6.UDP, payload_octets=8)
        error = icmpv6.ErrorMessage(
            type=icmpv6.PACKET_TOO_BIG, code=0, value=MTU_MIN + 20, quote=quote.encode() + bytes(8)
        )
        self.plane.deliver(error.encode_packet(aid, AID))

    def change_locators(self) -> None:
        """Some addresses are to be left, or not."""
        self.plane.locators_changed()

    def lose_uplink(self) -> None:
        """The second uplink goes down, or its device is removed and another made."""
        if "up2" not in names():
            return
        index = socket.if_nametoindex("up2")
        if self.chance.random() < 0.5:
            ip("link set up2 down")
        else:
            ip("link del up2")
        self.plane.link_lost(index, is_up=False)
        if self.chance.random() < 0.5:
            ip("link add up3 type veth peer name far3")
            bring_up("up3", "far3", "2001:db8:4::1")
            self.see()
            ip("link del up3")
        self.see()

    def change_features(self) -> None:
        """The second uplink is to have a program by XDP, or none."""
        if "up2" in names():
            self.take_early(self.chance.random() < 0.5)
            self.see()

    def take_early(self, early: bool) -> None:
        set_features("up2", {"rx-gro": early, CUTS_TCP: not early})

    def regain_uplink(self) -> None:
        if "up2" not in names():
            ip("link add up2 type veth peer name far2")
        bring_up("up2", "far2", "2001:db8:2::1")
        self.see()

    # --- what must hold ---------------------------------------------------------------------------

    @property
    def steps(self) -> list[Callable[[], None]]:
        """What may happen to any plane."""
        return [
            self.install, self.install, self.install, self.remove, self.watch, self.keep_address,
            self.see, self.lead_elsewhere, self.change_locators, self.refuse, self.narrow,
        ]  # fmt: skip

    async def go(self, step: Callable[[], None]) -> None:
        """Takes a step; what is put off is done before the next one, or not."""
        step()
        if self.chance.random() < 0.5:
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Everything goes, and the host is as in the beginning."""
        for label in list(self.flows):
            self.forget(Label(label))
        for aid in self.watched:
            self.plane.unwatch(aid)
        self.plane.keep_address(KEPT, kept=False)
        self.regain_uplink()
        self.take_early(False)
        ip(f"route flush {OF_PEERS} dev vpn")
        ip(f"route flush exact {REFUSED}")
        self.plane.routes_changed([Prefix(PEERS[0], 64)])
        self.see()
        await asyncio.sleep(PUT_OFF_S)
        for table in self.plane.tables_of_routes():
            found = self.network.difference(table, self.plane.wanted_routes(table))
            assert not found.extra
            self.plane.correct_table(table, found)

    def routes(self) -> set[tuple[Locator, int, str, int]]:
        """The routes in the tables of the plane, with devices by their names."""
        device, first = devices(), self.plane.section.table
        return {
            (route.aid, table, device[route.device], route.metric)
            for table in range(first, first + 8)
            for route in self.network.routes(table)
        }


class LifeInUserSpace(Life):
    """A plane in user space."""

    plane: TunPlane

    def state(self) -> dict[str, object]:
        """What the plane has, in the kernel and here."""
        plane = self.plane
        return {
            "routes": self.routes(),
            "rules": ours_among(plane.section, self.network.rules()),
            "addresses": self.network.addresses_on(plane.device_index),
            "flows": attributes(plane.datapath, without=COUNTED),
            "wanted": dict(plane.wanted),
            "led elsewhere": (plane.led_elsewhere.copy(), plane.is_led_elsewhere),
        }


class LifeInKernel(Life):
    """A plane in the kernel."""

    plane: BpfPlane

    def check(self) -> None:
        """Each flow leaves by the uplink of its locator, or by none."""
        present = {one for device in self.plane.seen.devices for one in device.addresses}
        for address in self.plane.uses.addresses:
            row = self.plane.rows.of.get(address, 0)
            if address not in present and row:
                assert self.plane.rows.uplinks.get(row, NO_UPLINK).ifindex == 0
        assert self.plane.counts[PlaneCounter.ROUTES_REFUSED] == 0, (
            "routes by a device that is down"
        )

    def state(self) -> dict[str, object]:
        """What the plane has, in the kernel and here, with devices by their names."""
        plane = self.plane
        device = devices()
        tables: dict[str, object] = {
            name: {key: table.find(key) for key in list(table.keys())}
            for name, table in plane.tables.items()
            if name in OF_TABLES
        }
        tables["ours"] = {
            address: plane.ours[address]
            for address in plane.ours
            if is_global_unicast(address)  # those of links come and go with their devices
        }
        uplinks = (plane.tables["uplinks"].find(layout.ROW.pack(row)) for row in range(8))
        links = (path.name.split("-") for path in plane.pins.glob("link-*"))
        return {
            **tables,
            "rows": [device[int.from_bytes((one or bytes(4))[:4], "little")] for one in uplinks],
            "links": {(device.get(int(index), "gone"), side) for _, index, side in links},
            "routes": self.routes(),
            "rules": ours_among(plane.section, self.network.rules()),
            "addresses": {one: self.network.addresses_on(one) for one in plane.interfaces_of_ours},
            "rows here": attributes(plane.rows, without=frozenset({"uplinks"})),
            "uses": attributes(plane.uses),
            "steering": attributes(plane.steering, without=NOT_STATE),
            "flows": attributes(plane.datapath, without=COUNTED),
            "watched here": (plane.watched.copy(), plane.unwatched.copy()),
            "led elsewhere": (plane.led_elsewhere.copy(), plane.is_led_elsewhere),
            "chosen": (dict(plane.chosen), dict(plane.narrowed)),
            "modes": plane.modes(),
            "sizes": {
                name: size
                for name, size in sizes(plane).items()
                if name not in KEPT_ON_PURPOSE and GROWING.isdisjoint(name.split("."))
            },
            "missing": (plane.missing.copy(), plane.refused.copy(), plane.uplinks.lost()),
        }


def changed(before: object, after: object) -> object:
    """What is other than before, of tables only the entries that are."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = before.keys() | after.keys()
        found = {name: changed(before.get(name), after.get(name)) for name in names}
        return {name: one for name, one in found.items() if one != {}}
    return {} if before == after else (before, after)


def devices() -> dict[int, str]:
    """The names of the devices, by index; empty for none."""
    return dict(socket.if_nameindex()) | {0: ""}


def names() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def bring_up(name: str, far: str, address: str) -> None:
    for device in (name, far):
        ip(f"link set {device} up")
    ip(f"addr replace {address}/64 dev {name} nodad")


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hook", ["auto", "clsact"])
def test_a_plane_whose_flows_are_gone_is_as_a_new_one(
    pins: Path,
    hook: Literal["auto", "clsact"],
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(network: HostNetwork, plane: BpfPlane | TunPlane) -> None:
        assert isinstance(plane, BpfPlane)
        # Much is put off, and the peers that it is for may be gone by then.
        monkeypatch.setattr(paced, "BURST", 1)
        monkeypatch.setattr(kernel_flows, "AT_ONCE", 1)
        life = LifeInKernel(plane, network, random.Random(seed))
        life.take_early(False)
        life.see()
        first = life.state()
        steps = [*life.steps, life.take_up, life.lose_uplink, life.regain_uplink]
        for step in life.chance.choices([*steps, life.change_features], k=STEPS):
            await life.go(step)
            life.check()
        await life.end()
        left = changed(first, life.state())
        assert not left, left

    in_life(pins, hook, "bpf", scenario)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_plane_in_user_space_whose_flows_are_gone_is_as_a_new_one(pins: Path, seed: int) -> None:
    async def scenario(network: HostNetwork, plane: BpfPlane | TunPlane) -> None:
        assert isinstance(plane, TunPlane)
        life = LifeInUserSpace(plane, network, random.Random(seed))
        life.see()
        first = life.state()
        for step in life.chance.choices(life.steps, k=STEPS):
            await life.go(step)
        await life.end()
        left = changed(first, life.state())
        assert not left, left

    in_life(pins, "auto", "tun", scenario)


def in_life(
    pins: Path,
    hook: Literal["auto", "clsact"],
    kind: str,
    scenario: Callable[[HostNetwork, BpfPlane | TunPlane], Awaitable[None]],
) -> None:
    """Runs a scenario with a plane on a host of its own."""

    async def play() -> None:
        make_uplinks()
        ip("link add vpn type veth peer name farvpn")
        bring_up("vpn", "farvpn", "2001:db8:9::1")
        network = HostNetwork()
        limits = Limits(routes_at_once=2, known_peers=2)
        plane = make_plane(network, pins, hook, CONTEXTS, kind, limits)
        if isinstance(plane, BpfPlane):
            plane.interfaces = GLOB
        plane.open()
        try:
            plane.start()
            await scenario(network, plane)
            end_and_leave(plane)
        finally:
            plane.close()
            list(take_down(plane.section, network))
            network.close()

    in_network_namespace(lambda: asyncio.run(play()))
