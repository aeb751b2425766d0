# SPDX-License-Identifier: MIT
"""No table of the engine has more entries than its limit."""

import itertools
from random import Random

import pytest

from noid.constants import (
    CONTEXTS_MAX,
    FLOW_LABEL_MASK,
    KNOWN_PEERS_MAX,
    MILLISECOND,
    QUARANTINED_LABELS_MAX,
    UNABLE_PEERS_MAX,
)
from noid.counters import Drop
from noid.dns.verification import Verification
from noid.engine import lifecycle
from noid.engine.causes import Cause
from noid.engine.events import (
    UnwatchPeer,
    WatchPeer,
)
from noid.engine.known import KnownPeer
from noid.engine.peers import hold_unable, remember
from noid.identifiers import NO_LABEL, Label
from tests.engine.network import (
    A1,
    B1,
    begun,
    established,
    packet,
)
from tests.engine.test_limits import core, numbered


@pytest.mark.slow
def test_there_is_no_room_for_one_context_more() -> None:
    network = begun()
    network.run(25 * MILLISECOND)
    other = established(seed=5).b.context
    network.b.host.core.labels = dict.fromkeys(map(Label, range(1, CONTEXTS_MAX + 1)), other)
    network.run(10 * MILLISECOND)
    assert network.b.host.drops == {Drop.TOO_MANY_CONTEXTS: 1}
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    assert network.b.host.core.contexts == {}
    assert CONTEXTS_MAX <= FLOW_LABEL_MASK


def test_there_are_no_more_contexts_than_the_plane_has_room_for() -> None:
    host = core(contexts_max=2)
    for number in range(3):
        lifecycle.create(host, A1, numbered(number), Verification(numbered(number), None), (A1,))
    assert len(host.contexts) == 2
    assert host.drops == {Drop.TOO_MANY_CONTEXTS: 1}


@pytest.mark.slow
def test_of_too_many_known_peers_the_oldest_is_forgotten() -> None:
    host = core()
    for number in range(KNOWN_PEERS_MAX):
        remember(host, numbered(number), KnownPeer("a.example", ()))
    remember(host, numbered(0), KnownPeer("b.example", ()))
    assert len(host.peers) == KNOWN_PEERS_MAX
    remember(host, numbered(KNOWN_PEERS_MAX), KnownPeer("c.example", ()))
    assert len(host.peers) == KNOWN_PEERS_MAX
    assert numbered(0) in host.peers, "it was resolved again"
    assert numbered(1) not in host.peers
    assert UnwatchPeer(numbered(1)) in host.outputs


@pytest.mark.slow
def test_of_too_many_unable_peers_the_oldest_is_forgotten() -> None:
    host = core()
    remember(host, numbered(0), KnownPeer("a.example", ()))
    for number in range(UNABLE_PEERS_MAX + 1):
        hold_unable(host, numbered(number), Cause.NO_ANSWER_TO_INIT)
    assert len(host.unable) == UNABLE_PEERS_MAX
    assert not host.is_unable(numbered(0))
    assert WatchPeer(numbered(0)) in host.outputs[-3:], "it is tried again"
    assert host.is_unable(numbered(1))
    assert len(host.retries) <= 64 + 2 * UNABLE_PEERS_MAX


@pytest.mark.slow
def test_of_too_many_labels_in_quarantine_the_oldest_is_free_again() -> None:
    host = core()
    for label in map(Label, range(QUARANTINED_LABELS_MAX + 1)):
        host.quarantine.put(label, host.now_ns, b"", None)
    assert len(host.quarantine) == QUARANTINED_LABELS_MAX
    assert NO_LABEL not in host.quarantine
    assert Label(1) in host.quarantine


@pytest.mark.slow
def test_a_free_label_is_found_quickly_in_a_full_table() -> None:
    host = core()
    drawn = itertools.count()
    random = Random(1)
    host.entropy = lambda octets: (next(drawn), random.randbytes(octets))[1]
    context = established(seed=5).b.context
    host.labels = dict.fromkeys(map(Label, range(1, CONTEXTS_MAX)), context)
    for label in map(Label, range(CONTEXTS_MAX, FLOW_LABEL_MASK + 1)):
        host.quarantine.put(label, host.now_ns, b"", None)
    assert host.free_label() not in host.labels
    assert next(drawn) < 1000
    assert CONTEXTS_MAX <= len(host.labels) + len(host.quarantine) + 1 <= CONTEXTS_MAX + 1
