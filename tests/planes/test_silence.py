# SPDX-License-Identifier: MIT
"""Silence of a flow is noticed though no packet leaves: by a timer of the kernel, or by a scan."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from noid.config import PlaneSection
from noid.constants import MILLISECOND, Codepoints
from noid.engine.events import Input
from noid.flows.events import LongUnproven, UnansweredPacket
from noid.host.netlink import HostNetwork
from noid.planes.bpf.pins import take_down
from noid.planes.bpf.plane import BpfPlane
from noid.planes.slow_path import PlaneDependencies
from tests.namespaces import in_network_namespace, ip
from tests.planes.loading import A1, B1, flow_on_aids
from tests.waiting import until

FLOW = flow_on_aids(silence_ns=5 * MILLISECOND)


@pytest.mark.parametrize("timers", [True, False])
def test_a_single_segment_that_stays_unanswered_is_reported(pins: Path, timers: bool) -> None:
    """One SYN leaves; TCP sends the next one a second later, and the report comes before."""
    heard: list[Input] = []

    async def play() -> None:
        ip("link add up1 type veth peer name far1")
        for device in ("up1", "far1", "lo"):
            ip(f"link set {device} up")
        ip("addr add 2001:db8:1::a/64 dev up1 nodad")
        ip("neigh add 2001:db8:1::b lladdr 02:00:00:00:00:0b dev up1")
        section = PlaneSection(kind="bpf", pins=str(pins), contexts=16)
        network = HostNetwork()
        plane = BpfPlane(
            PlaneDependencies(
                section=section,
                codepoints=Codepoints(),
                network=network,
                mtu=1500,
                notify=lambda one: None if isinstance(one, LongUnproven) else heard.append(one),
                locators=lambda: (A1,),
            ),
            interfaces=["up*"],
            directory=pins.parent,
            referrals=False,
            timers=timers,
        )
        plane.open()
        try:
            plane.start()
            plane.install(FLOW)
            await one_segment(plane)
        finally:
            plane.close()
            list(take_down(section, network))
            network.close()

    async def one_segment(plane: BpfPlane) -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(("2001:db8:1::b", 80))
            await until(lambda: heard)

    in_network_namespace(lambda: asyncio.run(play()))
    (report, *_) = heard
    assert isinstance(report, UnansweredPacket)
    assert report.local_label == FLOW.local_label
    assert report.packet[8:40] == A1 + B1
    assert report.silent_ns >= 60 * MILLISECOND, "receivers delay the answer to a single segment"
