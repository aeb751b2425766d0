# SPDX-License-Identifier: MIT
"""The DNS of the simulated world: a table of correct data, with faults on request.

The data can change. With caching, resolvers give an old answer until its TTL has passed.
"""

import dataclasses
import random
from collections import Counter
from collections.abc import Callable

from noid.constants import MILLISECOND, SECOND
from noid.dns.records import Answer, Kind, Question, Status, locator_at
from noid.locators import Locator

TTL_SECONDS = 60
TIMEOUT_NS = 3 * SECOND
NEVER_NS = 3_600 * SECOND


class Names:
    """Forward and reverse zones.

    Attributes:
        forward: name -> its AAAA records.
        reverse: locator -> its PTR records.
        ttl_seconds: of every record.
        caches: whether resolvers keep answers for their TTL.
        timeouts: share of questions that are never answered.
        lies: share of questions with a wrong negative answer.
        slow_ns: the longest time of an answer.
        mute: zones whose server does not answer.
        silent: no question gets an answer or an error.
        changes: how often the data have changed.
        listeners: called with every question.
    """

    def __init__(self, source: random.Random, injected: Counter[str]) -> None:
        self.random = source
        self.injected = injected
        self.forward: dict[str, tuple[Locator, ...]] = {}
        self.reverse: dict[Locator, tuple[str, ...]] = {}
        self.ttl_seconds = TTL_SECONDS
        self.caches = False
        self.cached: dict[Question, tuple[int, Answer]] = {}
        self.spellings: dict[str, int] = {}
        self.aliases: dict[str, tuple[str, bool]] = {}
        self.timeouts = 0.0
        self.lies = 0.0
        self.slow_ns = 20 * MILLISECOND
        self.silent = False
        self.mute: set[str] = set()
        self.changes = 0
        self.listeners: list[Callable[[Question], None]] = []

    def alias(self, name: str, other: str, lists_all: bool) -> None:
        """Gives a host another name, in its PTR records, with its first locator or all."""
        self.aliases[name] = (other, lists_all)
        self.publish(name, self.forward[name])

    def publish(self, name: str, locators: tuple[Locator, ...]) -> None:
        """Publishes a host's locators in both zones."""
        for locator in self.forward.get(name, ()):
            if locator not in locators:
                self.reverse.pop(locator, None)
        self.changes += self.forward.get(name, locators) != locators
        self.forward[name] = locators
        other, lists_all = self.aliases.get(name, ("", False))
        for locator in locators:
            self.reverse[locator] = (name, other) if other else (name,)
        if other:
            self.forward[other] = locators if lists_all else locators[:1]

    def spell(self, name: str, seed: int) -> None:
        """Writes the name in another case, and its records in another order, some twice."""
        self.spellings[name] = seed

    def heal(self) -> None:
        """Removes all faults."""
        self.timeouts = self.lies = 0.0
        self.silent = False
        self.mute.clear()
        self.cached.clear()
        self.slow_ns = 20 * MILLISECOND

    def ask(self, question: Question, now_ns: int) -> tuple[int, Answer]:
        """How long an answer takes, and the answer."""
        for listener in self.listeners:
            listener(question)
        if self.silent:
            return NEVER_NS, Answer(status=Status.UNREACHABLE)
        delay_ns = self.random.randrange(MILLISECOND, self.slow_ns)
        fails = self.timeouts and self.random.random() < self.timeouts
        if fails or question.name in self.mute:
            self.injected["DNS timeout"] += 1
            return TIMEOUT_NS, Answer(status=Status.UNREACHABLE)
        if self.lies and self.random.random() < self.lies:
            self.injected["DNS lie"] += 1
            self.changes += 1
            return delay_ns, Answer(status=Status.ABSENT, ttl_seconds=self.ttl_seconds)
        return delay_ns, self._kept(question, now_ns) if self.caches else self._truth(question)

    def _kept(self, question: Question, now_ns: int) -> Answer:
        """The answer in a resolver's cache, while its TTL lasts."""
        until_ns, answer = self.cached.get(question, (0, None))
        if answer is None or until_ns < now_ns + SECOND:
            answer = self._truth(question)
            self.cached[question] = (now_ns + self.ttl_seconds * SECOND, answer)
            return answer
        return dataclasses.replace(answer, ttl_seconds=(until_ns - now_ns) // SECOND)

    def _truth(self, question: Question) -> Answer:
        answer = self._plain_truth(question)
        owner = next(
            (name for name in self.spellings if name in (question.name, *answer.names)), ""
        )
        if not owner:
            return answer
        way = random.Random(f"{self.spellings[owner]}/{question.name}")
        names = [way.choice((one, one.upper(), one.title())) for one in answer.names]
        locators = [*answer.locators, *answer.locators[: way.randrange(2)]]
        way.shuffle(names)
        way.shuffle(locators)
        return dataclasses.replace(answer, names=tuple(names), locators=tuple(locators))

    def _plain_truth(self, question: Question) -> Answer:
        if question.kind is Kind.NAMES:
            names = self.reverse.get(locator_at(question.name))
            if names is not None:
                return Answer(status=Status.FOUND, names=names, ttl_seconds=self.ttl_seconds)
            return Answer(status=Status.ABSENT, ttl_seconds=self.ttl_seconds)
        if question.kind is Kind.LOCATORS and self.forward.get(question.name):
            return Answer(
                status=Status.FOUND,
                locators=self.forward[question.name],
                ttl_seconds=self.ttl_seconds,
            )
        if question.kind is Kind.CAPABILITY and question.name in self.forward:
            return Answer(status=Status.FOUND, ttl_seconds=self.ttl_seconds)
        return Answer(status=Status.ABSENT, ttl_seconds=self.ttl_seconds)
