# SPDX-License-Identifier: MIT
"""Marks that change while the pair in use is asked or in doubt [D20, D22, D25]."""

import pytest

from noid.constants import MILLISECOND, SECOND
from noid.engine.events import LocatorsChanged, SendControl
from noid.engine.state import Path
from noid.engine.update import next_nonce, request
from noid.locators import Locator
from noid.wire.control import NO_FLAGS, Code, Flag
from noid.wire.ipv6 import HEADER_OCTETS
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


@pytest.mark.parametrize(
    ("complains", "each_second"), [(False, 3), (True, 25)], ids=["marks alone", "complaints, too"]
)
@pytest.mark.parametrize("alternates", [LocatorFlag.DEPRECATED, LocatorFlag.BROKEN])
def test_marks_that_alternate_multiply_no_messages(
    alternates: int, each_second: int, *, complains: bool
) -> None:
    network = established()
    network.run(SECOND)
    network.dead |= {(local, peer) for local in (A1, A2) for peer in (B1, B2)}
    network.a.outputs.clear()
    peer, seconds = network.b.context, 4
    for number in range(seconds * 100):
        is_complaint = complains and number % 2 == 1
        marks = LocatorFlag.LOCAL | LocatorFlag.BROKEN
        marks ^= alternates * (number // (2 if complains else 1) % 2)
        peer.own_marks = (LocatorEntry(B1, marks),)
        flags = Flag.HEARS_NOTHING if is_complaint else NO_FLAGS
        message = request(network.b.host.core, peer, next_nonce(peer), flags=flags)
        receive(network, network.a, message, B1, A1)
        network.run(10 * MILLISECOND)
    sent = [one.packet for one in network.a.outputs if isinstance(one, SendControl)]
    requests = sum(one[HEADER_OCTETS + 1] == Code.UR for one in sent)
    assert requests <= seconds * each_second
    if complains:
        assert network.a.context.path is Path.SEARCHING


@pytest.mark.parametrize("broken", [frozenset({A1}), frozenset({A1, A2})])
def test_of_broken_pairs_the_one_with_fewer_broken_ends_is_used(broken: frozenset[Locator]) -> None:
    network = established()
    network.dead |= {(A2, one) for one in (B1, B2)} | {(one, A2) for one in (B1, B2)}
    network.give(network.a, LocatorsChanged((A1, A2), broken=broken))
    network.give(network.b, LocatorsChanged((B1, B2), broken=frozenset({B1})))
    network.run(SECOND)
    assert network.a.context.pair == (A1, B2)
    assert network.b.context.pair == (B2, A1)
