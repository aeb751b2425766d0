# SPDX-License-Identifier: MIT
"""Every case of what the rooms of the engine share: labels, timers, shares, marks, names."""

from collections import Counter, deque

import pytest

from noid.constants import (
    BETTER_PAIR_INTERVAL,
    BETTER_PAIR_INTERVAL_MAX,
    HELD_PACKETS_MAX,
    LOOK_AGAIN_MIN,
    LOSSY_GAPS,
    LOSSY_TCP_MAX,
    MILLISECOND,
    SECOND,
)
from noid.counters import Drop
from noid.dns.verification import Verification
from noid.engine import lifecycle, peers, reachability, verifying
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import (
    DeliverToUlp,
    Dropped,
    LocatorsChanged,
    SendAgain,
    UnwatchPeer,
)
from noid.engine.history import History
from noid.engine.known import KnownPeer
from noid.engine.options import Pin, Policy
from noid.engine.own import locators_with, marks
from noid.engine.phases import Probation
from noid.engine.state import Cue, Path, State, Timer, Trigger
from noid.flows.events import PacketHeld, UnansweredPacket
from noid.identifiers import NO_LABEL, Label, Nonce
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.options import LocatorEntry, LocatorFlag
from tests.engine.network import A1, A2, B1, B2, X1, begun, packet
from tests.engine.test_asking_cases import path_of
from tests.engine.test_limits import core as bare_core
from tests.engine.test_probing_cases import FIRST, OTHER, put
from tests.engine.test_timetable import settled
from tests.engine.timetable import Timetable

BROKEN, BACKUP, DEPRECATED = LocatorFlag.BROKEN, LocatorFlag.BACKUP, LocatorFlag.DEPRECATED


@pytest.fixture
def network() -> Timetable:
    return settled()


# --- chance, labels, timers -----------------------------------------------------------------------


def test_numbers_are_drawn_from_the_entropy() -> None:
    core = bare_core()
    drawn = deque([bytes(8), b"\1\2\3\4\5\6\7\x08", b"\xff" * 8])
    core.entropy = lambda octets: drawn.popleft()[:octets]
    assert [core.nonce(), core.token(), core.nonce()] == [1, 0x0102030405060708, (1 << 64) - 1]
    for octets, expected in ((b"\0\0", 50), (b"\x80\0", 100), (b"\xff\xff", 150)):
        core.entropy = lambda _, octets=octets: octets  # type: ignore[misc]
        assert core.jittered(100) == expected


def test_a_new_label_is_neither_none_nor_in_use_nor_in_quarantine(
    core: Core, context: Context
) -> None:
    core.quarantine.put(Label(0x22222), core.now_ns, b"", None)
    taken = int(context.local_label).to_bytes(3)
    drawn = deque([bytes(3), b"\xf0\0\0", taken, b"\x02\x22\x22", b"\xff\x12\x34"])
    core.entropy = lambda octets: drawn.popleft()[:octets]
    assert core.free_label() == 0xF1234
    assert not drawn


def test_a_timer_that_is_due_and_is_set_to_expire_at_once_keeps_its_place(
    core: Core, context: Context
) -> None:
    core.set_timer(context, Timer.IDLE, 5)
    core.now_ns += 5
    core.set_timer(context, Timer.IDLE, 0)
    assert core.next_timer() == (core.now_ns, (context, Timer.IDLE))
    core.now_ns += 5
    core.set_timer(context, Timer.IDLE, 0)
    assert core.next_timer() == (core.now_ns - 5, (context, Timer.IDLE))
    core.set_timer(context, Timer.IDLE, 1)
    core.stop_timer(context, Timer.VERIFY_AGAIN)
    assert core.next_timer() == (core.now_ns + 1, (context, Timer.IDLE))
    core.set_timer(context, Timer.IDLE, 0)
    assert core.next_timer() == (core.now_ns, (context, Timer.IDLE))


def test_a_context_is_used_once_a_second(core: Core, context: Context) -> None:
    core.now_ns = 7 * SECOND + 5
    core.used(context)
    assert context.used_ns == 7 * SECOND + 5
    core.now_ns = 8 * SECOND - 1
    core.used(context)
    assert context.used_ns == 7 * SECOND + 5
    core.now_ns = 8 * SECOND
    core.used(context)
    assert context.used_ns == 8 * SECOND


def test_changes_of_the_belief_and_drops_are_counted(core: Core, context: Context) -> None:
    before = Counter(core.turns)
    for _ in range(2):
        core.turn(context, Path.ASKING, Cue.SUSPICION)
        core.turn(context, Path.STEADY, Cue.THIS_ANSWERS)
    assert core.turns - before == {
        (Path.STEADY, Cue.SUSPICION): 2,
        (Path.ASKING, Cue.THIS_ANSWERS): 2,
    }
    core.drops.clear()
    core.drop(Drop.CCR_OVER_RATE)
    core.drop(Drop.CCR_OVER_RATE, "text")
    assert core.drops == {Drop.CCR_OVER_RATE: 2}
    assert core.outputs == [Dropped(Drop.CCR_OVER_RATE, ""), Dropped(Drop.CCR_OVER_RATE, "text")]
    core.outputs.clear()


@pytest.mark.parametrize(
    ("known", "unable", "stops"), [(False, False, True), (True, False, False), (True, True, True)]
)
def test_a_peer_is_watched_while_it_has_a_context_or_is_known(
    known: bool, unable: bool, stops: bool
) -> None:
    core = bare_core()
    if known:
        core.peers[B1] = KnownPeer("b.example", (B1,))
    if unable:
        core.unable[B1] = core.now_ns + 1
    core.uses[B1] = 1
    core.release(B1)
    assert core.outputs == []
    core.uses[B1] = 0
    core.release(B1)
    assert core.outputs == [UnwatchPeer(B1)] * stops
    assert B1 not in core.uses


# --- contexts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("began", [None, B1, B2])
def test_a_context_stores_equal_locators_once(core: Core, began: Locator | None) -> None:
    """There are very many."""
    copy = None if began is None else Locator(bytes(bytearray(began)))
    aid = Locator(bytes(bytearray(B1)))
    own = (Locator(bytes(bytearray(A2))), A1)
    one = lifecycle.create(core, A2, aid, Verification(aid, ""), own, began=copy)
    assert one is not None
    assert one.began == began
    assert one.local_aid is one.own_local[0] is one.local_locator
    assert (one.began is aid) is (began == B1)
    assert one.own_local is core.shared((A2, A1))


def test_an_aid_that_the_host_does_not_have_is_among_the_locators(core: Core) -> None:
    one = lifecycle.create(core, X1, B2, Verification(B2, ""), (A1, A2))
    assert one is not None
    assert one.own_local == (X1, A1, A2)
    assert one.own_marks == (LocatorEntry(X1, BROKEN),)


def test_a_label_of_a_peer_leads_to_each_of_its_contexts(core: Core, context: Context) -> None:
    other = lifecycle.create(core, A2, B2, Verification(B2, ""), (A1, A2))
    assert other is not None
    before = context.peer_label
    lifecycle.know_peer_label(core, other, before)
    assert core.by_peer_label == {before: (context, other)}
    context.peer_update_nonce = context.peer_keepalive_nonce = Nonce(5)
    context.unseen_nonces = 6
    lifecycle.know_peer_label(core, context, before)
    assert core.by_peer_label == {before: (other, context)}
    assert (context.peer_update_nonce, context.unseen_nonces) == (5, 6), "the same life of the peer"
    lifecycle.know_peer_label(core, context, Label(9))
    assert core.by_peer_label == {before: (other,), 9: (context,)}
    nonces = context.peer_update_nonce, context.peer_keepalive_nonce, context.unseen_nonces
    assert nonces == (0, 0, 0)
    lifecycle.know_peer_label(core, context, NO_LABEL)
    assert core.by_peer_label == {before: (other,)}
    assert context.peer_label == NO_LABEL


def test_uses_of_an_aid_are_counted(core: Core, context: Context) -> None:
    assert core.uses[B1] == 1
    other = lifecycle.create(core, A2, B1, Verification(B1, ""), (A1, A2))
    assert other is not None
    assert core.uses[B1] == 2
    lifecycle.discard(core, other, Trigger.NO_ROOM, Cause.NO_ROOM)
    assert core.uses[B1] == 1
    lifecycle.set_aside(core, context)
    assert (B1 in core.uses, core.contexts) == (False, {})
    lifecycle.set_aside(core, context)
    assert B1 not in core.uses
    core.outputs.clear()


def test_four_packets_wait_for_a_proof_or_for_a_set_up() -> None:
    network = begun()
    network.run(25 * MILLISECOND)
    core, context = network.a.host.core, network.a.context
    assert context.exchange is not None
    core.outputs.clear()
    for number in range(HELD_PACKETS_MAX + 1):
        data = packet(B1, A1, bytes((number,)))
        network.give(network.a, PacketHeld(context.local_label, data, X1))
    assert [one[-1] for _, one in context.exchange.held] == [*range(HELD_PACKETS_MAX)]
    assert core.drops[Drop.TOO_MANY_PACKETS_HELD] == 1
    data = packet(B1, A1, b"of the AID")
    assert network.give(network.a, PacketHeld(context.local_label, data, B1)) == [
        DeliverToUlp(data)
    ]
    context.probation = Probation(B2)
    for number in range(HELD_PACKETS_MAX + 1):
        core.deliver(context, packet(B1, A1, bytes((number,))))
    assert [one[-1] for one in context.probation.held] == [*range(HELD_PACKETS_MAX)]
    assert core.drops[Drop.TOO_MANY_PACKETS_HELD] == 2
    core.outputs.clear()


# --- our own locators -----------------------------------------------------------------------------

PIN = Pin(Policy(names=frozenset({"b.example"})), frozenset({A2, X1}))


@pytest.mark.parametrize(
    ("own", "aid", "name", "expected"),
    [
        (LocatorsChanged((A1, A2)), A1, "", {}),
        (LocatorsChanged((A1, A2), deprecated=frozenset({A2})), A1, "", {A2: DEPRECATED}),
        (LocatorsChanged((A1, A2), broken=frozenset({A1})), A1, "", {A1: BROKEN}),
        (LocatorsChanged((A2,), broken=frozenset({A2})), A1, "", {A1: BROKEN, A2: BROKEN}),
        (LocatorsChanged((A1, A2), backup=frozenset({A2})), A1, "", {A2: BACKUP}),
        (LocatorsChanged((A1, A2), weights={A2: 3}), A1, "", {A2: 2}),
        (
            LocatorsChanged((A1, A2), weights={A2: 8}, backup=frozenset({A2})),
            A1,
            "",
            {A2: BACKUP | 7},
        ),
        (LocatorsChanged((A1, A2), is_spread=True), A1, "", {A2: BACKUP}),
        (LocatorsChanged((A1, A2), is_spread=True), A2, "", {A1: BACKUP}),
        (LocatorsChanged((A1, A2), is_spread=True, backup=frozenset({A1})), A1, "", {A1: BACKUP}),
        (LocatorsChanged((A1, A2), pins=(PIN,)), A1, "b.example", {A1: BACKUP}),
        (LocatorsChanged((A1, A2), pins=(PIN,)), A1, "", {}),
        (LocatorsChanged((A1, A2), pins=(PIN,), is_spread=True), A1, "b.example", {A1: BACKUP}),
        (
            LocatorsChanged((A1,), pins=(PIN,), backup=frozenset({A1})),
            A1,
            "b.example",
            {A1: BACKUP, A2: BROKEN},
        ),
    ],
)
def test_our_locators_have_the_marks_that_the_operator_and_their_uplinks_give(
    own: LocatorsChanged, aid: Locator, name: str, expected: dict[Locator, int]
) -> None:
    found = marks(own, (A1, A2), aid, B1, name)
    assert dict(found) == expected
    assert locators_with(own, A1, is_verifiable=False) == (A1,)
    assert locators_with(LocatorsChanged((A1, A2)), A2, is_verifiable=True) == (A2, A1)


# --- what is known of peers -----------------------------------------------------------------------


def test_a_peer_with_a_context_from_another_address_is_known(core: Core, context: Context) -> None:
    core.peers.clear()
    assert peers.met(core, B1) == KnownPeer("b.example", (B1, B2))
    assert peers.name_of(core, B1) == "b.example"
    assert peers.met(core, B2) is None
    context.verification.proven = (B2,)
    assert peers.met(core, B1) is None
    assert peers.name_of(core, B1) == ""


# --- silence --------------------------------------------------------------------------------------


def silent(
    core: Core, context: Context, silent_ns: int, gap_ns: int = 0, *, tcp: bool = True
) -> UnansweredPacket:
    protocol = ipv6.TCP if tcp else ipv6.UDP
    octets = packet(A1, B1, protocol=protocol)
    return UnansweredPacket(context.local_label, octets, silent_ns, gap_ns=gap_ns)


@pytest.mark.parametrize("misses", [0, 1])
@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("gap_ns", [SECOND // 10, SECOND])
@pytest.mark.parametrize("shorter_ns", [0, 1])
def test_over_a_lossy_pair_silence_of_some_usual_gaps_is_none(
    core: Core, context: Context, misses: int, tcp: bool, gap_ns: int, shorter_ns: int
) -> None:
    """Of TCP no longer than two seconds."""
    context.note(FIRST, History(misses=misses, round_trip_ns=20 * MILLISECOND))
    usual_ns = LOSSY_GAPS * gap_ns
    limit_ns = min(usual_ns, LOSSY_TCP_MAX) if tcp else usual_ns
    event = silent(core, context, limit_ns - shorter_ns, gap_ns, tcp=tcp)
    reachability.on_unanswered(core, event)
    asks = not misses or not shorter_ns
    assert path_of(context) is (Path.ASKING if asks else Path.STEADY)
    core.outputs.clear()


@pytest.mark.parametrize(
    ("used_ago_ns", "silent_ns", "repeats"),
    [
        (None, SECOND, False),
        (0, SECOND, True),
        (SECOND // 2 - 1, SECOND, True),
        (SECOND // 2, SECOND, False),
        (SECOND - 1, 60 * SECOND, True),
        (SECOND, 60 * SECOND, False),
    ],
)
def test_silence_before_the_pair_was_used_says_nothing_of_it(
    core: Core, context: Context, used_ago_ns: int | None, silent_ns: int, repeats: bool
) -> None:
    used_ns = 0 if used_ago_ns is None else core.now_ns - used_ago_ns
    context.note(FIRST, History(used_ns=used_ns, round_trip_ns=20 * MILLISECOND))
    for said_ns in (silent_ns, 0):
        core.outputs.clear()
        reachability.on_unanswered(core, silent(core, context, silent_ns))
        again = [one for one in core.outputs if isinstance(one, SendAgain)]
        assert [one.silent_ns for one in again] == [said_ns] * repeats, "once a second"
        if not repeats:
            break
    assert path_of(context) is (Path.STEADY if repeats else Path.ASKING)
    core.outputs.clear()


@pytest.mark.parametrize("worse", [False, True])
def test_a_better_pair_is_tried_ever_more_rarely_unless_that_in_use_is_worse(
    core: Core, context: Context, worse: bool
) -> None:
    context.local_locator, context.peer_locator = OTHER
    context.left_pair = FIRST
    if worse:
        context.own_marks = (LocatorEntry(A2, DEPRECATED),)
    waits = []
    for _ in range(7):
        context.search, context.path = None, Path.STEADY
        reachability.on_better_timer(core, context)
        assert path_of(context) is Path.LEAVING
        waits.append(context.better_wait_ns // SECOND)
    minutes = [30] * 7 if worse else [30, 60, 120, 240, 480, 600, 600]
    assert waits == minutes
    assert BETTER_PAIR_INTERVAL_MAX == 20 * BETTER_PAIR_INTERVAL
    one = put(core, context, Path.ASKING)
    reachability.on_better_timer(core, context)
    assert (context.search, path_of(context)) == (one, Path.ASKING)
    core.outputs.clear()


# --- the DNS --------------------------------------------------------------------------------------


def test_a_peer_that_has_another_locator_is_looked_up_once_its_ttl_is_over(
    core: Core, context: Context
) -> None:
    for ttl_seconds, wait_ns in ((0, LOOK_AGAIN_MIN), (100, 100 * SECOND)):
        context.verification.ttl_seconds = ttl_seconds
        context.settled_ns = core.now_ns - 7
        verifying.look_again(core, context)
        due = {timer: at_ns for at_ns, timer in due_timers(core, context)}
        assert due[Timer.VERIFY_AGAIN] == core.now_ns - 7 + wait_ns
    for settled_ns in (0, 1):
        context.settled_ns = settled_ns
        verifying.look_again(core, context)
        due = {timer: at_ns for at_ns, timer in due_timers(core, context)}
        assert due[Timer.VERIFY_AGAIN] == core.now_ns


def due_timers(core: Core, context: Context) -> list[tuple[int, Timer]]:
    """The timers of a context; stops them."""
    found = []
    while (upcoming := core.next_timer()) is not None:
        at_ns, (owner, timer) = upcoming
        assert owner is context
        found.append((at_ns, timer))
        core.stop_timer(context, timer)
    return found


@pytest.mark.parametrize(
    ("state", "asks"),
    [(State.ESTABLISHED, True), (State.INIT_SENT, False), (State.PROVISIONAL, True)],
)
def test_none_is_while_it_is_being_set_up(
    core: Core, context: Context, state: State, asks: bool
) -> None:
    due_timers(core, context)
    context.state = state
    verifying.look_again(core, context)
    assert core.is_timer_set(context, Timer.VERIFY_AGAIN) is asks
