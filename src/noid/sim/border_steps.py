# SPDX-License-Identifier: MIT
"""The events at the border of a site, as steps of a history."""

from collections.abc import Callable
from typing import Final

from noid.constants import MILLISECOND
from noid.sim.site import SiteBorder
from noid.sim.world import World

SIDES: Final = ("a", "b")
NONE: Final = 255
"""Instead of the number of an uplink."""


def _uplink(world: World, side: int, uplink: int, is_up: int, after_ms: int) -> None:
    """The line of an uplink fails or works again, and the border detects that after a time."""
    border = _border(world, side)
    sites, nodes = world.network.sites, world.nodes
    outside = [
        locator
        for name, node in nodes.items()
        if sites.get(name) is not border
        for locator in node.locators
    ]
    for name, node in nodes.items():
        for number, locator in enumerate(node.locators):
            if sites.get(name) is border and number % border.uplinks == uplink:
                for far in outside:
                    for ends in ((locator, far), (far, locator)):
                        world.network.line(*ends).is_up = bool(is_up)
    if after_ms:
        world.after(after_ms * MILLISECOND, _learn, world, border, uplink, bool(is_up))
    else:
        _learn(world, border, uplink, bool(is_up))


def _learn(world: World, border: SiteBorder, uplink: int, is_up: bool) -> None:
    world.changed()
    border.works[uplink] = is_up
    border.decide()


def _manual(world: World, side: int, uplink: int) -> None:
    """``noid border use``; NONE: ``auto``."""
    border = _border(world, side)
    border.manual = "" if uplink == NONE else str(uplink)
    border.decide()


def _priority(world: World, side: int, uplink: int) -> None:
    """An uplink gets the best priority; NONE: all have the same."""
    border = _border(world, side)
    border.preferred = "" if uplink == NONE else str(uplink)
    border.decide()


def _daemon(world: World, side: int, runs: int) -> None:
    """The daemon of a border ends, or another starts; the programs stay."""
    border = _border(world, side)
    border.has_daemon = bool(runs)
    border.decide()


def _router(world: World, side: int, is_alive: int) -> None:
    """The router of a site dies, or starts again with its daemon."""
    border = _border(world, side)
    border.is_alive = bool(is_alive)
    border.has_daemon |= border.is_alive
    border.decide()


def _delegate(world: World, side: int, mask: int) -> None:
    """The prefixes of a site change, by DHCPv6-PD or the operator."""
    border = _border(world, side)
    border.delegated = mask
    border.decide()


def _border(world: World, side: int) -> SiteBorder:
    return world.network.sites[SIDES[side]]


BORDER_ACTIONS: Final[dict[str, Callable[..., None]]] = {
    "uplink": _uplink,
    "border-use": _manual,
    "border-priority": _priority,
    "border-daemon": _daemon,
    "router": _router,
    "delegate": _delegate,
}
