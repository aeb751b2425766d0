# SPDX-License-Identifier: MIT
"""A history: two hosts, the traffic of their programs, and what happens to them and the network.

A history is data: it can be stored, shortened and played again. It consists of steps; each is one
change of the world, which the laws are told.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from noid.constants import MILLISECOND, SECOND
from noid.flows.events import ControlMessageReceived
from noid.identifiers import Nonce
from noid.locators import UNSPECIFIED, Locator
from noid.sim.border_steps import BORDER_ACTIONS
from noid.sim.laws import PLAIN, RENUMBERING, Change, Laws
from noid.sim.network import locator_of
from noid.sim.node import Node
from noid.sim.parcel import CODEPOINTS, MESSAGES
from noid.sim.site import SiteBorder
from noid.sim.ulp import Conversation
from noid.sim.unusual_steps import UNUSUAL_ACTIONS, UNUSUAL_CHANGES
from noid.sim.world import World
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, Piggyback, encode_packet
from noid.wire.options import ContextOption
from noid.wire.slots import m6_next_headers

SIDES = ("a", "b", "c", "d")
"""The hosts; the last ones are in other LANs of the site of the first, if they are there."""
HOST_NUMBERS = (10, 11, 12, 13)
SECOND_SITE = 17
"""The first provider of the other site, where a site has a border."""
M6 = frozenset(m6_next_headers(CODEPOINTS))
CONTROL = frozenset({CODEPOINTS.icmpv6_type})
END_NS = 3 * SECOND
"""The time for the last packets to arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The traffic of the programs.

    Attributes:
        interval_us: between two packets of the client, in microseconds.
        replies: whether the server answers each packet.
        turnaround_ms: the time of the server for an answer.
        server_talks: whether the server sends without a request.
        burst: packets at a time.
        is_tcp: whether they are TCP segments.
        size: octets of the payload of a packet at first.
    """

    interval_us: int = 50_000
    replies: bool = True
    turnaround_ms: int = 3
    server_talks: bool = False
    burst: int = 1
    is_tcp: bool = False
    size: int = 100


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One change.

    Attributes:
        at_ms: when, from the beginning.
        kind: a key of ``ACTIONS``.
        arguments: those of the action.
    """

    at_ms: int
    kind: str
    arguments: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The beginning of a world, and what happens in it.

    Attributes:
        seed: of what is still random: entropy of the engines, jitter, loss.
        locators: the numbers of locators of a and of b.
        duration_ms: how long the programs talk.
        steps: what happens, in order of time.
        delay_ms: of every line.
        jitter_ms: of every line, at most.
        loss_percent: of every line.
        traffic: the traffic of the programs.
        lossless_ms: until when no packet at all may be lost.
        lossless_from_ms: from when.
        caches: whether resolvers keep answers for their TTL.
        uplinks: of the border of each site; 0 means no border.
        more: locators of further hosts behind the border of a, up to as many as a has.
        measured_ms: how often the hosts measure a pair that is not in use; 0: never.
    """

    seed: int
    locators: tuple[int, int]
    duration_ms: int
    steps: tuple[Step, ...] = ()
    delay_ms: int = 10
    jitter_ms: int = 0
    loss_percent: int = 0
    traffic: Traffic = Traffic()
    lossless_ms: int = 0
    lossless_from_ms: int = 0
    caches: bool = False
    uplinks: tuple[int, int] = (0, 0)
    more: tuple[int, ...] = ()
    measured_ms: int = 0

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)


def decode(octets: bytes) -> History:
    """The history in a JSON text.

    Raises:
        msgspec.ValidationError: it is not a history.
    """
    return msgspec.json.decode(octets, type=History)


def play(world: World, history: History) -> None:
    """Plays a history in a new world with its seed.

    Raises:
        Violation: a check or a law does not hold.
    """
    weather = world.network.weather
    weather.delay_ns = history.delay_ms * MILLISECOND
    weather.jitter_ns = history.jitter_ms * MILLISECOND
    weather.loss = history.loss_percent / 100
    world.names.caches = history.caches
    _add_hosts(world, history)
    world.faults = history.encode().decode()
    begin_ns = world.now_ns
    for step in history.steps:
        world.after(step.at_ms * MILLISECOND, _happening(world, step))
    until_ns = begin_ns + history.lossless_ms * MILLISECOND
    renumbers = any(step.kind == "publish" for step in history.steps)
    law = RENUMBERING if renumbers else PLAIN
    from_ns = begin_ns + history.lossless_from_ms * MILLISECOND
    laws = Laws(world, lossless=law, lossless_from_ns=from_ns, lossless_until_ns=until_ns)
    world.watch(laws)
    for ends in _conversations(history):
        world.converse(_conversation(world, history.traffic, *ends))
    if history.measured_ms:
        world.measured_ns = history.measured_ms * MILLISECOND
        world.measure_idle()
    world.run(begin_ns + history.duration_ms * MILLISECOND - world.now_ns)
    world.talking = False
    world.run(END_NS)
    if world.laws is not None:
        world.laws.finish()


def _add_hosts(world: World, history: History) -> None:
    """Adds the hosts; with borders, in sites that have their own providers."""
    firsts = (1, SECOND_SITE if any(history.uplinks) else 1)
    for side, name in enumerate(SIDES[:2]):
        first, count, uplinks = firsts[side], history.locators[side], history.uplinks[side]
        locators = tuple(
            locator_of(first + index, HOST_NUMBERS[side]) for index in range(max(count, uplinks))
        )
        if uplinks:
            world.network.sites[name] = SiteBorder(uplinks, locators)
        world.add(name, locators[:count])
    for number, count in enumerate(history.more, 2):
        world.network.sites[SIDES[number]] = world.network.sites["a"]
        locators = tuple(locator_of(1 + index, HOST_NUMBERS[number]) for index in range(count))
        world.add(SIDES[number], locators)


def _conversations(history: History) -> list[tuple[str, str]]:
    """Client and server of each: all talk to b, and one to a within the site."""
    more = SIDES[2 : 2 + len(history.more)]
    return [("a", "b"), *((name, "b") for name in more), *((name, "a") for name in more[:1])]


def _conversation(world: World, traffic: Traffic, client: str, server: str) -> Conversation:
    return Conversation(
        client=client,
        server=server,
        client_aid=world.nodes[client].locators[0],
        server_aid=world.nodes[server].locators[0],
        protocol=ipv6.TCP if traffic.is_tcp else ipv6.UDP,
        interval_ns=traffic.interval_us * 1_000,
        size=traffic.size,
        replies=traffic.replies,
        server_talks=traffic.server_talks,
        burst=traffic.burst,
        turnaround_ns=traffic.turnaround_ms * MILLISECOND,
    )


def _happening(world: World, step: Step) -> Callable[[], None]:
    def happen() -> None:
        world.remark("", f"{step.kind} {' '.join(map(str, step.arguments))}")
        world.injected[step.kind] += 1
        world.changed(CHANGES.get(step.kind, Change.NETWORK))
        ACTIONS[step.kind](world, *step.arguments)

    return happen


# --- actions --------------------------------------------------------------------------------------

Ends = list[tuple[Locator, Locator]]


def _lines(world: World, one: int, other: int, ways: int) -> Ends:
    """The lines between a locator of a and one of b.

    Args:
        world: the simulated world.
        one: index of the locator of a.
        other: index of the locator of b.
        ways: 1 for the line from a to b, 2 for the line back, 3 for both.
    """
    a, b = world.nodes["a"].locators[one], world.nodes["b"].locators[other]
    return [pair for bit, pair in ((1, (a, b)), (2, (b, a))) if ways & bit]


def _of(locators: tuple[Locator, ...], mask: int) -> tuple[Locator, ...]:
    return tuple(one for index, one in enumerate(locators) if mask >> index & 1)


def _node(world: World, side: int) -> Node:
    """The node of a side; wakes it if it sleeps."""
    node = world.nodes[SIDES[side]]
    _wake(world, node, node.asleep_ns)
    return node


def _wake(world: World, node: Node, since_ns: int) -> None:
    """Ends the sleep that began at a time, if it still lasts."""
    if since_ns and node.asleep_ns == since_ns:
        world.changed(Change.SHIM)
        node.wake()


def _setting(name: str, value: Callable[[int], object]) -> Callable[..., None]:
    """The action that sets a property of lines, to what its last argument stands for."""

    def act(world: World, one: int, other: int, ways: int, amount: int = 0) -> None:
        for ends in _lines(world, one, other, ways):
            setattr(world.network.line(*ends), name, value(amount))

    return act


def _in_ns(milliseconds: int) -> int:
    return milliseconds * MILLISECOND


def _share(percent: int) -> float:
    return percent / 100


_cut = _setting("is_up", lambda _: False)
_restore = _setting("is_up", lambda _: True)


def _unfilter(world: World, one: int, other: int, ways: int) -> None:
    for ends in _lines(world, one, other, ways):
        line = world.network.line(*ends)
        line.filtered = line.filtered_types = frozenset()


def _provider(world: World, side: int, index: int, is_up: int) -> None:
    """Every line to and from one locator."""
    for other in range(len(_node(world, 1 - side).locators)):
        one = (index, other) if side == 0 else (other, index)
        (_restore if is_up else _cut)(world, *one, 3)


def _heal(world: World) -> None:
    world.network.heal()
    world.names.heal()


def _reboot(world: World, side: int, remembers: int) -> None:
    _node(world, side).reboot(remembers=bool(remembers))


def _restart(world: World, side: int) -> None:
    _node(world, side).restart()


def _stop(world: World, side: int) -> None:
    node = _node(world, side)
    node.running = False
    node.start()


def _start(world: World, side: int) -> None:
    node = _node(world, side)
    if not node.running:
        node.running = True
        node.reboot(remembers=True)


def _sleep(world: World, side: int, milliseconds: int) -> None:
    node = _node(world, side)
    node.sleep()
    world.after(milliseconds * MILLISECOND, _wake, world, node, node.asleep_ns)


def _have(world: World, side: int, mask: int) -> None:
    node = _node(world, side)
    node.have(_of(node.locators, mask))


def _mark(world: World, side: int, deprecated: int, broken: int) -> None:
    node = _node(world, side)
    present = node.present
    node.mark(
        deprecated=frozenset(_of(node.locators, deprecated)) & frozenset(present),
        broken=frozenset(_of(node.locators, broken)) & frozenset(present),
    )


def _keep_back(world: World, side: int, mask: int) -> None:
    node = _node(world, side)
    node.keep_back(frozenset(_of(node.locators, mask)))


def _publish(world: World, side: int, mask: int) -> None:
    node = _node(world, side)
    world.names.publish(f"{node.name}.example", _of(node.locators, mask))


def _dns(world: World, works: int) -> None:
    world.names.timeouts = 0.0 if works else 1.0


def _doom(world: World, *numbers: int) -> None:
    """Loses the control messages with these numbers, counted from now on."""
    world.network.controls = 0
    world.network.doomed = frozenset(numbers)


def _alias(world: World, side: int, lists_all: int) -> None:
    """Gives the host another name, which lists only its AID or all its locators."""
    node = _node(world, side)
    world.names.alias(f"{node.name}.example", f"www.{node.name}.example", bool(lists_all))


def _weather(world: World, percent: int) -> None:
    """Every line loses this percentage of packets."""
    network = world.network
    for line in (network.weather, *network.lines.values()):
        line.loss = percent / 100


def _pace(world: World, interval_us: int) -> None:
    for talk in world.ledger.conversations:
        talk.interval_ns = interval_us * 1_000


def _pause(world: World, milliseconds: int) -> None:
    world.quiet_until_ns = world.now_ns + milliseconds * MILLISECOND


def _use(world: World, side: int, in_use: int) -> None:
    """Opens a connection in the stack of a host, so that none of its contexts is idle [D19]."""
    _node(world, side).in_use = bool(in_use)


def _forge_uc(world: World, side: int) -> None:
    """A host gets a UC about each of its contexts, which proves nothing [D39]."""
    node = _node(world, side)
    for context in list(node.host.inspection.contexts.values()):
        here, there = context.pair
        quote = ipv6.Header(
            source=here,
            destination=there,
            next_header=CODEPOINTS.rewritable_first,
            payload_octets=0,
            flow_label=context.peer_label,
        )
        message = ControlMessage(
            code=Code.UC,
            nonce=Nonce(1),
            sender_aid=UNSPECIFIED,
            receiver_aid=UNSPECIFIED,
            context=ContextOption(receiver_label=context.peer_label),
            piggyback=Piggyback(ipv6.IPV6, quote.encode()),
        )
        octets = encode_packet(message, there, here, CODEPOINTS)[ipv6.HEADER_OCTETS :]
        node.give(ControlMessageReceived(there, here, False, octets))


ACTIONS: dict[str, Callable[..., None]] = {
    "cut": _cut,
    "restore": _restore,
    "filter": _setting("filtered", lambda _: M6),
    "filter-data": _setting("filtered", lambda _: M6 - MESSAGES),
    "filter-control": _setting("filtered_types", lambda _: CONTROL),
    "unfilter": _unfilter,
    "delay": _setting("delay_ns", _in_ns),
    "jitter": _setting("jitter_ns", _in_ns),
    "loss": _setting("loss", _share),
    "mtu": _setting("mtu", int),
    "copies": _setting("duplication", _share),
    "provider": _provider,
    "heal": _heal,
    "reboot": _reboot,
    "restart": _restart,
    "stop": _stop,
    "start": _start,
    "have": _have,
    "mark": _mark,
    "keep-back": _keep_back,
    "publish": _publish,
    "dns": _dns,
    "doom": _doom,
    "pause": _pause,
    "alias": _alias,
    "weather": _weather,
    "pace": _pace,
    "use": _use,
    "forge-uc": _forge_uc,
    "sleep": _sleep,
    **BORDER_ACTIONS,
    **UNUSUAL_ACTIONS,
}
"""The actions by name."""
CHANGES = {
    **UNUSUAL_CHANGES,
    "reboot": Change.STATE,
    "doom": Change.STATE,
    "pause": Change.STATE,
    "stop": Change.SHIM,
    "start": Change.SHIM,
    "sleep": Change.SHIM,
    "forge-uc": Change.SHIM,
    "filter": Change.SHIM,
    "filter-data": Change.SHIM,
    "filter-control": Change.SHIM,
}
"""The actions that change more than the network."""
