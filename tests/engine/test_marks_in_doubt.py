# SPDX-License-Identifier: MIT
"""Marks that change while the pair in use is asked or in doubt [D20, D22, D25]."""

import pytest

from noid.constants import MILLISECOND, SECOND
from noid.engine.events import LocatorsChanged, SendControl
from noid.engine.state import Path
from noid.engine.update import next_nonce, request
from noid.wire.control import NO_FLAGS, Flag
from noid.wire.options import LocatorEntry, LocatorFlag
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    DELAY_NS,
    Network,
    established,
    receive,
)
from tests.engine.test_reachability import silence

ONE = frozenset({A1})


def in_doubt() -> Network:
    """Station a doubts its pair; only a pair that shares a locator with it answers."""
    network = established()
    network.dead |= {(A1, B1), (B1, A1), (A2, B1), (B1, A2), (A2, B2)}
    network.give(network.a, silence(network.a))
    while network.a.context.path is not Path.DOUBTING:
        network.run(MILLISECOND)
    return network


@pytest.mark.parametrize("has_come", [False, True])
def test_an_answer_from_before_the_mark_does_not_make_a_broken_pair_the_next(
    has_come: bool,
) -> None:
    network = in_doubt()
    search = network.a.context.search
    assert search is not None
    network.run(DELAY_NS)  # the answer is on its way
    while has_come and search.found is None:
        network.run(MILLISECOND)
    network.dead.discard((A2, B2))
    network.give(network.a, LocatorsChanged((A1, A2), broken=ONE))
    while network.a.context.path is Path.DOUBTING:
        assert network.a.context.pair == (A1, B1)
        network.run(MILLISECOND)
    assert network.a.context.pair != (A1, B2)
    network.dead |= {(A1, B2), (B2, A1)}
    network.run(SECOND)
    assert network.a.context.pair == (A2, B2)


def test_marks_that_alternate_with_complaints_multiply_no_messages() -> None:
    network = established()
    network.run(SECOND)
    network.dead |= {(local, peer) for local in (A1, A2) for peer in (B1, B2)}
    network.a.outputs.clear()
    peer, count = network.b.context, 200
    for number in range(count):
        marks = LocatorFlag.LOCAL | LocatorFlag.BROKEN
        marks |= LocatorFlag.DEPRECATED * (number // 2 % 2)
        peer.own_marks = (LocatorEntry(B1, marks),)
        flags = NO_FLAGS if number % 2 else Flag.HEARS_NOTHING
        message = request(network.b.host.core, peer, next_nonce(peer), flags=flags)
        receive(network, network.a, message, B1, A1)
        network.run(10 * MILLISECOND)
    sent = [one for one in network.a.outputs if isinstance(one, SendControl)]
    answers = count
    assert len(sent) - answers <= count
