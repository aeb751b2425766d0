# SPDX-License-Identifier: MIT
"""The parts of noid that open something on a host: how each is opened, used and closed again."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from noid.config import HostSection, PlaneSection
from noid.constants import Codepoints
from noid.control.server import ControlServer
from noid.dns.records import Kind, Question
from noid.doctor.trial import set_up
from noid.errors import PlatformError
from noid.flows.clock import FlowClock
from noid.host.changes import NetworkChanges
from noid.host.connections import Connections
from noid.host.netlink import HostNetwork
from noid.host.resolvconf import turn_off, turn_on
from noid.identifiers import NO_LABEL, Label
from noid.locators import Locator, parse_locator
from noid.planes.bpf import libbpf, pins
from noid.planes.bpf.carried import Carried, pin_of
from noid.planes.bpf.pins import own_devices
from noid.planes.bpf.plane import BpfPlane
from noid.planes.steering import GATEWAY
from noid.planes.tun import TunPlane
from noid.resolver.stub import Stub
from noid.resolver.upstream import Upstream
from noid.roles.local_locators import LocalLocators
from noid.roles.reconciliation import Watching
from noid.state.contexts import ContextStore
from noid.state.files import prepare_directory
from noid.state.identity import load_identity
from noid.state.restore import Takeover
from tests.planes.keeping import AID, OTHER, PEER, UPLINKS, Unwatched, flow_to_peer, make_plane
from tests.planes.loading import load
from tests.state.test_contexts import row
from tests.waiting import until

KEPT: Final = parse_locator("2001:db8:7::7")
FAR: Final = [Locator(PEER[:14] + number.to_bytes(2, "big")) for number in range(16, 28)]
CLOCK: Final = FlowClock(unanswered_ns=0, reported_ns=0, received_ns=0, moved_ns=0)
NOBODY: Final = ("::1", 9)
QR_TC, RA = 0x83, 0x80
"""Of the flags of a response: it is truncated."""


@dataclass(frozen=True)
class Place:
    """Where a part works.

    Attributes:
        directory: for its files; ``pins`` in it is for those of the kernel.
        network: the host's.
    """

    directory: Path
    network: HostNetwork

    @property
    def pins(self) -> Path:
        return self.directory / "pins"


Work = Callable[[contextlib.AsyncExitStack], Awaitable[int | None]]
"""Uses a part that is open, any number of times; what it pushes on the stack is closed before.

It may say how often the host has refused it something so far, if that is counted."""
Part = Callable[[Place, contextlib.AsyncExitStack], Awaitable[Work]]
"""Opens a part, and pushes its closing on the stack; what it returns uses it."""


def a_plane(kind: str, hook: Literal["auto", "clsact"] = "auto") -> Part:
    async def part(place: Place, stack: contextlib.AsyncExitStack) -> Work:
        section = PlaneSection(pins=str(place.pins))
        plane = make_plane(place.network, place.pins, hook, 16, kind)
        plane.open()  # if that fails, nothing is left to take down
        stack.callback(lambda: list(pins.take_down(section, place.network)))
        stack.callback(plane.close)
        plane.install(flow_to_peer())
        plane.start()

        async def work(_: contextlib.AsyncExitStack) -> int:
            await use_plane(place, plane)
            return refusals(plane)

        return work

    return part


def refusals(plane: BpfPlane | TunPlane) -> int:
    """How often the kernel has refused it something."""
    return sum(count for key, count in plane.counts.items() if key.name.endswith("_REFUSED"))


async def use_plane(place: Place, plane: BpfPlane | TunPlane) -> None:
    """Everything that a plane does for flows and peers, and its end."""
    flow = flow_to_peer()
    flow.peer_locators = flow.verified_locators = frozenset({PEER, *FAR})
    plane.install(flow)
    plane.watch(PEER)
    plane.take_up([], [], FAR[:2])
    second = replace(
        flow,
        local_label=Label(flow.local_label ^ 1),
        local_aid=OTHER,
        local_locator=OTHER,
        peer_aid=FAR[0],
        peer_locator=FAR[0],
    )
    plane.take_up([second], [CLOCK], [FAR[0]])
    plane.keep_address(KEPT, kept=True)
    packet = bytes([0x60, 0, 0, 0, 0, 0, 59, 64]) + AID + PEER
    for octets in (packet, packet[:8] + KEPT + PEER):
        plane.send(octets)
    plane.deliver(packet)
    plane.send_again(flow.local_label, packet)
    plane.network_changed(place.network.survey(UPLINKS, excluded=own_devices("noid0")))
    plane.link_lost(socket.if_nametoindex("up2"), is_up=True)
    plane.network_changed(place.network.survey(UPLINKS, excluded=own_devices("noid0")))
    await asyncio.sleep(0.11)  # until what is put off for a moment is done
    plane.received_ns(flow.local_label)
    plane.counters()
    plane.is_intact()
    # The second flow, its peer and an address are still there when the plane ends.
    plane.remove(flow.local_label)
    for aid in (PEER, FAR[1]):
        plane.unwatch(aid)


async def the_watch(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    plane = make_plane(place.network, place.pins, "auto", 16, "tun")
    plane.open()
    stack.callback(plane.close)
    plane.start()
    in_use = {KEPT}
    watching = Watching(
        place.network,
        plane,
        LocalLocators(HostSection()),
        survey=lambda: place.network.survey(UPLINKS, excluded=own_devices("noid0")),
        handle=lambda event: None,
        told=lambda: None,
        uplinks=Unwatched(),
        in_use=lambda: in_use,
    )
    stack.callback(watching.close)

    async def work(inner: contextlib.AsyncExitStack) -> None:
        watching.take(watching.survey())
        device = socket.if_nametoindex(plane.keeping)
        in_use.clear()
        for _ in range(2):  # what was refused is tried again
            watching.take(watching.survey())
        watching.hear()
        assert not place.network.addresses_on(device)

    return work


async def the_messages_of_the_kernel(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    changes = NetworkChanges(GATEWAY)
    stack.callback(changes.close)

    async def work(_: contextlib.AsyncExitStack) -> None:
        changes.read()

    return work


async def the_control_socket(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    server = ControlServer(place.directory / "control" / "socket", {"status": dict})
    await server.start()
    stack.push_async_callback(server.stop)

    async def work(inner: contextlib.AsyncExitStack) -> None:
        reader, writer = await asyncio.open_unix_connection(str(server.path))
        inner.callback(writer.close)
        writer.write(b'{"command":"status"}\n')
        await reader.readline()

    return work


async def the_stub(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    upstream = Upstream([NOBODY], Codepoints(), lambda: (AID,), 0x6D36, total_s=0.2)
    stack.push_async_callback(upstream.close)
    stub = Stub("::1", 53, upstream, lambda *_: True, tuple)
    await stub.start()
    stack.push_async_callback(stub.stop)

    async def work(_: contextlib.AsyncExitStack) -> None:
        await upstream.ask(Question(Kind.LOCATORS, "b.example"))

    return work


async def the_resolvers(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    """One of them has too much to say by UDP, and says nothing by TCP."""
    resolver = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    silent = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
    for one in (resolver, silent):
        one.setblocking(False)
        one.bind(("::1", 54))
    silent.listen()
    upstream = Upstream([("::1", 54)], Codepoints(), lambda: (AID,), 0, total_s=0.2)
    stack.push_async_callback(upstream.close)

    def answer() -> None:
        query, client = resolver.recvfrom(512)
        resolver.sendto(query[:2] + bytes((QR_TC, RA)) + query[4:], client)

    async def work(inner: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(resolver, answer)
        inner.callback(loop.remove_reader, resolver)
        before = asyncio.all_tasks()
        await upstream.ask(Question(Kind.LOCATORS, "b.example"))
        await until(lambda: asyncio.all_tasks() <= before)

    return work


async def the_stored_state(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    directory = place.directory / "state"
    prepare_directory(directory)
    load_identity(directory)
    memories = ContextStore(directory)
    stack.callback(memories.close)

    async def work(_: contextlib.AsyncExitStack) -> None:
        memories.keep([row(1), row(2)])
        memories.keep([(Label(1), None)])
        memories.count()
        memories.page(NO_LABEL, 10)
        memories.forget_all()

    return work


async def what_an_earlier_daemon_left(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    directory = place.directory / "state"
    prepare_directory(directory)
    memories = ContextStore(directory)
    stack.callback(memories.close)
    memories.keep([row(1)])
    takeover = Takeover(memories, place.pins)
    stack.callback(takeover.close)

    async def work(_: contextlib.AsyncExitStack) -> None:
        assert not takeover.is_worth_it()
        assert not any(takeover.pages())

    return work


async def the_resolver_of_the_host(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    path = place.directory / "resolv.conf"
    turn_on(path, "::1")
    stack.callback(turn_off, path, "::1")

    async def work(_: contextlib.AsyncExitStack) -> None:
        assert os.path.lexists(path)

    return work


async def the_netlink_socket(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    network = HostNetwork()
    stack.callback(network.close)

    async def work(_: contextlib.AsyncExitStack) -> None:
        network.addresses_on(socket.if_nametoindex("up1"))

    return work


async def the_trial_of_the_firewall(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    places = {AID: "up1", OTHER: "up2"}
    try:
        trial = stack.enter_context(set_up(place.network, PlaneSection(), places, "bpf"))
    except OSError as error:
        raise PlatformError("the trial", error.errno or 0, str(error.strerror)) from None

    async def work(_: contextlib.AsyncExitStack) -> None:
        assert not trial.begun()
        trial.begin_outage()

    return work


async def the_tables_of_an_earlier_daemon(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    programs = load(place.directory, room=4)
    stack.callback(programs.close)
    for name in ("outbound", "inbound"):
        libbpf.pin(programs.maps[name], pin_of(place.pins, name))
        stack.callback(libbpf.unpin, pin_of(place.pins, name))
    carried = Carried(place.pins)
    stack.callback(carried.close)

    async def work(_: contextlib.AsyncExitStack) -> None:
        assert carried.find(Label(1), AID + PEER) is None

    return work


async def the_connections(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    connections = Connections(look_age_s=0)

    async def work(_: contextlib.AsyncExitStack) -> None:
        await connections.exist(AID, PEER)

    return work


PARTS: Final[dict[str, Part]] = {
    "plane in the kernel": a_plane("bpf"),
    "plane in the kernel by clsact": a_plane("bpf", "clsact"),
    "plane in user space": a_plane("tun"),
    "watch": the_watch,
    "messages of the kernel": the_messages_of_the_kernel,
    "control socket": the_control_socket,
    "stub": the_stub,
    "resolvers": the_resolvers,
    "stored state": the_stored_state,
    "what an earlier daemon left": what_an_earlier_daemon_left,
    "resolver of the host": the_resolver_of_the_host,
    "netlink socket": the_netlink_socket,
    "trial of the firewall": the_trial_of_the_firewall,
    "tables of an earlier daemon": the_tables_of_an_earlier_daemon,
    "connections": the_connections,
}
