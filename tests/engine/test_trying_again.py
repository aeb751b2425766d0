# SPDX-License-Identifier: MIT
"""Nothing is given up permanently: unable peers and updates that expired are tried again [D45]."""

from noid.constants import (
    CONTEXT_IDLE_TIME,
    MILLISECOND,
    MINUTE,
    PEER_UNABLE_MAX,
    PEER_UNABLE_TIME,
    SECOND,
)
from noid.engine.events import (
    LocatorsChanged,
    PeerUnable,
    SendControl,
    UnwatchPeer,
    WatchPeer,
)
from noid.engine.state import State
from noid.wire import ipv6
from noid.wire.control import Code
from tests.engine.network import A1, A2, B1, B2, Network, established, packet, state_of

EVERY_PAIR = {(one, other) for one in (A1, A2) for other in (B1, B2)}
EITHER_WAY = EVERY_PAIR | {(other, one) for one, other in EVERY_PAIR}


def unable() -> Network:
    """A network whose b has not answered a, and answers from now on."""
    network = Network()
    network.dead |= EVERY_PAIR
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    run_until_unable(network)
    network.dead.clear()
    return network


def run_until_unable(network: Network) -> int:
    """Lets time pass until a holds b unable once more; until when it will."""
    count = len(verdicts(network))
    while len(verdicts(network)) == count:
        network.run(SECOND)
    return network.a.host.core.unable[B1] - network.now_ns


def verdicts(network: Network) -> list[PeerUnable]:
    """What a said of b."""
    return [one for one in network.a.outputs if isinstance(one, PeerUnable)]


def watched(network: Network) -> list[object]:
    """The changes of whether a watches b, in order."""
    return [one for one in network.a.outputs if isinstance(one, WatchPeer | UnwatchPeer)]


def test_an_unable_peer_is_watched_again_after_a_minute_without_a_query() -> None:
    network = unable()
    assert watched(network)[-1] == UnwatchPeer(B1)
    network.run(PEER_UNABLE_TIME)
    assert watched(network)[-1] == WatchPeer(B1)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert state_of(network.a) is State.ESTABLISHED


def test_the_deadline_of_a_host_without_contexts_is_that_of_its_unable_peer() -> None:
    network = unable()
    deadline = network.a.host.deadline()
    assert deadline is not None
    assert deadline.at_ns == network.a.host.core.unable[B1]


def test_an_unable_peer_to_which_no_program_sends_is_not_asked() -> None:
    network = unable()
    network.trace.clear()
    network.run(30 * MINUTE)
    assert network.trace == []
    assert network.a.host.deadline() is None


def test_an_unable_peer_is_retried_at_intervals_doubling_up_to_ten_minutes() -> None:
    network = unable()
    network.dead |= EVERY_PAIR
    times = []
    for _ in range(5):
        network.run(PEER_UNABLE_MAX)
        network.ulp_sends(network.a, packet(A1, B1))
        times.append((run_until_unable(network) + SECOND) // MINUTE)
    assert times == [2, 4, 8, 10, 10]


def test_the_retry_interval_restarts_after_an_answer_of_the_peer() -> None:
    network = unable()
    network.run(PEER_UNABLE_TIME)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.host.core.peers[B1].unable_ns == 0


def test_an_unable_peer_that_begins_a_set_up_is_unable_no_longer() -> None:
    network = unable()
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    network.run(SECOND)
    assert not network.a.host.core.is_unable(B1)
    assert network.a.host.core.peers[B1].unable_ns == 0


def test_no_connection_begins_at_an_aid_that_is_unable_if_there_is_another() -> None:
    network = unable()
    assert network.a.host.working((B1, B2)) == (B2,)
    assert network.a.host.working((B1,)) == (B1,)
    network.run(PEER_UNABLE_TIME)
    assert network.a.host.working((B1, B2)) == (B1, B2)


# --- updates --------------------------------------------------------------------------------------


def expired() -> Network:
    """A network whose b has not heard for a quarter of an hour that a lost a locator."""
    network = established()
    network.a.in_use = network.b.in_use = True
    network.dead |= EITHER_WAY
    network.give(network.a, LocatorsChanged((A1,)))
    network.run(CONTEXT_IDLE_TIME + 3 * MINUTE)
    assert network.a.context.update is None
    assert network.b.context.peer_acceptable == {A1, A2}
    network.dead.clear()
    return network


def test_an_update_that_expired_is_sent_again_when_the_peer_sends_an_update() -> None:
    network = expired()
    network.give(network.b, LocatorsChanged((B1,)))
    network.run(SECOND)
    assert network.b.context.peer_acceptable == {A1}


def test_an_update_that_expired_is_sent_again_when_data_came() -> None:
    network = expired()
    network.a.in_use = network.b.in_use = False
    network.ulp_sends(network.b, packet(B1, A1))
    network.run(CONTEXT_IDLE_TIME)
    assert network.b.host.contexts == [] or network.b.context.peer_acceptable == {A1}


def test_an_update_is_repeated_when_a_packet_of_the_peer_arrives() -> None:
    network = established()
    network.dead |= EITHER_WAY
    network.give(network.a, LocatorsChanged((A1,)))
    network.run(20 * SECOND)
    network.dead.clear()
    network.give(network.b, LocatorsChanged((B1,)))
    network.run(50 * MILLISECOND)
    assert network.b.context.peer_acceptable == {A1}


def test_an_update_is_not_sent_again_sooner_than_it_may_be_acknowledged() -> None:
    network = established()
    network.dead |= EVERY_PAIR
    network.give(network.a, LocatorsChanged((A1,)))
    network.a.outputs.clear()
    network.give(network.b, LocatorsChanged((B1,)))
    network.run(100 * MILLISECOND)
    sent = [one for one in network.a.outputs if isinstance(one, SendControl)]
    assert [one.packet[ipv6.HEADER_OCTETS + 1] for one in sent] == [Code.UA]
