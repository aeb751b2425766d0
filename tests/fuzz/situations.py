# SPDX-License-Identifier: MIT
"""A host in every state there is, with a network around it that goes on living."""

from collections.abc import Callable

from noid.constants import (
    CONTEXT_IDLE_TIME,
    LOOK_AGAIN_MIN,
    MILLISECOND,
    MINUTE,
    SECOND,
    VERIFY_AGAIN_MIN,
)
from noid.engine.events import LocatorsChanged, Output, SendAgain
from noid.errors import WireError
from noid.flows.events import UnansweredPacket
from noid.wire import ipv6
from tests.engine.network import A1, A2, B1, B2, Network, Station, packet
from tests.engine.test_provisional import ccr_from, send

EVERY_PAIR = {(one, other) for one in (A1, A2, B1, B2) for other in (A1, A2, B1, B2)}


class Arena(Network):
    """The network; a packet that no data plane could have had from a ULP is not carried further."""

    def carry_out(self, station: Station, output: Output) -> None:
        if isinstance(output, SendAgain):
            try:
                ipv6.Header.decode(output.packet)
            except WireError:
                return
        super().carry_out(station, output)


Situation = Callable[[], tuple[Arena, Station]]


def strangers() -> tuple[Arena, Station]:
    arena = Arena()
    return arena, arena.b


def acquainted() -> tuple[Arena, Station]:
    arena = Arena()
    arena.resolve(arena.a, arena.b)
    return arena, arena.a


def init_sent() -> tuple[Arena, Station]:
    arena, station = acquainted()
    arena.ulp_sends(station, packet(A1, B1))
    return arena, station


def ccr_sent() -> tuple[Arena, Station]:
    arena, station = init_sent()
    arena.run(25 * MILLISECOND)
    return arena, station


def initiator() -> tuple[Arena, Station]:
    arena, station = init_sent()
    arena.run(100 * MILLISECOND)
    return arena, station


def responder() -> tuple[Arena, Station]:
    arena, _ = initiator()
    return arena, arena.b


def telling_new_sets() -> tuple[Arena, Station]:
    arena, station = initiator()
    arena.give(station, LocatorsChanged((A1,)))
    return arena, station


def searching() -> tuple[Arena, Station]:
    arena, station = initiator()
    arena.kill_provider(1)
    context = station.context
    silence = UnansweredPacket(context.local_label, packet(A1, B1), context.silence_ns)
    arena.give(station, silence)
    return arena, station


def starting_over() -> tuple[Arena, Station]:
    """The peer says that it has lost the context."""
    arena, station = initiator()
    birthday = arena.stations[1].host.options.birthday + 1
    arena.b = Station("b.example", (B1, B2), 77, birthday=birthday)
    arena.stations[1] = arena.b
    arena.give(arena.b, LocatorsChanged((B1, B2)))
    arena.ulp_sends(station, packet(A1, B1))
    arena.run(25 * MILLISECOND)
    return arena, station


def closing() -> tuple[Arena, Station]:
    arena, station = initiator()
    arena.b.in_use = True
    arena.dead |= EVERY_PAIR
    arena.run(CONTEXT_IDLE_TIME + SECOND)
    arena.dead.clear()
    return arena, station


def provisional() -> tuple[Arena, Station]:
    arena = Arena()
    arena.dns_works = False
    send(arena, ccr_from(arena, A2), A2)
    return arena, arena.b


def unproven() -> tuple[Arena, Station]:
    """The peer was met at another locator than its AID, and the DNS lists it no longer."""
    arena = Arena()
    arena.dead |= {(A1, B1), (A2, B1)}
    arena.resolve(arena.a, arena.b)
    arena.ulp_sends(arena.a, packet(A1, B1))
    arena.run(SECOND)
    arena.names[arena.b.name].clear()
    arena.reverse = {one: name for one, name in arena.reverse.items() if name != arena.b.name}
    arena.a.in_use = True
    arena.run(2 * VERIFY_AGAIN_MIN + 2 * LOOK_AGAIN_MIN + MINUTE)
    arena.a.in_use = False
    return arena, arena.a


SITUATIONS: tuple[Situation, ...] = (
    strangers,
    acquainted,
    init_sent,
    ccr_sent,
    initiator,
    responder,
    telling_new_sets,
    searching,
    starting_over,
    closing,
    provisional,
    unproven,
)


def genuine_packets(arena: Arena) -> list[bytes]:
    """Every kind of packet that the two ends have sent each other so far."""
    kinds = {(one[6], one[41] if one[6] == ipv6.ICMPV6 else 0): one for one in arena.trace}
    kinds |= {(one[6], one[41]): one for _, one in arena.wire}
    return list(kinds.values())
