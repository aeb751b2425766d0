# SPDX-License-Identifier: MIT
"""The plane in the kernel on a host of its own: what it keeps is bounded."""

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from noid.config import PlaneSection
from noid.constants import Codepoints
from noid.counters import PlaneCounter
from noid.errors import PlatformError
from noid.flows.clock import FlowClock
from noid.host.netlink import HostNetwork
from noid.locators import Locator, format_locator, parse_locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import TABLES, Carried, Left, pin_of
from noid.planes.bpf.kernel_flows import CHOSEN_S
from noid.planes.bpf.limits import LIMITS, Limits
from noid.planes.bpf.pins import own_devices, take_down
from noid.planes.bpf.plane import BpfPlane
from noid.planes.paced import BURST, PER_SECOND
from noid.planes.slow_path import PlaneDependencies
from noid.planes.uplink import UPLINKS_MAX
from tests.namespaces import in_network_namespace, ip
from tests.planes.foreign import PROGRAMS_MAX, Hanging, hang, hanging, program
from tests.planes.test_bpf import random_flow

LOCATORS = [Locator(bytes.fromhex("20010db8") + bytes(11) + bytes([one])) for one in range(1, 40)]
CONTEXTS = 16


def with_plane(
    pins: Path,
    *scenarios: Callable[[BpfPlane], None],
    hook: Literal["auto", "clsact"] = "auto",
    limits: Limits = LIMITS,
) -> None:
    """Runs scenarios on a host with an uplink, each with a plane of its own that is then killed.

    Each plays between ``open`` and ``start``, after which nothing hangs on devices that are gone;
    nothing is left of the last.
    """

    async def play() -> None:
        ip("link add up1 type veth peer name far1")
        for device in ("up1", "far1", "lo"):
            ip(f"link set {device} up")
        section = PlaneSection(kind="bpf", pins=str(pins), contexts=CONTEXTS, hook=hook)
        network = HostNetwork()
        try:
            for scenario in scenarios:
                plane = BpfPlane(
                    PlaneDependencies(
                        section=section,
                        codepoints=Codepoints(),
                        network=network,
                        mtu=1500,
                        notify=lambda event: None,
                        locators=tuple,
                    ),
                    interfaces=["up*"],
                    directory=pins.parent,
                    referrals=False,
                    limits=limits,
                )
                plane.open()
                try:
                    scenario(plane)
                    plane.start()
                    present = {str(index) for index, _ in socket.if_nameindex()}
                    assert {path.name.split("-")[1] for path in pins.glob("link-*")} <= present
                finally:
                    plane.close()
        finally:
            assert list(take_down(section, network))
            network.close()

    in_network_namespace(lambda: asyncio.run(play()))


def changed(plane: BpfPlane) -> None:
    """Tells the plane that the network has changed."""
    survey = plane.network.survey(["up*"], excluded=own_devices(plane.section.device))
    plane.network_changed(survey)


def led(plane: BpfPlane) -> set[Locator]:
    """The peers that the kernel has routes to."""
    tables = range(plane.section.table + 1, plane.section.table + UPLINKS_MAX)
    return {route.aid for table in tables for route in plane.network.routes(table)}


def of_ours(plane: BpfPlane) -> set[Locator]:
    """The addresses whose uplink the plane remembers."""
    return set(plane.rows.of) & set(LOCATORS)


def test_only_addresses_in_use_are_remembered_after_they_are_removed(pins: Path) -> None:
    def scenario(plane: BpfPlane) -> None:
        flow = random_flow(random.Random(1))
        flow.local_locator = LOCATORS[0]
        flow.local_locators |= {LOCATORS[0]}
        for number, locator in enumerate(LOCATORS):
            ip(f"addr add {format_locator(locator)}/64 dev up1 nodad")
            changed(plane)
            if number == 0:
                plane.install(flow)
            else:
                ip(f"addr del {format_locator(locator)}/64 dev up1")
                changed(plane)
        assert of_ours(plane) == {LOCATORS[0]}
        ip(f"addr del {format_locator(LOCATORS[0])}/64 dev up1")
        changed(plane)
        assert of_ours(plane) == {LOCATORS[0]}, "packets of the flow still leave by that uplink"
        plane.remove(flow.local_label)
        changed(plane)
        assert of_ours(plane) == set()

    with_plane(pins, scenario)


def test_the_peer_of_a_flow_gets_routes_when_the_flow_is_not_provisional(pins: Path) -> None:
    def scenario(plane: BpfPlane) -> None:
        ip(f"addr add {format_locator(LOCATORS[0])}/64 dev up1 nodad")
        changed(plane)
        flow = random_flow(random.Random(1))
        flow.local_aid = LOCATORS[0]
        settled = replace(flow, aside=False, holds=False)
        plane.install(replace(flow, transmits=False, aside=True, holds=True))
        assert led(plane) == set()
        plane.install(settled)
        assert led(plane) == {flow.peer_aid}
        plane.remove(flow.local_label)
        assert led(plane) == set()

    with_plane(pins, scenario)


def test_an_aid_in_use_is_ours_though_its_address_has_gone(pins: Path) -> None:
    def scenario(plane: BpfPlane) -> None:
        flow = random_flow(random.Random(1))
        flow.local_aid = LOCATORS[0]
        ip(f"addr add {format_locator(LOCATORS[0])}/64 dev up1 nodad")
        ip(f"addr add {format_locator(LOCATORS[1])}/64 dev up1 nodad")
        changed(plane)
        plane.install(flow)
        for locator in LOCATORS[:2]:
            assert plane.tables["ours"].find(locator)
            ip(f"addr del {format_locator(locator)}/64 dev up1")
        changed(plane)
        assert plane.tables["ours"].find(LOCATORS[0])
        assert not plane.tables["ours"].find(LOCATORS[1])
        plane.remove(flow.local_label)
        changed(plane)
        assert not plane.tables["ours"].find(LOCATORS[0])

    with_plane(pins, scenario)


def test_an_address_too_many_is_counted_and_tried_again(pins: Path) -> None:
    def scenario(plane: BpfPlane) -> None:
        for locator in LOCATORS[:8]:
            ip(f"addr add {format_locator(locator)}/64 dev up1 nodad")
        changed(plane)
        assert plane.counters()[PlaneCounter.ADDRESSES_WITHOUT_ROOM] > 0
        for locator in LOCATORS[:7]:
            ip(f"addr del {format_locator(locator)}/64 dev up1")
        changed(plane)
        assert plane.tables["ours"].find(LOCATORS[7])

    with_plane(pins, scenario, limits=Limits(own_addresses=8))


def test_a_flow_too_many_is_counted(pins: Path) -> None:
    def scenario(plane: BpfPlane) -> None:
        chance = random.Random(2)
        for _ in range(CONTEXTS):
            plane.install(random_flow(chance))
        assert plane.counters()[PlaneCounter.FLOWS_WITHOUT_ROOM] == 0
        plane.install(random_flow(chance))
        assert plane.counters()[PlaneCounter.FLOWS_WITHOUT_ROOM] == 1

    with_plane(pins, scenario)


def test_an_uplink_may_be_created_again_with_and_without_a_running_daemon(
    pins: Path,
) -> None:
    def scenario(plane: BpfPlane) -> None:
        changed(plane)
        (before,) = plane.seen.devices
        ip("link del up1")
        ip("link add up1 type veth peer name far1")
        ip("link set up1 up")
        ip("link set far1 up")
        changed(plane)
        (after,) = plane.seen.devices
        assert before.index != after.index

    def again(plane: BpfPlane) -> None:
        ip("link del up1")
        ip("link add up1 type veth peer name far1")
        ip("link set up1 up")

    with_plane(pins, scenario, again)


@pytest.mark.parametrize("hook", ["auto", "clsact"])
def test_nothing_stays_on_a_device_that_is_not_an_uplink_of_the_next_daemon(
    pins: Path, hook: Literal["auto", "clsact"]
) -> None:
    def first(plane: BpfPlane) -> None:
        changed(plane)
        assert sum(_hanging("up1", "egress")) == 1

    def second(plane: BpfPlane) -> None:
        assert sum(_hanging("up1", "egress")) == 1, "that of the first, which goes on"
        ip("link set up1 down")
        ip("link set up1 name away1")
        ip("link set away1 up")

    def third(plane: BpfPlane) -> None:
        for side in ("egress", "ingress"):
            assert sum(_hanging("away1", side)) == 0

    with_plane(pins, first, second, third, hook=hook)


def test_tables_with_an_older_layout_are_removed_when_unreadable(pins: Path) -> None:
    old = pins / f"map-outbound-{layout.EDITION - 1}-{layout.OUTBOUND.size}"
    others = pins / "map-of-another-owner"

    def upgraded(plane: BpfPlane) -> None:
        for path in (old, others):
            libbpf.pin(plane.tables["outbound"].descriptor, path)

    def next_one(plane: BpfPlane) -> None:
        assert sorted(pins.glob("map-*")) == sorted(
            [others, *(pin_of(pins, name) for name in TABLES)]
        )
        others.unlink()

    with_plane(pins, upgraded, next_one)


def _hanging(interface: str, side: str) -> Hanging:
    """Who hangs there, asked on a thread of its own: the netlink library has its own event loop."""
    with ThreadPoolExecutor(1) as worker:
        return worker.submit(hanging, interface, side).result()


def test_an_uplink_that_refuses_the_programs_is_counted_and_asked_again(pins: Path) -> None:
    def scenario(plane: BpfPlane) -> None:
        changed(plane)
        ip("link add up2 type veth peer name up3")
        with contextlib.ExitStack() as kept:
            with contextlib.suppress(PlatformError):  # until there is no room
                for _ in range(PROGRAMS_MAX):
                    another = program()
                    kept.callback(os.close, another)
                    kept.callback(os.close, hang("tcx", "up2", "ingress", another, priority=0))
            ip("link set up2 up")
            ip("link set up3 up")
            changed(plane)
            assert plane.counters()[PlaneCounter.UPLINKS_REFUSED] == 1
            assert plane.modes()["up2"].startswith("none: "), plane.modes()
            assert plane.modes()["up3"].startswith("tcx")
            assert _hanging("up2", "egress").tcx == 0, "half of them would be worse"
        changed(plane)
        assert plane.modes()["up2"].startswith("tcx")
        assert plane.counters()[PlaneCounter.UPLINKS_REFUSED] == 1

    with_plane(pins, scenario)


def test_what_one_plane_has_taken_up_the_next_one_finds(pins: Path) -> None:
    chance = random.Random(3)
    flows = [random_flow(chance) for _ in range(CONTEXTS)]
    clocks = [FlowClock(received_ns=number) for number in range(1, CONTEXTS + 1)]
    aids = LOCATORS[:5]

    def first(plane: BpfPlane) -> None:
        for address in {
            address for flow in flows for address in (flow.local_aid, flow.local_locator)
        }:
            ip(f"addr add {format_locator(address)}/64 dev up1 nodad")
        changed(plane)
        plane.take_up(flows, clocks, aids)
        plane.take_up([], [], [])
        assert [plane.received_ns(one.local_label) for one in flows] == [*range(1, CONTEXTS + 1)]
        assert plane.heard_ns(flows[0].local_label) == 1
        assert plane.counters()[PlaneCounter.FLOWS_WITHOUT_ROOM] == 0

    def second(plane: BpfPlane) -> None:
        carried = Carried(pins)
        for flow, clock in zip(flows, clocks, strict=True):
            left = carried.find(flow.local_label, layout.aids_key(flow))
            assert left == Left(flow.peer_locator if flow.transmits else None, clock)
        carried.close()
        assert led(plane) == {flow.peer_aid for flow in flows if not flow.aside}
        plane.take_up(flows[:2], clocks[:2], aids[:2])
        plane.unwatch(aids[0])

    def third(plane: BpfPlane) -> None:
        rest = {flow.peer_aid for flow in flows[:2] if not flow.aside}
        assert led(plane) == rest, "those that are not taken up are gone"

    with_plane(pins, first, second, third)


@contextlib.contextmanager
def routes_asked(plane: BpfPlane) -> Iterator[list[Locator]]:
    """The peers whose route the kernel is asked for during the block."""
    asked: list[Locator] = []
    look_up = plane.network.default_route

    def counted(aid: Locator, *, mark: int) -> tuple[Locator | None, int]:
        asked.append(aid)
        return look_up(aid, mark=mark)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plane.network, "default_route", counted)
        yield asked


def test_a_name_that_is_resolved_again_and_again_costs_one_question_to_the_kernel(
    pins: Path,
) -> None:
    """A local user may ask the stub for a name of many addresses, a thousand times a second."""
    peers = [parse_locator(f"2001:db8:77::{number}") for number in range(1, 17)]

    def scenario(plane: BpfPlane) -> None:
        with routes_asked(plane) as asked:
            began_s = time.monotonic()
            for _ in range(50):
                for peer in peers:
                    plane.watch(peer)
            assert len(asked) <= len(peers) * (1 + (time.monotonic() - began_s) / CHOSEN_S)
            asked.clear()
            plane.locators = lambda: (LOCATORS[0],)
            plane.unwatch(peers[0])
            plane.watch(peers[0])
            assert asked == peers[:1]

    with_plane(pins, scenario)


def test_very_many_names_cost_few_questions_to_the_kernel_in_a_second(pins: Path) -> None:
    """A local user resolves names in a zone of an accomplice, each with 16 other addresses."""
    peers = [parse_locator(f"2001:db8:78::{number:x}") for number in range(1, 4_001)]

    def scenario(plane: BpfPlane) -> None:
        with routes_asked(plane) as asked:
            began_s = time.monotonic()
            for peer in peers:
                plane.watch(peer)
            took_s = time.monotonic() - began_s
            assert len(asked) <= BURST + took_s * PER_SECOND
        assert plane.watched == set(peers), "their contexts begin as those of others"

    with_plane(pins, scenario)


def test_only_uplinks_with_addresses_have_a_rule_past_a_vpn(pins: Path) -> None:
    """A host may have very many other devices that are up, as those of containers."""

    def scenario(plane: BpfPlane) -> None:
        ip("link add up2 type veth peer name far-up2")
        for device in ("up2", "far-up2"):
            ip(f"link set {device} up")
        ip(f"addr add {format_locator(LOCATORS[0])}/64 dev up1 nodad")
        ip("rule add priority 1000 not fwmark 51820 table 51820")
        changed(plane)
        assert {rule.device for rule in plane.steering.rules} == {"", "up1"}

    with_plane(pins, scenario)


def test_a_peer_that_the_host_reaches_through_a_vpn_is_left_to_it(pins: Path) -> None:
    """The default route leads to a device that is no uplink; then it does not any more."""
    peer = parse_locator("2001:db8:77::1")

    def chosen(plane: BpfPlane) -> set[Locator]:
        return {route.aid for route in plane.network.routes(plane.section.table)}

    def scenario(plane: BpfPlane) -> None:
        ip("link add vpn type veth peer name far-vpn")
        for device in ("vpn", "far-vpn"):
            ip(f"link set {device} up")
        ip(f"addr add {format_locator(LOCATORS[0])}/64 dev up1 nodad")
        ip("addr add 2001:db8:99::1/64 dev vpn nodad")
        ip("route add default via fe80::1 dev up1 metric 200")
        ip("route add default via fe80::2 dev vpn metric 100")
        changed(plane)
        plane.locators = lambda: (LOCATORS[0],)
        plane.watch(peer)
        assert chosen(plane) == set()
        ip("route del default via fe80::2 dev vpn")
        changed(plane)
        assert chosen(plane) == {peer}
        ip("route add default via fe80::2 dev vpn metric 100")
        changed(plane)
        assert chosen(plane) == set()

    with_plane(pins, scenario)
