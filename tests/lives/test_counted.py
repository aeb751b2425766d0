# SPDX-License-Identifier: MIT
"""What the kernel refuses of a plane that is at work is counted."""

import asyncio
import contextlib
import errno
from collections import Counter
from pathlib import Path

import pytest

from noid.counters import PlaneCounter
from noid.errors import PlatformError
from noid.host.netlink import HostNetwork
from noid.planes.bpf.pins import take_down
from noid.planes.bpf.plane import BpfPlane
from tests.lives.failing import Call, Calls, watched
from tests.lives.parts import Place, use_plane
from tests.namespaces import in_network_namespace
from tests.planes.keeping import flow_to_peer, make_plane, make_uplinks

UPDATES = frozenset({"bpf_map_update_elem", "bpf_map_update_batch"})


async def counted(
    pins: Path, monkeypatch: pytest.MonkeyPatch, calls: Calls
) -> tuple[Counter[PlaneCounter], list[Call]]:
    """The counters of a plane that is started and used, and the calls that it makes."""
    network = HostNetwork()
    plane = make_plane(network, pins, "auto", 16, "bpf")
    assert isinstance(plane, BpfPlane)
    try:
        with watched(calls, monkeypatch):
            plane.open()
            begun = len(calls.made)
            plane.install(flow_to_peer())
            plane.start()
            await use_plane(Place(pins.parent, network), plane)
        return plane.counters(), calls.made[begun:]
    finally:
        plane.close()
        list(take_down(plane.section, network))
        network.close()


@pytest.mark.slow
def test_every_entry_for_which_a_table_has_no_room_is_counted(
    pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        make_uplinks()
        usual, made = await counted(pins, monkeypatch, Calls())
        updates = [call for call in made if call.name in UPDATES]
        assert len(updates) >= 6
        for call in updates:
            counts, _ = await counted(pins, monkeypatch, Calls(failing=call))
            more = counts - usual
            assert any("WITHOUT_ROOM" in one.name for one in more), (call, more)

    in_network_namespace(lambda: asyncio.run(play()))


def test_every_route_that_the_kernel_does_not_take_is_counted(
    pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        make_uplinks()
        network = HostNetwork()
        plane = make_plane(network, pins, "auto", 16, "bpf")
        assert isinstance(plane, BpfPlane)
        with contextlib.ExitStack() as stack:
            stack.callback(network.close)
            stack.callback(lambda: list(take_down(plane.section, network)))
            plane.open()
            stack.callback(plane.close)
            plane.start()
            before = plane.counts[PlaneCounter.ROUTES_REFUSED]
            with monkeypatch.context() as patched:
                patched.setattr(HostNetwork, "add_routes", refuse)
                plane.install(flow_to_peer())
            assert plane.counts[PlaneCounter.ROUTES_REFUSED] - before == 2, (
                "by the uplink, and by our device"
            )
            with monkeypatch.context() as patched:
                patched.setattr(HostNetwork, "remove_routes", refuse)
                plane.remove(flow_to_peer().local_label)
            assert plane.counts[PlaneCounter.ROUTES_REFUSED] - before == 4

    in_network_namespace(lambda: asyncio.run(play()))


def refuse(*_: object) -> None:
    raise PlatformError("routes", errno.ENOBUFS, "no buffer space")
