# SPDX-License-Identifier: MIT
"""Since when the ends of a context know the locators of each other, for the law of liveness."""

from typing import Protocol

from noid.engine.context import Context
from noid.locators import Locator
from noid.sim.names import Names
from noid.sim.node import Node

Key = tuple[str, int]
"""A context: the name of its node, and F(local)."""


class Scene(Protocol):
    """What is looked at; see ``noid.sim.world.World``."""

    now_ns: int
    nodes: dict[str, Node]
    names: Names


class Destinations:
    """The locators that count as destinations of each context of one world.

    Args:
        world: the world.

    Attributes:
        before: Lsv(peer) of each context before the last change.
        since_ns: when a locator was added to Lsv(peer) after that was first seen.
    """

    def __init__(self, world: Scene) -> None:
        self.world = world
        self.before: dict[Key, frozenset[Locator]] = {}
        self.since_ns: dict[Key, dict[Locator, int]] = {}
        self._seen: dict[Key, frozenset[Locator]] = {}

    def changed(self) -> None:
        """Something is about to change."""
        self.before = {
            (node.name, context.local_label): context.peer_verified
            for node in self.world.nodes.values()
            for context in node.host.contexts
        }

    def see(self, node: Node) -> None:
        """Notes which locators have been added, after a change of the tables of a node."""
        for context in node.host.contexts:
            key, verified = (node.name, context.local_label), context.peer_verified
            if context.is_complete:
                added = dict.fromkeys(verified - self._seen.get(key, verified), self.world.now_ns)
                self.since_ns[key] = self.since_ns.get(key, {}) | added
                self._seen[key] = verified

    def known(
        self, node: Node, context: Context, peer: Node, *, until_ns: int
    ) -> frozenset[Locator]:
        """The destinations that the context has had since before a time.

        Those that were verified before the last change and are still in the DNS count, too.
        """
        names, name = self.world.names, f"{peer.name}.example"
        key, since_ns = (node.name, context.local_label), self.since_ns
        late = {one for one, at_ns in since_ns.get(key, {}).items() if at_ns > until_ns}
        listed = frozenset(names.forward.get(name, ()))
        before = self.before.get(key, frozenset()) & listed
        tied = {one for one in before if name in names.reverse.get(one, ())}
        return (context.peer_verified - late) | tied
