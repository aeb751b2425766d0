# SPDX-License-Identifier: MIT
"""A path that is narrow for a while, and one that is not, in the simulated network."""

from noid.constants import MINUTE, SECOND
from noid.engine.events import Input, Output, WidenPath
from noid.engine.host import Host
from noid.flows.events import LongPacketLost
from noid.sim.stage import add_hosts, context_of, talk
from noid.sim.world import World
from noid.wire import ipv6

LONG_OCTETS = 1400


class Watched(Host):
    """A host whose orders to widen a path are counted."""

    widened = 0

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        """See ``Host``."""
        outputs = super().handle(event, now_ns)
        self.widened += sum(isinstance(one, WidenPath) for one in outputs)
        return outputs


def lose(world: World) -> Watched:
    """The plane of a says that a long packet is lost; returns the engine of a."""
    context = context_of(world, "a")
    header = ipv6.Header(
        source=context.local_aid,
        destination=context.peer_aid,
        next_header=ipv6.TCP,
        payload_octets=LONG_OCTETS,
    )
    packet = header.encode() + bytes(LONG_OCTETS)
    world.nodes["a"].give(LongPacketLost(context.local_label, packet))
    host = world.nodes["a"].host
    assert isinstance(host, Watched)
    return host


def begun() -> World:
    world = World(1, Watched)
    add_hosts(world)
    talk(world)
    world.run(5 * SECOND)
    return world


def test_a_path_that_was_narrow_for_a_while_is_widened() -> None:
    world = begun()
    world.network.weather.mtu = 1280
    host = lose(world)
    world.run(MINUTE)
    assert host.widened == 0
    world.network.weather.mtu = 1500
    world.run(2 * MINUTE)
    assert host.widened == 1
    assert context_of(world, "a").pair == context_of(world, "b").pair[::-1]


def test_a_wider_path_after_a_failure_is_found_soon() -> None:
    world = begun()
    context = context_of(world, "a")
    world.network.weather.mtu = 1280
    host = lose(world)
    world.run(5 * MINUTE)
    assert host.widened == 0
    world.network.weather.mtu = 1500
    before = context.pair
    world.network.down.add(1)
    world.run(5 * SECOND)
    assert context.pair != before
    assert host.widened == 1
