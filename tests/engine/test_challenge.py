# SPDX-License-Identifier: MIT
"""A peer that was set aside or replaced answers an unpredictable nonce before it is used [D39].

Its key alone proves nothing: it may be that of an observer that has left the path. Station a has
set its context with b aside, or b is a former peer; nothing that a sends arrives unless a test says
so.
"""

from collections.abc import Callable

import msgspec
import pytest

from noid.constants import CHALLENGE_TIME, MILLISECOND, SECOND, TRIAL_SILENCE
from noid.counters import Drop
from noid.engine import lifecycle
from noid.engine.events import ContextRestored, Dropped, LocatorsChanged
from noid.engine.host import Host
from noid.engine.state import State
from noid.engine.update import leap, request, short_message, skip
from noid.identifiers import Label, Nonce
from noid.locators import Locator
from noid.shares.policy import REPEATS
from noid.state.contexts import decoded
from noid.wire import ipv6
from noid.wire.control import NO_FLAGS, Code, ControlMessage, Flag, decode_message
from tests.engine.network import A1, A2, B1, B2, DELAY_NS, Network, established, receive, state_of
from tests.engine.test_trial import cut, doubted, requests

NEW = 1000
"""A nonce of b that is greater than all before."""
LABEL, KEY = Label(0x54321), bytes(range(32))


def set_aside(seed: int = 1) -> Network:
    """A network in which a has set its context aside, and b has not."""
    network = doubted(cut(established(seed)))
    network.run(TRIAL_SILENCE)
    assert state_of(network.a) is State.INIT_SENT
    network.a.outputs.clear()
    return network


def replaced(seed: int = 1) -> Network:
    """A network in which another host has become a's peer in place of b."""
    network = cut(established(seed))
    context, core = network.a.context, network.a.host.core
    context.keep_former(KEY, network.now_ns)
    lifecycle.know_peer_label(core, context, LABEL)
    context.agreed_key = KEY
    network.a.outputs.clear()
    return network


Begin = Callable[..., Network]
BEFORE = pytest.mark.parametrize("begin", [set_aside, replaced])


def of_b(code: Code, network: Network, nonce: int = NEW, *, flags: Flag = NO_FLAGS) -> bytes:
    """An authentic message of b."""
    core, context = network.b.host.core, network.b.context
    if code is Code.UR:
        return request(core, context, Nonce(nonce), flags=flags)
    return short_message(core, context, code, Nonce(nonce))


def asked(network: Network) -> list[tuple[Locator, Locator, ControlMessage]]:
    """The Update Requests of a: source, destination, message."""
    return [
        (
            Locator(one[8:24]),
            Locator(one[24:40]),
            decode_message(
                one[ipv6.HEADER_OCTETS :],
                Locator(one[8:24]),
                Locator(one[24:40]),
                in_slot=one[6] != ipv6.ICMPV6,
            ),
        )
        for one in requests(network)
    ]


def nonce_asked(network: Network) -> int:
    """The nonce of a's request to b after a keepalive of b."""
    receive(network, network.a, of_b(Code.KEEPALIVE, network), B1, A1)
    return asked(network)[-1][2].nonce


def is_back(network: Network) -> bool:
    """Whether b is a's peer."""
    one, other = network.a.context, network.b.context
    return one.is_settled and one.peer_label == other.local_label and not one.former


@BEFORE
@pytest.mark.parametrize("code", [Code.UR, Code.KEEPALIVE])
def test_a_message_is_answered_with_a_request_over_its_pair(begin: Begin, code: Code) -> None:
    network = begin()
    receive(network, network.a, of_b(code, network), B2, A2)
    assert not is_back(network)
    ((source, destination, message),) = asked(network)
    assert (source, destination) == (A2, B2)
    assert message.flags == Flag.ANSWER_HERE
    network.dead.clear()
    network.run(2 * DELAY_NS)
    assert is_back(network)


@BEFORE
def test_an_answer_restores_the_peer(begin: Begin) -> None:
    network = begin()
    receive(network, network.a, of_b(Code.UA, network, nonce_asked(network)), B1, A1)
    assert is_back(network)


@BEFORE
def test_a_request_that_names_the_nonce_is_an_answer(begin: Begin) -> None:
    network = begin()
    network.b.context.peer_update_nonce = Nonce(nonce_asked(network))
    receive(network, network.a, of_b(Code.UR, network, NEW + 1), B1, A1)
    assert is_back(network)


@BEFORE
def test_answers_to_other_nonces_restore_no_peer(begin: Begin) -> None:
    network = begin()
    nonce = nonce_asked(network)
    sent = len(asked(network))
    before = network.a.context.doubt.after
    for guess in (1, network.b.context.peer_update_nonce, nonce // 2, before, nonce + 1, 1 << 63):
        drops = receive(network, network.a, of_b(Code.UA, network, guess), B1, A1)
        assert drops == [Dropped(Drop.UA_WHILE_DOUBTED)]
    assert len(asked(network)) == sent
    assert not is_back(network)


@BEFORE
def test_an_answer_counts_for_some_seconds(begin: Begin) -> None:
    network = begin()
    network.run(CHALLENGE_TIME)  # after the test of the context
    nonce = nonce_asked(network)
    network.run(CHALLENGE_TIME)
    receive(network, network.a, of_b(Code.UA, network, nonce), B1, A1)
    assert not is_back(network)


@BEFORE
def test_the_next_nonces_cannot_be_known_from_earlier_ones(begin: Begin) -> None:
    steps = []
    for seed in range(1, 4):
        network = begin(seed)
        network.run(CHALLENGE_TIME)
        before = network.a.context.update_nonce
        steps.append(nonce_asked(network) - before)
    assert len(set(steps)) == len(steps)


@BEFORE
def test_a_request_that_asks_the_same_is_not_answered_with_another(begin: Begin) -> None:
    network = begin()
    receive(network, network.a, of_b(Code.UR, network, flags=Flag.ANSWER_HERE), B1, A1)
    assert asked(network) == []


@BEFORE
@pytest.mark.parametrize("code", [Code.UR, Code.KEEPALIVE])
def test_a_replay_is_not_answered(begin: Begin, code: Code) -> None:
    network = begin()
    receive(network, network.a, of_b(code, network, 0), B1, A1)
    assert asked(network) == []


@BEFORE
def test_requests_to_a_doubted_peer_are_rate_limited(begin: Begin) -> None:
    network = begin()
    for number in range(500):
        receive(network, network.a, of_b(Code.KEEPALIVE, network, NEW + number), B1, A1)
    assert len(asked(network)) < 100
    network.run(2 * SECOND)
    receive(network, network.a, of_b(Code.UA, network, nonce_asked(network)), B1, A1)
    assert is_back(network), "after that, too"


def test_a_former_peer_has_to_answer_the_next_daemon() -> None:
    network = replaced()
    label, station = network.a.context.local_label, network.a
    memory = decoded(label, msgspec.msgpack.encode(station.host.memory_of(label)))
    assert memory is not None
    station.host = Host(station.host.options, station.random.randbytes)
    network.give(station, LocatorsChanged(station.locators))
    network.give(station, ContextRestored(memory))
    for guess in (1, memory.update_nonce, network.a.context.update_nonce):
        receive(network, network.a, of_b(Code.UA, network, guess), B1, A1)
    assert not is_back(network)
    receive(network, network.a, of_b(Code.UA, network, nonce_asked(network)), B1, A1)
    assert is_back(network)


@pytest.mark.parametrize("code", [Code.UR, Code.KEEPALIVE])
def test_the_test_of_a_context_is_not_ended_by_the_key_alone(code: Code) -> None:
    network = doubted(cut(established()))
    for number in range(10):
        receive(network, network.a, of_b(code, network, NEW + number), B1, A1)
        network.run(50 * MILLISECOND)
    assert network.a.context.trial is not None
    network.run(TRIAL_SILENCE)
    assert state_of(network.a) is State.INIT_SENT


def test_an_update_that_was_not_applied_in_doubt_is_applied_later() -> None:
    network = set_aside()
    network.dead.clear()
    network.give(network.b, LocatorsChanged((B1,)))
    network.run(SECOND)
    assert network.a.context.is_settled
    assert network.a.context.peer_acceptable == {B1}


def test_a_nonce_that_leaps_is_newer_for_the_peer() -> None:
    network = established()
    leap(network.a.host.core, network.a.context, CHALLENGE_TIME)
    network.give(network.a, LocatorsChanged((A1,)))
    network.run(SECOND)
    assert network.b.context.peer_acceptable == {A1}
    assert state_of(network.a) is State.ESTABLISHED


def test_a_nonce_that_is_skipped_after_others_shows_nothing() -> None:
    network = doubted(cut(established()))
    context = network.a.context
    nonces = [message.nonce for _, _, message in asked(network)]
    skip(network.a.host.core, context)
    for guess in (nonces[-1] + 1, context.update_nonce - 1, context.update_nonce):
        receive(network, network.a, of_b(Code.UA, network, guess), B1, A1)
        assert context.trial is not None
    receive(network, network.a, of_b(Code.UA, network, nonces[0]), B1, A1)
    assert context.trial is None


@pytest.mark.parametrize("later", [Code.UR, Code.KEEPALIVE])
def test_of_a_former_peer_only_messages_newer_than_all_of_their_kind_count(later: Code) -> None:
    """The nonces of requests and those of keepalives are two series."""
    network = set_aside()
    context = network.a.context
    context.peer_update_nonce, context.peer_keepalive_nonce = Nonce(NEW), Nonce(NEW)
    if later is Code.UR:
        context.peer_keepalive_nonce = Nonce(NEW + 5)
    else:
        context.peer_update_nonce = Nonce(NEW + 5)
    receive(network, network.a, of_b(later, network, NEW), B1, A1)
    assert not asked(network)
    receive(network, network.a, of_b(later, network, NEW + 1), B1, A1)
    assert asked(network)


def test_a_former_peer_that_is_back_is_sent_what_changed_while_another_was_the_peer() -> None:
    network = replaced()
    network.give(network.a, LocatorsChanged((A1,)))
    network.a.context.update, network.a.context.untold = None, False  # the other one knows it
    network.dead.clear()
    receive(network, network.a, of_b(Code.UA, network, nonce_asked(network)), B1, A1)
    assert is_back(network)
    receive(network, network.a, of_b(Code.KEEPALIVE, network, NEW + 1), B1, A1)
    network.run(SECOND)
    assert network.b.context.peer_acceptable == {A1}


@BEFORE
def test_each_kind_of_message_of_a_doubted_peer_has_a_rate_of_its_own(begin: Begin) -> None:
    network = begin()
    for _ in range(2 * REPEATS.each_at_once):
        receive(network, network.a, of_b(Code.KEEPALIVE, network), B1, A1)
    assert network.a.host.drops[Drop.KEEPALIVE_OVER_RATE] > 0
    outputs = receive(network, network.a, of_b(Code.UR, network), B1, A1)
    assert Dropped(Drop.UR_WHILE_DOUBTED) in outputs
    assert Drop.UR_OVER_RATE not in network.a.host.drops
