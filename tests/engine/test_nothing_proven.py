# SPDX-License-Identifier: MIT
"""A context whose peer's locators are all refuted must not keep the peer from beginning anew."""

import dataclasses

from noid.constants import SECOND, VERIFY_AGAIN_MIN
from noid.engine.events import LocatorsChanged
from noid.engine.state import State
from tests.engine.network import A1, B1, B2, Network, established, packet, state_of
from tests.engine.test_reachability import silence


def refuted() -> Network:
    """Host b has a context made by way of a's second locator; the DNS has lost a since."""
    network = Network()
    network.kill_provider(1)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(5 * SECOND)
    network.names[network.a.name].clear()
    network.reverse = {one: name for one, name in network.reverse.items() if name != "a.example"}
    network.b.in_use = True
    network.run(2 * VERIFY_AGAIN_MIN + SECOND)
    network.b.in_use = False
    assert network.b.context.peer_verified == set()
    network.dead.clear()  # not before: an answer from the AID proves it
    return network


def forget(network: Network) -> None:
    """Host a loses its contexts."""
    birthday = network.a.host.core.options.birthday + 1
    network.a.host = Network(seed=9).a.host
    core = network.a.host.core
    core.options = dataclasses.replace(core.options, birthday=birthday)
    network.a.rewriter.by_aids.clear()
    network.a.rewriter.by_label.clear()


def test_a_peer_that_lost_its_context_replaces_an_unproven_one() -> None:
    network = refuted()
    forget(network)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(3 * SECOND)
    assert state_of(network.a) is State.ESTABLISHED
    assert network.b.context.peer_label == network.a.context.local_label
    assert network.b.context.peer_verified == {A1}


def test_a_uc_about_a_control_message_of_such_a_context_is_believed() -> None:
    network = refuted()
    forget(network)
    network.give(network.b, LocatorsChanged((B1, B2), backup=frozenset({B2})))
    network.run(3 * SECOND)
    assert network.b.context.peer_label == network.a.context.local_label


def test_an_altered_birthday_of_the_set_up_is_corrected_by_an_authentic_message() -> None:
    network = established()
    birthday = network.a.host.core.options.birthday
    network.b.context.peer_birthday = birthday + 7
    network.give(network.a, silence(network.a))
    network.run(SECOND)
    assert network.b.context.peer_birthday == birthday
