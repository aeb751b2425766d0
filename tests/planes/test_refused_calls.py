# SPDX-License-Identifier: MIT
"""What the kernel refuses is counted, and tried again."""

import asyncio
import errno
import socket
from collections.abc import Set
from pathlib import Path
from typing import Literal

import pytest

from noid.counters import PlaneCounter
from noid.errors import PlatformError
from noid.host.netlink import HostNetwork
from noid.locators import format_locator, parse_locator
from tests.namespaces import ip
from tests.planes.keeping import AID, OTHER, OUT, Kept, attached, keeping, routes, rules, run
from tests.waiting import until


def test_lost_netlink_messages_are_counted_and_cause_a_comparison(
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
        ip(f"route add 2001:db8:3::99 dev lo table {table} proto static")
        kept.watching.compare_soon()
        await until(lambda: routes(kept) == there)  # what was due at the start is over
        # The loop reads nothing until all of it is done.
        for path in (batch("add", 7), batch("add", 8)):
            run(f"ip -6 -batch {path}")
        ip(f"route flush table {table}")
        await until(lambda: routes(kept) == there)
        assert kept.plane.counts[PlaneCounter.NETLINK_OVERFLOWS] > 0
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
            hooks = attached() if kind == "bpf" else {}
            return rules(kept), routes(kept), hooks, kept.watching.survey().ours

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
        counted = any("REFUSED" in key.name and count for key, count in kept.plane.counts.items())
        assert not asked or counted or name in QUIET, (asked, kept.plane.counts)
        ip("addr del 2001:db8:5::5/64 dev up2")
        kept.watching.compare_soon()
        await until(lambda: state() == before)

    keeping(pins, scenario, hook="clsact", kind=kind)


@pytest.mark.parametrize("name", [name for name in CALLS if name.startswith("add_")])
def test_what_is_obsolete_goes_although_the_kernel_takes_nothing_new(
    pins: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One address has moved to the other uplink, and another one is to be kept now."""

    def refuse(*_: object, **__: object) -> None:
        raise PlatformError("what is new", errno.ENOBUFS, "no buffer space")

    async def scenario(kept: Kept) -> None:
        def obsolete() -> tuple[Set[object], ...]:
            ours = kept.watching.survey().ours[kept.plane.keeping].addresses
            return (
                {one for one in rules(kept) if one.source == OTHER} & before,
                {one for one in kept.network.routes(table) if one.device == index},
                gone & ours,
            )

        gone = {parse_locator("2001:db8:7::7")}
        index = socket.if_nametoindex("up1")
        table = kept.bpf.steering.table_of(kept.bpf.rows.of[AID])
        kept.in_use |= gone
        kept.watching.take(kept.watching.survey())
        before = rules(kept)
        await until(lambda: all(obsolete()))
        with monkeypatch.context() as patched:
            patched.setattr(HostNetwork, name, refuse)
            for address, old, new in (OTHER, "up2", "up1"), (AID, "up1", "up2"):
                ip(f"addr del {format_locator(address)}/64 dev {old}")
                ip(f"addr add {format_locator(address)}/64 dev {new} nodad")
            kept.in_use.clear()
            kept.in_use.add(parse_locator("2001:db8:7::8"))
            kept.watching.compare_soon()
            await until(lambda: not any(obsolete()))

    keeping(pins, scenario)


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
