# SPDX-License-Identifier: MIT
"""Scenarios with border routers, which rewrite sources when they switch [draft §6, D6, D41]."""

from collections.abc import Callable

from noid.constants import FOLLOW_REST, MILLISECOND, SECOND
from noid.sim.attackers import OffPath
from noid.sim.network import locator_of, provider_of
from noid.sim.stage import HOSTS, add_hosts, context_of, talk
from noid.sim.world import World

INTERVAL_NS = 3 * MILLISECOND
ROUND_TRIP_NS = 24 * MILLISECOND
"""The delay of the lines, with jitter."""
GAP_NS = ROUND_TRIP_NS + 10 * MILLISECOND
"""The time from the switch of a border to the first packet of the peer on the new path."""
SEARCH_NS = 8 * ROUND_TRIP_NS
"""The same if a search finds the path: T, three round trips, and jitter."""
FLAPS = 20
HANDOVER_NS = MILLISECOND
"""The delay over the LAN of a site, from the border with the failed line to the other."""
PROVIDERS = {"a": (3, 4), "b": (1, 2)}


def router_rewrite(world: World) -> None:
    """A provider of one site fails, its border switches at once, and the peer follows."""
    _begin(world, "b")
    for provider in (1, 2, 1):
        _switch(world, provider)
        _require_short_gap(world)
        _require_followed(world, "a", provider)
    world.heal()
    world.demand_liveness()


def router_both(world: World) -> None:
    """A provider of each site fails, and both borders switch: no data arrives, so hosts search."""
    _begin(world, "a", "b")
    for provider in (1, 2):
        _switch(world, provider, provider + 2)
        _require_short_gap(world, SEARCH_NS)
        _require_followed(world, "a", provider)
        _require_followed(world, "b", provider + 2)
    world.heal()
    world.demand_liveness()


def two_borders(world: World) -> None:
    """As router_rewrite, but each provider has a border, and rewritten packets pass both.

    When the second provider fails too, nothing passes until one works again.
    """
    _begin(world, "b")
    world.network.handover_ns = HANDOVER_NS
    for provider in (1, 2, 1):
        _switch(world, provider)
        _require_short_gap(world, GAP_NS + HANDOVER_NS)
        _require_followed(world, "a", provider)
    _switch(world, 1, 2)
    world.run(SECOND)
    _switch(world, 2)
    world.run(3 * SECOND)
    before = len(world.ledger.sent)
    _require_few_lost(world, before, GAP_NS)
    _require_followed(world, "a", 2)
    world.heal()
    world.demand_liveness()


def router_flaps(world: World) -> None:
    """A border switches more often than data may change the locator in use at the peer."""
    _begin(world, "b")
    for turn in range(FLAPS):
        _switch(world, 1 + turn % 2)
        world.run((40, 150, 400, 900)[turn % 4] * MILLISECOND)
    _switch(world, 1)
    world.run(3 * SECOND)
    _require_followed(world, "a", 1)
    world.heal()
    world.demand_liveness()


def router_hints(world: World) -> None:
    """A border rewrites for a time although the provider works."""
    _begin(world, "b")
    for share in (1.0, 0.0, 0.3, 1.0):
        world.network.weather.rewriting = share
        before = len(world.ledger.sent)
        world.run(5 * SECOND)
        _require_few_lost(world, before, GAP_NS)
    world.heal()
    world.demand_liveness()


def router_one_way(world: World) -> None:
    """A border rewrites, but only the former locator receives: the pair changes at most once."""
    _begin(world, "b")
    world.network.weather.rewriting = 1.0
    world.network.cuts = {(3, 2), (4, 2)}
    before = len(world.ledger.sent)
    world.run(FOLLOW_REST + 5 * SECOND)
    _require_few_lost(world, before, 2 * GAP_NS)
    world.heal()
    world.demand_liveness()


def forged_source(world: World) -> None:
    """Ten packets a second with a known label, from the peer's dead locator [D41]."""
    add_hosts(world)
    talk(world, interval_ns=INTERVAL_NS)
    world.run(3 * SECOND)
    context, b = context_of(world, "a"), world.nodes["b"]
    attacker = OffPath(world)
    world.network.down.add(2)
    before = len(world.ledger.sent)
    for _ in range(200):
        attacker.send(attacker.data(b.locators[1], context.local_locator, context.local_label))
        world.run(SECOND // 10)
    _require_few_lost(world, before, GAP_NS)
    world.heal()
    world.demand_liveness()


def _begin(world: World, *sites: str) -> None:
    """Two sites with their own providers, and borders if wanted."""
    for name, providers in PROVIDERS.items():
        world.add(name, tuple(locator_of(provider, HOSTS[name]) for provider in providers))
    for name in sites:
        world.network.borders[name] = world.nodes[name].locators
    talk(world, interval_ns=INTERVAL_NS, replies=False).server_talks = True
    world.run(3 * SECOND)


def _switch(world: World, *dead: int) -> None:
    """These providers fail, all others work, and borders detect that at once."""
    world.network.down = set(dead)


def _require_followed(world: World, name: str, dead: int) -> None:
    used = provider_of(context_of(world, name).peer_locator)
    world.checks.require(used != dead, "the peer follows", f"{name} sends to provider {dead}")


def _require_short_gap(world: World, limit_ns: int = GAP_NS) -> None:
    """Requires that lost packets were sent before the switch, or before the peer followed."""
    first_ns, before = world.now_ns - ROUND_TRIP_NS, len(world.ledger.sent)
    world.run(3 * SECOND)
    sent = [one for n, one in world.ledger.sent.items() if n > before - 4 * GAP_NS // INTERVAL_NS]
    until_ns = world.now_ns - SECOND
    late = [one for one in sent if not one.copies and first_ns < one.at_ns < until_ns]
    gap_ns = max((one.at_ns for one in late), default=first_ns) - first_ns - ROUND_TRIP_NS
    world.checks.require(gap_ns <= limit_ns, "the peer follows at once", f"after {gap_ns} ns")


def _require_few_lost(world: World, before: int, gap_ns: int) -> None:
    world.run(SECOND)
    lost = [n for n, one in world.ledger.sent.items() if n > before and not one.copies]
    lost = [n for n in lost if world.ledger.sent[n].at_ns < world.now_ns - SECOND]
    limit = 2 * gap_ns // INTERVAL_NS
    world.checks.require(len(lost) <= limit, "a move costs a round trip", f"lost: {lost}")


BORDERS: dict[str, tuple[str, Callable[[World], None]]] = {
    "router-rewrite": ("a provider dies, and the border of its site rewrites", router_rewrite),
    "router-both": ("the same at both sites", router_both),
    "two-borders": ("a provider dies, and its border hands packets to the other", two_borders),
    "router-flaps": ("a border switches again and again", router_flaps),
    "router-hints": ("a border rewrites although nothing fails", router_hints),
    "router-one-way": ("a border rewrites to where nothing is received", router_one_way),
    "forged-source": ("data with a known label, from a dead locator", forged_source),
}
