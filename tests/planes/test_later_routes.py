# SPDX-License-Identifier: MIT
"""Routes of others to the prefix of a peer that come and go later, such as those of a VPN."""

import asyncio
import os
import socket
import subprocess
from pathlib import Path
from typing import Literal

import pytest

from noid.counters import PlaneCounter
from noid.flows.clock import FlowClock
from noid.host.routes import Prefix
from noid.identifiers import Label
from noid.locators import Locator, format_locator, parse_locator
from noid.planes.inquiries import AT_ONCE, Inquiries
from tests.namespaces import ip
from tests.planes import keeping as keeping_module
from tests.planes.keeping import AID, OTHER, PEER, UPLINKS, Kept, flow_to_peer, keeping, routes
from tests.waiting import until

VPN = "vpn0"


def device_to_peer() -> str:
    """The device by which a program reaches the peer with a new connection."""
    command = ["ip", "-6", "route", "get", format_locator(PEER)]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return words[words.index("dev") + 1]


def test_a_new_connection_takes_a_device_without_addresses_of_its_own(
    pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a bridge to virtual machines that have a prefix of their own."""
    monkeypatch.setattr(keeping_module, "UPLINKS", ["*"])

    async def scenario(kept: Kept) -> None:
        ip("-6 route add default dev up1")
        ip("link add machines type veth peer name machine")
        ip("link set machine up")
        ip("link set machines up")
        await until(lambda: socket.if_nametoindex("machines") in (kept.bpf.heard_on or ()))
        ip("-6 route add 2001:db8:3::/64 dev machines")
        await until(lambda: device_to_peer() == "machines")

    keeping(pins, scenario)


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


def is_refused(source: str, peer: Locator = PEER) -> bool:
    """Whether a program cannot send to a peer from an address."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as program:
        program.bind((source, 0))
        try:
            program.connect((format_locator(peer), 9))
        except OSError:
            return True
        return False


def are_refused(is_so: bool) -> bool:
    """Whether connections to the peer with and without a source are all refused, or none is."""
    return {is_refused("::"), is_refused(format_locator(AID))} == {is_so}


@pytest.mark.parametrize("kind", ["bpf", "tun"])
@pytest.mark.parametrize(
    "refusal",
    [
        "route {} blackhole 2001:db8:3::1",
        "route {} unreachable 2001:db8:3::1",
        "route {} prohibit 2001:db8:3::/64",
        "rule {} to 2001:db8:3::/64 priority 1000 prohibit",
        "rule {} to 2001:db8:3::1 priority 1000 unreachable",
    ],
)
def test_the_peer_of_a_context_is_refused_where_the_operator_wants_it(
    pins: Path, kind: Literal["bpf", "tun"], refusal: str
) -> None:
    async def scenario(kept: Kept) -> None:
        ip("-6 route add default dev up1")
        assert are_refused(False)
        before = routes(kept)
        for _ in range(2):
            ip(f"-6 {refusal.format('add')}")
            await until(lambda: are_refused(True))
            assert not any(routes(kept).values())
            ip(f"-6 {refusal.format('del')}")
            await until(lambda: routes(kept) == before)
            assert are_refused(False)

    keeping(pins, scenario, kind=kind)


def test_the_peer_of_a_context_that_is_made_later_is_refused_too(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        ip("-6 route add default dev up1")
        ip("-6 route add prohibit 2001:db8:4::/64")
        flow = flow_to_peer()
        flow.local_label = Label(flow.local_label + 1)
        flow.peer_aid = flow.peer_locator = parse_locator("2001:db8:4::1")
        kept.plane.install(flow)
        kept.plane.watch(flow.peer_aid)
        assert is_refused(format_locator(AID), flow.peer_aid)
        assert is_refused("::", flow.peer_aid)
        ip("-6 route del prohibit 2001:db8:4::/64")
        await until(lambda: _has_route(kept, flow.peer_aid))
        kept.plane.remove(flow.local_label)
        kept.plane.unwatch(flow.peer_aid)
        assert not _has_route(kept, flow.peer_aid)

    keeping(pins, scenario)


def test_a_refusal_that_is_lost_in_a_flood_of_messages_is_found(pins: Path) -> None:
    def flood(last: str) -> None:
        words = [f"route {word} 2001:db8:9::/48 dev up2" for word in ("add", "del")] * 500
        batch = ["ip", "-6", "-batch", "-"]
        subprocess.run(batch, input="\n".join([*words, last]), text=True, check=True)

    async def scenario(kept: Kept) -> None:
        ip("-6 route add default dev up1")
        before = routes(kept)
        with socket.socket(fileno=os.dup(kept.watching.changes.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        counts = kept.plane.counts
        flood(f"route add blackhole {format_locator(PEER)}")
        await until(lambda: are_refused(True))
        await until(lambda: not any(routes(kept).values()))
        assert (first := counts[PlaneCounter.NETLINK_OVERFLOWS])
        flood(f"route del blackhole {format_locator(PEER)}")
        await until(lambda: routes(kept) == before)
        assert counts[PlaneCounter.NETLINK_OVERFLOWS] > first

    keeping(pins, scenario)


def test_contexts_that_are_taken_up_are_looked_up_later(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        ip("-6 route add default dev up1")
        ip("-6 route add prohibit 2001:db8:4::/64")
        flow, asked = flow_to_peer(), list[object]()
        flow.local_label = Label(flow.local_label + 1)
        flow.peer_aid = flow.peer_locator = parse_locator("2001:db8:4::1")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kept.network, "refused", asked.append)
            kept.plane.take_up([flow], [FlowClock()], [flow.peer_aid])
        assert not asked, "very many questions would take seconds"
        await until(lambda: is_refused(format_locator(AID), flow.peer_aid))
        await until(lambda: is_refused("::", flow.peer_aid))
        assert not is_refused(format_locator(AID))

    keeping(pins, scenario)


def _has_route(kept: Kept, peer: Locator) -> bool:
    return any(route.aid == peer for some in routes(kept).values() for route in some)


@pytest.mark.parametrize("lost", ["up1", "far1"])
def test_a_refused_aggregate_does_not_refuse_a_peer_whose_uplink_is_lost(
    pins: Path, lost: str
) -> None:
    """A routing daemon has a null route for its own aggregate, and withdraws what the link led."""
    specific = "2001:db8:3::/48 dev up1"

    async def scenario(kept: Kept) -> None:
        kept.in_use.add(AID)
        for route in ("default dev up2", specific, "unreachable 2001:db8::/32"):
            ip(f"-6 route add {route}")
        flow = flow_to_peer()
        flow.local_label = Label(flow.local_label + 1)
        flow.local_aid = flow.local_locator = OTHER
        kept.plane.install(flow)
        table, other = (kept.bpf.steering.table_of(kept.bpf.rows.of[one]) for one in (AID, OTHER))
        before = routes(kept)
        assert len(before[table]) == len(before[other]) == 2
        ip(f"link set {lost} down")
        if lost == "far1":
            ip(f"-6 route del {specific}")
        await until(lambda: not routes(kept)[other])
        assert routes(kept)[table]
        ip(f"link set {lost} up")
        ip("addr replace 2001:db8:1::1/64 dev up1 nodad")
        await until(lambda: not routes(kept)[table])
        ip(f"-6 route add {specific}")
        await until(lambda: routes(kept) == before)
        assert not is_refused(format_locator(AID))

    keeping(pins, scenario)


def test_a_peer_is_allowed_again_while_its_uplink_is_down(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        kept.in_use.add(AID)
        ip("-6 route add default dev up2")
        ip("-6 route add blackhole 2001:db8:3::/48")
        await until(lambda: is_refused(format_locator(AID)))
        ip("link set up1 down")
        await until(lambda: AID in kept.watching.kept)
        ip("-6 route del blackhole 2001:db8:3::/48")
        await until(lambda: not is_refused(format_locator(AID)))

    keeping(pins, scenario)


def test_a_refusal_in_the_table_of_an_uplink_is_for_its_addresses(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        for number in (1, 2):
            ip(f"-6 route add default dev up{number} table {100 + number}")
            ip(f"-6 rule add from 2001:db8:{number}::/64 priority 2000 lookup {100 + number}")
        own = [format_locator(one) for one in (AID, OTHER)]

        def refused() -> list[bool]:
            return [is_refused(one) for one in own]

        await until(lambda: refused() == [False, False])
        ip("-6 route add blackhole 2001:db8:3::1 table 101")
        await until(lambda: refused() == [True, False])
        ip("-6 route del blackhole 2001:db8:3::1 table 101")
        await until(lambda: refused() == [False, False])
        ip("-6 route add blackhole 2001:db8:3::1 table 102")
        await until(lambda: refused() == [False, True])

    keeping(pins, scenario)


def test_peers_are_looked_up_a_few_at_a_time() -> None:
    peers = [parse_locator(f"2001:db8:3::{number:x}") for number in range(2 * AT_ONCE + 1)]
    turns: list[int] = []
    looked_up: list[Locator] = []

    async def scenario() -> None:
        inquiries = Inquiries(looked_up.extend)
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
