# SPDX-License-Identifier: MIT
"""A host tells its peers the weights of its locators for new connections."""

import pytest

from noid.constants import BETTER_PAIR_INTERVAL, MILLISECOND, SECOND
from noid.engine.events import LocatorsChanged
from tests.engine.network import A1, A2, B1, B2, Network, established, packet
from tests.engine.test_reachability import silence

WEIGHTED = LocatorsChanged((B1, B2), weights={B2: 3})


@pytest.mark.parametrize("is_told_later", [False, True])
def test_a_peer_starts_connections_at_each_locator_as_often_as_its_weight(
    is_told_later: bool,
) -> None:
    network = established() if is_told_later else Network()
    network.give(network.b, WEIGHTED)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.host.working((B1, B2)) == (B1, B2, B2, B2)


def test_a_locator_that_is_to_be_left_has_no_weight() -> None:
    network = established()
    left = LocatorsChanged((B1, B2), weights={B2: 3}, deprecated=frozenset({B2}))
    network.give(network.b, left)
    network.run(SECOND)
    assert network.a.host.working((B1, B2)) == (B1,)


def test_weights_move_no_context() -> None:
    network = established()
    network.give(network.b, WEIGHTED)
    network.run(100 * MILLISECOND)
    assert network.a.context.pair == (A1, B1)
    assert network.b.context.pair == (B1, A1)


def test_a_context_returns_to_the_uplink_of_its_aid_after_a_failure() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), is_spread=True))
    network.run(SECOND)
    assert network.a.context.pair == (A1, B1)
    network.kill_provider(1)
    network.give(network.a, silence(network.a))
    network.run(SECOND)
    assert network.a.context.pair == (A2, B2)
    network.dead.clear()
    network.run(BETTER_PAIR_INTERVAL * 3)
    assert network.a.context.local_locator == A1
    assert network.b.context.peer_locator == A1, "so does the peer"


def test_a_context_whose_aid_is_on_a_backup_is_not_kept_there() -> None:
    network = established()
    spread = LocatorsChanged((A1, A2), is_spread=True, backup=frozenset({A1}))
    network.give(network.a, spread)
    network.run(SECOND)
    assert network.a.context.local_locator == A2
