# SPDX-License-Identifier: MIT
"""Steps of a history that ordinary networks rarely have; see unusual.py."""

from collections.abc import Callable
from typing import Final

from noid.constants import MILLISECOND
from noid.engine.events import Input, TimePassed
from noid.sim.laws import Change
from noid.sim.node import Node
from noid.sim.world import World

SIDES: Final = ("a", "b")


def _freeze(world: World, side: int, milliseconds: int) -> None:
    """Stops a host for a time; its clock goes on."""
    node = world.nodes[SIDES[side]]
    if not node.asleep_ns:
        node.sleep()
        world.after(milliseconds * MILLISECOND, _go_on, world, node, node.asleep_ns)


def _go_on(world: World, node: Node, since_ns: int) -> None:
    if node.asleep_ns == since_ns:
        world.changed(Change.SHIM)
        node.behind_ns -= world.now_ns - since_ns
        node.wake()


def _stall(world: World, side: int, milliseconds: int) -> None:
    """Stops the daemon of a host for a time; its packet path goes on."""
    node = world.nodes[SIDES[side]]
    if node.runs:
        node.unread = []
        world.after(milliseconds * MILLISECOND, _catch_up, world, node, node.unread)


def _catch_up(world: World, node: Node, unread: list[Input]) -> None:
    if node.unread is unread:
        world.changed()
        node.unread = None
        for event in (*unread, TimePassed()):
            node.give(event)


def _save(world: World, side: int) -> None:
    """Notes the state of a host."""
    node = world.nodes[SIDES[side]]
    world.saved[node.name] = node.memories()


def _roll_back(world: World, side: int) -> None:
    """Gives a host the state that was noted, if any was."""
    node = world.nodes[SIDES[side]]
    node.restart(world.saved.get(node.name, []))


def _spell(world: World, side: int, seed: int) -> None:
    """Changes how the DNS spells and orders the data of a host."""
    world.names.spell(f"{SIDES[side]}.example", seed)


UNUSUAL_ACTIONS: Final[dict[str, Callable[..., None]]] = {
    "freeze": _freeze,
    "stall": _stall,
    "save": _save,
    "roll-back": _roll_back,
    "spell": _spell,
}
UNUSUAL_CHANGES: Final = {"freeze": Change.SHIM, "roll-back": Change.SHIM}
