# SPDX-License-Identifier: MIT
"""How many questions are asked because of peers that came by themselves [D46]."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from noid.counters import UpstreamCounter
from noid.dns.queries import make_query
from noid.dns.records import Answer, Kind, Question, Status, reverse_name
from noid.dns.zones import parent_of, zone_in_wire, zone_of
from noid.locators import parse_locator
from noid.resolver.budget import (
    ASKED_FIRST,
    ASKED_MAX,
    FAILURES_MAX,
    PEER_ASKED_MAX,
    SILENCE_FIRST_S,
    SILENCE_MAX_S,
    SILENT_ZONES_MAX,
    WAITING_EACH_MAX,
    WAITING_MAX,
    Budget,
    Gate,
    Silence,
)
from noid.resolver.turns import PEERS, Turns

ZONE, OTHER = "a", "b"


class Queue:
    """Questions about one zone, and which of them may be on their way."""

    def __init__(self, gate: Gate, count: int, until_s: float, user: str = "") -> None:
        self.tasks = [asyncio.create_task(gate.enter(ZONE, until_s, user)) for _ in range(count)]

    async def begun(self) -> int:
        """How many have started, after everything that is possible has happened."""
        for _ in range(3):
            await asyncio.sleep(0)
        return sum(task.done() and not task.cancelled() and task.result() for task in self.tasks)


def played(scenario: Callable[[Gate, float], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        gate = Gate(ASKED_FIRST, ASKED_MAX)
        await scenario(gate, asyncio.get_running_loop().time() + 60)

    asyncio.run(run())


def test_few_queries_are_outstanding_until_an_answer_and_each_permits_one_more() -> None:
    async def scenario(gate: Gate, until_s: float) -> None:
        queue = Queue(gate, 3 * ASKED_MAX, until_s)
        assert await queue.begun() == ASKED_FIRST
        gate.leave(ZONE, answered=True)
        assert await queue.begun() == ASKED_FIRST + 2
        gate.leave(ZONE, answered=False)
        assert await queue.begun() == ASKED_FIRST + 3
        for _ in range(ASKED_MAX):
            gate.leave(ZONE, answered=True)
        assert await queue.begun() == 2 + 2 * ASKED_MAX, "no more than that"
        assert await gate.enter(OTHER, until_s), "another zone is another matter"
        gate.close()
        await asyncio.gather(*queue.tasks)

    played(scenario)


def test_peers_wait_for_a_zone_in_rotation() -> None:
    async def scenario(gate: Gate, until_s: float) -> None:
        many = Queue(gate, ASKED_FIRST + 100, until_s, "many")
        assert await many.begun() == ASKED_FIRST
        one = Queue(gate, 1, until_s, "one")
        assert await one.begun() == 0
        for _ in range(2):
            gate.leave(ZONE, answered=False)
        assert await one.begun() == 1
        gate.close()
        await asyncio.gather(*many.tasks)

    played(scenario)


def test_a_question_that_waits_too_long_or_is_cancelled_takes_no_turn() -> None:
    async def scenario(gate: Gate, until_s: float) -> None:
        queue = Queue(gate, ASKED_FIRST, until_s)
        assert await queue.begun() == ASKED_FIRST
        assert not await gate.enter(ZONE, 0), "it was over before it began"
        hasty = asyncio.create_task(gate.enter(ZONE, until_s))
        patient = asyncio.create_task(gate.enter(ZONE, until_s))
        await queue.begun()
        hasty.cancel()
        gate.leave(ZONE, answered=False)
        assert await patient

    played(scenario)


def test_a_turn_that_comes_to_a_cancelled_question_goes_to_the_next() -> None:
    async def scenario(gate: Gate, until_s: float) -> None:
        queue = Queue(gate, ASKED_FIRST, until_s)
        await queue.begun()
        hasty = asyncio.create_task(gate.enter(ZONE, until_s))
        patient = asyncio.create_task(gate.enter(ZONE, until_s))
        await queue.begun()
        gate.leave(ZONE, answered=False)
        hasty.cancel()
        assert await patient

    played(scenario)


# --- the budget ---

LOST = Answer(status=Status.UNREACHABLE)


def prefix(number: int) -> bytes:
    """The /48 of a peer; 16 of them have one /32."""
    return (0x20010DB8 + number // 16).to_bytes(4) + number.to_bytes(2)


def question(number: int, behalf: bytes) -> Question:
    return Question(Kind.LOCATORS, f"www.n{number}.test", behalf)


async def admitted(budget: Budget, questions: list[Question], until_s: float) -> list[Question]:
    """Those whose turn it is at once."""
    tasks = [asyncio.create_task(budget.enter(one, until_s)) for one in questions]
    for _ in range(4):
        await asyncio.sleep(0)
    begun = [
        one for one, task in zip(questions, tasks, strict=True) if task.done() and task.result()
    ]
    budget.close()
    await asyncio.gather(*tasks)
    return begun


def begun(questions: list[Question]) -> list[Question]:
    async def run() -> list[Question]:
        budget = Budget(Turns(PEERS, Counter[UpstreamCounter]()))
        return await admitted(budget, questions, asyncio.get_running_loop().time() + 60)

    return asyncio.run(run())


def test_one_48_has_no_more_than_its_share_while_others_are_served() -> None:
    greedy = [question(number, prefix(1)) for number in range(1_000)]
    others = [question(number, prefix(16 * number)) for number in range(2, 300)]
    asked = begun([*greedy, *others])
    assert len([one for one in asked if one.behalf == prefix(1)]) == PEER_ASKED_MAX
    assert set(others) <= set(asked)


def test_one_zone_has_no_more_than_its_share() -> None:
    names = [Question(Kind.LOCATORS, f"n{n}.silent.test", prefix(n)) for n in range(100)]
    assert len(begun(names)) == ASKED_FIRST


def test_one_32_has_at_most_an_eighth_of_the_waiting_queries_and_all_the_limit() -> None:
    async def run() -> tuple[int, int]:
        budget = Budget(Turns(PEERS, Counter[UpstreamCounter]()))
        until_s = asyncio.get_running_loop().time() + 60
        tasks = []
        for number in range(16 * 10):
            for _ in range(WAITING_EACH_MAX // 8):
                one = question(0, prefix(number))
                tasks.append(asyncio.create_task(budget.enter(one, until_s)))
        for _ in range(4):
            await asyncio.sleep(0)
        each = sum(not task.done() or task.result() for task in tasks[: 2 * WAITING_EACH_MAX])
        total = sum(not task.done() or task.result() for task in tasks)
        budget.close()
        await asyncio.gather(*tasks)
        return each, total

    each, total = asyncio.run(run())
    assert each == WAITING_EACH_MAX
    assert total == WAITING_MAX


def test_a_question_that_is_over_gives_its_places_back() -> None:
    async def run() -> None:
        budget = Budget(Turns(PEERS, Counter[UpstreamCounter]()))
        until_s = asyncio.get_running_loop().time() + 60
        for number in range(2 * WAITING_MAX):
            one = question(number, prefix(0))
            assert await budget.enter(one, until_s)
            budget.leave(one, LOST)

    asyncio.run(run())


# --- silence ---


def test_a_silent_zone_is_asked_one_question_in_a_time_that_doubles() -> None:
    silence = Silence()
    for _ in range(FAILURES_MAX):
        assert silence.may_ask(ZONE, 0)
        silence.note(ZONE, 0, answered=False)
    now_s, pause_s = 0.0, SILENCE_FIRST_S
    for _ in range(10):
        assert not silence.may_ask(ZONE, now_s + pause_s - 0.01)
        assert silence.may_ask(OTHER, now_s)
        now_s += pause_s
        assert silence.may_ask(ZONE, now_s)
        assert not silence.may_ask(ZONE, now_s), "one question, not two"
        silence.note(ZONE, now_s, answered=False)
        pause_s = min(2 * pause_s, SILENCE_MAX_S)
    silence.note(ZONE, now_s, answered=True)
    assert silence.may_ask(ZONE, now_s)


def test_of_so_many_silent_zones_the_oldest_is_forgotten() -> None:
    silence = Silence()
    for zone in [ZONE, *map(str, range(SILENT_ZONES_MAX))]:
        for _ in range(FAILURES_MAX):
            silence.note(zone, 0, answered=False)
    assert silence.may_ask(ZONE, 0)
    assert not silence.may_ask("0", 0)


# --- names of zones ---


def wire(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def test_a_zone_is_two_labels_of_a_host_name_and_48_bits_of_a_locator() -> None:
    site = "2.1.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
    for text in ("2001:db8:12::1", "2001:db8:12:ffff::1"):
        name = reverse_name(parse_locator(text))
        assert zone_of(name) == site
        assert zone_in_wire(make_query(wire(name), 12).name) == wire(site)
        assert parent_of(Question(Kind.NAMES, name)) == site
    assert zone_of("a.b.example") == zone_of("b.example") == "b.example"
    assert zone_in_wire(wire("a.b.example")) == wire("b.example")
    assert zone_of("example") == "example"
    assert zone_in_wire(wire("example")) == wire("example")
    assert parent_of(Question(Kind.LOCATORS, "a.b.example")) == "b.example"
