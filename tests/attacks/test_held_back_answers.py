# SPDX-License-Identifier: MIT
"""Answers that come late, so that a failure is noticed or judged late [D20, D43].

Attacker: on the path of one provider, which it lets pass data and not answers; or on those of all
pairs but the one that fails; or one who makes a daemon stand still for seconds. Guaranteed: the
daemon waits for no answer longer than SILENCE_MAX, also if other answers keep coming.
"""

import itertools

import pytest

from noid.constants import MILLISECOND, SECOND, SILENCE_MAX
from noid.engine.events import LocatorsChanged
from noid.engine.history import UNKNOWN, History
from noid.engine.state import Path
from noid.locators import parse_locator
from noid.wire.control import Code, decode_message
from noid.wire.ipv6 import HEADER_OCTETS, Header
from tests.engine.network import A1, B1, Network, Station, established, packet
from tests.engine.test_reachability import silence

PERIOD_NS = 10 * MILLISECOND
HELD_NS = 10 * SECOND
"""How late an answer comes."""
WAITS = 3
"""For what is unanswered, for a first request, and for the last one."""
RELEASED_NS = 2 * MILLISECOND
"""A held answer is let through so long before the pair in use is judged."""


@pytest.mark.parametrize("usual_ns", [0, 20 * MILLISECOND, SECOND])
@pytest.mark.parametrize("count", [1, 2, 10])
def test_no_answer_makes_a_wait_longer_than_the_longest_silence(usual_ns: int, count: int) -> None:
    history = UNKNOWN.measured(0, usual_ns)
    for number in range(count):
        history = late(history, number)
        assert history.silence_ns(0) <= SILENCE_MAX
        assert history.ask_wait_ns <= SILENCE_MAX
        assert history.verdict_wait_ns <= SILENCE_MAX


def late(history: History, number: int) -> History:
    """After an answer that is late, to a request that followed the answer before."""
    return history.measured(number * HELD_NS, (number + 1) * HELD_NS)


def delay(station: Station, peer: Station) -> None:
    """Every answer to a station has come late, by each pair."""
    for pair in itertools.product(station.locators, peer.locators):
        before: History = station.context.history_of(pair)
        station.context.note(pair, late(late(late(before, 0), 1), 2))


def gap_ns(network: Network) -> int:
    """How long nothing of either end arrives after provider 1 fails."""
    network.kill_provider(1)
    began_ns = network.now_ns
    network.run(PERIOD_NS)
    counts = [len(one.delivered) for one in network.stations]
    while any(
        len(one.delivered) == count for one, count in zip(network.stations, counts, strict=True)
    ):
        network.ulp_sends(network.a, packet(A1, B1))
        network.ulp_sends(network.b, packet(B1, A1))
        network.run(PERIOD_NS)
    return network.now_ns - began_ns


@pytest.mark.parametrize("delayed", ["a", "b", "ab"])
def test_a_failure_is_survived_after_late_answers(delayed: str) -> None:
    network = established()
    for one, other in itertools.permutations(network.stations):
        if one.name[0] in delayed:
            delay(one, other)
    assert gap_ns(network) <= WAITS * SILENCE_MAX


class Holding(Network):
    """The pair of A1 and B1 fails; the attacker keeps the answers over the other pairs to a."""

    def __init__(self, providers: int) -> None:
        super().__init__()
        self.held: list[bytes] = []
        self.is_on = False
        for one in self.stations:
            numbers = range(1, providers + 1)
            texts = (f"2001:db8:{number}:{one.name[0]}::{one.name[0]}" for number in numbers)
            one.locators = tuple(parse_locator(text) for text in texts)
            self.names[one.name] = list(one.locators)
            self.give(one, LocatorsChanged(one.locators))
        self.reverse = {own: name for name, all_ in self.names.items() for own in all_}
        self.resolve(self.a, self.b)
        self.ulp_sends(self.a, packet(A1, B1))
        self.run(SECOND)

    def arrive(self, packet: bytes) -> None:
        """Holds an answer back, and drops the requests of b, which would say the same."""
        header = Header.decode(packet)
        source, destination = header.source, header.destination
        if not self.is_on or destination not in self.a.locators:
            super().arrive(packet)
        elif (source, destination) not in self.dead:
            message = decode_message(packet[HEADER_OCTETS:], source, destination, in_slot=True)
            if message.code is Code.UA:
                self.held.append(packet)

    def release(self) -> None:
        """Lets one answer through."""
        super().arrive(self.held.pop(0))


@pytest.mark.parametrize("providers", [2, 3, 4])
def test_answers_held_until_the_verdict_do_not_put_it_off(providers: int) -> None:
    network = Holding(providers)
    a = network.a
    assert len(a.context.peer_verified) * len(a.context.own_set) == providers**2
    delay(a, network.b)
    network.dead |= {(A1, B1), (B1, A1)}
    network.is_on, began_ns = True, network.now_ns
    network.give(a, silence(a))
    while a.context.pair == (A1, B1) and network.now_ns < began_ns + 2 * WAITS * SILENCE_MAX:
        one = a.context.search
        is_due = one is not None and one.asked_ns and one.ask_at_ns - network.now_ns <= RELEASED_NS
        if is_due and a.context.path is Path.DOUBTING and network.held:
            network.release()
        network.run(MILLISECOND)
    assert a.context.pair != (A1, B1)
    assert network.now_ns - began_ns <= (WAITS - 1) * SILENCE_MAX + MILLISECOND
