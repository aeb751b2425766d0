# SPDX-License-Identifier: MIT
"""The swarm: random runs, drawn by kinds of faults first, then by severity, then by times.

Runs with a few kinds of faults find more than a run with all kinds, because one fault may hide the
effect of another. So each run draws its own selection from the seed.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, fields

from noid.constants import MILLISECOND, MINUTE, SECOND
from noid.engine.events import ContextRestored
from noid.locators import Locator
from noid.sim.attackers import OffPath, OnPath
from noid.sim.laws import Change, Laws
from noid.sim.network import LinkConditions, locator_of, provider_of
from noid.sim.node import Node
from noid.sim.ulp import PROTOCOLS, Conversation
from noid.sim.world import World

NAMES = ("a", "b", "c", "d")
PROVIDERS = (1, 2, 3)
QUIET_NS = 34 * MINUTE
"""Long enough for contexts to become idle and closed, and for every CLOSE to be given up."""
AFTERWARDS_NS = 15 * SECOND
"""How long programs talk again after that, before the network heals."""
MTUS = (1280, 1400, 1500)


@dataclass(frozen=True, slots=True)
class Faults:
    """The severity of each fault in one run; zero means that it does not occur.

    Attributes:
        hosts: how many, 2 to 4.
        seconds: how long faults happen.
        loss: share of packets lost.
        duplication: share of packets that arrive twice.
        jitter_ms: reorders packets.
        corruption: share of packets in which a bit changes.
        mtu: of the lines; 0 for the usual.
        outages: how often a provider dies.
        cuts: how often one provider no longer reaches another, one way or both.
        firewalls: how often a provider drops the M6 next headers for a while.
        rewriting: share of rewritable packets that a border sends through another provider.
        tells: routers say "destination unreachable".
        reboots: how often a host loses its contexts.
        amnesia: a host that reboots loses its stable storage too.
        renumberings: how often a host loses or regains locators.
        stops: how often the shim of a host is stopped and started.
        dns_timeouts: share of questions never answered.
        dns_lies: share of questions with a wrong negative answer.
        dns_changes: how often a name changes its records.
        stale_alarms: shells do not cancel alarms.
        attentive: programs have their peers' addresses from elsewhere; the shims look them up.
        on_switch: packets are plain while the locators in use are the AIDs.
        silences: how often no program sends for more than half an hour.
        off_path: attacks by a host that sees no packets.
        on_path: attacks by a host that sees all packets.
    """

    hosts: int
    seconds: int
    loss: float
    duplication: float
    jitter_ms: int
    corruption: float
    mtu: int
    outages: int
    cuts: int
    firewalls: int
    rewriting: float
    tells: bool
    reboots: int
    amnesia: bool
    renumberings: int
    stops: int
    dns_timeouts: float
    dns_lies: float
    dns_changes: int
    stale_alarms: bool
    attentive: bool
    on_switch: bool
    silences: int
    off_path: int
    on_path: int

    def __str__(self) -> str:
        drawn = ((field.name, getattr(self, field.name)) for field in fields(self))
        return " ".join(f"{name}={value:g}" for name, value in drawn if value)


def draw(source: random.Random) -> Faults:
    """The faults of one run."""

    def share(most: float) -> float:
        return round(source.uniform(0, most), 3) if source.random() < 0.35 else 0.0

    def times(most: int, likely: float = 0.35) -> int:
        return source.randint(1, most) if source.random() < likely else 0

    return Faults(
        hosts=source.choice((2, 2, 2, 3, 3, 4)),
        seconds=source.randint(10, 36),
        loss=share(0.3),
        duplication=share(0.2),
        jitter_ms=source.choice((0, 0, 0, 0, 5, 50, 200)),
        corruption=share(0.05),
        mtu=source.choice((0, 0, 0, *MTUS)),
        outages=times(3, 0.5),
        cuts=times(3),
        firewalls=times(1, 0.15),
        rewriting=share(0.5),
        tells=source.random() < 0.3,
        reboots=times(2),
        amnesia=source.random() < 0.2,
        renumberings=times(3),
        stops=times(1, 0.15),
        dns_timeouts=share(0.7),
        dns_lies=share(0.4),
        dns_changes=times(2, 0.2),
        stale_alarms=source.random() < 0.3,
        attentive=source.random() < 0.2,
        on_switch=source.random() < 0.2,
        silences=times(1, 0.15),
        off_path=times(12, 0.3),
        on_path=times(12, 0.25),
    )


def build(world: World) -> Faults:
    """A world with hosts, conversations and faults, all drawn from its seed."""
    source = random.Random(f"{world.seed}/swarm")
    faults = draw(source)
    world.network.weather = LinkConditions(
        delay_ns=source.choice((1, 10, 40, 120)) * MILLISECOND,
        jitter_ns=faults.jitter_ms * MILLISECOND,
        loss=faults.loss,
        duplication=faults.duplication,
        corruption=faults.corruption,
        mtu=faults.mtu or 1500,
        rewriting=faults.rewriting,
        tells=faults.tells,
    )
    world.on_switch = faults.on_switch
    world.names.timeouts = faults.dns_timeouts
    world.names.lies = faults.dns_lies
    for index in range(faults.hosts):
        count = source.choice((1, 2, 2, 2, 3))
        locators = tuple(
            locator_of(provider, 10 + index) for provider in source.sample(PROVIDERS, count)
        )
        node = world.add(NAMES[index], locators, mtu=source.choice((faults.mtu or 1500, 1500)))
        node.stale_alarms = faults.stale_alarms
        node.attentive = faults.attentive
        if faults.rewriting:
            world.network.borders[node.name] = locators
    _talk(world, faults, source)
    _schedule(world, faults, source)
    return faults


def run(world: World) -> None:
    """Plays one run: faults, healing, and then every program must get an answer."""
    faults = build(world)
    world.faults = str(faults)
    world.watch(Laws(world))
    world.run(faults.seconds * SECOND)
    quiet_ns = world.quiet_until_ns
    if quiet_ns > world.now_ns:
        world.run(quiet_ns - world.now_ns + AFTERWARDS_NS)
    world.heal()
    if world.injected["reboot without storage"]:
        # Such a host cannot prove its identity. Its peers close their contexts with it when they
        # have heard nothing on them for X, and not earlier [D18, D19].
        world.wait_for_idle()
    world.demand_liveness()


def _talk(world: World, faults: Faults, source: random.Random) -> None:
    names = NAMES[: faults.hosts]
    pairs = [(one, other) for one in names for other in names if one < other]
    for one, other in source.sample(pairs, min(len(pairs), source.choice((1, 1, 2, 3)))):
        both_ways = [(one, other), (other, one)]
        for client, server in both_ways if source.random() < 0.3 else [source.choice(both_ways)]:
            talk = Conversation(
                client=client,
                server=server,
                client_aid=world.nodes[client].locators[0],
                server_aid=source.choice(world.nodes[server].locators),
                protocol=source.choice(PROTOCOLS),
                interval_ns=source.choice((800, 2000, 4000)) * MILLISECOND,
                size=source.choice((24, 100, 800)),
                replies=source.random() < 0.9,
                server_talks=source.random() < 0.2,
            )
            if len(both_ways) == 2 and both_ways[0] == (client, server) and client == one:
                # Sometimes both begin at the same time, so that their INITs cross.
                talk.server_aid = world.nodes[server].locators[0]
            world.after(source.choice((0, 0, 5, 3000)) * MILLISECOND + 1, _opening(world, talk))


def _opening(world: World, talk: Conversation) -> Callable[[], None]:
    return lambda: world.converse(talk)


def _schedule(world: World, faults: Faults, source: random.Random) -> None:
    """When each fault happens, and for how long."""
    network, state, shim = Change.NETWORK, Change.STATE, Change.SHIM
    events = [
        (faults.outages, network, lambda: _outage(world, source)),
        (faults.cuts, network, lambda: _cut(world, source)),
        (faults.firewalls, shim, lambda: _firewall(world, source)),
        (faults.reboots, state, lambda: _reboot(world, source, remembers=not faults.amnesia)),
        (faults.renumberings, network, lambda: _renumber(world, source)),
        (faults.stops, shim, lambda: _stop(world, source)),
        (faults.dns_changes, network, lambda: _change_names(world, source)),
        (faults.silences, state, lambda: _fall_silent(world)),
    ]
    for count, change, action in events:
        for _ in range(count):
            world.after(source.randrange(faults.seconds * SECOND), _told(world, change, action))
    _keep_back(world)
    # Drawn separately, so that the effect of older seeds does not change.
    apart = random.Random(f"{world.seed}/restarts")
    for _ in range(apart.choice((0, 0, 0, 1, 3))):
        restart = _told(world, Change.NETWORK, lambda: _restart(world, apart))
        world.after(apart.randrange(faults.seconds * SECOND), restart)
    _avoid_some(world)
    if faults.off_path:
        off_path = OffPath(world)
        for _ in range(faults.off_path):
            world.after(source.randrange(faults.seconds * SECOND), off_path.attack)
    if faults.on_path:
        on_path = OnPath(world)
        for _ in range(faults.on_path):
            world.after(source.randrange(faults.seconds * SECOND), on_path.attack)


def _told(world: World, change: Change, action: Callable[[], object]) -> Callable[[], None]:
    """An action that first tells the laws the kind of the change."""

    def act() -> None:
        world.changed(change)
        action()

    return act


def _ends(
    world: World, source: random.Random, end: Callable[[], object], change: Change = Change.NETWORK
) -> None:
    """Ends a fault after a random time."""
    after_ns = source.randrange(500 * MILLISECOND, 40 * SECOND)
    world.after(after_ns, _told(world, change, end))


def _keep_back(world: World) -> None:
    """Some hosts have a backup locator, and some of them change it [D22]."""
    apart = random.Random(f"{world.seed}/backups")
    for node in world.nodes.values():
        if apart.random() < 0.2:
            world.injected["locator kept back"] += 1
            node.keep_back(frozenset({apart.choice(node.locators)}))
            if apart.random() < 0.3:
                world.after(apart.randrange(20 * SECOND), _changing(world, node))


def _changing(world: World, node: Node) -> Callable[[], None]:
    return _told(
        world, Change.NETWORK, lambda: node.keep_back(frozenset(node.locators) - node.backup)
    )


def _avoid_some(world: World) -> None:
    """Some operators avoid an uplink for a time, or prefer one [D22, D25]."""
    apart = random.Random(f"{world.seed}/uplinks")
    for node in world.nodes.values():
        if len(node.locators) > 1 and apart.random() < 0.15:
            one = frozenset({apart.choice(node.locators)})
            is_avoided = apart.random() < 0.7
            begin_ns, lasts_ns = apart.randrange(20 * SECOND), apart.randrange(1, 20) * SECOND
            world.injected["uplink avoided" if is_avoided else "uplink preferred"] += 1
            world.after(begin_ns, _preferring(world, node, one, is_avoided=is_avoided))
            world.after(begin_ns + lasts_ns, _preferring(world, node, frozenset()))


def _preferring(
    world: World, node: Node, one: frozenset[Locator], *, is_avoided: bool = True
) -> Callable[[], None]:
    def prefer() -> None:
        avoided = one if is_avoided else frozenset[Locator]()
        others = frozenset[Locator]() if is_avoided else frozenset(node.locators) - one
        node.mark(deprecated=avoided & frozenset(node.present), broken=node.broken)
        node.keep_back(others)

    return _told(world, Change.NETWORK, prefer)


def _outage(world: World, source: random.Random) -> None:
    provider = source.choice(PROVIDERS)
    world.injected["provider dies"] += 1
    world.remark("", f"provider {provider} dies")
    world.network.down.add(provider)
    _ends(world, source, lambda: world.network.down.discard(provider))
    if source.random() < 0.3:
        _notice(world, source, provider)


def _notice(world: World, source: random.Random, provider: int) -> None:
    """A host detects that its link to a provider is lost, or deprecates it."""
    node = world.nodes[_honest(world, source)]
    hit = frozenset(one for one in node.present if provider_of(one) == provider)
    world.injected["locator marked"] += 1
    if source.random() < 0.5:
        node.mark(deprecated=hit, broken=frozenset())
    else:
        node.mark(deprecated=frozenset(), broken=hit)


def _cut(world: World, source: random.Random) -> None:
    one, other = source.choice(PROVIDERS), source.choice(PROVIDERS)
    cuts = {(one, other)} if source.random() < 0.6 else {(one, other), (other, one)}
    world.injected["cut one way" if len(cuts) == 1 else "cut both ways"] += 1
    world.remark("", f"providers {one} -> {other} cut {'one way' if len(cuts) == 1 else ''}")
    world.network.cuts |= cuts
    _ends(world, source, lambda: world.network.cuts.difference_update(cuts))


def _firewall(world: World, source: random.Random) -> None:
    provider = source.choice(PROVIDERS)
    world.injected["firewall"] += 1
    world.remark("", f"provider {provider} drops M6 packets")
    world.network.filtered.add(provider)
    _ends(world, source, lambda: world.network.filtered.discard(provider), Change.SHIM)


def _honest(world: World, source: random.Random) -> str:
    return source.choice([name for name, node in world.nodes.items() if node.honest])


def _reboot(world: World, source: random.Random, *, remembers: bool) -> None:
    node = world.nodes[_honest(world, source)]
    world.injected["reboot" if remembers else "reboot without storage"] += 1
    node.reboot(remembers=remembers)


def _restart(world: World, source: random.Random) -> None:
    """A daemon ends and another restores its contexts; or a daemon restores what it has already."""
    node = world.nodes[_honest(world, source)]
    if not node.running:
        return
    if source.random() < 0.5:
        world.injected["daemon restarts"] += 1
        node.restart()
    else:
        world.injected["context told twice"] += 1
        for memory in node.memories():
            node.give(ContextRestored(memory))


def _renumber(world: World, source: random.Random) -> None:
    node = world.nodes[_honest(world, source)]
    count = source.randint(1, len(node.locators))
    kept = source.sample(node.locators, count)
    world.injected["locators change"] += 1
    node.have(tuple(kept))
    if source.random() < 0.5:
        world.names.publish(f"{node.name}.example", tuple(kept))


def _stop(world: World, source: random.Random) -> None:
    node = world.nodes[_honest(world, source)]
    world.injected["shim stops"] += 1
    world.remark(node.name, "its shim stops")
    node.running = False
    node.start()

    def start() -> None:
        if not node.running:
            node.running = True
            node.reboot(remembers=True)

    _ends(world, source, start, Change.SHIM)


def _change_names(world: World, source: random.Random) -> None:
    node = world.nodes[_honest(world, source)]
    listed = tuple(source.sample(node.locators, source.randint(1, len(node.locators))))
    world.injected["DNS changes"] += 1
    world.names.publish(f"{node.name}.example", listed)


def _fall_silent(world: World) -> None:
    world.injected["silence"] += 1
    world.remark("", "no program sends")
    world.quiet_until_ns = world.now_ns + QUIET_NS
