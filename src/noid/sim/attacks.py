# SPDX-License-Identifier: MIT
"""The attacks, a scenario each: what an attacker tries, and what must be true afterwards.

The checks of every step apply too: nothing raises, no packet reaches the wrong program, no data is
sent to a third party.
"""

import random
from collections.abc import Callable, Iterable

from noid.constants import MILLISECOND, PREFIX_RATE_PER_SECOND, SECOND
from noid.engine.context import Context
from noid.engine.events import PeerResolved
from noid.flows.events import UlpPacketSeen
from noid.identifiers import Nonce
from noid.locators import Locator
from noid.shares.policy import CHECKS
from noid.sim.attackers import MALLORY, OffPath, OnPath, local
from noid.sim.node import Node
from noid.sim.parcel import CODEPOINTS, Parcel
from noid.sim.stage import Ear, add_hosts, context_of, established, portrait, talk
from noid.sim.ulp import build
from noid.sim.world import World
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, Piggyback, encode_packet
from noid.wire.options import ContextOption

TRIES = 60
BIRTHDAYS = 1 << 32
FOREIGN_NUMBER = 1 << 50


def spoofed_init(world: World) -> None:
    """INITs in the peer's name at a live context, from everywhere [D13]."""
    context = established(world)
    off_path = OffPath(world)
    a, b = world.nodes["a"], world.nodes["b"]
    sources = [*a.locators, MALLORY]

    def attack(turn: int) -> None:
        off_path.init(b, a, source=sources[turn % len(sources)])

    _in_vain(world, [context], attack)


def init_flood(world: World) -> None:
    """A thousand INITs within a second, from one prefix [D8, D9]."""
    add_hosts(world, "abc")
    off_path = OffPath(world)
    a, b = world.nodes["a"], world.nodes["b"]
    ear = Ear(world, "c", sender="b")
    target = world.nodes["c"].locators[0]
    count = 1_000
    for _ in range(count):
        off_path.init(b, a, source=target)
        world.run(MILLISECOND)
    world.run(SECOND)
    answers = len(ear.parcels)
    limit = CHECKS.each_at_once + 2 * PREFIX_RATE_PER_SECOND
    world.checks.require(0 < answers <= limit, "answers are bounded", f"{answers} of {count}")
    kept = len(b.host.contexts) + len(b.host.inspection.questions)
    world.checks.require(kept == 0, "no state from INIT", f"{kept} entries")
    talk(world)
    world.run(2 * SECOND)
    world.demand_liveness()


def replayed_ccr(world: World) -> None:
    """Every CCR is replayed: at once, later, and to a host that has rebooted [D8, D12, D13]."""
    on_path = OnPath(world)
    context = established(world)
    _in_vain(world, [context], lambda _: on_path.replay(Code.CCR))
    world.run(40 * SECOND)
    _in_vain(world, [context], lambda _: on_path.replay(Code.CCR))
    world.talking = False
    world.run(SECOND)
    b = world.nodes["b"]
    b.reboot(remembers=True)
    for _ in range(TRIES):
        on_path.replay(Code.CCR)
    world.run(SECOND)
    world.checks.require(not b.host.contexts, "old CCRs make nothing", "b has a context")
    world.heal()
    world.demand_liveness()


def altered_ccr(world: World) -> None:
    """A CCR is stopped, and arrives with one bit changed [D8]."""
    add_hosts(world)
    on_path = OnPath(world)

    def swallow(parcel: Parcel) -> None:
        plain = parcel.sender == "a" and parcel.octets[6] == ipv6.ICMPV6
        if plain and parcel.octets[41] == Code.CCR:
            world.network.cuts |= {(1, 1), (1, 2), (2, 1), (2, 2)}

    world.network.listeners.append(swallow)
    talk(world)
    world.run(SECOND)
    b = world.nodes["b"]
    source = random.Random(f"{world.seed}/altered")
    kept = [one.octets for one in on_path.kept if one.octets[41] == Code.CCR]
    world.checks.require(bool(kept), "a CCR was sent", "none")
    changed = 0
    for _ in range(5 * TRIES):
        octets = _with_covered_bit(kept[0], source)
        world.network.cuts.clear()
        world.send(Parcel(octets, "mallory", world.now_ns, forged=True, informed=True))
        world.network.cuts |= {(1, 1), (1, 2), (2, 1), (2, 2)}
        changed += 1
    world.run(100 * MILLISECOND)
    count = len(b.host.contexts)
    world.checks.require(count == 0, "altered CCRs make nothing", f"b has {count} of {changed}")
    world.network.listeners.remove(swallow)
    world.heal()
    world.demand_liveness()


def _with_covered_bit(octets: bytes, source: random.Random) -> bytes:
    """A CCR with one bit changed that its cookie covers: AIDs, labels, sets, tokens, cookie."""
    begin = ipv6.HEADER_OCTETS
    packet = bytearray(octets)
    ranges = (range(begin + 16, begin + 48), range(begin + 92, begin + 108))
    at = source.choice([*ranges[0], *ranges[1]])
    packet[at] ^= 1 << source.randrange(8)
    packet[42:44] = bytes(2)
    ends = Locator(bytes(packet[8:24])), Locator(bytes(packet[24:40]))
    total = ipv6.checksum(*ends, ipv6.ICMPV6, bytes(packet[begin:]))
    packet[42:44] = total.to_bytes(2, "big")
    return bytes(packet)


def foreign_aid(world: World) -> None:
    """The exchange is completed in the name of c's AID, from the attacker's locator [D37]."""
    add_hosts(world, "abc")
    b, c = world.nodes["b"], world.nodes["c"]
    mallory = add_mallory(world, claimed=(c.locators[0], MALLORY))
    world.names.publish("mallory.example", (MALLORY, c.locators[0]))
    world.names.reverse[c.locators[0]] = ("c.example",)
    ear = Ear(world, "mallory", sender="b")
    _initiate(world, mallory, b, c.locators[0])
    world.run(5 * SECOND)
    talk(world, "b", "c")
    world.run(10 * SECOND)
    _initiate(world, mallory, b, c.locators[0])
    world.run(20 * SECOND)
    data = [one for one in ear.parcels if one.octets[6] != ipv6.ICMPV6]
    world.checks.require(not data, "no traffic is captured", f"{len(data)} packets")
    world.demand_liveness()
    world.run(60 * SECOND)
    stray = [one for one in b.host.contexts if one.is_provisional]
    world.checks.require(not stray, "provisional contexts go", f"{len(stray)} stay")


def third_party_locators(world: World) -> None:
    """The attacker's Lsl, and its forward zone, list c's locators [draft §3.1, D14]."""
    add_hosts(world, "abc")
    b, c = world.nodes["b"], world.nodes["c"]
    mallory = add_mallory(world, claimed=(MALLORY, *c.locators))
    world.names.forward["mallory.example"] = (MALLORY, *c.locators)
    ear = Ear(world, "c", sender="b")
    talk(world, "mallory", "b")
    world.run(5 * SECOND)
    context = context_of(world, "b")
    known = context.peer_verified
    world.checks.require(known <= {MALLORY}, "only the proven is verified", f"{len(known)}")
    world.network.down.add(3)
    for _ in range(20):
        world.run(SECOND)
        world.say(0, by_server=True)
    world.checks.require(not ear.parcels, "a third party gets no packet", f"{len(ear.parcels)}")
    world.network.down.clear()
    assert mallory.name not in world.network.borders
    assert b.honest


def victims_name(world: World) -> None:
    """The reverse zone of the attacker names c [D14, D29]."""
    add_hosts(world, "abc")
    c = world.nodes["c"]
    add_mallory(world, claimed=(MALLORY, *c.locators))
    world.names.reverse[MALLORY] = ("c.example",)
    ear = Ear(world, "c", sender="b")
    talk(world, "mallory", "b")
    world.run(5 * SECOND)
    context = context_of(world, "b")
    sets = context.peer_verified | set(context.peer_set)
    world.checks.require(sets <= {MALLORY}, "a victim's name proves nothing", f"{len(sets)}")
    world.network.down.add(3)
    for _ in range(10):
        world.run(SECOND)
        world.say(0, by_server=True)
    world.checks.require(not ear.parcels, "a third party gets no packet", f"{len(ear.parcels)}")


def spoofed_update(world: World) -> None:
    """URs that shrink or grow the sets; some have the right labels [D10, D17]."""
    context = established(world)
    off_path = OffPath(world)
    a, b = world.nodes["a"], world.nodes["b"]
    sets = (local(a.locators[0]), local(*a.locators, MALLORY), local(MALLORY))

    def attack(turn: int) -> None:
        off_path.unsolicited(b, a, Code.UR, sets=sets[turn % 3])
        _labelled(off_path, context, b, a, Code.UR, turn)

    _in_vain(world, [context], attack)


def spoofed_unknown_context(world: World) -> None:
    """UCs with guessed or known labels, and never with the right reset token [D18]."""
    context = established(world)
    off_path = OffPath(world)
    a, b = world.nodes["a"], world.nodes["b"]

    def attack(turn: int) -> None:
        off_path.unknown_context(b, a)
        label = context.peer_label
        quote = off_path.data(b.locators[turn % 2], a.locators[0], label)
        birthday = (context.peer_birthday - 1 - off_path.random.getrandbits(24)) % BIRTHDAYS
        message = ControlMessage(
            code=Code.UC,
            nonce=Nonce(turn),
            sender_aid=Locator(bytes(16)),
            receiver_aid=Locator(bytes(16)),
            context=ContextOption(receiver_label=label, sender_birthday=birthday),
            reset_token=off_path.random.randbytes(16),
            piggyback=Piggyback(ipv6.IPV6, quote),
        )
        off_path.send(encode_packet(message, a.locators[0], b.locators[0], CODEPOINTS))

    _in_vain(world, [context], attack)


def spoofed_close(world: World) -> None:
    """Forged CLOSE and CLOSEACK; some have the right labels [App. A, D10]."""
    context = established(world)
    off_path = OffPath(world)
    a, b = world.nodes["a"], world.nodes["b"]

    def attack(turn: int) -> None:
        code = (Code.CLOSE, Code.CLOSEACK)[turn % 2]
        off_path.unsolicited(b, a, code)
        _labelled(off_path, context, b, a, code, turn)

    _in_vain(world, [context], attack)


def guessed_labels(world: World) -> None:
    """Data with guessed labels, from the peer's own locators."""
    context = established(world)
    off_path = OffPath(world)
    a, b = world.nodes["a"], world.nodes["b"]

    def attack(turn: int) -> None:
        off_path.guessed_label(b, a, source=a.locators[turn % 2])

    _in_vain(world, [context], attack)


def foreign_source(world: World) -> None:
    """Data with the right label from a source outside Lsl(peer) [draft §7.11]."""
    on_path = OnPath(world)
    context = established(world)
    _in_vain(world, [context], lambda _: on_path.misplace())


def reflected_piggyback(world: World) -> None:
    """INITs with a piggyback, whose answers are sent to c [draft §7.3]."""
    established(world, "abc")
    off_path = OffPath(world)
    a, c = world.nodes["a"], world.nodes["c"]
    ear = Ear(world, "c", sender="a")
    sent = Ear(world, "a", sender="mallory")
    for _ in range(TRIES):
        off_path.piggyback(a, c)
        world.run(50 * MILLISECOND)
    world.run(SECOND)
    world.checks.require(
        ear.octets <= 3 * sent.octets, "no amplification", f"{sent.octets} became {ear.octets}"
    )
    longest = max((len(one.octets) for one in ear.parcels), default=0)
    world.checks.require(longest < 900, "no piggyback is reflected", f"{longest} octets")
    world.demand_liveness()


def bad_options(world: World) -> None:
    """Messages that are truncated or oversized, or have options of length 0."""
    on_path = OnPath(world)
    context = established(world)
    a, b = world.nodes["a"], world.nodes["b"]

    def attack(turn: int) -> None:
        on_path.garbage(b, a)
        on_path.garbage(a, b)

    _in_vain(world, [context, context_of(world, "a")], attack, tries=3 * TRIES)


def add_mallory(world: World, *, claimed: Iterable[Locator]) -> Node:
    """An attacker with an engine that has forged locators."""
    node = world.add("mallory", (MALLORY,), honest=False)
    node.claimed = tuple(claimed)
    node.start()
    return node


def _initiate(world: World, mallory: Node, victim: Node, aid: Locator) -> None:
    """The attacker begins an exchange in the name of an AID, perhaps not its own."""
    name = f"{victim.name}.example"
    mallory.give(PeerResolved(name, victim.locators[0], victim.locators))
    packet = build(FOREIGN_NUMBER, aid, victim.locators[0], ipv6.TCP, 40)
    mallory.give(UlpPacketSeen(packet))


def _labelled(
    off_path: OffPath, context: Context, victim: Node, friend: Node, code: Code, turn: int
) -> None:
    """A message with the right AIDs, labels and source, and a wrong hash [D10]."""
    message = ControlMessage(
        code=code,
        nonce=Nonce((1 << 40) + turn),
        sender_aid=friend.locators[0],
        receiver_aid=victim.locators[0],
        context=ContextOption(sender_label=context.peer_label, receiver_label=context.local_label),
        sender_locators=local(friend.locators[0], MALLORY),
        receiver_locators=local(victim.locators[0]),
        authentication=off_path.random.randbytes(16),
    )
    off_path.message(message, friend.locators[turn % 2], victim.locators[0])


def _in_vain(
    world: World, contexts: list[Context], attack: Callable[[int], None], *, tries: int = TRIES
) -> None:
    """Repeats an attack; requires that it has changed nothing."""
    before = [portrait(one) for one in contexts]
    first = len(world.ledger.sent) + 1
    for turn in range(tries):
        attack(turn)
        world.run(20 * MILLISECOND)
    world.run(SECOND)
    after = [portrait(one) for one in contexts]
    world.checks.require(before == after, "an attack changes nothing", f"{before} {after}")
    settled = world.now_ns - SECOND
    lost = [
        number
        for number, sent in world.ledger.sent.items()
        if number >= first and not sent.copies and sent.at_ns < settled
    ]
    world.checks.require(not lost, "an attack loses no packet", f"lost: {lost}")
    world.demand_liveness()


Attack = tuple[str, Callable[[World], None]]
ATTACKS: dict[str, Attack] = {
    "spoofed-init": ("INITs in a peer's name at a live context", spoofed_init),
    "init-flood": ("a thousand INITs in a second", init_flood),
    "replayed-ccr": ("CCRs said again, word for word", replayed_ccr),
    "altered-ccr": ("CCRs with one bit changed", altered_ccr),
    "foreign-aid": ("the exchange completed in the name of another's AID", foreign_aid),
    "third-party-locators": ("an Lsl with a third party's addresses", third_party_locators),
    "victims-name": ("a reverse zone that names a victim", victims_name),
    "spoofed-update": ("URs that shrink or grow the sets", spoofed_update),
    "spoofed-unknown-context": ("forged UCs", spoofed_unknown_context),
    "spoofed-close": ("forged CLOSE and CLOSEACK", spoofed_close),
    "guessed-labels": ("data with guessed labels", guessed_labels),
    "foreign-source": ("data with the right label from elsewhere", foreign_source),
    "reflected-piggyback": ("INITs whose packets are to be reflected", reflected_piggyback),
    "bad-options": ("truncated, oversized and looping options", bad_options),
}
