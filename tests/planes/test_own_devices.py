# SPDX-License-Identifier: MIT
"""Devices of ours that others remove or change are restored, and uplinks are followed."""

import asyncio
import socket
from pathlib import Path
from typing import Literal

import pytest

from noid.counters import PlaneCounter
from noid.host.netlink import CUTTING, MTU_MAX, SUMMING
from noid.host.routes import PeerRoute, with_hop_limit
from noid.locators import Locator, parse_locator
from noid.planes.rows import CUTS_TCP
from noid.planes.steering import BY_UPLINK, GATEWAY
from noid.planes.uplink import CUT_TCP
from noid.wire.ipv6 import DEFAULT_HOP_LIMIT
from tests.namespaces import ip
from tests.planes.keeping import (
    AID,
    CUT,
    OTHER,
    OUT,
    PEER,
    UPLINKS,
    Kept,
    attached,
    is_restored,
    keeping,
    lines,
    routes,
    run,
    set_features,
)
from tests.waiting import until


def pair(kept: Kept) -> object:
    ours = kept.watching.survey().ours
    if {OUT, CUT} - ours.keys():
        return None
    out, cut = ours[OUT], ours[CUT]
    cutting = out.features.intersection((*CUTTING, SUMMING))
    return (
        (out.index, out.is_up, out.mtu, out.mtu_ipv6, cutting),
        (cut.index, cut.is_up, cut.mtu, cut.mtu_ipv6, cut.addresses),
    )


@pytest.mark.parametrize("device", [OUT, CUT])
def test_the_pair_of_devices_is_made_again(
    pins: Path, device: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(kept: Kept) -> None:
        kept.in_use.add(parse_locator("2001:db8:7::7"))
        kept.watching.take(kept.watching.survey())

        def state() -> object:
            return pair(kept), routes(kept), attached() if pair(kept) else None

        await is_restored(kept, state, lambda: ip(f"link del {device}"))
        await until(lambda: bool(lines(caplog)))
        assert f"devices: 2 ({CUT}, {OUT})" in " ".join(lines(caplog))

    keeping(pins, scenario)


@pytest.mark.parametrize(
    "command",
    [
        f"link set {OUT} mtu 1400",
        f"link set {CUT} mtu 1400",
        f"link set {OUT} down",
        f"link set {CUT} down",
        "link set noid0 mtu 1400",
    ],
)
def test_our_devices_are_as_they_were(pins: Path, command: str) -> None:
    async def scenario(kept: Kept) -> None:
        def state() -> object:
            return pair(kept), kept.watching.survey().ours["noid0"].mtu, routes(kept)

        await is_restored(kept, state, lambda: ip(command))

    keeping(pins, scenario)


@pytest.mark.parametrize("hook", ["auto", "clsact"])
@pytest.mark.parametrize("kind", ["bpf", "tun"])
@pytest.mark.parametrize("command", ["link del noid0", "link set noid0 down"])
def test_the_device_of_the_slow_path_is_restored(
    pins: Path, kind: Literal["bpf", "tun"], hook: Literal["auto", "clsact"], command: str
) -> None:
    async def scenario(kept: Kept) -> None:
        def state() -> object:
            device = kept.watching.survey().ours.get("noid0")
            hooks = attached() if device is not None and kind == "bpf" else {}
            return device and (device.index, device.is_up, device.mtu), hooks, routes(kept)

        await is_restored(kept, state, lambda: ip(command))
        kept.plane.deliver(bytes([0x60, 0, 0, 0, 0, 0, 59, 64]) + PEER + AID)
        assert not kept.plane.counts[PlaneCounter.DELIVERIES_REFUSED]

    keeping(pins, scenario, kind=kind, hook=hook)


def test_features_of_our_device_are_restored(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        await is_restored(
            kept, lambda: pair(kept), lambda: set_features(OUT, {CUTTING[1]: True}), count=1
        )

    keeping(pins, scenario)


def test_features_of_an_uplink_are_followed(pins: Path) -> None:
    """One that sums up by protocol would leave out ours, so that our device does it."""

    async def scenario(kept: Kept) -> None:
        row = kept.bpf.rows.of[AID]
        assert "super-packets whole" in kept.plane.modes()["up1"]
        set_features("up1", {CUTS_TCP: False})
        await until(lambda: bool(kept.bpf.rows.uplinks[row].flags & CUT_TCP))
        assert "super-packets cut before" in kept.plane.modes()["up1"]
        set_features("up1", {CUTS_TCP: True})
        await until(lambda: "super-packets whole" in kept.plane.modes()["up1"])
        assert kept.restored == 0

    keeping(pins, scenario)


def test_the_mtu_of_an_uplink_is_followed(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        row = kept.bpf.rows.of[AID]
        for mtu in (1400, 1500):
            ip(f"link set up1 mtu {mtu}")
            while kept.bpf.rows.uplinks[row].mtu != mtu:
                await asyncio.sleep(0.005)
            found = kept.watching.survey().ours
            assert (found[OUT].mtu, found[CUT].mtu, found["noid0"].mtu) == (mtu, MTU_MAX, mtu)
            assert found[CUT].mtu_ipv6 == mtu
        assert kept.restored == 0

    keeping(pins, scenario)


def test_the_address_of_an_aid_is_restored(pins: Path, caplog: pytest.LogCaptureFixture) -> None:
    aid = parse_locator("2001:db8:7::7")

    async def scenario(kept: Kept) -> None:
        kept.in_use.add(aid)
        kept.watching.take(kept.watching.survey())

        def state() -> frozenset[Locator]:
            return kept.watching.survey().ours[CUT].addresses

        assert state() == {aid}
        await is_restored(kept, state, lambda: ip(f"addr del 2001:db8:7::7/128 dev {CUT}"), count=1)
        await until(lambda: bool(lines(caplog)))
        assert "addresses: 1 (2001:db8:7::7)" in lines(caplog)[0]
        kept.in_use.clear()
        kept.watching.take(kept.watching.survey())
        assert state() == frozenset()
        assert kept.restored == 1

    keeping(pins, scenario)


def test_an_aid_is_kept_while_its_uplink_is_down_and_keeps_its_addresses(pins: Path) -> None:
    """The kernel lists the address still, and receives nothing at it (keep_addr_on_down)."""

    async def scenario(kept: Kept) -> None:
        def is_kept() -> bool:
            return AID in kept.watching.survey().ours[CUT].addresses

        kept.in_use.add(AID)
        run("sysctl -qw net.ipv6.conf.up1.keep_addr_on_down=1")
        ip("link set up1 down")
        await until(is_kept)
        kept.watching.take(kept.watching.survey())
        assert is_kept()
        ip("link set up1 up")
        await until(lambda: not is_kept())

    keeping(pins, scenario)


@pytest.mark.parametrize("hook", ["auto", "clsact"])
def test_uplinks_that_swap_their_names_keep_the_programs(
    pins: Path, hook: Literal["auto", "clsact"]
) -> None:
    async def scenario(kept: Kept) -> None:
        row = kept.bpf.rows.of[AID]
        before = attached()
        for command in (
            "link set up1 down", "link set up2 down", "link set up1 name swap",
            "link set up2 name up1", "link set swap name up2", "link set up1 up",
            "link set up2 up", "addr replace 2001:db8:1::1/64 dev up2 nodad",
            "addr replace 2001:db8:2::1/64 dev up1 nodad",
        ):  # fmt: skip
            ip(command)
        index = {name: socket.if_nametoindex(name) for name in UPLINKS}
        rows = kept.bpf.rows
        await until(
            lambda: (
                rows.of.get(AID) != row
                and rows.uplinks[rows.of[AID]].ifindex == index["up2"]
                and rows.uplinks[rows.of[OTHER]].ifindex == index["up1"]
            )
        )
        assert attached() == before
        assert kept.plane.is_intact()
        table, hops = (
            kept.bpf.steering.table_of(rows.of[AID]),
            with_hop_limit(b"", DEFAULT_HOP_LIMIT),
        )
        route = PeerRoute(PEER, table, index["up2"], BY_UPLINK, GATEWAY, metrics=hops)
        assert route in kept.network.routes(table)

    keeping(pins, scenario, hook=hook)
