# SPDX-License-Identifier: MIT
"""The parts of directed scenarios: a few hosts that talk, and ways to observe them."""

from noid.constants import MILLISECOND, SECOND
from noid.engine.context import Context
from noid.engine.state import State
from noid.locators import Locator
from noid.sim.network import locator_of
from noid.sim.parcel import Parcel
from noid.sim.ulp import Conversation
from noid.sim.world import World
from noid.wire import ipv6

SETTLE_NS = 3 * SECOND
HOSTS = {"a": 10, "b": 11, "c": 12}
EVERYWHERE = frozenset({1, 2, 3})
"""All providers."""


def add_hosts(world: World, names: str = "ab", *, providers: tuple[int, ...] = (1, 2)) -> None:
    """Hosts with a locator from each provider."""
    for name in names:
        world.add(name, tuple(locator_of(provider, HOSTS[name]) for provider in providers))


def talk(
    world: World,
    client: str = "a",
    server: str = "b",
    *,
    interval_ns: int = 200 * MILLISECOND,
    replies: bool = True,
) -> Conversation:
    """Lets two hosts talk between their first locators."""
    conversation = Conversation(
        client=client,
        server=server,
        client_aid=world.nodes[client].locators[0],
        server_aid=world.nodes[server].locators[0],
        protocol=ipv6.TCP,
        interval_ns=interval_ns,
        size=100,
        replies=replies,
    )
    world.converse(conversation)
    return conversation


def established(world: World, names: str = "ab") -> Context:
    """Adds hosts, and sets up a context of the first two; returns that of the second."""
    add_hosts(world, names)
    talk(world)
    world.run(SETTLE_NS)
    return context_of(world, "b")


def context_of(world: World, name: str) -> Context:
    """The one context of a node."""
    contexts = list(world.nodes[name].host.inspection.contexts.values())
    world.checks.require(len(contexts) == 1, "a context", f"{name} has {len(contexts)}")
    return contexts[0]


def reach(world: World, name: str, state: State, within_ns: int) -> Context:
    """Lets time pass until the one context of a node is in a state."""
    host = world.nodes[name].host
    until_ns = world.now_ns + within_ns
    step_ns = min(MILLISECOND, within_ns) if within_ns <= 60 * SECOND else SECOND
    while world.now_ns < until_ns:
        world.run(step_ns)
        for context in host.contexts:
            if context.state is state:
                return context
    world.checks.require(False, "a state is reached", f"{name} {state.value}")
    raise AssertionError


def portrait(context: Context) -> tuple[object, ...]:
    """The parts of a context that an attack must not change."""
    return (
        context.local_label,
        context.peer_label,
        context.agreed_key,
        context.peer_birthday,
        context.peer_acceptable,
        context.peer_verified,
        context.own_remote,
        context.pair,
        context.is_settled,
    )


class Ear:
    """Records the packets of some nodes to others.

    Args:
        world: the simulated world.
        to: names of the nodes whose packets are counted.
        sender: the sender; empty for any.
    """

    def __init__(self, world: World, to: str, sender: str = "") -> None:
        self.world = world
        self.to = to
        self.sender = sender
        self.parcels: list[Parcel] = []
        world.network.listeners.append(self._hear)

    def _hear(self, parcel: Parcel) -> None:
        if self.sender in ("", parcel.sender):
            holder = self.world.holder.get(Locator(parcel.octets[24:40]))
            if holder == self.to:
                self.parcels.append(parcel)

    @property
    def octets(self) -> int:
        """The octets of all recorded packets."""
        return sum(len(parcel.octets) for parcel in self.parcels)


def require_arrival(world: World, time_ns: int) -> None:
    """Requires that all packets sent in some time after a switch arrive within a second."""
    first = len(world.ledger.sent) + 1
    world.run(time_ns)
    world.run(SECOND)
    late = [n for n, one in world.ledger.sent.items() if n >= first and not one.copies]
    late = [n for n in late if world.ledger.sent[n].at_ns < world.now_ns - SECOND]
    world.checks.require(not late, "after a switch all arrives", f"lost: {late}")
