# SPDX-License-Identifier: MIT
"""What happens when a time is over, and a nanosecond before."""

from ipaddress import IPv6Network

import pytest

from noid.constants import (
    ASK_WAIT_MIN,
    BETTER_PAIR_FIRST,
    CONTEXT_IDLE_TIME,
    COOKIE_LIFETIME,
    DISOWNED_TIME,
    FOLLOW_AGAIN,
    MEASURED_TOGETHER,
    PEER_UNABLE_MAX,
    PEER_UNABLE_TIME,
    PLAIN_SILENCE_MAX,
    REPEATED_PIGGYBACK_TIME,
    SEARCH_INTERVAL_MAX,
    SEARCH_INTERVAL_MIN,
    SECOND,
    TRIAL_REST,
    VERIFY_USED_TIME,
)
from noid.engine import at_aid, contest, measuring, peers, trial
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.doubt import Doubt
from noid.engine.events import (
    AskDns,
    CheckIdle,
    IdleChecked,
    LocatorsChanged,
    PeerDoubts,
)
from noid.engine.following import on_source_moved
from noid.engine.handshake import start
from noid.engine.history import UNKNOWN, History
from noid.engine.known import KnownPeer
from noid.engine.options import Policy
from noid.engine.own import marks
from noid.engine.quarantine import exchange_of
from noid.engine.searching import search
from noid.engine.state import Path, State, Timer, Trigger
from noid.flows.events import ControlMessageReceived, SourceMoved, UlpPacketSeen
from noid.identifiers import NO_LABEL, Nonce
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import Flag, encode_packet
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    Network,
    in_step,
    packet,
    state_of,
)

PAIR, OTHER = (A1, B1), (A2, B2)


@pytest.fixture
def network() -> Network:
    return in_step()


def path_of(context: Context) -> Path:
    """The belief in its pair, as it is now."""
    return context.path


def is_tested(context: Context) -> bool:
    """Whether it is tested now if the peer has the context."""
    return context.trial is not None


def at(core: Core, now_ns: int) -> None:
    """Lets the clock of a host show a time."""
    core.now_ns = now_ns


def test_a_set_up_that_proves_another_locator_is_refused_for_ten_seconds(core: Core) -> None:
    until_ns = core.now_ns + DISOWNED_TIME
    core.disowning.until_ns[A1 + B1] = until_ns
    for now_ns, refused in ((until_ns - 1, True), (until_ns, False)):
        at(core, now_ns)
        assert at_aid.is_refused(core, A1, B1, B2) is refused
        assert not at_aid.is_refused(core, A1, B1, B1)
        assert not at_aid.is_refused(core, A1, B2, B1)


@pytest.mark.parametrize(
    ("alarms", "wait_ns"),
    [(0, SEARCH_INTERVAL_MIN), (2, 3 * SEARCH_INTERVAL_MIN), (30, SEARCH_INTERVAL_MAX)],
)
def test_a_pair_is_suspected_again_after_its_interval(
    core: Core, context: Context, alarms: int, wait_ns: int
) -> None:
    context.note(PAIR, context.history_of(PAIR)._replace(alarms=alarms))
    context.searched_ns = core.now_ns
    at(core, context.searched_ns + wait_ns - 1)
    search(core, context, Cause.NOTHING_HEARD)
    assert path_of(context) is Path.STEADY
    at(core, context.searched_ns + wait_ns)
    search(core, context, Cause.NOTHING_HEARD)
    assert path_of(context) is Path.ASKING


@pytest.mark.parametrize(
    ("short_ns", "misses", "asks"), [(0, 0, True), (1, 0, False), (0, 1, False)]
)
def test_it_is_suspected_at_once_after_twice_t_unless_it_is_lossy(
    core: Core, context: Context, short_ns: int, misses: int, asks: bool
) -> None:
    context.note(PAIR, context.history_of(PAIR)._replace(misses=misses))
    context.searched_ns = core.now_ns
    silent_ns = 2 * context.silence_ns - short_ns
    search(core, context, Cause.NOTHING_HEARD, silent_ns=silent_ns)
    assert (path_of(context) is Path.ASKING) is asks


def test_a_context_is_idle_after_15_minutes_without_a_packet(
    network: Network, core: Core, context: Context
) -> None:
    label, received_ns = context.local_label, context.established_ns + SECOND
    network.now_ns = received_ns + CONTEXT_IDLE_TIME - 1
    core.stop_timer(context, Timer.VERIFY_AGAIN)
    network.give(network.a, IdleChecked(label, received_ns, False))
    core.stop_timer(context, Timer.VERIFY_AGAIN)
    assert state_of(network.a) is State.ESTABLISHED
    assert core.next_timer() == (received_ns + CONTEXT_IDLE_TIME, (context, Timer.IDLE))
    network.now_ns += 1
    network.give(network.a, IdleChecked(label, received_ns, False))
    assert state_of(network.a) is State.CLOSING


def test_a_peer_was_heard_when_data_or_a_message_last_came(context: Context) -> None:
    assert context.heard_ns(0) == 0
    assert context.heard_ns(5) == 5
    context.hear(OTHER, 7, in_slot=True)
    context.hear(PAIR, 6, in_slot=False)
    assert [context.heard_ns(one) for one in (0, 7, 8)] == [7, 7, 8]


def test_one_with_a_connection_is_asked_about_again_after_15_minutes(
    network: Network, core: Core, context: Context
) -> None:
    network.now_ns += 2 * CONTEXT_IDLE_TIME
    core.stop_timer(context, Timer.VERIFY_AGAIN)
    outputs = network.give(network.a, IdleChecked(context.local_label, 0, True))
    assert CheckIdle(context.local_label) not in outputs
    upcoming = {timer: at_ns for at_ns, (_, timer) in timers_of(core, context)}
    assert upcoming[Timer.IDLE] == network.now_ns + CONTEXT_IDLE_TIME


def timers_of(core: Core, context: Context) -> list[tuple[int, tuple[Context, Timer]]]:
    """Each timer of a context, by time; stops them."""
    found = []
    while (upcoming := core.next_timer()) is not None:
        found.append(upcoming)
        core.stop_timer(*upcoming[1])
    return found


@pytest.mark.parametrize(
    ("unused_ns", "asks"), [(VERIFY_USED_TIME - 1, True), (VERIFY_USED_TIME, False)]
)
def test_the_dns_is_asked_about_a_peer_that_was_heard_within_five_minutes(
    network: Network, core: Core, context: Context, unused_ns: int, asks: bool
) -> None:
    core.stop_timer(context, Timer.VERIFY_AGAIN)
    network.now_ns += SECOND
    received_ns = network.now_ns
    network.now_ns += unused_ns
    outputs = network.give(network.a, IdleChecked(context.local_label, received_ns, False))
    assert any(isinstance(one, AskDns) for one in outputs) is asks


@pytest.mark.parametrize(
    ("history", "now_ns", "lost"),
    [
        (History(losses=1, lost_ns=5), 5 + PEER_UNABLE_MAX - 1, True),
        (History(losses=1, lost_ns=5), 5 + PEER_UNABLE_MAX, False),
        (History(losses=0, lost_ns=5), 6, False),
        (UNKNOWN, 0, False),
    ],
)
def test_a_pair_has_lost_data_lately_for_ten_minutes(
    history: History, now_ns: int, lost: bool
) -> None:
    assert history.loses_data(now_ns) is lost


def test_the_least_measurement_is_one_nanosecond() -> None:
    assert UNKNOWN.measured(0, 1).round_trip_ns == 1
    assert UNKNOWN.measured(0, 1).ask_wait_ns == ASK_WAIT_MIN


@pytest.mark.parametrize(("beyond_ns", "doubts"), [(-1, True), (0, False)])
def test_two_measurements_within_90_ms_are_a_doubt(
    core: Core, context: Context, beyond_ns: int, doubts: bool
) -> None:
    measuring.notice_doubt(core, context, PAIR, Flag.ANSWER_HERE)
    at(core, core.now_ns + MEASURED_TOGETHER + beyond_ns)
    measuring.notice_doubt(core, context, PAIR, Flag(0))
    at(core, core.now_ns + MEASURED_TOGETHER + beyond_ns)
    core.outputs.clear()
    measuring.notice_doubt(core, context, PAIR, Flag.ANSWER_HERE)
    assert core.outputs == [PeerDoubts(context.local_label)] * doubts
    core.outputs.clear()


@pytest.mark.parametrize(("left_ns", "refuses"), [(1, True), (0, False)])
@pytest.mark.parametrize("ends", ["the test", "the doubt"])
def test_a_uc_counts_for_as_long_as_a_test_rests(
    core: Core, context: Context, left_ns: int, refuses: bool, ends: str
) -> None:
    others_ns = core.now_ns + SECOND
    until_ns = core.now_ns + left_ns
    context.next_trial_ns = until_ns if ends == "the test" else others_ns
    context.doubt = Doubt(until_ns if ends == "the doubt" else others_ns, context.update_nonce)
    context.update_nonce = Nonce(context.update_nonce + 2)
    nonce = context.update_nonce
    assert not contest.refuse(core, context, Nonce(nonce + 1))
    assert not contest.refuse(core, context, Nonce(nonce - 2))
    assert contest.refuse(core, context, nonce) is refuses
    assert (context.contested_until_ns > 0) is refuses
    core.outputs.clear()


@pytest.mark.parametrize(("sooner_ns", "counts"), [(1, False), (0, True)])
def test_a_packet_to_the_aids_asks_after_three_seconds_without_a_word(
    network: Network, core: Core, context: Context, sooner_ns: int, counts: bool
) -> None:
    context.contested_until_ns = core.now_ns + CONTEXT_IDLE_TIME
    core.now_ns = max(context.established_ns, context.alive_ns) + PLAIN_SILENCE_MAX - sooner_ns
    network.now_ns = core.now_ns
    network.give(network.a, UlpPacketSeen(packet(A1, B1)))
    assert (path_of(context) is Path.ASKING) is counts
    assert context.search is None or context.search.is_question


def test_what_rides_on_several_probes_is_delivered_once_a_second(network: Network) -> None:
    b = network.b
    b.delivered.clear()
    for wait_ns, count in ((0, 1), (REPEATED_PIGGYBACK_TIME, 1), (1, 2)):
        network.now_ns += wait_ns
        nonce = network.a.context.update_nonce = Nonce(network.a.context.update_nonce + 1)
        octets = network.a.request(nonce, packet(A1, B1, b"once"))
        arrive(network, octets)
        assert b.delivered == [packet(A1, B1, b"once")] * count
    arrive(network, network.a.request(nonce + 1, packet(A1, B1, b"another")))
    assert len(b.delivered) == 3


def arrive(network: Network, octets: bytes) -> None:
    """A message of a, in octets, arrives at b in the form of data."""
    whole = encode_packet(octets, A1, B1, CODEPOINTS, in_slot=True)
    network.give(network.b, ControlMessageReceived(A1, B1, True, whole[ipv6.HEADER_OCTETS :]))


def test_an_unable_peer_is_unable_until_its_time_is_over() -> None:
    core = Network().a.host.core
    core.peers[B1] = KnownPeer("b.example", (B1,))
    for minutes in (1, 2, 4, 8, 10, 10):
        peers.hold_unable(core, B1, Cause.NO_ANSWER_TO_INIT)
        until_ns = core.now_ns + minutes * PEER_UNABLE_TIME
        assert core.unable[B1] == until_ns
        at(core, until_ns - 1)
        assert core.is_unable(B1)
        peers.on_time(core)
        assert B1 in core.unable
        at(core, until_ns)
        assert not core.is_unable(B1)
        peers.on_time(core)
        assert B1 not in core.unable


def test_a_name_that_the_dns_has_confirmed_is_known_until_its_time_is_over() -> None:
    core = Network().a.host.core
    core.peers[B1] = KnownPeer("b.example", (B1,))
    until_ns = core.now_ns + SECOND
    peers.confirm(core, B1, "b.example", (B1, B2), SECOND)
    assert core.peers[B1].locators == (B1, B2)
    for now_ns, name in ((until_ns - 1, "b.example"), (until_ns, "")):
        at(core, now_ns)
        assert peers.confirmed_name(core, B1) == name
    assert peers.name_of(core, B1) == "b.example"
    assert peers.name_of(core, B2) == ""
    peers.confirm(core, B2, "other.example", (B2,), SECOND)
    assert B2 not in core.peers


@pytest.mark.parametrize(
    ("policy", "aid", "name", "included"),
    [
        (Policy(prefixes=(IPv6Network("2001:db8:1:b::/64"),)), B1, "", True),
        (Policy(prefixes=(IPv6Network("2001:db8:1:b::/64"),)), B2, "", False),
        (Policy(names=frozenset({"b.example"})), B1, "b.example", True),
        (Policy(names=frozenset({"b.example"})), B1, "a.b.example", False),
        (Policy(domains=("b.example",)), B1, "b.example", False),
        (Policy(domains=("b.example",)), B1, "a.b.example", True),
        (Policy(domains=("b.example",)), B1, "ab.example", False),
    ],
)
def test_a_policy_includes_prefixes_names_and_domains(
    policy: Policy, aid: Locator, name: str, included: bool
) -> None:
    assert (policy.covers(aid) or policy.names_it(name)) is included


def test_a_better_pair_is_tried_a_second_after_it_was_named(core: Core, context: Context) -> None:
    core.entropy = bytes
    core.own = LocatorsChanged((A1, A2), deprecated=frozenset({A1}))
    assert not core.is_timer_set(context, Timer.BETTER)
    context.own_marks = marks(core.own, context.own_local, A1)
    core.install(context)
    due = {timer: at_ns for at_ns, (_, timer) in timers_of(core, context)}
    assert due[Timer.BETTER] == core.now_ns + BETTER_PAIR_FIRST // 2
    core.outputs.clear()


def test_other_pairs_are_asked_about_data_from_another_source_twice_a_minute(
    core: Core, context: Context
) -> None:
    event = SourceMoved(context.local_label, B2, followed=False)
    context.follow_again_ns = core.now_ns + 1
    on_source_moved(core, event)
    assert path_of(context) is Path.STEADY
    at(core, context.follow_again_ns)
    on_source_moved(core, event)
    assert path_of(context) is Path.FOLLOWING
    assert context.follow_again_ns == core.now_ns + FOLLOW_AGAIN
    core.outputs.clear()


def test_a_test_begins_two_seconds_after_the_last(core: Core, context: Context) -> None:
    context.next_trial_ns = core.now_ns + 1
    trial.begin(core, context)
    assert not is_tested(context)
    at(core, context.next_trial_ns)
    trial.begin(core, context)
    assert is_tested(context)
    assert context.next_trial_ns == core.now_ns + TRIAL_REST
    core.outputs.clear()


@pytest.mark.parametrize(("beyond_ns", "known"), [(0, True), (1, False)])
def test_the_exchange_of_a_context_is_remembered_while_its_cookie_may_be_valid(
    core: Core, context: Context, beyond_ns: int, known: bool
) -> None:
    now_ns = context.established_ns + COOKIE_LIFETIME + beyond_ns
    core.quarantine.keep(context, now_ns)
    assert (core.quarantine.deleted_ns(exchange_of(context)) == now_ns) is known


@pytest.mark.parametrize("untold", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_a_set_up_that_begins_again_forgets_no_change_of_our_sets(
    core: Core, context: Context, untold: bool, known: bool
) -> None:
    context.untold = untold
    if not known:
        context.peer_label = NO_LABEL
    start(core, context, b"", Trigger.UC, Cause.PEER_LOST_CONTEXT)
    assert context.untold is (untold or known)
    core.outputs.clear()
