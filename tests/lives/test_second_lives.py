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

from noid.counters import PlaneCounter
from noid.flows.clock import FlowClock
from noid.flows.flow import Flow
from noid.host.netlink import HostNetwork
from noid.identifiers import Label
from noid.locators import Locator, is_global_unicast, parse_locator
from noid.planes.bpf import layout
from noid.planes.bpf.limits import Limits
from noid.planes.bpf.pins import own_devices, take_down
from noid.planes.bpf.plane import BpfPlane
from noid.planes.rows import CUTS_TCP
from noid.planes.rules import ours_among
from noid.planes.uplink import NO_UPLINK
from tests.contents import attributes
from tests.namespaces import in_network_namespace, ip
from tests.planes.keeping import AID, OTHER, make_plane, make_uplinks, set_features
from tests.planes.test_bpf import random_flow

SEEDS = range(4)
STEPS = 60
CONTEXTS = 16
LABELS = range(1, 9)
OWN = (AID, OTHER)
PEERS = [parse_locator(f"2001:db8:3::{number:x}") for number in range(1, 25)]
KEPT = parse_locator("2001:db8:7::7")
GLOB = ("up*",)
OF_TABLES = frozenset({"outbound", "inbound", "far", "watched", "activities"})
COUNTED = frozenset({"counts", "unknown"})
NOT_STATE = frozenset({"network", "section", "refused", "own", "uplinks", "rules"})


@dataclass
class Life:
    """A plane in the kernel and what was done to it.

    Attributes:
        plane: started.
        network: the host's.
        chance: decides everything.
        watched: the peers that are watched.
        flows: those that are installed, by F(local).
    """

    plane: BpfPlane
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

    def end(self) -> None:
        """Everything goes, and the host is as in the beginning."""
        for label in list(self.flows):
            self.forget(Label(label))
        for aid in self.watched:
            self.plane.unwatch(aid)
        self.plane.keep_address(KEPT, kept=False)
        self.regain_uplink()
        self.take_early(False)
        self.see()
        for table in self.plane.tables_of_routes():
            found = self.network.difference(table, self.plane.wanted_routes(table))
            self.plane.correct_table(table, found)

    def state(self) -> dict[str, object]:
        """What the plane has, in the kernel and here, with devices by their names."""
        plane = self.plane
        device = {index: one for index, one in socket.if_nameindex()} | {0: ""}
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
        first = plane.section.table
        routes = {
            (route.aid, table, device[route.device], route.metric)
            for table in range(first, first + 8)
            for route in self.network.routes(table)
        }
        return {
            **tables,
            "rows": [device[int.from_bytes((one or bytes(4))[:4], "little")] for one in uplinks],
            "links": {(device.get(int(index), "gone"), side) for _, index, side in links},
            "routes": routes,
            "rules": ours_among(plane.section, self.network.rules()),
            "addresses": {one: self.network.addresses_on(one) for one in plane.interfaces_of_ours},
            "rows here": attributes(plane.rows, without=frozenset({"uplinks"})),
            "uses": attributes(plane.uses),
            "steering": attributes(plane.steering, without=NOT_STATE),
            "flows": attributes(plane.datapath, without=COUNTED),
            "watched here": (plane.watched.copy(), plane.unwatched.copy()),
            "modes": plane.modes(),
            "missing": (plane.missing.copy(), plane.refused.copy(), plane.uplinks.lost()),
        }


def changed(before: object, after: object) -> object:
    """What is other than before, of tables only the entries that are."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = before.keys() | after.keys()
        found = {name: changed(before.get(name), after.get(name)) for name in names}
        return {name: one for name, one in found.items() if one != {}}
    return {} if before == after else (before, after)


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
    pins: Path, hook: Literal["auto", "clsact"], seed: int
) -> None:
    async def scenario(life: Life) -> None:
        life.take_early(False)
        life.see()
        first = life.state()
        steps: list[Callable[[], None]] = [
            life.install, life.install, life.install, life.remove, life.watch, life.take_up,
            life.keep_address, life.see, life.lose_uplink, life.regain_uplink, life.change_features,
        ]  # fmt: skip
        for _ in range(STEPS):
            life.chance.choice(steps)()
            if life.chance.random() < 0.5:
                await asyncio.sleep(0)
            life.check()
        life.end()
        await asyncio.sleep(0.12)  # what is put off for a moment is done
        left = changed(first, life.state())
        assert not left, left

    in_life(pins, hook, seed, scenario)


def in_life(
    pins: Path,
    hook: Literal["auto", "clsact"],
    seed: int,
    scenario: Callable[[Life], Awaitable[None]],
) -> None:
    """Runs a scenario with a plane on a host of its own."""

    async def play() -> None:
        make_uplinks()
        network = HostNetwork()
        plane = make_plane(
            network, pins, hook, CONTEXTS, "bpf", Limits(routes_at_once=2, known_peers=2)
        )
        assert isinstance(plane, BpfPlane)
        plane.interfaces = GLOB
        plane.open()
        try:
            plane.start()
            await scenario(Life(plane, network, random.Random(seed)))
        finally:
            plane.close()
            list(take_down(plane.section, network))
            network.close()

    in_network_namespace(lambda: asyncio.run(play()))
