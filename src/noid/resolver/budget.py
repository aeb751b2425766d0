# SPDX-License-Identifier: MIT
"""Limits the questions that are asked because of peers that started a context [D46].

One peer's /48, or the names of one zone, get a limited share of the questions. A zone that is
silent is asked at increasing intervals [RFC 9520]. Questions about peers of local programs
are not limited here.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Final, NamedTuple

from noid.dns.records import Answer, Question, Status
from noid.dns.zones import parent_of, zone_of
from noid.resolver.fairness import FairQueue
from noid.resolver.turns import Claim, Turns
from noid.shares.policy import INQUIRIES, SHARES, ZONE_QUESTIONS

WIDE_OCTETS: Final = 4
"""Peers of one /32 are one user of the table of questions; those of one /48 are a lane of it."""
ASKED_FIRST: Final = 4
"""Open questions about one zone before its server has answered; each answer permits one more."""
ASKED_MAX: Final = ZONE_QUESTIONS.each
"""The maximum of the same: one eighth of the questions about peers."""
PEER_ASKED_MAX: Final = INQUIRIES.share // SHARES
"""Open questions because of peers in one /48: one eighth of the share of their /32."""
WAITING_MAX: Final = 4_096
WAITING_EACH_MAX: Final = WAITING_MAX // SHARES
"""Questions about peers in all, and of one /32, including those that wait; one more is answered
"unreachable" at once."""
FAILURES_MAX: Final = 8
"""A zone is silent after this many unanswered questions in sequence."""
SILENCE_FIRST_S: Final = 1.0
SILENCE_MAX_S: Final = 60.0
"""The interval of questions to a silent zone; it doubles with each unanswered one."""
SILENT_ZONES_MAX: Final = 4_096
"""Zones whose failures are stored; the oldest is removed first."""


class Budget:
    """Decides which questions about peers may be asked now.

    Args:
        turns: the table that these questions share.
    """

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self._peers = Gate(PEER_ASKED_MAX, PEER_ASKED_MAX)
        self._zones = Gate(ASKED_FIRST, ASKED_MAX)
        self._silence = Silence()
        self._counts: Counter[bytes] = Counter()
        self._count = 0

    def claim(self, question: Question) -> Claim:
        """The claim of a question."""
        return Claim(self.turns, question.behalf[:WIDE_OCTETS], question.behalf)

    async def enter(self, question: Question, until_s: float) -> bool:
        """Waits for the turn of a question.

        Args:
            question: what is to be asked.
            until_s: when to give up, by the clock of the loop.

        Returns:
            Whether it may start; it then has to ``leave``.
        """
        wide = question.behalf[:WIDE_OCTETS]
        if self._count >= WAITING_MAX or self._counts[wide] >= WAITING_EACH_MAX:
            return False
        self._count += 1
        self._counts[wide] += 1
        is_peers_turn = has_entered = False
        try:
            is_peers_turn = await self._peers.enter(question.behalf, until_s)
            if is_peers_turn:
                zone = zone_of(question.name)
                has_entered = await self._zones.enter(zone, until_s, wide, question.behalf)
            return has_entered
        finally:
            if is_peers_turn and not has_entered:
                self._peers.leave(question.behalf, answered=False)
            if not has_entered:
                self._forget(wide)

    def leave(self, question: Question, answer: Answer) -> None:
        """The question has ended."""
        answered = answer.status is not Status.UNREACHABLE
        self._zones.leave(zone_of(question.name), answered=answered)
        self._peers.leave(question.behalf, answered=answered)
        self._forget(question.behalf[:WIDE_OCTETS])

    def _forget(self, wide: bytes) -> None:
        self._count -= 1
        self._counts[wide] -= 1
        if not self._counts[wide]:
            del self._counts[wide]

    def may_ask(self, question: Question) -> bool:
        """Whether the zone of the question answers, or is due for a try."""
        return self._silence.may_ask(parent_of(question), asyncio.get_running_loop().time())

    def note(self, question: Question, answer: Answer) -> None:
        """Records that a resolver was able to answer the question."""
        answered = answer.status is not Status.UNREACHABLE
        now_s = asyncio.get_running_loop().time()
        self._silence.note(parent_of(question), now_s, answered=answered)

    def close(self) -> None:
        """Every question that waits is refused."""
        self._peers.close()
        self._zones.close()


class Gate:
    """Limits the open questions of each key; others wait, with their users in rotation.

    Args:
        first: the limit of a key before an answer; each answer permits one more.
        most: the highest limit of a key.
    """

    def __init__(self, first: int, most: int) -> None:
        self.first = first
        self.most = most
        self._entries: dict[Hashable, _Entry] = {}

    async def enter(
        self, key: Hashable, until_s: float, user: Hashable = None, lane: Hashable = None
    ) -> bool:
        """Waits for the turn of one question.

        Args:
            key: the key that is limited.
            until_s: when to give up, by the clock of the loop.
            user: whose question it is.
            lane: the kind of the question.

        Returns:
            Whether it may begin; it then has to ``leave``.
        """
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(self.first, FairQueue())
        if entry.count < entry.allowed:
            entry.count += 1
            return True
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        entry.behind.put(user, lane, turn)
        timer = loop.call_at(until_s, _refuse, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result():
                self.leave(key, answered=False)
            raise
        finally:
            timer.cancel()

    def leave(self, key: Hashable, *, answered: bool) -> None:
        """A question has ended: the next ones may begin."""
        entry = self._entries[key]
        entry.count -= 1
        if answered:
            entry.allowed = min(entry.allowed + 1, self.most)
        while entry.count < entry.allowed:
            taken = entry.behind.take()
            if taken is None:
                break
            _, turn = taken
            if not turn.done():
                entry.count += 1
                turn.set_result(True)
        if not entry.count:
            del self._entries[key]

    def close(self) -> None:
        """Every question that waits is refused."""
        for entry in self._entries.values():
            while (taken := entry.behind.take()) is not None:
                _refuse(taken[1])


class _Entry:
    """The questions of one key: the limit, the number of open ones, and those that wait."""

    __slots__ = ("allowed", "behind", "count")

    def __init__(self, allowed: int, behind: "FairQueue[asyncio.Future[bool]]") -> None:
        self.allowed = allowed
        self.count = 0
        self.behind = behind


def _refuse(turn: "asyncio.Future[bool]") -> None:
    if not turn.done():
        turn.set_result(False)


class _Failures(NamedTuple):
    """One zone: the number of unanswered questions in sequence, and when one may be asked again."""

    unanswered: int
    again_s: float


class Silence:
    """The zones whose servers do not answer. Times are those of the loop, in seconds."""

    def __init__(self) -> None:
        self._failures: OrderedDict[Hashable, _Failures] = OrderedDict()

    def is_silent(self, zone: Hashable) -> bool:
        """Whether a zone has not answered its last questions."""
        failures = self._failures.get(zone)
        return failures is not None and failures.unanswered >= FAILURES_MAX

    def may_ask(self, zone: Hashable, now_s: float) -> bool:
        """Whether a question about a zone may be asked now; counts it as asked."""
        if not self.is_silent(zone):
            return True
        failures = self._failures[zone]
        if now_s < failures.again_s:
            return False
        self._failures[zone] = _Failures(failures.unanswered, now_s + _pause_s(failures.unanswered))
        return True

    def note(self, zone: Hashable, now_s: float, *, answered: bool) -> None:
        """A question about a zone has ended."""
        failures = self._failures.pop(zone, _Failures(0, 0.0))
        if answered:
            return
        count = failures.unanswered + 1
        self._failures[zone] = _Failures(count, now_s + _pause_s(count))
        if len(self._failures) > SILENT_ZONES_MAX:
            self._failures.popitem(last=False)


def _pause_s(failures: int) -> float:
    doublings = max(failures - FAILURES_MAX, 0)
    return min(SILENCE_FIRST_S * 2.0 ** min(doublings, 16), SILENCE_MAX_S)
