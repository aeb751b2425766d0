# SPDX-License-Identifier: MIT
"""The lines and the DNS of the simulated world do what they are told, each way apart."""

import random
from collections import Counter

import pytest

from noid.constants import MILLISECOND, SECOND
from noid.dns.records import Kind, Question, Status
from noid.locators import Locator
from noid.sim.history import History, Step, Traffic, play
from noid.sim.names import TTL_SECONDS, Names
from noid.sim.network import QUEUE_NS, ROUTER, Line, LinkConditions, Network, locator_of
from noid.sim.parcel import Parcel
from noid.sim.ulp import build
from noid.sim.world import World
from noid.wire import ipv6

A, B = locator_of(1, 10), locator_of(2, 11)
NAME = Question(Kind.LOCATORS, "b.example")


def network() -> Network:
    one = Network(random.Random(1), Counter(), LinkConditions(jitter_ns=0))
    one.present = {A: "a", B: "b"}
    return one


def carried(one: Network, source: Locator = A, destination: Locator = B, size: int = 100) -> str:
    _, _, fate = one.carry(parcel(source, destination, size), SECOND)
    return fate


def parcel(
    source: Locator = A, destination: Locator = B, size: int = 100, protocol: int = ipv6.UDP
) -> Parcel:
    return Parcel(build(1, source, destination, protocol, size), "a", SECOND)


@pytest.mark.parametrize(
    ("change", "fate"),
    [
        ({"is_up": False}, "x unreachable"),
        ({"loss": 1.0}, "x lost"),
        ({"mtu": 120}, "x too big"),
        ({"filtered": frozenset({ipv6.UDP})}, "x filtered"),
        ({"duplication": 1.0}, "twice"),
        ({"corruption": 1.0}, " corrupted"),
    ],
)
def test_a_line_does_what_it_is_told_in_its_direction_alone(
    change: dict[str, object], fate: str
) -> None:
    one = network()
    line = one.line(A, B)
    for name, value in change.items():
        setattr(line, name, value)
    assert carried(one) == fate
    assert carried(one, B, A) == ""


def test_the_error_of_a_router_reaches_the_sender() -> None:
    one = network()
    one.line(A, B).mtu = 120
    sent, _, fate = one.carry(parcel(), SECOND)
    error = one.error_about(sent, fate)
    assert error is not None
    assert one.carry(Parcel(error, ROUTER, SECOND), SECOND)[2] == ""
    assert Locator(error[24:40]) == A


def test_programs_send_as_an_error_says() -> None:
    steps = (Step(2_000, "mtu", (0, 0, 3, 1280)),)
    history = History(
        seed=1, locators=(1, 1), duration_ms=4_000, steps=steps, traffic=Traffic(size=1_400)
    )
    world = World(1)
    play(world, history)
    octets = [len(one.packet) for one in world.ledger.sent.values()]
    assert (octets[0], octets[-1]) == (1_440, 1_280)
    assert world.injected["too big"] <= 4


def test_a_line_has_its_own_delay() -> None:
    one = network()
    one.line(A, B).delay_ns = 70 * MILLISECOND
    assert one.carry(parcel(), 0)[1] == [70 * MILLISECOND]
    assert one.carry(parcel(B, A), 0)[1] == [one.weather.delay_ns]


def test_a_line_with_a_rate_queues_packets_and_drops_them_when_full() -> None:
    one = network()
    one.line(A, B).rate = 140_000
    octets = len(parcel().octets)
    waiting = octets * SECOND // 140_000
    fates = [one.carry(parcel(), 0) for _ in range(QUEUE_NS // waiting + 1)]
    delays = [delays for _, delays, _ in fates]
    assert delays[:2] == [[10 * MILLISECOND + waiting], [10 * MILLISECOND + 2 * waiting]]
    assert delays[-1] == []
    assert one.carry(parcel(), SECOND)[1] == [10 * MILLISECOND + waiting]


def test_icmpv6_types_are_filtered_apart() -> None:
    one = network()
    one.line(A, B).filtered_types = frozenset({128})
    assert one.carry(parcel(protocol=ipv6.ICMPV6), 0)[2] == "x filtered"
    assert carried(one) == ""


def test_what_heals_keeps_its_delay_alone() -> None:
    one = network()
    line = one.line(A, B)
    line.delay_ns, line.is_up, line.loss = 5, False, 0.5
    one.heal()
    assert one.lines == {A + B: Line(5)}


def test_an_answer_is_kept_for_its_ttl_and_no_longer() -> None:
    names = Names(random.Random(1), Counter())
    names.caches = True
    names.publish("b.example", (A,))
    assert names.ask(NAME, 0)[1].locators == (A,)
    names.publish("b.example", (B,))
    _, kept = names.ask(NAME, (TTL_SECONDS - 2) * SECOND)
    assert (kept.locators, kept.ttl_seconds) == ((A,), 2)
    assert names.ask(NAME, TTL_SECONDS * SECOND)[1].locators == (B,)


def test_absence_is_kept_too_and_healing_forgets_it() -> None:
    names = Names(random.Random(1), Counter())
    names.caches = True
    assert names.ask(NAME, 0)[1].status is Status.ABSENT
    names.publish("b.example", (A,))
    assert names.ask(NAME, SECOND)[1].status is Status.ABSENT
    names.heal()
    assert names.ask(NAME, SECOND)[1].locators == (A,)
