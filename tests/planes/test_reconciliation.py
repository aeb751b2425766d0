# SPDX-License-Identifier: MIT
"""What others remove from a host that noid runs on is restored, counted and reported."""

import asyncio
import errno
import os
import shutil
import socket
import subprocess
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from noid.counters import PlaneCounter
from noid.engine.events import LocatorsChanged
from noid.errors import PlatformError
from noid.host.routes import mtu_in
from noid.locators import Locator, format_locator
from noid.planes.bpf import libbpf
from noid.planes.bpf.bpffs import Pinned
from noid.planes.bpf.carried import TABLES, pin_of
from noid.planes.rows import CUTS_TCP
from noid.planes.steering import GATEWAY
from noid.roles.patience import Patience
from tests.namespaces import ip
from tests.planes.keeping import (
    AID,
    CUT,
    FIRST,
    PEER,
    SECTION,
    UPLINKS,
    Kept,
    Unwatched,
    attached,
    is_restored,
    keeping,
    lines,
    routes,
    rules,
    run,
    set_features,
)
from tests.waiting import until

BURST, INTERVAL_S = 3, 0.2


def test_contexts_leave_a_lost_link_before_its_loss_is_reported(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        uplinks = kept.watching.uplinks
        assert isinstance(uplinks, Unwatched)
        kept.events.clear()
        run("ip link set far1 down")
        while not kept.events:  # before the loop runs anything else
            kept.watching.hear()
        (event,) = kept.events
        assert isinstance(event, LocatorsChanged)
        assert event.broken == {AID}
        assert not uplinks.lost
        await until(lambda: socket.if_nametoindex("up1") in uplinks.lost)

    keeping(pins, scenario)


def test_the_loss_of_a_link_is_reported_before_the_next_survey(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        uplinks = kept.watching.uplinks
        assert isinstance(uplinks, Unwatched)
        lose(kept, "up1")
        kept.watching.take(kept.watching.survey())
        assert socket.if_nametoindex("up1") in uplinks.lost

    keeping(pins, scenario)


def test_a_link_that_returns_at_once_is_not_reported_as_lost(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        uplinks = kept.watching.uplinks
        assert isinstance(uplinks, Unwatched)
        lose(kept, "up1")
        run("ip link set up1 up")
        kept.watching.hear()
        lose(kept, "up2")
        await until(lambda: socket.if_nametoindex("up2") in uplinks.lost)
        assert socket.if_nametoindex("up1") not in uplinks.lost

    keeping(pins, scenario)


def test_neighbours_are_read_once_for_a_link_that_is_lost(
    pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(kept: Kept) -> None:
        uplinks, read, drop = kept.watching.uplinks, list[int](), kept.network.drop_queued
        assert isinstance(uplinks, Unwatched)

        def noted(device: int) -> None:
            read.append(device)
            drop(device)

        monkeypatch.setattr(kept.network, "drop_queued", noted)
        index = socket.if_nametoindex("up1")
        lose(kept, "far1")
        await until(lambda: index in uplinks.lost)
        uplinks.lost.clear()
        run("ip link set up1 alias said-again")
        await until(lambda: index in uplinks.lost)
        assert read == [index]

    keeping(pins, scenario)


def lose(kept: Kept, device: str) -> None:
    """Takes a link down, and hears of it before the loop runs anything else."""
    kept.events.clear()
    run(f"ip link set {device} down")
    while not kept.events:
        kept.watching.hear()


# --- rules, routes, neighbours --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bpf", "tun"])
def test_each_rule_is_restored(pins: Path, kind: Literal["bpf", "tun"]) -> None:
    async def scenario(kept: Kept) -> None:
        for rule in sorted(rules(kept), key=lambda one: one.priority):
            await is_restored(
                kept, lambda: rules(kept), partial(kept.network.remove_rules, [rule]), count=1
            )

    keeping(pins, scenario, kind=kind)


def test_all_rules_are_restored_and_reported_in_one_line(
    pins: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(kept: Kept) -> None:
        count = len(rules(kept))
        await is_restored(kept, lambda: rules(kept), lambda: ip("rule flush"), count=count)
        await until(lambda: bool(lines(caplog)))
        (line,) = lines(caplog)
        assert "rules: " in line
        assert str(FIRST) in line

    keeping(pins, scenario)


def test_a_route_is_restored(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        for table, there in routes(kept).items():
            assert there
            for route in there:
                await is_restored(
                    kept,
                    lambda: routes(kept),
                    partial(kept.network.remove_routes, [route]),
                    count=1,
                )
            assert kept.network.routes(table) == there

    keeping(pins, scenario)


def test_a_route_of_the_plane_in_user_space_is_restored(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        (route,) = routes(kept)[SECTION.table]
        await is_restored(
            kept, lambda: routes(kept), lambda: kept.network.remove_routes([route]), count=1
        )

    keeping(pins, scenario, kind="tun")


def test_routes_to_peers_say_of_the_path_what_the_default_route_says(pins: Path) -> None:
    """Such as the MTU behind a card with jumbo frames, or the initial window of TCP."""

    async def scenario(kept: Kept) -> None:
        def metrics() -> set[int]:
            return {mtu_in(one.metrics) for one in routes(kept)[SECTION.table]}

        assert metrics() == {0}
        ip("route add default via fe80::1 dev up1 mtu 1400")
        await until(lambda: metrics() == {1400})
        ip("route change default via fe80::1 dev up1 mtu 1450")
        await until(lambda: metrics() == {1450})
        assert kept.restored == 0
        ip("route del default dev up1")
        await until(lambda: metrics() == {0})

    keeping(pins, scenario)


def test_a_flushed_table_is_restored_and_reported(
    pins: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peers = [Locator(PEER[:14] + number.to_bytes(2, "big")) for number in range(2, 600)]

    async def scenario(kept: Kept) -> None:
        row = kept.bpf.rows.of[AID]
        kept.bpf.steering.add_peers(row, peers, AID)
        table = kept.bpf.steering.table_of(row)
        # The command deletes again what is restored before it has ended.
        await is_restored(kept, lambda: routes(kept), lambda: ip(f"route flush table {table}"))
        assert kept.restored >= 1198
        await until(lambda: bool(lines(caplog)))
        assert f"(table {table})" in lines(caplog)[0]

    keeping(pins, scenario)


def test_what_the_plane_removes_itself_is_not_restored(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        row = kept.bpf.rows.of[AID]
        kept.bpf.steering.remove_peer(row, PEER)
        kept.bpf.steering.add_peers(row, [PEER], AID)
        there = routes(kept)
        await asyncio.sleep(0.1)
        kept.watching.hear()
        assert routes(kept) == there
        assert kept.restored == 0

    keeping(pins, scenario)


@pytest.mark.parametrize(
    "command",
    [
        "neigh del {gateway} dev up1",
        "neigh flush dev up1 nud permanent",
        "neigh replace {gateway} lladdr 02:00:00:00:00:77 nud permanent dev up1",
        "neigh replace {gateway} lladdr 02:00:00:00:6d:36 nud stale dev up1",
    ],
)
def test_the_neighbour_that_is_none_is_restored(pins: Path, command: str) -> None:
    def neighbour() -> str:
        shown = ["ip", "-6", "neigh", "show", format_locator(GATEWAY), "dev", "up1"]
        return subprocess.run(shown, check=True, capture_output=True, text=True).stdout

    async def scenario(kept: Kept) -> None:
        assert "PERMANENT" in neighbour()
        text = command.format(gateway=format_locator(GATEWAY))
        await is_restored(kept, neighbour, lambda: ip(text), count=1)

    keeping(pins, scenario)


# --- others that remove them again and again ------------------------------------------------------


@pytest.mark.parametrize("kind", ["bpf", "tun"])
@pytest.mark.parametrize("what", ["rules", "routes"])
def test_what_is_removed_again_and_again_is_restored_at_a_rate(
    pins: Path,
    caplog: pytest.LogCaptureFixture,
    kind: Literal["bpf", "tun"],
    what: str,
) -> None:
    async def scenario(kept: Kept) -> None:
        loop = asyncio.get_running_loop()
        before, began_s, fights = (rules(kept), routes(kept)), loop.time(), 0
        while kept.plane.counts[PlaneCounter.RESTORATIONS_DEFERRED] < 3:
            restored = kept.restored
            remove_all(kept, what)
            fights += 1
            while kept.restored == restored:
                await asyncio.sleep(0.005)
        assert fights <= BURST + (loop.time() - began_s) / INTERVAL_S + 1
        await until(lambda: (rules(kept), routes(kept)) == before)
        await until(lambda: any("that goes on, so it is" in line for line in lines(caplog)))

    keeping(pins, scenario, kind=kind, patience=Patience(BURST, INTERVAL_S))


def remove_all(kept: Kept, what: str) -> None:
    """Removes all rules of ours, or all routes."""
    if what == "rules":
        kept.network.remove_rules(rules(kept))
    else:
        for there in routes(kept).values():
            kept.network.remove_routes(list(there))


# --- programs and pins ----------------------------------------------------------------------------


@pytest.mark.parametrize("device", [*UPLINKS, CUT, "noid0"])
def test_clsact_is_restored(pins: Path, device: str) -> None:
    async def scenario(kept: Kept) -> None:
        await is_restored(kept, attached, lambda: run(f"tc qdisc del dev {device} clsact"), count=1)

    keeping(pins, scenario, hook="clsact")


def detach(link: Path) -> None:
    descriptor = libbpf.pinned(link)
    assert descriptor is not None
    assert libbpf.library().bpf_link_detach(descriptor) == 0
    os.close(descriptor)


@pytest.mark.parametrize("side", ["egress", "ingress"])
@pytest.mark.parametrize("device", ["up1", CUT])
def test_a_detached_link_is_restored(pins: Path, device: str, side: str) -> None:
    async def scenario(kept: Kept) -> None:
        index = socket.if_nametoindex(device)
        await is_restored(kept, attached, lambda: detach(pins / f"link-{index}-{side}"), count=1)

    keeping(pins, scenario)


def test_xdp_is_restored(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        set_features("far1", {"rx-gro": True})
        set_features("up1", {"rx-gro": True, CUTS_TCP: False})
        await until(lambda: "XDP" in kept.plane.modes()["up1"])
        assert "no XDP" not in kept.plane.modes()["up1"]
        index = socket.if_nametoindex("up1")
        pin = pins / f"link-{index}-early"

        def state() -> bool:
            link = libbpf.pinned(pin)
            if link is None:
                return False
            try:
                return libbpf.target(link)[1] == index
            finally:
                os.close(link)

        assert state()
        await is_restored(kept, state, lambda: detach(pin))
        await is_restored(kept, state, pin.unlink)

    keeping(pins, scenario)


def our_pins(pins: Path) -> list[str]:
    return sorted(path.name for path in pins.glob("*-*"))


def test_pins_are_restored(pins: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(kept: Kept) -> None:
        def remove(paths: list[Path]) -> None:
            for path in paths:
                path.unlink()

        assert len(our_pins(pins)) == len(TABLES) + 6

        def state() -> object:
            return our_pins(pins), attached()

        await is_restored(kept, state, lambda: remove([pin_of(pins, "ours")]), count=1)
        await is_restored(kept, state, lambda: remove(list(pins.glob("link-*"))), count=3)
        await is_restored(kept, state, lambda: remove(list(pins.glob("*-*"))))
        await is_restored(kept, state, lambda: run(f"umount {pins}"))
        assert "pins: 1 (map-ours" in lines(caplog)[0]

    keeping(pins, scenario)


def test_a_pin_is_missed_though_its_directory_was_looked_at_before(tmp_path: Path) -> None:
    pinned, paths = Pinned(tmp_path), [tmp_path / name for name in "ab"]
    assert not pinned.has(lambda: paths)
    for path in paths:
        path.touch()
    looks = 0

    def looked_at() -> list[Path]:
        nonlocal looks
        looks += 1
        return paths

    assert [pinned.has(looked_at) for _ in range(2)] == [True, True]
    assert looks == 2, "another may be removed in the same tick"
    os.utime(tmp_path, ns=(0, 0))
    assert [pinned.has(looked_at) for _ in range(3)] == [True, True, True]
    assert looks == 3
    paths[0].unlink()
    assert [pinned.has(looked_at) for _ in range(2)] == [False, False]
    paths[0].touch()
    assert pinned.has(looked_at)
    shutil.rmtree(tmp_path)
    assert not pinned.has(looked_at)


def test_links_that_the_kernel_does_not_describe_are_surveyed(
    pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(kept: Kept) -> None:
        def refuse(link: int) -> tuple[int, int]:
            raise PlatformError("describe a BPF link", errno.ENOBUFS, "refused")

        with monkeypatch.context() as patched:
            patched.setattr(libbpf, "target", refuse)
            assert not kept.plane.is_intact()
            await until(lambda: kept.plane.counts[PlaneCounter.QUERIES_REFUSED] > 0)
        await until(kept.plane.is_intact)

    keeping(pins, scenario)


def test_a_pin_that_cannot_be_restored_is_counted(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        run(f"umount {pins}")
        shutil.rmtree(pins)
        pins.write_text("a file is in the way")
        await until(lambda: kept.plane.counts[PlaneCounter.PINS_REFUSED] > 0)
        assert kept.plane.modes()["up1"].startswith("none: ")
        assert kept.plane.counts[PlaneCounter.UPLINKS_REFUSED] > 0
        pins.unlink()
        await until(lambda: kept.plane.modes()["up1"].startswith("tcx") and kept.plane.is_intact())

    keeping(pins, scenario)
