# SPDX-License-Identifier: MIT
"""What two hosts answer to one test: data is plain while it takes the same path [D39, D49].

An observer of a context that it has not set up can cause this. Data arrives nevertheless, and a
failure is noticed within seconds.
"""

from dataclasses import replace

import pytest

from noid.constants import (
    CONTESTED_TIME,
    MILLISECOND,
    PLAIN_SILENCE_MAX,
    SECOND,
    TRIAL_REST,
    TRIAL_SILENCE,
)
from noid.flows.software import Transmit
from noid.wire import ipv6
from noid.wire.control import Code, encode_packet
from noid.wire.options import ContextOption
from noid.wire.slots import slot_of
from tests.engine.network import A1, A2, B1, B2, CODEPOINTS, DELAY_NS, Network, packet
from tests.engine.network import established as settled
from tests.engine.test_loss import unknown_context
from tests.engine.test_trial import cut, doubted, forget, requests, unfounded

INTERVAL_NS = 20 * MILLISECOND


def contradicted(network: Network, *, shift: int = 0) -> Network:
    """A host that has read a request of a test answers it with UC, as if it were the peer.

    Args:
        network: in which the test has begun.
        shift: what is added to the nonce.
    """
    asked = requests(network)[0]
    at = ipv6.HEADER_OCTETS + 8
    nonce = int.from_bytes(asked[at : at + 8], "big") + shift
    quoted = asked[:at] + nonce.to_bytes(8, "big") + asked[at + 8 :]
    other = settled()
    forget(other)
    label = ContextOption(receiver_label=network.a.context.peer_label)
    message = replace(unknown_context(other, quoted), context=label)
    octets = encode_packet(message, B1, A1, CODEPOINTS)
    network.wire.append((network.now_ns, octets))
    return network


def next_header_of(network: Network) -> int:
    """The next header of data that a program on a sends, as it travels."""
    effects = network.a.datapath.from_host(packet(A1, B1), network.now_ns)
    (sent,) = [one.packet for one in effects if isinstance(one, Transmit)]
    return sent[ipv6.NEXT_HEADER_AT]


def is_plain(network: Network) -> bool:
    """Whether a sends data plain."""
    return next_header_of(network) == ipv6.TCP


@pytest.mark.parametrize("wait_ns", [0, 3 * DELAY_NS], ids=["before the answer", "after it"])
def test_a_contested_context_sends_plain_for_a_minute(wait_ns: int) -> None:
    network = doubted()
    network.run(wait_ns)
    contradicted(network).run(3 * DELAY_NS)
    assert network.a.context.trial is None, "the peer has answered"
    assert is_plain(network)
    network.run(CONTESTED_TIME - SECOND)
    assert is_plain(network)
    network.run(2 * SECOND)
    assert not is_plain(network)


def test_a_nonce_that_was_guessed_contests_nothing() -> None:
    for shift in (-1 << 20, 1 << 20):
        network = contradicted(doubted(), shift=shift)
        network.run(3 * DELAY_NS)
        assert not is_plain(network)


def test_a_test_for_which_a_ccr_waits_is_not_late_because_of_a_contest() -> None:
    network = doubted()
    network.run(3 * DELAY_NS)
    forget(network)
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    while network.a.context.rival is None:
        network.run(MILLISECOND)
    contradicted(network).run(0)
    cut(network).run(TRIAL_REST + 2 * TRIAL_SILENCE)
    assert network.a.context.peer_label == network.b.context.local_label


def test_a_uc_about_data_contests_nothing() -> None:
    network = settled()
    about_data = unfounded(network)
    for _ in range(2):
        network.give(network.a, about_data)
        network.run(3 * DELAY_NS)
    assert not is_plain(network)


def test_a_test_during_that_time_ends_and_data_stays_plain() -> None:
    network = settled()
    about_data = unfounded(network)
    network.give(network.a, about_data)
    contradicted(network).run(10 * SECOND)
    before = len(requests(network))
    network.give(network.a, about_data)
    assert len(requests(network)) > before
    network.run(3 * DELAY_NS)
    assert network.a.context.trial is None
    assert is_plain(network)
    network.run(CONTESTED_TIME)
    assert not is_plain(network)


def test_a_contested_context_uses_another_pair_when_its_pair_fails() -> None:
    network = contradicted(doubted())
    network.run(SECOND)
    assert is_plain(network)
    network.kill_provider(1)
    for _ in range(2 * PLAIN_SILENCE_MAX // INTERVAL_NS):
        network.ulp_sends(network.a, packet(A1, B1))
        network.run(INTERVAL_NS)
    assert network.a.context.pair == (A2, B2)
    assert slot_of(next_header_of(network), CODEPOINTS) is not None
    assert Code.UR in {one[ipv6.HEADER_OCTETS + 1] for one in requests(network)}
