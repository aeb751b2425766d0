# SPDX-License-Identifier: MIT
"""What happens at a limit of a table or an option, and just before it."""

from collections import OrderedDict

import pytest

from noid.constants import (
    AID_ASKED_MAX,
    CLOSE_TIME,
    CONTEXT_IDLE_TIME,
    CONTEXTS_MAX,
    COOKIE_LIFETIME,
    DISOWNED_MAX,
    DISOWNED_TIME,
    ENDED_MAX,
    KNOWN_PEERS_MAX,
    MEASURED_PAIRS_MAX,
    MTU_MIN,
    PEER_UNABLE_TIME,
    SECOND,
    STRANGERS_MAX,
    UNABLE_PEERS_MAX,
)
from noid.engine import at_aid, measuring, peers
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import (
    MeasurePairs,
    PeerResolved,
    PolicyChanged,
    TimePassed,
)
from noid.engine.options import HostOptions, Policy
from noid.engine.phases import Probe
from noid.engine.quarantine import Quarantine
from noid.engine.secrets import Side
from noid.engine.state import Timer, Trigger
from noid.engine.timers import KEY_MASK, Timers
from noid.flows.events import (
    UnknownPeerSeen,
)
from noid.identifiers import Label, Nonce, Token
from noid.locators import Locator
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    Network,
    in_step,
)
from tests.engine.test_limits import numbered

PAIR, OTHER = (A1, B1), (A2, B2)


@pytest.fixture
def network() -> Network:
    return in_step()


def at(core: Core, now_ns: int) -> None:
    """Lets the clock of a host show a time."""
    core.now_ns = now_ns


@pytest.mark.parametrize("full", [False, True])
def test_of_too_many_contexts_whose_aid_is_asked_the_oldest_is_forgotten(
    core: Core, context: Context, full: bool
) -> None:
    labels = [Label(number) for number in range(AID_ASKED_MAX - 1 + full)]
    core.disowning.asked = OrderedDict((one, []) for one in labels)
    context.aid_proven = False
    core.stop_timer(context, Timer.AID)
    at_aid.begin(core, context)
    assert len(core.disowning.asked) == AID_ASKED_MAX
    assert (labels[0] in core.disowning.asked) is not full
    assert context.local_label in core.disowning.asked


@pytest.mark.parametrize("full", [False, True])
def test_of_too_many_aids_that_have_disowned_a_context_the_oldest_is_forgotten(
    core: Core, context: Context, full: bool
) -> None:
    keys = [number.to_bytes(32) for number in range(DISOWNED_MAX - 1 + full)]
    core.disowning.until_ns = OrderedDict.fromkeys(keys, 1)
    at_aid.disown(core, context, Trigger.UC)
    assert len(core.disowning.until_ns) == DISOWNED_MAX
    assert (keys[0] in core.disowning.until_ns) is not full
    assert core.disowning.until_ns[context.key] == core.now_ns + DISOWNED_TIME


@pytest.mark.parametrize("full", [False, True])
def test_of_too_many_measurements_the_oldest_is_given_up(
    core: Core, context: Context, full: bool
) -> None:
    keys = [(Label(1), Nonce(number)) for number in range(MEASURED_PAIRS_MAX - 1 + full)]
    probe = Probe(PAIR, 0)
    core.measured = OrderedDict.fromkeys(keys, probe)
    measuring.on_measure_pairs(core, MeasurePairs(context.local_label, (PAIR,)))
    assert len(core.measured) == MEASURED_PAIRS_MAX
    assert (keys[0] in core.measured) is not full
    assert [*core.measured][-1] == (context.local_label, context.update_nonce)


@pytest.mark.parametrize("full", [False, True])
def test_of_too_many_addresses_of_the_policy_the_oldest_is_forgotten(full: bool) -> None:
    network = Network()
    network.give(network.a, PolicyChanged(Policy(names=frozenset({"b.example"}))))
    core = network.a.host.core
    old = [numbered(number) for number in range(KNOWN_PEERS_MAX - 2 + full)]
    core.bypassing = OrderedDict.fromkeys(old)
    network.give(network.a, PeerResolved("b.example", B1, (B1, B2)))
    assert len(core.bypassing) == KNOWN_PEERS_MAX
    assert (old[0] in core.bypassing) is not full
    assert [*core.bypassing][-2:] == [B1, B2]


@pytest.mark.parametrize("full", [False, True])
def test_of_too_many_strangers_the_oldest_is_forgotten(full: bool) -> None:
    network = Network()
    network.without_m6.add("b.example")
    core = network.a.host.core
    old = [numbered(number) for number in range(STRANGERS_MAX - 1 + full)]
    core.strangers = OrderedDict.fromkeys(old, network.now_ns + CONTEXT_IDLE_TIME)
    network.give(network.a, UnknownPeerSeen(B1))
    network.run(SECOND)
    assert len(core.strangers) == STRANGERS_MAX
    assert (old[0] in core.strangers) is not full
    assert [*core.strangers][-1] == B1


@pytest.mark.parametrize("full", [False, True])
def test_of_too_many_unable_peers_the_oldest_is_forgotten(full: bool) -> None:
    core = Network().a.host.core
    old = [numbered(number) for number in range(UNABLE_PEERS_MAX - 1 + full)]
    core.unable = OrderedDict.fromkeys(old, core.now_ns + PEER_UNABLE_TIME)
    peers.hold_unable(core, B1, Cause.NO_ANSWER_TO_INIT)
    assert len(core.unable) == UNABLE_PEERS_MAX
    assert (old[0] in core.unable) is not full
    assert [*core.unable][-1] == B1


def side(number: int) -> Side:
    return Side(B1, Label(1), Token(number), b"")


def test_of_too_many_deleted_exchanges_the_oldest_is_forgotten() -> None:
    quarantine = Quarantine()
    for number in range(ENDED_MAX):
        quarantine.end(side(number), 7)
    assert quarantine.deleted_ns(side(0)) == 7
    quarantine.end(side(ENDED_MAX), 8)
    assert quarantine.deleted_ns(side(0)) == -1
    assert quarantine.deleted_ns(side(1)) == 7
    assert quarantine.deleted_ns(side(ENDED_MAX)) == 8


def test_a_deleted_exchange_is_known_as_long_as_its_cookie_is_valid() -> None:
    quarantine = Quarantine()
    quarantine.end(side(1), 0)
    quarantine.end(side(2), COOKIE_LIFETIME)
    assert quarantine.deleted_ns(side(1)) == 0
    quarantine.end(side(3), COOKIE_LIFETIME + 1)
    assert quarantine.deleted_ns(side(1)) == -1
    assert quarantine.deleted_ns(side(2)) == COOKIE_LIFETIME


def test_labels_leave_the_quarantine_after_their_time_or_one_by_one_if_it_is_full() -> None:
    quarantine = Quarantine(limit=3)
    for number in range(1, 4):
        quarantine.put(Label(number), number, bytes((number,)), None)
    assert [*quarantine] == [1, 2, 3]
    quarantine.put(Label(4), 4, b"\4", None)
    assert [*quarantine] == [2, 3, 4]
    assert [quarantine.key_of(Label(one)) for one in (1, 2, 4)] == [b"", b"\2", b"\4"]
    quarantine.put(Label(5), CLOSE_TIME + 3 - 1, b"", None)
    assert [*quarantine] == [3, 4, 5]
    quarantine.put(Label(6), CLOSE_TIME + 3, b"", None)
    assert [*quarantine] == [4, 5, 6]


def test_a_site_that_closes_many_contexts_removes_no_label_of_another() -> None:
    quarantine = Quarantine(limit=64)
    others = [Label(number) for number in range(1, 9)]
    for label in others:
        quarantine.put(label, 1, b"", numbered(label))
    for number in range(100, 200):
        quarantine.put(Label(number), 2, b"", B1)
    assert {*others} <= {*quarantine}
    assert len(quarantine) <= quarantine.limit
    assert Label(199) in quarantine


def test_strangers_of_one_site_or_user_leave_room_for_others() -> None:
    """One site gets its share of the lookups, and one user half of them."""
    own_site = [Locator(B1[:6] + number.to_bytes(10)) for number in range(1, 80)]
    for aids, user, some in ((own_site, None, 8), ([*map(numbered, range(80))], 7, 32)):
        network = Network()
        events = [
            UnknownPeerSeen(aid) if user is None else UnknownPeerSeen(aid, user=user)
            for aid in aids
        ]
        began = [bool(network.give(network.a, event)) for event in events]
        assert began == [True] * some + [False] * (len(aids) - some)
        assert network.give(network.a, UnknownPeerSeen(numbered(1_000), user=8))


def test_a_timer_has_any_key_and_no_other() -> None:
    timers = Timers()
    for key in (0, KEY_MASK):
        timers.set(key, 5)
        assert timers.is_due(key, 5)
        assert not timers.is_due(key, 4)
    assert timers.next() == (5, 0)
    for wrong in (-1, KEY_MASK + 1):
        with pytest.raises(AssertionError):
            timers.set(wrong, 5)
    assert timers.rebuilt().next() == (5, 0)
    timers.stop(0)
    assert timers.rebuilt().next() == timers.next() == (5, KEY_MASK)


@pytest.mark.parametrize(
    ("field", "value", "fits"),
    [
        ("contexts_max", 0, False),
        ("contexts_max", 1, True),
        ("contexts_max", CONTEXTS_MAX, True),
        ("contexts_max", CONTEXTS_MAX + 1, False),
        ("birthday", -1, False),
        ("birthday", 0, True),
        ("birthday", 0xFFFF_FFFF, True),
        ("birthday", 0x1_0000_0000, False),
        ("mtu", MTU_MIN - 1, False),
        ("mtu", MTU_MIN, True),
    ],
)
def test_an_option_has_its_bounds(field: str, value: int, fits: bool) -> None:
    numbers = {"birthday": 1, field: value}
    if fits:
        HostOptions(codepoints=CODEPOINTS, reset_key=bytes(32), **numbers)  # type: ignore[arg-type]
    else:
        with pytest.raises(AssertionError):
            HostOptions(codepoints=CODEPOINTS, reset_key=bytes(32), **numbers)  # type: ignore[arg-type]


def test_time_never_goes_back(network: Network) -> None:
    host = network.a.host
    assert host.handle(TimePassed(), network.now_ns) == []
    with pytest.raises(AssertionError, match=r"^time goes back$"):
        host.handle(TimePassed(), network.now_ns - 1)


@pytest.mark.parametrize(("start", "count"), [(0, 1), (1, 1), (1, 2), (2, 5), (3, 1)])
def test_contexts_are_copied_in_parts(start: int, count: int) -> None:
    network = Network()
    for number in range(3):
        network.a.host.inspection.create(A1, numbered(number))
    host = network.a.host
    assert host.contexts_from(start, count) == host.contexts[start : start + count]
    assert host.context_count == 3


def test_a_deadline_says_what_it_is_for(network: Network, core: Core, context: Context) -> None:
    host = network.a.host
    core.stop_timer(context, Timer.VERIFY_AGAIN)
    deadline = host.deadline()
    assert deadline is not None
    assert deadline.why == Timer.IDLE.value
    peers.hold_unable(core, numbered(1), Cause.NO_ANSWER_TO_INIT)
    deadline = host.deadline()
    assert deadline is not None
    assert (deadline.at_ns, deadline.why) == (core.now_ns + PEER_UNABLE_TIME, "unable peer")
