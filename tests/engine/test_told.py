# SPDX-License-Identifier: MIT
"""What the operator is told, word for word: ``noid monitor`` is all of an engine that he sees."""

import dataclasses

import pytest

from noid.constants import (
    CLOSE_TIME,
    CONTEXT_IDLE_TIME,
    MILLISECOND,
    MINUTE,
    PROVISIONAL_LIFETIME,
    SECOND,
    SUSPICION_TIME,
)
from noid.counters import Drop
from noid.engine.causes import Cause
from noid.engine.events import (
    Dropped,
    LocatorsChanged,
    PeerUnable,
    ProbeStarted,
    StateChanged,
    Switched,
)
from noid.engine.secrets import reset_token
from noid.engine.state import State
from noid.engine.switching import switch
from noid.flows.events import IcmpErrorReceived, SourceMoved
from noid.identifiers import Label
from noid.wire import icmpv6
from noid.wire.control import Code
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    X1,
    Network,
    Station,
    begun,
    established,
    packet,
    receive,
)
from tests.engine.test_limits import lose
from tests.engine.test_loss import lose_context, rejected, sent_data, unknown_context
from tests.engine.test_nothing_proven import forget
from tests.engine.test_provisional import ccr_from, provisional, send
from tests.engine.test_refusals import EVERY_PAIR, closing, sent, unanswered

WAYS = EVERY_PAIR | {(other, one) for one, other in EVERY_PAIR}
IDLE, INIT, CCR, PROVISIONAL, ESTABLISHED, UR, CLOSING = State


def changes(station: Station) -> list[tuple[State, State, str]]:
    """Every change of state so far, and why."""
    return [(o.old, o.new, o.why) for o in station.outputs if isinstance(o, StateChanged)]


def changes_after(station: Station) -> list[tuple[State, State, str]]:
    """The same, without those of the set-up."""
    return changes(station)[3:]


def test_a_context_that_is_set_up() -> None:
    network = established()
    assert changes(network.a) == [
        (IDLE, INIT, Cause.ULP_SENDS),
        (INIT, CCR, Cause.CC_RECEIVED),
        (CCR, ESTABLISHED, Cause.CONF_RECEIVED),
    ]
    assert changes(network.b) == [(IDLE, ESTABLISHED, Cause.CCR_RECEIVED)]


def test_a_set_up_that_our_init_and_their_ccr_complete() -> None:
    network = begun()
    network.run(15 * MILLISECOND)
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    network.run(SECOND)
    assert changes(network.b)[-1] == (INIT, ESTABLISHED, Cause.CCR_RECEIVED)


def test_a_ccr_that_is_not_answered() -> None:
    network = begun()
    lose(network, Code.CONF, 30 * SECOND)
    assert changes(network.a)[2] == (CCR, INIT, Cause.CCR_UNANSWERED)


def test_an_init_that_is_not_answered() -> None:
    network = begun()
    network.dead |= EVERY_PAIR
    network.run(CONTEXT_IDLE_TIME)
    assert changes(network.a)[1:] == [(INIT, IDLE, Cause.INIT_UNANSWERED)]
    assert PeerUnable(B1, Cause.NO_ANSWER_TO_INIT) in network.a.outputs


def test_a_peer_that_lost_the_context_and_is_not_heard_of_again() -> None:
    network = established()
    lose_context(network)
    unknown_context(network, sent_data(network))
    network.run(10 * MILLISECOND)
    network.dead |= EVERY_PAIR
    network.run(CONTEXT_IDLE_TIME)
    assert changes_after(network.a)[:2] == [
        (ESTABLISHED, INIT, Cause.PEER_LOST_CONTEXT),
        (INIT, State.UR_SENT, Cause.INIT_UNANSWERED_RESTORED),
    ]


def test_a_context_that_the_peer_replaces() -> None:
    network = established()
    forget(network)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert changes(network.b)[1] == (ESTABLISHED, IDLE, Cause.REPLACED_BY_PEER)


@pytest.mark.parametrize(
    "dead",
    [{(A1, B1), (B1, A1)}, WAYS],
)
def test_a_search(dead: set[tuple[bytes, bytes]]) -> None:
    network = established()
    network.dead |= dead  # type: ignore[arg-type] # locators are bytes
    network.give(network.a, unanswered(network.a))
    network.run(2 * SUSPICION_TIME)
    assert changes_after(network.a) == [], "UR-SENT is for sets alone"
    (started,) = [one for one in network.a.outputs if isinstance(one, ProbeStarted)]
    assert (started.why, started.pairs[0]) == (Cause.NOTHING_HEARD, (A1, B1))


def test_a_switch_tells_both_pairs_and_its_reason() -> None:
    network = established()
    network.kill_provider(1)
    network.give(network.a, unanswered(network.a))
    network.run(SECOND)
    (switched,) = [one for one in network.a.outputs if isinstance(one, Switched)]
    assert (switched.old, switched.new, switched.why) == ((A1, B1), (A2, B2), Cause.NOTHING_HEARD)
    (switched,) = [one for one in network.b.outputs if isinstance(one, Switched)]
    assert switched.why == Cause.PEER_HEARS_NOTHING


def test_a_source_that_moves() -> None:
    network = established()
    label = network.a.context.local_label
    switch(network.b.host.core, network.b.context, (B2, A1), Cause.NOTHING_HEARD)
    network.dead |= {(A1, B1), (B1, A1)}
    network.give(network.a, SourceMoved(label, B2, False))
    network.run(SECOND)
    switched = Switched(A1, B1, (A1, B1), (A1, B2), Cause.SOURCE_MOVED)
    assert switched in network.a.outputs


@pytest.mark.parametrize(
    ("dead", "end"), [(set(), Cause.UPDATE_ACKNOWLEDGED), (WAYS, Cause.UPDATE_UNACKNOWLEDGED)]
)
def test_new_sets(dead: set[tuple[bytes, bytes]], end: str) -> None:
    network = established()
    network.a.in_use = network.b.in_use = True
    network.dead |= dead  # type: ignore[arg-type] # locators are bytes
    network.give(network.a, LocatorsChanged((A1,)))
    network.run(CONTEXT_IDLE_TIME + 3 * MINUTE)
    assert changes_after(network.a) == [
        (ESTABLISHED, UR, Cause.NEW_SETS),
        (UR, ESTABLISHED, end),
    ]


def whys(station: Station) -> list[str]:
    """Why a station looked for another pair, each time."""
    return [one.why for one in station.outputs if isinstance(one, ProbeStarted)]


def test_a_pair_that_is_worse_than_another() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), backup=frozenset({A1})))
    network.run(SECOND)
    assert set(whys(network.a)) == {Cause.OWN_LOCATORS_BETTER}
    assert set(whys(network.b)) == {Cause.PEER_LOCATORS_BETTER}


def test_a_pair_that_is_said_to_be_unreachable() -> None:
    network = established()
    error = icmpv6.ErrorMessage(
        type=icmpv6.DESTINATION_UNREACHABLE, code=0, quote=sent_data(network)
    )
    network.give(network.a, IcmpErrorReceived(X1, A1, error.encode_packet(X1, A1)[40:]))
    assert network.a.context.search is not None
    assert network.a.context.search.why == Cause.DESTINATION_UNREACHABLE


def test_a_rejection_of_data_that_a_probe_refutes() -> None:
    network = established()
    rejected(network, B1, sent_data(network))
    network.run(SECOND)
    assert changes_after(network.a) == []


def test_a_firewall() -> None:
    network = established()
    network.drops_m6 = True
    network.give(network.a, unanswered(network.a))
    network.run(5 * SECOND)
    assert PeerUnable(B1, Cause.M6_DROPPED) in network.a.outputs


def test_two_ends_that_close() -> None:
    network = established()
    network.run(CONTEXT_IDLE_TIME + MINUTE)
    both = changes_after(network.a) + changes(network.b)[1:]
    assert (ESTABLISHED, CLOSING, Cause.IDLE) in both
    assert (CLOSING, IDLE, Cause.CLOSE_ACKNOWLEDGED) in both
    assert (ESTABLISHED, IDLE, Cause.CLOSED_BY_PEER) in both


def test_an_end_that_closes_and_hears_nothing() -> None:
    network = closing()
    network.run(CLOSE_TIME)
    assert changes_after(network.a)[1:] == [(CLOSING, IDLE, Cause.CLOSE_UNACKNOWLEDGED)]


def test_an_end_that_closes_what_the_peer_has_lost() -> None:
    network = established()
    uc = unknown_context(Network(seed=3), sent_data(network))
    options = network.b.host.core.options
    token = reset_token(options.reset_key, options.birthday, network.b.context.local_label)
    uc = dataclasses.replace(uc, reset_token=token)
    network.b.in_use = True
    network.dead |= WAYS
    network.run(CONTEXT_IDLE_TIME + SECOND)
    receive(network, network.a, uc, B1, A1)
    assert changes_after(network.a)[1:] == [(CLOSING, IDLE, Cause.NOTHING_TO_CLOSE)]


def test_a_provisional_context_that_the_dns_refutes() -> None:
    network = provisional(X1)
    network.run(SECOND)
    assert changes(network.b)[1:] == [(PROVISIONAL, IDLE, Cause.PEER_REFUTED)]


def test_a_provisional_context_of_which_the_dns_says_nothing() -> None:
    network = Network()
    network.dns_works = False
    send(network, ccr_from(network, A2), A2)
    network.run(PROVISIONAL_LIFETIME)
    assert changes(network.b)[1:] == [(PROVISIONAL, IDLE, Cause.NOT_PROVEN_IN_TIME)]


def test_of_two_provisional_contexts_one_is_proven() -> None:
    network = Network()
    network.dead.add((B1, A1))  # a has no context, and would say so
    send(network, ccr_from(network, A2, label=Label(1)), A2)
    send(network, ccr_from(network, A2, label=Label(2)), A2)
    network.run(SECOND)
    assert len(network.b.host.contexts) == 1
    assert network.b.host.core.provisional.count == 0
    assert (PROVISIONAL, IDLE, Cause.ANOTHER_PROVEN) in changes(network.b)
    assert (PROVISIONAL, ESTABLISHED, Cause.PROVEN) in changes(network.b)


def test_a_uc_that_quotes_nothing() -> None:
    network = established()
    uc = unknown_context(Network(seed=3), sent_data(network))
    bare = dataclasses.replace(uc, piggyback=None)
    said = receive(network, network.a, bare, B1, A1)
    assert said == [Dropped(Drop.UC_WITHOUT_ITS_PACKET)]


def test_every_refusal_is_told_and_counted() -> None:
    network = established()
    stray = sent(network.b, Code.CONF)
    assert receive(network, network.a, stray, B1, A1) == [Dropped(Drop.CONF_WITHOUT_INIT)]
    assert receive(network, network.a, stray, B1, A1) == [Dropped(Drop.CONF_WITHOUT_INIT)]
    assert network.a.host.drops == {Drop.CONF_WITHOUT_INIT: 2}
