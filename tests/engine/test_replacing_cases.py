# SPDX-License-Identifier: MIT
"""Whose CCR makes a new context in place of one whose AID is not proven [D37, D39]."""

import pytest

from noid.constants import SECOND
from noid.engine.state import State
from noid.identifiers import Label
from noid.locators import Locator
from tests.engine.network import A1, A2, B1, Network, packet, receive, state_of
from tests.engine.test_provisional import ccr_from


@pytest.mark.parametrize("source", [A1, A2])
@pytest.mark.parametrize("proven", [False, True])
def test_only_the_host_at_the_aid_replaces_at_once_a_context_that_has_not_proven_it(
    source: Locator, proven: bool
) -> None:
    """Programs send to the AID: who receives there is the peer, as without M6."""
    network = Network()
    network.kill_provider(1)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    before = network.b.context
    assert (state_of(network.b), before.aid_proven) == (State.ESTABLISHED, False)
    before.aid_proven = proven
    receive(network, network.b, ccr_from(network, source, Label(0x777)), source, B1)
    replaces = source == A1 and not proven
    assert (network.b.context is not before) is replaces
    assert (network.b.context.peer_label == 0x777) is replaces
    if not replaces:
        assert before.rival is not None
