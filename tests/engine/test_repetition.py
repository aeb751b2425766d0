# SPDX-License-Identifier: MIT
"""What is said again: how soon, over which pair, in which form [D6, D16, D19, D20]."""

import itertools

import pytest

from noid.constants import (
    CLOSE_TIME,
    CONTEXT_IDLE_TIME,
    DNS_RETRY_FIRST,
    INIT_ROUNDS_MAX,
    MILLISECOND,
    MINUTE,
    RETRANSMIT_FIRST,
    RETRANSMIT_WAITING,
    SECOND,
    UPDATE_RETRANSMIT_FIRST,
    UPDATE_RETRANSMIT_MAX,
)
from noid.engine.events import LocatorsChanged, SendControl
from noid.engine.history import Pair
from noid.engine.state import State
from noid.wire.control import Code
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    Network,
    Station,
    begun,
    established,
    packet,
    state_of,
)
from tests.engine.test_limits import codes_sent, lose
from tests.engine.test_refusals import EVERY_PAIR, closing, unanswered

ONE, TWO = frozenset({A1}), frozenset({A2})
PLAIN, REWRITABLE, FIXED = 58, 230, 238
WAYS = EVERY_PAIR | {(other, one) for one, other in EVERY_PAIR}


class Sayings:
    """What a station says with one code, and when, while time passes in small steps."""

    def __init__(self, network: Network, station: Station, code: Code) -> None:
        self.network, self.station, self.code = network, station, code
        self.at_ns: list[int] = []
        self.packets: list[bytes] = []

    def listen(self, duration_ns: int, step_ns: int = 100 * MILLISECOND) -> "Sayings":
        self._take(0)
        until_ns = self.network.now_ns + duration_ns
        while self.network.now_ns < until_ns:
            before = len(self.station.outputs)
            self.network.run(step_ns)
            self._take(before)
        return self

    def _take(self, start: int) -> None:
        for output in self.station.outputs[start:]:
            if isinstance(output, SendControl) and output.packet[41] == self.code:
                self.at_ns.append(self.network.now_ns)
                self.packets.append(output.packet)

    @property
    def gaps_ns(self) -> list[int]:
        return [later - earlier for earlier, later in itertools.pairwise(self.at_ns)]

    @property
    def forms(self) -> list[int]:
        return [one[6] for one in self.packets]

    @property
    def pairs(self) -> list[tuple[bytes, bytes]]:
        return [(one[8:24], one[24:40]) for one in self.packets]


def silent(network: Network) -> Network:
    """The network with every way dead from now on, and nothing said so far."""
    network.dead |= WAYS
    network.a.outputs.clear()
    network.a.in_use = True
    return network


def doubling(gaps_ns: list[int], most_ns: int, first_ns: int = RETRANSMIT_FIRST) -> bool:
    """Whether each gap is the first, doubled each time, within the jitter of D16."""
    delays = [min(first_ns << number, most_ns) for number in range(len(gaps_ns))]
    tolerance_ns = 100 * MILLISECOND
    return all(
        delay // 2 - tolerance_ns <= gap <= delay * 3 // 2 + tolerance_ns
        for gap, delay in zip(gaps_ns, delays, strict=True)
    )


def test_updates_repeat_with_doubling_up_to_2_min_alternating_both_forms() -> None:
    network = silent(established())
    network.give(network.a, LocatorsChanged((A2, A1), frozenset({A2})))
    said = Sayings(network, network.a, Code.UR).listen(CONTEXT_IDLE_TIME - SECOND)
    assert doubling(said.gaps_ns, UPDATE_RETRANSMIT_MAX, UPDATE_RETRANSMIT_FIRST)
    assert said.forms == list(
        itertools.islice(itertools.cycle((REWRITABLE, PLAIN)), len(said.forms))
    )
    assert set(said.pairs) == {(A1, B1)}


def test_a_host_with_one_locator_alternates_updates_in_the_fixed_slot_and_plain() -> None:
    network = silent(established())
    network.give(network.a, LocatorsChanged((A1,)))
    said = Sayings(network, network.a, Code.UR).listen(MINUTE)
    assert len(said.forms) > 3
    assert said.forms[:4] == [FIXED, PLAIN] * 2


def test_a_host_with_a_long_history_repeats_an_update() -> None:
    network = established()
    network.a.in_use = network.b.in_use = True
    network.run(3 * CONTEXT_IDLE_TIME)
    silent(network).give(network.a, LocatorsChanged((A1,)))
    assert len(Sayings(network, network.a, Code.UR).listen(MINUTE).forms) > 3
    assert state_of(network.a) is State.UR_SENT


def test_close_is_repeated_at_4_s_doubling_to_2_min_over_each_pair() -> None:
    network = closing()
    network.a.outputs.clear()
    began_ns = network.now_ns
    said = Sayings(network, network.a, Code.CLOSE).listen(CLOSE_TIME)
    assert doubling([said.at_ns[0] - began_ns + SECOND, *said.gaps_ns[:-1]], UPDATE_RETRANSMIT_MAX)
    assert len(set(said.pairs[:4])) == 4
    assert said.pairs[3] == (A1, B1)
    assert said.pairs[4:8] == said.pairs[:4]
    assert network.a.host.contexts == []


def test_init_is_sent_over_every_pair_for_a_limited_number_of_rounds() -> None:
    network = begun()
    network.dead |= WAYS
    network.run(SECOND)
    said = Sayings(network, network.a, Code.INIT).listen(10 * MINUTE)
    pairs = [(A1, B1), (A2, B2), (A2, B1), (A1, B2)]
    assert said.pairs == pairs * INIT_ROUNDS_MAX
    assert said.forms == ([PLAIN] * 4 + [REWRITABLE] * 4) * (INIT_ROUNDS_MAX // 2)


@pytest.mark.parametrize(
    ("marks", "pairs"),
    [
        (LocatorsChanged((A1, A2), backup=TWO), [(A1, B1), (A1, B2), (A2, B1), (A2, B2)]),
        (LocatorsChanged((A1, A2), deprecated=TWO), [(A1, B1), (A1, B2), (A2, B1), (A2, B2)]),
        (LocatorsChanged((A1, A2), backup=ONE), [(A1, B1), (A2, B2), (A2, B1), (A1, B2)]),
    ],
)
def test_init_has_a_worse_source_than_the_first_only_after_the_others(
    marks: LocatorsChanged, pairs: list[Pair]
) -> None:
    network = Network()
    network.give(network.a, marks)
    network.dead |= WAYS
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    assert Sayings(network, network.a, Code.INIT).listen(2 * SECOND).pairs == pairs


def test_between_rounds_of_init_it_waits_4_s_doubling() -> None:
    network = begun()
    network.dead |= WAYS
    said = Sayings(network, network.a, Code.INIT).listen(10 * MINUTE, 10 * MILLISECOND)
    rounds = [said.at_ns[4 * number] - said.at_ns[4 * number - 1] for number in range(1, 4)]
    assert doubling(rounds, MINUTE)
    within = [gap for number, gap in enumerate(said.gaps_ns) if number % 4 != 3]
    assert all(abs(gap - 250 * MILLISECOND) <= 10 * MILLISECOND for gap in within)


def test_a_ccr_is_repeated_after_250_ms_while_data_waits() -> None:
    network = begun()
    network.run(25 * MILLISECOND)
    network.dead |= WAYS
    said = Sayings(network, network.a, Code.CCR).listen(20 * SECOND, 10 * MILLISECOND)
    assert said.forms == [PLAIN, REWRITABLE]
    assert abs(said.gaps_ns[0] - RETRANSMIT_WAITING) <= 10 * MILLISECOND


def test_ccr_intervals_grow_up_to_the_usual_ones_while_data_waits() -> None:
    network = begun()
    network.run(15 * MILLISECOND)
    lose(network, Code.CONF, 2 * MINUTE)
    sent = [one for one in codes_sent(network.a) if one is Code.CCR]
    assert len(sent) < 40


def test_a_restarted_set_up_has_no_additional_time() -> None:
    network = begun()
    began_ns = network.now_ns
    lose(network, Code.CONF, MINUTE)
    exchange = network.a.context.exchange
    assert exchange is not None
    assert exchange.tries + exchange.ccr_tries > 0
    assert exchange.started_ns == began_ns


def probes(network: Network) -> list[bytes]:
    """The packets of a's first round of probes."""
    network.a.outputs.clear()
    network.give(network.a, unanswered(network.a))
    return [one.packet for one in network.a.outputs if isinstance(one, SendControl)]


def test_a_host_with_one_locator_probes_in_the_form_that_no_router_rewrites() -> None:
    network = Network()
    network.a.locators = (A1,)
    network.give(network.a, LocatorsChanged((A1,)))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    said = probes(silent(network))
    assert [one[6] for one in said] == [FIXED]


def test_the_dns_is_asked_again_after_1_s_doubling() -> None:
    network = Network()
    network.dns_works = False
    network.a.in_use = network.b.in_use = True
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    asked_ns = []
    for _ in range(600):
        before = network.a.context.dns_tries
        network.run(100 * MILLISECOND)
        if network.a.context.dns_tries > before:
            asked_ns.append(network.now_ns)
    for number, (earlier, later) in enumerate(itertools.pairwise(asked_ns), start=1):
        delay_ns = DNS_RETRY_FIRST << number
        assert delay_ns // 2 <= later - earlier + 100 * MILLISECOND
        assert later - earlier <= delay_ns * 3 // 2 + 100 * MILLISECOND
    assert len(asked_ns) >= 5
