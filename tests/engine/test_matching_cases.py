# SPDX-License-Identifier: MIT
"""Every case of whose message a UR, UA or KEEPALIVE is, and of what is refused [D17, D39, D41]."""

import pytest

from noid.constants import CONTEXT_IDLE_TIME, SECOND
from noid.engine.context import Context
from noid.engine.events import Dropped, LocatorsChanged, Output, SendControl
from noid.engine.records import Former
from noid.engine.update import short_message
from noid.identifiers import Label, Nonce
from noid.locators import Locator
from noid.shares.policy import MESSAGES, REPEATS
from noid.wire.control import Code
from tests.engine.network import A1, A2, B1, B2, X1, receive
from tests.engine.test_conformance_setup import control_of
from tests.engine.test_timetable import settled
from tests.engine.timetable import Timetable

CODES = pytest.mark.parametrize("code", [Code.UR, Code.UA, Code.KEEPALIVE])
NONCE = Nonce(1_000)
LABEL_AT, OTHER_LABEL_AT, HASH_AT = 56, 52, 76
"""Of the receiver's and of the sender's label, and of the first octets of the authentication."""


@pytest.fixture
def network() -> Timetable:
    return settled()


def message(network: Timetable, code: Code, nonce: Nonce = NONCE) -> bytes:
    """An authentic message of b."""
    if code is Code.UR:
        return network.b.request(nonce)
    return short_message(network.b.host.core, network.b.context, code, nonce)


def changed(octets: bytes, at: int) -> bytes:
    return octets[:at] + bytes((octets[at] ^ 1,)) + octets[at + 1 :]


def answers(outputs: list[Output]) -> list[Code]:
    """The codes of the messages that leave."""
    controls = [control_of(one.packet) for one in outputs if isinstance(one, SendControl)]
    return [one[1].code for one in controls if one is not None]


def former_of(context: Context) -> Former | None:
    """The peer before it was replaced, as far as it is kept now."""
    return context.former


def reasons(outputs: list[Output]) -> list[str]:
    return [one.reason.name for one in outputs if isinstance(one, Dropped)]


@CODES
@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (LABEL_AT + 3, "FOR_NO_CONTEXT"),
        (OTHER_LABEL_AT + 3, "FOR_NO_CONTEXT"),
        (31, "FOR_NO_CONTEXT"),
        (47, "FOR_NO_CONTEXT"),
        (15, "NOT_AUTHENTIC"),
    ],
)
def test_a_message_that_was_altered_is_refused_and_a_request_is_answered_alike(
    network: Timetable, code: Code, at: int, reason: str
) -> None:
    """The answer is the same for every fault, so that it reveals no label."""
    octets = changed(message(network, code), at)
    outputs = receive(network, network.a, octets, B1, A1)
    assert reasons(outputs) == [f"{code.name}_{reason}"]
    assert answers(outputs) == [Code.UC] * (code is Code.UR)


@CODES
@pytest.mark.parametrize(("source", "to"), [(X1, A1), (B1, X1)])
def test_an_authentic_one_between_other_locators_is_refused_without_an_answer(
    network: Timetable, code: Code, source: Locator, to: Locator
) -> None:
    outputs = receive(network, network.a, message(network, code), source, to)
    assert reasons(outputs) == [f"{code.name}_BETWEEN_UNKNOWN_LOCATORS"]
    assert answers(outputs) == []


@CODES
def test_only_so_many_are_looked_at(network: Timetable, context: Context, code: Code) -> None:
    context.peer_keepalive_nonce = Nonce(5_000)
    context.peer_update_nonce = Nonce(5_000)
    found = []
    for _ in range(REPEATS.each_at_once + 1):
        outputs = receive(network, network.a, message(network, code, Nonce(1)), B1, A1)
        found.append(f"{code.name}_OVER_RATE" in reasons(outputs))
    assert found == [False] * REPEATS.each_at_once + [True]
    assert answers(outputs) == []
    outputs = receive(network, network.a, message(network, code, Nonce(1)), B2, A2)
    assert f"{code.name}_OVER_RATE" not in reasons(outputs), "from each source"


def test_repetitions_use_up_no_share_of_what_is_new(network: Timetable, context: Context) -> None:
    for number in range(MESSAGES.each_at_once + 1):
        octets = message(network, Code.KEEPALIVE, Nonce(NONCE + number))
        outputs = receive(network, network.a, octets, B1, A1)
    assert reasons(outputs) == ["KEEPALIVE_OVER_RATE"]
    outputs = receive(network, network.a, message(network, Code.KEEPALIVE, Nonce(1)), B1, A1)
    assert reasons(outputs) == ["KEEPALIVE_OLDER_THAN_ANOTHER"]
    network.now_ns += SECOND
    octets = message(network, Code.KEEPALIVE, Nonce(NONCE + 999))
    assert reasons(receive(network, network.a, octets, B1, A1)) == []


@pytest.mark.parametrize("newer", [False, True])
@CODES
def test_only_the_newest_update_may_come_from_a_locator_that_it_adds(
    network: Timetable, context: Context, code: Code, newer: bool
) -> None:
    network.give(network.b, LocatorsChanged((B1, B2, X1)))
    network.wire.clear()
    context.peer_update_nonce = Nonce(NONCE - newer)
    outputs = receive(network, network.a, message(network, code), X1, A1)
    accepted = code is Code.UR and newer
    assert (reasons(outputs) == []) is accepted
    assert (X1 in context.peer_local) is accepted
    assert (Code.UA in answers(outputs)) is accepted


def test_of_a_peer_that_was_replaced_the_first_is_kept_for_a_time(context: Context) -> None:
    context.keep_former(context.agreed_key, context.established_ns)
    assert former_of(context) is None, "the same exchange again"
    first = Former(*[getattr(context, name) for name in Former._fields])
    context.peer_update_nonce = context.peer_keepalive_nonce = NONCE
    context.unseen_nonces = 5
    context.keep_former(b"new", context.established_ns)
    kept = former_of(context)
    assert kept == first._replace(peer_update_nonce=NONCE, peer_keepalive_nonce=NONCE)
    nonces = context.peer_update_nonce, context.peer_keepalive_nonce, context.unseen_nonces
    assert nonces == (0, 0, 0)
    context.agreed_key = b"new"
    context.keep_former(b"newer", context.established_ns + CONTEXT_IDLE_TIME - 1)
    assert former_of(context) == kept
    context.keep_former(b"newest", context.established_ns + CONTEXT_IDLE_TIME)
    later = former_of(context)
    assert later is not None
    assert later.agreed_key == b"new"
    context.peer_label, context.former = Label(0), None
    context.keep_former(b"another", 0)
    assert former_of(context) is None
