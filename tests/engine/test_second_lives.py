# SPDX-License-Identifier: MIT
"""Nothing of a first life is left in the second one of a context, a peer or a host."""

import dataclasses
import gc
import random
from collections.abc import Callable

import pytest

from noid.constants import CLOSE_TIME, CONTEXT_IDLE_TIME, MILLISECOND, MINUTE, SECOND
from noid.engine import contest, trial
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import ContextRestored, LocatorsChanged, PeerResolved, TimePassed
from noid.engine.host import Host
from noid.engine.records import ContextRecord
from noid.engine.state import State, Timer
from noid.flows.events import UnansweredPacket
from noid.flows.software import SoftwareDatapath
from noid.wire import ipv6
from noid.wire.control import Code
from tests.contents import differences
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    Network,
    Station,
    established,
    packet,
)

HOUR = 60 * MINUTE
SEEDS = range(12)
ALIKE_MIN = 15
"""Attributes, at the least, that a context and what is kept of it have both."""
STEPS = 14
OF_A_LIFE = frozenset(
    {"local_label", "peer_label", "agreed_key", "peer_birthday", "peer_reset_hash"}
    | {"local_token", "local_key", "peer_token", "peer_key"}
    | {"established_ns", "settled_ns", "update_nonce", "next_trial_ns", "former", "used_ns"}
)
"""What differs between any two contexts: random numbers, times, nonces that only grow [D17], and
what authenticates the peer before [D39]."""
OF_THE_PATHS = frozenset(
    {
        "alive_ns",
        "proven_ns",
        "history",
        "first_round_trip_ns",
        "tolerated_ns",
        "searched_ns",
        "unproven_again_ns",
        "peer_source",
        "follow_ns",
        "follow_again_ns",
        "piggybacked",
        "repeating",
    }
    | {"own_remote"}
)
"""What is still true of the network, or of the DNS, when the peer has lost its contexts."""
REMEMBERED = frozenset(
    {"options", "entropy", "now_ns", "keys", "errors", "agreements", "hints"}
    | {
        "checks",
        "messages",
        "repeats",
        "drops",
        "turns",
        "quarantine",
        "peers",
        "resolved",
        "unable",
        "strangers",
        "uncovered",
    }
)
"""What a host remembers beyond its contexts: each of these has a limit of its own."""
COUNTED = frozenset({"counts", "unknown", "control", "named"})
"""What a data plane counts, and its rates."""


# --- histories ------------------------------------------------------------------------------------


def silence(network: Network, station: Station) -> None:
    """The data plane reports that nothing comes back."""
    for flow in list(station.rewriter.by_label.values()):
        if flow.transmits:
            unanswered = packet(flow.local_aid, flow.peer_aid)
            event = UnansweredPacket(flow.local_label, unanswered, 2 * flow.silence_ns)
            network.give(station, event)


def lose_locator(network: Network, station: Station) -> None:
    network.give(station, LocatorsChanged(station.locators[:1]))


def regain_locators(network: Network, station: Station) -> None:
    network.give(station, LocatorsChanged(station.locators))


def break_locator(network: Network, station: Station) -> None:
    broken = frozenset(station.locators[1:])
    network.give(station, LocatorsChanged(station.locators, broken=broken))


def cut(network: Network, station: Station) -> None:
    network.kill_provider(1)
    silence(network, station)


def heal(network: Network, station: Station) -> None:
    network.dead.clear()
    network.dns_works = True
    network.names[station.name] = list(station.locators)


def withdraw(network: Network, station: Station) -> None:
    """The DNS no longer lists all locators of a host, and its peer asks again."""
    network.names[station.name] = list(station.locators[:1])
    for one in network.stations:
        ask_again(network, one)


def ask_again(network: Network, station: Station) -> None:
    """The next inquiry about each peer begins."""
    for context in station.host.contexts:
        if context.is_settled:
            station.host.inspection.expire(context, Timer.VERIFY_AGAIN)
    station.in_use = True
    network.run(0)
    station.in_use = False


def fail_dns(network: Network, station: Station) -> None:
    network.dns_works = False


def talk(network: Network, station: Station) -> None:
    peer = network.b if station is network.a else network.a
    network.resolve(station, peer)
    network.ulp_sends(station, packet(station.locators[0], peer.locators[0]))


def wait_long(network: Network, station: Station) -> None:
    network.run(MINUTE)


STEPS_OF: list[Callable[[Network, Station], None]] = [
    silence, lose_locator, regain_locators, break_locator, cut, heal, fail_dns, talk, wait_long,
    withdraw, ask_again,
]  # fmt: skip


def with_history(seed: int, look: Callable[[Network], None] = lambda network: None) -> Network:
    """A network in which much has happened to its two contexts, and that is whole again.

    Args:
        seed: of what happens.
        look: is called after each step.
    """
    chance = random.Random(seed)
    network = established(seed + 10)
    for _ in range(STEPS):
        chance.choice(STEPS_OF)(network, chance.choice(network.stations))
        network.run(chance.choice([5 * MILLISECOND, 200 * MILLISECOND, 3 * SECOND]))
        look(network)
    for station in network.stations:
        heal(network, station)
        regain_locators(network, station)
        ask_again(network, station)
    network.run(MINUTE)
    for station in network.stations:
        talk(network, station)
    network.run(MINUTE)
    return network


def reboot(network: Network, station: Station) -> None:
    """The station comes up again without its contexts, one birthday later."""
    options = station.host.core.options
    options = dataclasses.replace(options, birthday=(options.birthday + 1) % (1 << 32))
    station.host = Host(options, station.random.randbytes)
    station.datapath = SoftwareDatapath(CODEPOINTS)
    network.give(station, LocatorsChanged(station.locators))


# --- contexts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_context_set_up_again_after_any_history_equals_a_first_one(seed: int) -> None:
    first, network = established(), with_history(seed)
    before = network.a.context
    reboot(network, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(MINUTE)
    assert network.a.context is before, "the peer alone has lost it"
    without = OF_A_LIFE | OF_THE_PATHS | {"verification"}
    inquiries = [one.verification for one in (network.a.context, first.a.context)]
    proven, proven_first = ((one.name, one.remote, one.proven) for one in inquiries)
    assert proven == proven_first, "by the first inquiry, or by a later one"
    assert differences(network.a.context, first.a.context, without=without) == {}
    assert differences(network.b.context, first.b.context, without=OF_A_LIFE | {"heard"}) == {}


def use_other(name: str, value: object) -> Callable[[Core, Context], None]:
    """Has an attribute another value than it has in a new context."""
    return lambda _, context: setattr(context, name, value)


OF_STATES = frozenset({"closing", "exchange", "probation", "rival", "user"})
"""What a context that its peer has lost does not have, and whose share it takes."""
DISTURBANCES: dict[str, Callable[[Core, Context], None]] = {
    "aid_proven": use_other("aid_proven", False),
    "contested_until_ns": contest.begin,
    "trial": trial.begin,
    "untold": use_other("untold", True),
}
"""What gives a context another value of an attribute that no history changes."""
STAYS = frozenset({"left_pair", "narrowed", "doubt", "repeats"})
"""No history changes these either. They are about the paths, the stack of the host, nonces that
only grow, and a packet whose repetition has ended."""


def test_every_attribute_of_a_context_is_changed_by_a_history_or_on_purpose() -> None:
    first, found = established(), set[str]()
    without = OF_A_LIFE | OF_THE_PATHS | {"verification"}

    def look(network: Network) -> None:
        for station in network.stations:
            for context in station.host.contexts:
                found.update(differences(context, first.a.context, without=without))

    for seed in SEEDS:
        with_history(seed, look)
    compared = {one.name for one in dataclasses.fields(Context)} - without
    assert compared - found <= DISTURBANCES.keys() | OF_STATES | STAYS


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_context_set_up_again_has_nothing_of_what_no_history_changes(name: str) -> None:
    first, network = established(), established()
    reboot(network, network.b)
    DISTURBANCES[name](network.a.host.core, network.a.context)
    assert getattr(network.a.context, name) != getattr(first.a.context, name)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(MINUTE)
    assert network.a.context.peer_label == network.b.context.local_label, "it was set up again"
    network.run(MINUTE)
    without = OF_A_LIFE | OF_THE_PATHS | STAYS | {"verification"}
    assert differences(network.a.context, first.a.context, without=without) == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_hosts_whose_contexts_are_gone_are_as_new_ones(seed: int) -> None:
    network = with_history(seed)
    network.run(2 * CONTEXT_IDLE_TIME + HOUR)
    for station in network.stations:
        core = station.host.core
        assert core.next_timer() is None
        regain_locators(network, station)
        lose_locator(network, station)
        new = Host(core.options, core.entropy)
        new.handle(LocatorsChanged(station.locators[:1]), network.now_ns)
        assert differences(core, new.core, without=REMEMBERED) == {}
        datapath = SoftwareDatapath(CODEPOINTS)
        assert differences(station.datapath, datapath, without=COUNTED) == {}


def test_a_context_that_is_gone_waits_for_no_answer() -> None:
    """Its question is never answered."""
    network = Network()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    context, core = network.a.context, network.a.host.core
    while not waits(core, context):
        network.run(MILLISECOND)
    network.inquiries.clear()
    network.run(2 * CONTEXT_IDLE_TIME + HOUR)
    assert network.a.host.contexts == []
    assert not waits(core, context)


def evict(network: Network, station: Station) -> None:
    """Each context makes room for another, in every state."""
    for context in station.host.contexts:
        station.host.inspection.evict(context)
    network.give(station, TimePassed())


def evict_while_asking(network: Network, station: Station) -> None:
    ask_again(network, station)
    evict(network, station)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_host_knows_no_context_that_is_gone(seed: int) -> None:
    """None of its tables leads to one, directly or by another object, and none has a share."""
    chance = random.Random(seed)
    network = established(seed + 10)
    for _ in range(4 * STEPS):
        chance.choice([*STEPS_OF, evict, evict_while_asking])(
            network, chance.choice(network.stations)
        )
        for station in network.stations:
            core = station.host.core
            assert not set(contexts_in(core)).difference(station.host.contexts)
            begun = core.begun_by_peers.count + core.begun_here.count + core.provisional.count
            assert begun <= len(core.labels), "no share without a context"
            assert core.resolved.count == len(core.peers)
            assert core.quarantine.shares.count <= len(core.quarantine)
        network.run(chance.choice([0, 5 * MILLISECOND, SECOND, CLOSE_TIME]))


def contexts_in(core: Core) -> list[Context]:
    """Every context that an object leads to."""
    found: list[Context] = []
    seen: set[int] = set()
    left: list[object] = [core]
    while left:
        one = left.pop()
        if id(one) in seen or callable(one):
            continue
        seen.add(id(one))
        if isinstance(one, Context):
            found.append(one)
        else:
            left += gc.get_referents(one)
    return found


def waits(core: Core, context: Context) -> bool:
    """Whether a context waits for an answer of the DNS."""
    return any(context in waiting for waiting in core.questions.values())


def test_every_label_that_a_peer_may_send_by_is_quarantined_with_its_context() -> None:
    """Also of a context whose set-up never ended: its CCR told the label [D48]."""
    network = Network()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    while network.a.context.state is not State.CCR_SENT:
        network.run(MILLISECOND)
    context = network.a.context
    assert context.announced
    assert not context.is_known_to_peer
    network.kill_provider(1)
    network.kill_provider(2)
    network.run(HOUR)
    assert network.a.host.contexts == []
    assert context.local_label in network.a.host.core.quarantine


# --- peers ----------------------------------------------------------------------------------------


def test_a_restarted_peer_is_accepted_although_its_nonces_are_small() -> None:
    network = established()
    for number in range(1, 5):
        lose_locator(network, network.b)
        network.run(SECOND)
        regain_locators(network, network.b)
        network.run(SECOND)
        assert network.a.context.peer_update_nonce >= number
    reboot(network, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.context.peer_update_nonce == 0
    assert network.a.context.peer_keepalive_nonce == 0
    lose_locator(network, network.b)
    network.run(SECOND)
    assert network.a.context.peer_local == (B1,)


# --- daemons --------------------------------------------------------------------------------------


def restart(network: Network, station: Station) -> None:
    """Another daemon, that is given what the one before has kept."""
    memory = station.host.memory_of(station.context.local_label)
    assert memory is not None
    station.host = Host(station.host.core.options, station.random.randbytes)
    network.give(station, LocatorsChanged(station.locators))
    network.give(station, ContextRestored(memory))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_daemon_takes_up_is_what_the_one_before_has_kept(seed: int) -> None:
    network = with_history(seed)
    for station in network.stations:
        label = station.context.local_label
        before = station.host.memory_of(label)
        restart(network, station)
        after = station.host.memory_of(label)
        assert before is not None
        assert after is not None
        assert differences(before, after, without=frozenset({"update_nonce"})) == {}
        assert after.update_nonce > before.update_nonce


def test_what_is_kept_of_a_context_is_what_it_has() -> None:
    station = established().a
    context, label = station.context, station.context.local_label
    kept = {one.name for one in dataclasses.fields(ContextRecord)}
    alike = kept & {one.name for one in dataclasses.fields(Context)} - {"peer_marks"}
    assert len(alike) >= ALIKE_MIN
    others = {name: f"another {name}" for name in alike}
    for name, value in others.items():
        setattr(context, name, value)
    memory = station.host.memory_of(label)
    assert memory is not None
    assert {name: getattr(memory, name) for name in alike} == others


def test_an_update_request_of_before_a_restart_is_not_applied_after_it() -> None:
    network = established()
    lose_locator(network, network.b)
    network.run(SECOND)
    old = [one for one in network.trace if is_update(one)][-1]
    regain_locators(network, network.b)
    network.run(SECOND)
    restart(network, network.a)
    assert set(network.a.context.peer_local) == {B1, B2}
    network.arrive(old)
    assert set(network.a.context.peer_local) == {B1, B2}
    network.give(network.b, PeerResolved("a.example", A1, (A1, A2)))
    lose_locator(network, network.b)
    network.run(SECOND)
    assert set(network.a.context.peer_local) == {B1}, "a new one is applied"


def is_update(octets: bytes) -> bool:
    return octets[ipv6.HEADER_OCTETS + 1] == Code.UR and octets[8:24] in (B1, B2)


def test_every_attribute_of_a_host_is_reset_or_remembered_on_purpose() -> None:
    assert {one.name for one in dataclasses.fields(Core)} >= REMEMBERED
