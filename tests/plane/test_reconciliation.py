"""What others remove from a host that noid runs on is restored, counted and reported."""

import asyncio
import errno
import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import pytest
from pyroute2.ethtool import Ethtool

from noid.config import PlaneSection
from noid.errors import PlatformError
from noid.locators import Locator, format_locator, parse_locator
from noid.netlink import CUTTING, MTU_MAX, SUMMING, HostNetwork
from noid.plane import bpf, layout, libbpf, steering
from noid.plane.bpf import NO_ROWS, PINS_REFUSED, UPLINKS_REFUSED
from noid.plane.carried import TABLES, pin_of
from noid.plane.flows import NO_ROOM_TO_WATCH
from noid.plane.rows import CUTS_TCP
from noid.plane.steering import BY_UPLINK, GATEWAY
from noid.routes import PeerRoute
from noid.rules import Rule
from noid.watching import OVERFLOWS
from tests.dns.conftest import ip
from tests.plane.foreign import Hanging, hanging
from tests.plane.keeping import AID, OTHER, PEER, UPLINKS, Kept, keeping, run, until

Result = TypeVar("Result")

SECTION = PlaneSection()
FIRST = SECTION.rule_priority
OUT, CUT = "noid0-out", "noid0-cut"


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    """Where the plane pins; it mounts the file system itself."""
    path = tmp_path / "pins"
    yield path
    for _ in range(2):
        subprocess.run(["umount", path], check=False, capture_output=True)


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
    return steering.ours_among(SECTION, kept.network.rules())


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


def test_a_flushed_table_is_restored_and_reported(
    pins: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peers = [Locator(PEER[:14] + number.to_bytes(2, "big")) for number in range(2, 600)]

    async def scenario(kept: Kept) -> None:
        row = kept.bpf.rows.of[AID]
        kept.bpf.steering.add_peers(row, peers)
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
        kept.bpf.steering.add_peers(row, [PEER])
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


# --- programs and pins ----------------------------------------------------------------------------


def attached() -> dict[tuple[str, str], Hanging]:
    names = [(name, side) for name in (*UPLINKS, CUT, "noid0") for side in ("egress", "ingress")]
    return elsewhere(lambda: {one: hanging(*one) for one in names})


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


def test_a_pin_that_cannot_be_restored_is_counted(
    pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(kept: Kept) -> None:
        run(f"umount {pins}")
        shutil.rmtree(pins)
        pins.write_text("a file is in the way")
        await until(lambda: kept.plane.counts[PINS_REFUSED] > 0)
        assert kept.plane.modes()["up1"].startswith("none: ")
        assert kept.plane.counts[UPLINKS_REFUSED] > 0
        pins.unlink()
        await until(lambda: kept.plane.modes()["up1"].startswith("tcx") and kept.plane.is_intact())

    keeping(pins, scenario)


# --- devices --------------------------------------------------------------------------------------


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
        assert not kept.plane.counts["deliveries refused"]

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
        await until(lambda: bool(kept.bpf.rows.uplinks[row].flags & layout.CUT_TCP))
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
        assert {PeerRoute(PEER, kept.bpf.steering.table_of(rows.of[AID]), index["up2"], BY_UPLINK,
            GATEWAY)} <= kept.network.routes(kept.bpf.steering.table_of(rows.of[AID]))  # fmt: skip

    keeping(pins, scenario, hook=hook)


# --- what the kernel refuses ----------------------------------------------------------------------


def test_more_messages_than_can_be_held_are_counted_and_followed_by_a_comparison(
    pins: Path, tmp_path: Path
) -> None:
    def batch(verb: str, metric: int) -> Path:
        path = tmp_path / f"{verb}-{metric}"
        lines_of = (
            f"route {verb} 2001:db8:ff:{number >> 8:x}::{number & 255:x}/128 dev lo "
            f"metric {metric} table 77\n"
            for number in range(15_000)
        )
        path.write_text("".join(lines_of))
        return path

    async def scenario(kept: Kept) -> None:
        table = kept.bpf.steering.table_of(kept.bpf.rows.of[AID])
        there = routes(kept)
        # The loop reads nothing until all of it is done.
        for path in (batch("add", 7), batch("add", 8)):
            run(f"ip -6 -batch {path}")
        ip(f"route flush table {table}")
        await until(lambda: routes(kept) == there)
        assert kept.plane.counts[OVERFLOWS] > 0
        assert kept.restored == len(there[table])

    keeping(pins, scenario)


NOT_WHILE_RUNNING = ("close", "addresses_on", "uplink", "neighbour_devices", "rules",
    "remove_device", "remove_neighbour")  # fmt: skip
"""What is asked at the start and at the end alone."""
QUIET = ("has_filter", "detach_filters", "keep_neighbour")
"""What is asked again soon, or where the device may be gone."""
CALLS = [
    name
    for name, value in vars(HostNetwork).items()
    if callable(value) and not name.startswith("_") and name not in NOT_WHILE_RUNNING
]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", ["bpf", "tun"])
def test_what_the_kernel_refuses_is_counted_and_tried_again(
    pins: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: Literal["bpf", "tun"]
) -> None:
    asked = 0

    def refuse(*_: object, **__: object) -> None:
        nonlocal asked
        asked += 1
        raise PlatformError("what was asked", errno.ENOBUFS, "no buffer space")

    async def scenario(kept: Kept) -> None:
        def state() -> object:
            ours = kept.watching.survey().ours
            hooks = attached() if kind == "bpf" else {}
            return rules(kept), routes(kept), hooks, ours[kept.plane.keeping].addresses

        kept.in_use.add(parse_locator("2001:db8:7::7"))
        kept.watching.take(kept.watching.survey())
        before = state()
        with monkeypatch.context() as patched:
            patched.setattr(HostNetwork, name, refuse)
            disturb(kept)
            await asyncio.sleep(0.2)
            kept.in_use.clear()
            ip("addr add 2001:db8:5::5/64 dev up2 nodad")
            await asyncio.sleep(0.2)
            kept.in_use.add(parse_locator("2001:db8:7::7"))
            kept.watching.compare_soon()
            await asyncio.sleep(0.2)
        counted = any("refused" in key and count for key, count in kept.plane.counts.items())
        assert not asked or counted or name in QUIET, (asked, kept.plane.counts)
        ip("addr del 2001:db8:5::5/64 dev up2")
        kept.watching.compare_soon()
        await until(lambda: state() == before)

    keeping(pins, scenario, hook="clsact", kind=kind)


def disturb(kept: Kept) -> None:
    """Others change whatever they can."""
    ip("rule flush")
    ip("neigh flush dev up1 nud permanent")
    for table in kept.plane.tables_of_routes():
        ip(f"route flush table {table}")
    if kept.plane.kind == "bpf":
        ip(f"link set {OUT} mtu 1300")
        run("tc qdisc del dev up1 clsact")
    ip("link set up1 mtu 1400")
    ip("link set up2 down")
    ip("link set up2 up")
    ip("addr replace 2001:db8:2::1/64 dev up2 nodad")
    kept.plane.watch(OTHER)
    kept.plane.unwatch(OTHER)
    ip("link set up1 mtu 1500")


# --- full tables ----------------------------------------------------------------------------------


def test_a_peer_too_many_is_counted_and_watched_once_there_is_room(
    pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bpf, "KNOWN_PEERS_MAX", 3)
    room = 16 + 3 + 1
    peers = [Locator(PEER[:14] + number.to_bytes(2, "big")) for number in range(2, room + 4)]

    async def scenario(kept: Kept) -> None:
        table = kept.bpf.tables["watched"]
        for peer in peers[:8]:
            kept.plane.watch(peer)
        kept.plane.take_up([], [], peers[8:])
        assert len(list(table.keys())) == room
        assert kept.plane.counts[NO_ROOM_TO_WATCH] == 1 + len(peers) - room
        assert not table.find(peers[-1])
        kept.plane.watch(peers[-1])
        assert kept.plane.counts[NO_ROOM_TO_WATCH] == 1 + len(peers) - room, "it is no other"
        for peer in peers[:4]:
            kept.plane.unwatch(peer)
        kept.watching.compare_soon()
        await until(lambda: bool(table.find(peers[-1])))

    keeping(pins, scenario)


def test_one_peer_too_many_is_counted(pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "KNOWN_PEERS_MAX", 0)

    async def scenario(kept: Kept) -> None:
        for number in range(2, 19):
            kept.plane.watch(Locator(PEER[:14] + number.to_bytes(2, "big")))
        assert kept.plane.counts[NO_ROOM_TO_WATCH] == 1
        kept.plane.unwatch(Locator(PEER[:14] + (18).to_bytes(2, "big")))
        kept.watching.compare_soon()
        assert kept.plane.counts[NO_ROOM_TO_WATCH] == 1

    keeping(pins, scenario)


def test_an_uplink_without_a_row_is_counted(pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "OWN_ROW", 2)

    async def scenario(kept: Kept) -> None:
        assert kept.plane.counts[NO_ROWS] == 1
        kept.watching.take(kept.watching.survey())
        assert kept.plane.counts[NO_ROWS] == 1
        assert set(kept.plane.modes()) == set(UPLINKS)

    keeping(pins, scenario)
