# SPDX-License-Identifier: MIT
"""The scenarios by name: the swarm, the directed ones, and every attack."""

from collections.abc import Callable
from dataclasses import dataclass

from noid.constants import (
    CLOSE_TIME,
    CONTEXT_IDLE_TIME,
    MILLISECOND,
    MINUTE,
    SECOND,
    VERIFY_AGAIN_MIN,
)
from noid.dns.records import reverse_name
from noid.engine.state import State
from noid.sim import attacks, law, proofs, swarm
from noid.sim.borders import BORDERS
from noid.sim.stage import add_hosts, context_of, established, require_arrival, talk
from noid.sim.world import World

SWARM = "swarm"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario.

    Attributes:
        summary: what happens, in a line.
        play: plays it; raises Violation if a check fails.
        known: why it fails, if that is known; it is an error if it no longer fails.
    """

    summary: str
    play: Callable[[World], None]
    known: str = ""


def blackhole(world: World) -> None:
    """Provider 1 fails silently; only a few packets are lost."""
    context = established(world)
    world.network.down.add(1)
    world.run(10 * SECOND)
    world.checks.require(
        context.local_locator != context.local_aid, "a context switches", "b still uses its AID"
    )
    require_arrival(world, 10 * SECOND)
    world.heal()
    world.demand_liveness()


def one_way(world: World) -> None:
    """Packets of a over its pair are lost, packets of b arrive."""
    add_hosts(world)
    talk(world)
    world.run(3 * SECOND)
    world.network.cuts.add((1, 1))
    world.run(10 * SECOND)
    world.network.cuts.clear()
    world.network.cuts |= {(1, 1), (2, 1), (2, 2)}
    world.run(10 * SECOND)
    world.heal()
    world.demand_liveness()


def crossing(world: World) -> None:
    """Both ends begin at the same time [draft §4.3]."""
    add_hosts(world)
    talk(world, "a", "b")
    talk(world, "b", "a")
    world.run(3 * SECOND)
    world.demand_liveness()


def crossing_late(world: World) -> None:
    """The second to begin has already answered the first, without state [draft §4.3].

    a answers the INIT of b with CC, and its repetition with CONF, since a has started its set-up; a
    then uses the content of its CC, and b that of the CONF.
    """
    world.network.weather.delay_ns = 140 * MILLISECOND
    world.network.weather.jitter_ns = 0
    add_hosts(world)
    talk(world, "b", "a")
    world.run(150 * MILLISECOND)
    talk(world, "a", "b")
    world.run(3 * SECOND)
    disagreement = world.checks.disagreement()
    world.checks.require(not disagreement, "both ends agree", disagreement)
    world.demand_liveness()


def close(world: World) -> None:
    """No program sends for a long time; both ends close contexts; then a program sends again."""
    established(world)
    world.talking = False
    world.network.weather.loss = 0.5
    world.run(CONTEXT_IDLE_TIME + CLOSE_TIME + 2 * MINUTE)
    for node in world.nodes.values():
        count = len(node.host.contexts)
        world.checks.require(count == 0, "idle contexts are closed", f"{node.name} has {count}")
    world.heal()
    world.demand_liveness()


def close_one_way(world: World) -> None:
    """Only b hears nothing; it closes, while a goes on sending [draft App. A, example 2]."""
    established(world)
    world.ledger.conversations[0].interval_ns = 20 * SECOND
    world.network.cuts |= {(1, 1), (1, 2), (2, 1), (2, 2)}
    world.run(CONTEXT_IDLE_TIME + CLOSE_TIME + MINUTE)
    world.ledger.conversations[0].interval_ns = SECOND
    world.heal()
    world.run(MINUTE)
    world.demand_liveness()


def reboot(world: World) -> None:
    """Host b loses its contexts, keeps its storage, and loses its contexts again later."""
    established(world)
    for _ in range(2):
        world.nodes["b"].reboot(remembers=True)
        world.run(2 * SECOND)
        context = context_of(world, "b")
        world.checks.require(context.is_settled, "a lost context is made anew", context.state.value)
    world.demand_liveness(10 * SECOND)


def update_after_reboot(world: World) -> None:
    """Host b changes its locators, reboots, changes them again: a must learn of it [D17, D18]."""
    established(world)
    b = world.nodes["b"]
    for locators in (b.locators[:1], b.locators) * 8:
        b.have(locators)
        world.run(2 * SECOND)
    b.reboot(remembers=True)
    world.run(5 * SECOND)
    b.have(b.locators[:1])
    world.run(5 * SECOND)
    disagreement = world.checks.disagreement()
    world.checks.require(not disagreement, "an update is applied", disagreement)
    world.demand_liveness()


def amnesia(world: World) -> None:
    """Host b loses contexts and storage; its UCs prove nothing until X has passed."""
    established(world)
    world.nodes["b"].reboot(remembers=False)
    world.wait_for_idle()
    world.demand_liveness()


def firewall(world: World) -> None:
    """A firewall drops the M6 next headers and passes everything else [D15]."""
    add_hosts(world)
    world.network.filtered |= {1, 2}
    talk(world)
    world.run(5 * SECOND)
    world.demand_liveness(MINUTE)


def no_shim(world: World) -> None:
    """Host b has an M6 record and no shim: it is reached plainly from the first packet [D15]."""
    add_hosts(world)
    node = world.nodes["b"]
    node.running = False
    node.start()
    talk(world)
    world.run(3 * MINUTE)
    lost = [number for number, sent in world.ledger.sent.items() if not sent.copies]
    recent = [n for n in lost if world.ledger.sent[n].at_ns < world.now_ns - SECOND]
    world.checks.require(not recent, "a peer without a shim is reached", f"lost: {recent}")


def shim_stops(world: World) -> None:
    """The shim of b stops: its kernel rejects M6 packets, and a sends plain [D15]."""
    established(world)
    node = world.nodes["b"]
    node.running = False
    node.start()
    world.run(2 * SECOND)
    world.demand_liveness(20 * SECOND)


def dead_aid(world: World) -> None:
    """The AIDs do not work from the start; the other locators do [draft §4.4, D37]."""
    add_hosts(world)
    world.network.down.add(1)
    talk(world)
    world.run(20 * SECOND)
    context = context_of(world, "a")
    world.checks.require(context.is_settled, "other locators are tried", context.state.value)
    first = len(world.ledger.sent)
    world.run(5 * SECOND)
    arrived = any(one.copies for n, one in world.ledger.sent.items() if n > first)
    world.checks.require(arrived, "other locators carry", "nothing arrives")
    world.heal()
    world.demand_liveness()


def unproven(world: World) -> None:
    """As dead-aid, and the DNS does not answer: provisional contexts are deleted [D37]."""
    add_hosts(world)
    world.network.down.add(1)
    world.names.timeouts = 1.0
    talk(world)
    world.run(MINUTE)
    provisional = [one for one in world.nodes["b"].host.contexts if one.is_provisional]
    old = [one for one in provisional if world.now_ns - one.established_ns > 31 * SECOND]
    world.checks.require(not old, "provisional contexts go", f"{len(old)} stay")
    world.heal()
    world.demand_liveness()


def half_proven(world: World) -> None:
    """As dead-aid, and the DNS proves a's AID and not the locator it comes from [D37]."""
    add_hosts(world)
    world.network.down.add(1)
    world.names.mute.add(reverse_name(world.nodes["a"].locators[1]))
    talk(world)
    world.run(50 * SECOND)
    world.heal()
    world.demand_liveness()


def rewriting(world: World) -> None:
    """Borders rewrite the sources of half of the rewritable packets [draft §6, §7.11]."""
    add_hosts(world)
    for node in world.nodes.values():
        world.network.borders[node.name] = node.locators
    world.network.weather.rewriting = 0.5
    talk(world)
    world.run(30 * SECOND)
    world.network.down.add(1)
    world.run(20 * SECOND)
    world.heal()
    world.demand_liveness()


def verified_again(world: World) -> None:
    """One locator of b leaves the DNS, and returns; both ends detect it by their timers [D31]."""
    established(world)
    world.ledger.conversations[0].interval_ns = 10 * SECOND
    context, own = context_of(world, "a"), world.nodes["b"].locators
    for listed in (own[:1], own):
        world.names.publish("b.example", listed)
        world.run(2 * VERIFY_AGAIN_MIN + MINUTE)
        verified = context.peer_verified
        world.checks.require(verified == set(listed), "the DNS is believed", f"{len(verified)}")
        known = context_of(world, "b").own_set
        world.checks.require(set(known) == set(listed), "the peer is told", f"{len(known)}")
    world.ledger.conversations[0].interval_ns = SECOND
    world.demand_liveness()


def stranger(world: World) -> None:
    """No program resolves a name; the shim looks the peer up when the DNS answers [D34]."""
    add_hosts(world)
    for node in world.nodes.values():
        node.attentive = True
    world.names.timeouts = 1.0
    talk(world)
    world.run(10 * SECOND)
    world.checks.require(
        not world.nodes["a"].host.contexts, "no DNS, no context", "a has one all the same"
    )
    world.names.timeouts = 0.0
    world.run(MINUTE)
    context = context_of(world, "a")
    world.checks.require(context.is_settled, "a stranger is found out", context.state.value)
    world.demand_liveness()


def on_switch(world: World) -> None:
    """Packets are plain until a provider fails; then they use the other, within seconds [D28]."""
    world.on_switch = True
    context = established(world)
    world.checks.require(not context.flow(on_switch=True).transmits, "plain on the AIDs", "not so")
    world.network.down.add(1)
    world.run(10 * SECOND)
    require_arrival(world, 5 * SECOND)
    world.heal()
    world.demand_liveness()


def link_gone(world: World) -> None:
    """The first link of host a goes down: a leaves it before a packet is lost [D20]."""
    established(world)
    a = world.nodes["a"]
    world.network.down.add(1)
    a.mark(deprecated=frozenset(), broken=frozenset(a.locators[:1]))
    world.run(SECOND)
    context = context_of(world, "a")
    world.checks.require(
        context.local_locator != context.local_aid, "a link that is gone is left", "a uses it still"
    )
    world.heal()
    world.demand_liveness()


def long_outage(world: World) -> None:
    """Nothing works for long; then the other provider works, and is used within seconds [D20]."""
    context = established(world)
    world.network.down |= {1, 2}
    world.run(5 * MINUTE)
    world.network.down.discard(2)
    world.run(3 * SECOND)
    world.checks.require(
        context.pair == (world.nodes["b"].locators[1], world.nodes["a"].locators[1]),
        "a provider that is back is found",
        "b does not use it",
    )
    world.heal()
    world.demand_liveness()


def link_back(world: World) -> None:
    """Host b has no link for a long time, and its ULP rarely retries; a link returns [D20]."""
    context = established(world)
    world.ledger.conversations[0].interval_ns = MINUTE
    b = world.nodes["b"]
    world.network.down |= {1, 2}
    b.mark(deprecated=frozenset(), broken=frozenset(b.locators))
    world.say(0, by_server=True)
    world.run(SECOND)
    world.say(0, by_server=True)
    world.run(50 * SECOND)
    world.network.down.discard(2)
    b.mark(deprecated=frozenset(), broken=frozenset(b.locators[:1]))
    world.run(SECOND)
    world.checks.require(
        context.local_locator == b.locators[1], "a link that is back is used", "b does not use it"
    )
    world.heal()
    world.ledger.conversations[0].interval_ns = SECOND
    world.run(MINUTE)
    world.demand_liveness()


def backup(world: World) -> None:
    """The second locator of host a is a backup: it is used during a failure only [D22]."""
    context = established(world)
    a, b = world.nodes["a"], world.nodes["b"]
    a.keep_back(frozenset(a.locators[1:]))
    for down, wanted, seconds in ((set[int](), 0, 5), ({1}, 1, 5), (set[int](), 0, 60)):
        world.network.down = down
        world.run(seconds * SECOND)
        places = context.peer_locator, context_of(world, "a").local_locator
        world.checks.require(
            places == (a.locators[wanted],) * 2,
            "a backup is used where no other works, and nowhere else",
            f"{seconds} s after providers {down or 'none'} died it is not so",
        )
    a.keep_back(frozenset(a.locators[:1]))
    b.keep_back(frozenset(b.locators[:1]))
    world.run(5 * SECOND)
    used = context.pair
    world.checks.require(
        used == (b.locators[1], a.locators[1]), "what is better is used", "b does not"
    )
    world.heal()
    world.demand_liveness()


def renumbering(world: World) -> None:
    """Host a loses the locator that is its AID, later the other, and gets both back."""
    established(world)
    a = world.nodes["a"]
    a.have(a.locators[1:])
    world.run(20 * SECOND)
    first = len(world.ledger.sent)
    world.run(5 * SECOND)
    world.run(SECOND)
    lost = [n for n, one in world.ledger.sent.items() if n > first and not one.copies]
    lost = [n for n in lost if world.ledger.sent[n].at_ns < world.now_ns - SECOND]
    world.checks.require(not lost, "an AID outlives its address", f"lost: {lost}")
    a.have(a.locators[:1])
    world.run(20 * SECOND)
    world.heal()
    world.demand_liveness()


def switch_at_once(world: World) -> None:
    """After a switch the next search begins before the packet is sent again [D20]."""
    context = established(world)
    world.network.weather.delay_ns = 100 * MILLISECOND
    world.run(10 * SECOND)
    world.network.down.add(1)
    for _ in range(400):
        world.run(5 * MILLISECOND)
        if context.repeating and context.state is State.ESTABLISHED:
            world.nodes["b"].have(world.nodes["b"].locators[1:])
            break
    world.run(2 * SECOND)
    world.heal()
    world.demand_liveness()


SCENARIOS: dict[str, Scenario] = {
    SWARM: Scenario("faults, attacks and their times drawn from the seed", swarm.run),
    "law": Scenario(
        "every entry of the state machine's law, one by one",
        law.every_entry,
    ),
    "blackhole": Scenario("a provider fails silently", blackhole),
    "one-way": Scenario("paths die in one direction", one_way),
    "crossing": Scenario("both ends begin at the same moment", crossing),
    "crossing-late": Scenario(
        "both ends begin, one after it has answered the other",
        crossing_late,
    ),
    "close": Scenario("contexts are idle, and half of everything is lost", close),
    "close-one-way": Scenario("one end hears nothing and closes, the other goes on", close_one_way),
    "reboot": Scenario("a host loses its contexts", reboot),
    "update-after-reboot": Scenario(
        "a host tells new sets, loses its contexts, and tells new sets",
        update_after_reboot,
    ),
    "amnesia": Scenario("a host loses its contexts and its stable storage", amnesia),
    "firewall": Scenario(
        "a firewall drops M6 packets and nothing else",
        firewall,
    ),
    "no-shim": Scenario("a host has the DNS record, and no shim", no_shim),
    "shim-stops": Scenario("the shim of a host stops", shim_stops),
    "dead-aid": Scenario("the AIDs reach nothing from the start", dead_aid),
    "unproven": Scenario("the same, and the DNS is silent", unproven),
    "half-proven": Scenario("the same, and the DNS proves half of what it should", half_proven),
    "rewriting": Scenario("borders rewrite sources", rewriting),
    "verified-again": Scenario("the DNS takes a locator away and brings it back", verified_again),
    "stranger": Scenario("programs send to addresses that no name led to", stranger),
    "on-switch": Scenario("a provider dies, and packets went plainly", on_switch),
    "link-gone": Scenario("a host notices that its link is gone", link_gone),
    "long-outage": Scenario("nothing works for minutes, then one provider does", long_outage),
    "link-back": Scenario("a host that had no link gets one back", link_back),
    "backup": Scenario("a locator is for the worst case, which comes and goes", backup),
    "renumbering": Scenario("locators go and come", renumbering),
    "switch-at-once": Scenario("sets change right after a switch", switch_at_once),
    **{
        name: Scenario(summary, play)
        for name, (summary, play) in (proofs.PROOFS | attacks.ATTACKS | BORDERS).items()
    },
}
