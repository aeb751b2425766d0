# SPDX-License-Identifier: MIT
"""What forward and reverse DNS prove of a peer, a scenario for each statement of the draft.

[draft §3.1, §7.13, §16.2; D14, D29-D34]. Host a begins and knows the name of b; b looks up a.
"""

from collections.abc import Callable

from noid.constants import SECOND
from noid.dns.records import Question, reverse_name
from noid.engine.context import Context
from noid.locators import Locator
from noid.sim.stage import add_hosts, context_of, talk
from noid.sim.world import World

FOUND_OUT_NS = 5 * SECOND


def no_reverse(world: World) -> None:
    """One of b's locators does not point back: it is left out, and b is told [§3.1, §7.13]."""
    add_hosts(world)
    own = world.nodes["b"].locators
    del world.names.reverse[own[1]]
    initiator, responder = _talked(world)
    _proves(world, initiator, own[:1])
    known = set(responder.own_set)
    world.checks.require(known == set(own[:1]), "the owner is told", f"it knows {len(known)}")
    accepted = set(initiator.peer_acceptable)
    world.checks.require(accepted == set(own), "it may come from there", f"{len(accepted)}")
    world.demand_liveness()


def no_reverse_at_all(world: World) -> None:
    """No locator of b points back: only its AID remains [§3.1, §7.13]."""
    add_hosts(world)
    own = world.nodes["b"].locators
    for locator in own:
        del world.names.reverse[locator]
    initiator, _ = _talked(world)
    _has_the_aid_alone(world, initiator)
    world.demand_liveness()


def no_name(world: World) -> None:
    """The AID of a has no name: b sends only to it, and accepts all sources of a [§7.13]."""
    add_hosts(world)
    own = world.nodes["a"].locators
    del world.names.reverse[own[0]]
    _, responder = _talked(world)
    _has_the_aid_alone(world, responder)
    accepted = set(responder.peer_acceptable)
    world.checks.require(accepted == set(own), "it may come from all", f"from {len(accepted)}")
    world.demand_liveness()


def not_listed(world: World) -> None:
    """The AID of a has a name, and the name does not list the AID [D14]."""
    add_hosts(world)
    own = world.nodes["a"].locators
    world.names.forward["a.example"] = own[1:]
    _, responder = _talked(world)
    _has_the_aid_alone(world, responder)
    world.demand_liveness()


def aid_alone(world: World) -> None:
    """Host a announces only its AID; it profits from the locators of b [§7.13]."""
    add_hosts(world)
    a, b = world.nodes["a"], world.nodes["b"]
    a.have(a.locators[:1])
    asked: list[Question] = []
    world.names.listeners.append(asked.append)
    initiator, responder = _talked(world)
    _has_the_aid_alone(world, responder)
    names = {reverse_name(locator) for locator in a.locators} | {"a.example"}
    needless = names & {question.name for question in asked}
    world.checks.require(not needless, "a proven AID needs no DNS", f"{needless}")
    _proves(world, initiator, b.locators)
    world.network.cuts |= {(1, 1)}
    world.run(10 * SECOND)
    carried = initiator.peer_locator
    world.checks.require(carried == b.locators[1], "the peer's locators are used", "they are not")
    world.network.cuts.clear()
    world.demand_liveness()


def unverifiable(world: World) -> None:
    """Host a knows that the DNS does not tie its two addresses together [§7.2, §7.3, §7.13]."""
    add_hosts(world)
    a = world.nodes["a"]
    a.verifiable = False
    a.reboot(remembers=True)
    asked: list[Question] = []
    world.names.listeners.append(asked.append)
    _, responder = _talked(world)
    _has_the_aid_alone(world, responder)
    names = {reverse_name(locator) for locator in a.locators} | {"a.example"}
    needless = names & {question.name for question in asked}
    world.checks.require(not needless, "a proven AID needs no DNS", f"{needless}")


def dns_comes_late(world: World) -> None:
    """The DNS fails for a minute: nothing is excluded, and it is asked with back-off [§7.13]."""
    add_hosts(world)
    world.names.timeouts = 1.0
    asked: list[Question] = []
    world.names.listeners.append(asked.append)
    initiator, responder = _talked(world)
    sets = len(initiator.peer_set), len(responder.peer_acceptable)
    world.checks.require(sets == (2, 2), "what may pass excludes nothing", f"{sets}")
    for context in (initiator, responder):
        _proves(world, context, (context.peer_aid,))  # the exchange proved it [D8]
    world.run(20 * SECOND)
    early = len(asked)
    world.run(40 * SECOND)
    late = len(asked) - early
    world.checks.require(0 < late < early, "the DNS is asked again, seldomer", f"{early}, {late}")
    world.names.timeouts = 0.0
    world.run(60 * SECOND)
    _proves(world, initiator, world.nodes["b"].locators)
    _proves(world, responder, world.nodes["a"].locators)
    world.demand_liveness()


def partial_overlap(world: World) -> None:
    """The name of x lists an address of b too: connections to it reach b [§16.2, D33]."""
    add_hosts(world, "abc")
    b, x = world.nodes["b"], world.nodes["c"]
    world.names.forward["c.example"] = (b.locators[0], x.locators[0])
    world.nodes["a"].attentive = True  # or its program would ask for the name of b
    world.nodes["a"].resolve(x, b.locators[0])
    initiator, _ = _talked(world)
    _proves(world, initiator, b.locators)
    named = initiator.verification.name
    world.checks.require(named == "b.example", "the reverse lookup decides", f"for {named}")
    world.demand_liveness()


def virtual_hosting(world: World) -> None:
    """A host has two names, and PTR records for both; either works [§16.2]."""
    add_hosts(world)
    own = world.nodes["b"].locators
    world.names.forward["www.example"] = own
    for locator in own:
        world.names.reverse[locator] = ("www.example", "b.example")
    initiator, _ = _talked(world)
    _proves(world, initiator, own)
    world.demand_liveness()


def _talked(world: World) -> tuple[Context, Context]:
    """The contexts of a and b, some time after they began to talk."""
    talk(world)
    world.run(FOUND_OUT_NS)
    return context_of(world, "a"), context_of(world, "b")


def _proves(world: World, context: Context, locators: tuple[Locator, ...]) -> None:
    verified = context.peer_verified
    text = f"{len(verified)}, not {len(locators)}"
    world.checks.require(verified == set(locators), "what both say is proven", text)


def _has_the_aid_alone(world: World, context: Context) -> None:
    found = context.peer_verified | set(context.peer_set)
    text = f"{len(found)} locators"
    world.checks.require(found == {context.peer_aid}, "the AID alone is left", text)


PROOFS: dict[str, tuple[str, Callable[[World], None]]] = {
    "no-reverse": ("a locator of the peer does not point back at its name", no_reverse),
    "no-reverse-at-all": ("none of the peer's locators does", no_reverse_at_all),
    "no-name": ("the AID of the initiator has no name", no_name),
    "not-listed": ("it has one, which does not list it", not_listed),
    "aid-alone": ("a host says of itself no more than its AID", aid_alone),
    "unverifiable": ("a host with two addresses knows that no name lists both", unverifiable),
    "dns-comes-late": ("the DNS fails for a minute", dns_comes_late),
    "partial-overlap": ("two names list one address", partial_overlap),
    "virtual-hosting": ("two names have one host, and the reverse tree says so", virtual_hosting),
}
