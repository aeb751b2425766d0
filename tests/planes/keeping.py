# SPDX-License-Identifier: MIT
"""A plane in the kernel and the watch over its host, on a host of its own with two uplinks."""

import asyncio
import logging
import random
import socket
import subprocess
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import pytest
from pyroute2.ethtool import Ethtool

from noid.config import HostSection, PlaneSection
from noid.constants import Codepoints
from noid.counters import PlaneCounter
from noid.engine.events import Input
from noid.flows.flow import Flow
from noid.host.netlink import HostNetwork
from noid.host.routes import PeerRoute
from noid.host.rules import Rule
from noid.host.survey import Survey
from noid.lab.waiting import wait_for
from noid.locators import Locator, parse_locator
from noid.planes.bpf.limits import LIMITS, Limits
from noid.planes.bpf.pins import own_devices, take_down
from noid.planes.bpf.plane import BpfPlane
from noid.planes.rules import ours_among
from noid.planes.slow_path import PlaneDependencies
from noid.planes.tun import TunPlane
from noid.roles import reconciliation
from noid.roles.local_locators import LocalLocators
from noid.roles.patience import Patience
from noid.roles.reconciliation import Watching
from tests.namespaces import in_network_namespace, ip, wait_for_links
from tests.planes.foreign import Hanging, hanging
from tests.planes.test_bpf import random_flow
from tests.waiting import until

Result = TypeVar("Result")

SECTION = PlaneSection()
FIRST = SECTION.rule_priority
OUT, CUT = "noid0-out", "noid0-cut"

AID, OTHER = parse_locator("2001:db8:1::1"), parse_locator("2001:db8:2::1")
PEER = parse_locator("2001:db8:3::1")
UPLINKS = ["up1", "up2"]
LOCAL_WITHIN_S = 60.0
NEVER_S = 86_400.0


@dataclass
class Unwatched:
    """Uplinks whose health no one watches.

    Attributes:
        lost: the indexes of the links that are said to be lost.
    """

    lost: list[int] = field(default_factory=list)

    def surveyed(self, survey: Survey) -> None:
        pass

    def link_lost(self, index: int, *, is_up: bool) -> None:
        self.lost.append(index)


@dataclass
class Kept:
    """What a scenario has at hand.

    Attributes:
        plane: started, with a flow from AID to PEER, which is watched too.
        watching: under way.
        network: the host's.
        events: what was said to the engine.
        in_use: the local AIDs of contexts.
    """

    plane: BpfPlane | TunPlane
    watching: Watching
    network: HostNetwork
    events: list[Input]
    in_use: set[Locator]

    @property
    def bpf(self) -> BpfPlane:
        assert isinstance(self.plane, BpfPlane)
        return self.plane

    @property
    def restored(self) -> int:
        """How many things were restored so far."""
        return self.plane.counts[PlaneCounter.OBJECTS_RESTORED]


def flow_to_peer() -> Flow:
    """A flow from AID to PEER, both of them the locators in use."""
    flow = random_flow(random.Random(1))
    flow.local_aid = flow.local_locator = AID
    flow.peer_aid = flow.peer_locator = PEER
    flow.local_locators |= {AID, OTHER}
    flow.aside = False
    return flow


def run(command: str) -> None:
    subprocess.run(command.split(), check=True)


def make_uplinks() -> None:
    for number, address in (1, "2001:db8:1::1"), (2, "2001:db8:2::1"):
        ip(f"link add up{number} type veth peer name far{number}")
        ip(f"link set up{number} up")
        ip(f"link set far{number} up")
        ip(f"addr add {address}/64 dev up{number} nodad")
        wait_for(f"{address} has its local route", partial(is_local, address), LOCAL_WITHIN_S)
    ip("link set lo up")
    wait_for_links("up1", "far1", "up2", "far2")


def is_local(address: str) -> bool:
    """Whether the kernel has added the route of an address, which it does later."""
    table = ["ip", "-6", "route", "show", "table", "local"]
    shown = subprocess.run(table, capture_output=True, text=True, check=False)
    return f"local {address} " in shown.stdout


def make_plane(
    network: HostNetwork,
    pins: Path,
    hook: Literal["auto", "clsact"],
    contexts: int,
    kind: str,
    limits: Limits = LIMITS,
) -> BpfPlane | TunPlane:
    surroundings = PlaneDependencies(
        section=PlaneSection(pins=str(pins), contexts=contexts, hook=hook),
        codepoints=Codepoints(),
        network=network,
        mtu=1500,
        notify=lambda event: None,
        locators=lambda: (AID, OTHER),
    )
    if kind == "tun":
        return TunPlane(surroundings)
    return BpfPlane(
        surroundings, interfaces=UPLINKS, directory=pins.parent, referrals=False, limits=limits
    )


def keeping(
    pins: Path,
    scenario: Callable[[Kept], Awaitable[None]],
    *,
    hook: Literal["auto", "clsact"] = "auto",
    contexts: int = 16,
    kind: Literal["bpf", "tun"] = "bpf",
    limits: Limits = LIMITS,
    patience: Patience | None = None,
) -> None:
    """Runs a scenario beside a plane that is watched over, which must not raise.

    What is lost is noticed because of a message, or by a look; not because everything is compared
    now and then.
    """

    async def play() -> None:
        make_uplinks()
        network = HostNetwork()
        plane = make_plane(network, pins, hook, contexts, kind, limits)
        events: list[Input] = []
        in_use: set[Locator] = set()
        plane.open()
        watching = Watching(
            network,
            plane,
            LocalLocators(HostSection()),
            survey=lambda: network.survey(UPLINKS, excluded=own_devices(plane.section.device)),
            handle=events.append,
            told=lambda: None,
            uplinks=Unwatched(),
            in_use=lambda: in_use,
            patience=patience,
        )
        try:
            plane.install(flow_to_peer())
            plane.start()
            plane.watch(PEER)
            watching.take(watching.survey())
            task = asyncio.create_task(watching.watch())
            try:
                await scenario(Kept(plane, watching, network, events, in_use))
                assert not task.done(), task
            finally:
                task.cancel()
                await asyncio.wait([task])
            end_and_leave(plane)
        finally:
            watching.close()
            plane.close()
            list(take_down(plane.section, network))
            assert not ours_among(plane.section, network.rules())
            network.close()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reconciliation, "COMPARE_INTERVAL_S", NEVER_S)
        in_network_namespace(lambda: asyncio.run(play()))


def end_and_leave(plane: BpfPlane | TunPlane) -> None:
    """Closes a plane; what is attached to the devices that stay must stay, unless it was lost."""
    was_intact, before = plane.is_intact(), attached()
    plane.close()
    if was_intact:
        after = attached()
        assert after == {one: before[one] for one in after}


# --- what there is, and whether it comes back -----------------------------------------------------


def elsewhere(function: Callable[[], Result]) -> Result:
    """Runs what uses the netlink library, which has its own event loop, on a thread of its own."""
    with ThreadPoolExecutor(1) as worker:
        return worker.submit(function).result()


def set_features(interface: str, features: dict[str, bool]) -> None:
    def set_them() -> None:
        with Ethtool() as ethtool:
            answer = ethtool.get_features(interface)
            for name, on in features.items():
                answer.features[name].enable = on
            ethtool.set_features(interface, answer)

    elsewhere(set_them)


def rules(kept: Kept) -> frozenset[Rule]:
    return ours_among(SECTION, kept.network.rules())


def routes(kept: Kept) -> dict[int, set[PeerRoute]]:
    tables = kept.plane.tables_of_routes()
    return {table: kept.network.routes(table) for table in tables}


async def is_restored(
    kept: Kept,
    state: Callable[[], object],
    remove: Callable[[], None],
    *,
    count: int | None = None,
) -> None:
    """Asserts that a state comes back which a command ends, and that it is counted."""
    before, restored = state(), kept.restored
    remove()
    took_s = await until(lambda: state() == before and kept.restored > restored)
    print(f"restored after {1000 * took_s:.0f} ms")
    if count is not None:
        # What is restored while a command still removes things may be removed once more.
        assert kept.restored - restored >= count


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [one for one in caplog.records if "restored" in one.getMessage()]
    assert all(one.levelno == logging.WARNING for one in found)
    return [one.getMessage() for one in found]


def attached() -> dict[tuple[str, str], Hanging]:
    """What hangs on the devices that there are, of noid and others."""
    there = {name for _, name in socket.if_nameindex()}.intersection((*UPLINKS, CUT, "noid0"))
    names = [(name, side) for name in sorted(there) for side in ("egress", "ingress")]
    return elsewhere(lambda: {one: hanging(*one) for one in names})
