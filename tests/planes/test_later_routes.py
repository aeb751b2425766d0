# SPDX-License-Identifier: MIT
"""Routes of others to the prefix of a peer that come and go later, such as those of a VPN."""

import asyncio
import subprocess
from pathlib import Path
from typing import Literal

import pytest

from noid.host.routes import Prefix
from noid.locators import Locator, format_locator, parse_locator
from noid.planes.inquiries import AT_ONCE, Inquiries
from tests.dns.conftest import ip
from tests.planes.keeping import PEER, UPLINKS, Kept, keeping
from tests.waiting import until

VPN = "vpn0"


def device_to_peer() -> str:
    """The device by which a program reaches the peer with a new connection."""
    command = ["ip", "-6", "route", "get", format_locator(PEER)]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return words[words.index("dev") + 1]


@pytest.mark.parametrize("kind", ["bpf", "tun"])
@pytest.mark.parametrize("prefix", ["2001:db8:3::/64", "2001:db8:3::1/128"])
def test_a_new_connection_takes_the_vpn_that_came_up_later(
    pins: Path, kind: Literal["bpf", "tun"], prefix: str
) -> None:
    async def scenario(kept: Kept) -> None:
        ip("-6 route add default dev up1")
        before = device_to_peer()
        assert before in {*UPLINKS, *kept.plane.own_devices}
        ip(f"link add {VPN} type veth peer name far-{VPN}")
        ip(f"link set far-{VPN} up")
        ip(f"link set {VPN} up")
        ip(f"-6 route add {prefix} dev {VPN}")
        await until(lambda: device_to_peer() == VPN)
        ip(f"-6 route del {prefix} dev {VPN}")
        await until(lambda: device_to_peer() == before)

    keeping(pins, scenario, kind=kind)


@pytest.mark.parametrize("kind", ["bpf", "tun"])
@pytest.mark.parametrize("refusal", ["blackhole", "unreachable", "prohibit"])
def test_a_new_connection_is_refused_where_the_operator_wants_it(
    pins: Path, kind: Literal["bpf", "tun"], refusal: str
) -> None:
    def is_refused() -> bool:
        command = ["ip", "-6", "route", "get", format_locator(PEER)]
        return subprocess.run(command, capture_output=True, check=False).returncode != 0

    async def scenario(kept: Kept) -> None:
        ip("-6 route add default dev up1")
        assert not is_refused()
        ip(f"-6 route add {refusal} {format_locator(PEER)}")
        await until(is_refused)
        ip(f"-6 route del {refusal} {format_locator(PEER)}")
        await until(lambda: not is_refused())

    keeping(pins, scenario, kind=kind)


def test_peers_are_looked_up_a_few_at_a_time() -> None:
    peers = [parse_locator(f"2001:db8:3::{number:x}") for number in range(2 * AT_ONCE + 1)]
    turns: list[int] = []
    looked_up: list[Locator] = []

    async def scenario() -> None:
        inquiries = Inquiries(looked_up.append)
        inquiries.add([Prefix(PEER, 64)], [*peers, parse_locator("2001:db8:4::1")])
        while len(looked_up) < len(peers):
            await asyncio.sleep(0)
            turns.append(len(looked_up))

    asyncio.run(scenario())
    assert looked_up == peers
    assert [one for one in turns if one] == [AT_ONCE, 2 * AT_ONCE, len(peers)]


def test_a_vpn_of_everything_is_followed_for_very_many_peers_a_few_at_a_time(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        plane, source_of = kept.bpf, kept.bpf.steering.source_of
        ip("-6 route add default dev up1 metric 2000")
        ip(f"link add {VPN} type veth peer name far-{VPN}")
        for name in (VPN, f"far-{VPN}"):
            ip(f"link set {name} up")
        peers = [parse_locator(f"2001:db8:9::{number:x}") for number in range(3 * AT_ONCE)]
        for peer in peers:
            plane.watch(peer)
        await until(lambda: all(map(source_of, plane.watched)))
        ip(f"-6 route add default dev {VPN} metric 1000")
        plane.lead_elsewhere(True)
        chosen = [peer for peer in plane.watched if source_of(peer)]
        assert len(chosen) == len(plane.watched) - AT_ONCE
        await until(lambda: not any(map(source_of, plane.watched)))

    keeping(pins, scenario)
