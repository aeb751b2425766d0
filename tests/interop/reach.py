# SPDX-License-Identifier: MIT
"""The search for a pair that works, in a second implementation [§9].

It asks the pair in use first, and with it the others, one after another. Another pair is used only
after three URs over the pair in use have stayed unanswered. What a UR says it has heard counts as
an acknowledgement: the way back of that pair may be dead while another works.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.interop.node import tell
from tests.interop.octets import (
    ALL_DATA_LOST,
    ANSWER_HERE,
    BACKUP,
    BROKEN,
    DATA_ASKED,
    DATA_LOST,
    DEPRECATED,
    HEARS_NOTHING,
    TCP,
    Message,
)
from tests.interop.setup import riding
from tests.interop.talk import Pair, Ulp

if TYPE_CHECKING:
    from tests.interop.alone import Alone

UNMEASURED_S: Final = 0.25
UNMEASURED_ASK_S: Final = 0.156
SILENCE_MIN_S: Final = 0.005
SILENCE_MAX_S: Final = 3.0
FEW: Final = 4
FEW_S: Final = 1 / 16
ONE_WAY_S: Final = 0.045
GAP_MAX_S: Final = 4.0
GAP_UNUSUAL_S: Final = 0.0625
ASKS: Final = 3
PATIENCE_MIN_S: Final = 0.01
BURST: Final = 16
FIRST_INTERVAL_S: Final = 1 / 16
LATER_INTERVAL_S: Final = 1 / 64
CYCLE_S: Final = 0.8
AT_ONCE: Final = 3
KEEPALIVE_PACKETS: Final = 2
KEEPALIVE_S: Final = 0.04
DATA_ASKED_S: Final = 0.15
SUSPICION_S: Final = 0.1
SUSPICION_MAX_S: Final = 2.0
TEST_ROUNDS_S: Final = (0.0, 0.25, 0.5, 0.75)
TEST_S: Final = 1.0
TEST_AGAIN_S: Final = 2.0
LOST_REPORTS: Final = 4
LOST_REPORTS_AGAIN: Final = 2
LOST_S: Final = 0.8
PLAIN_S: Final = 60.0


@dataclass(slots=True)
class History:
    """What is known of one pair: its round-trip time, when it was heard from and lost data last."""

    round_trip_s: float = 0.0
    heard_s: float = 0.0
    lost_s: float = 0.0

    @property
    def loses_data(self) -> bool:
        """Whether data was lost over it lately."""
        return bool(self.lost_s) and time.monotonic() - self.lost_s < PLAIN_S

    def measure(self, round_trip_s: float) -> None:
        """Smooths as RFC 6298 does."""
        before = self.round_trip_s
        self.round_trip_s = before + (round_trip_s - before) / 8 if before else round_trip_s


@dataclass(slots=True)
class Search:
    """What belongs to a pair in use that is suspected.

    Attributes:
        told: the peer hears nothing from us.
        packet: of the ULP, that rides on the probes while no pair is known to work.
        began_s: when it began.
        asked: how often the pair in use was asked.
        silent: it has not answered; another pair may be used.
        nonces: of the URs sent, the pair and the time.
        working: the pairs that were acknowledged, the first one first.
        turns: URs sent over other pairs.
        names: its probes name a UR that came since it began.
        lost: it began since data is lost over the pair in use, whose acknowledgements mean nothing.
    """

    told: bool
    packet: Ulp | None
    began_s: float
    asked: int = 0
    silent: bool = False
    nonces: dict[int, tuple[Pair, float]] = field(default_factory=dict)
    working: list[Pair] = field(default_factory=list)
    turns: int = 0
    names: bool = False
    lost: bool = False


class Reach:
    """What one host knows of its pairs, and its search.

    Args:
        host: the host.
    """

    def __init__(self, host: "Alone") -> None:
        self.host = host
        self.begin()

    def begin(self) -> None:
        """A new context: nothing is known."""
        self.history: dict[Pair, History] = {}
        self.search: Search | None = None
        self.unanswered, self.unanswered_s = 0, 0.0
        self.unreturned, self.sent_s, self.data_s = 0, 0.0, 0.0
        self.heard_s = self.gap_s = 0.0
        self.newest = self.newest_keepalive = 0
        self.alarms, self.calm_until_s = 0, 0.0
        self.authentic_s = self.tested_s = 0.0
        self.answered = 0
        self.unheard, self.unheard_s, self.plain_until_s = 0, 0.0, 0.0
        self.lost_nonce = 0

    def of(self, pair: Pair) -> History:
        return self.history.setdefault(pair, History())

    @property
    def plain(self) -> bool:
        """Whether data travels plain because no pair is known to work."""
        is_aside = time.monotonic() < self.plain_until_s
        return is_aside or (self.search is not None and self.search.silent)

    @property
    def pair(self) -> Pair:
        """The pair in use."""
        assert self.host.talk is not None
        return self.host.talk.pair

    # --- silence ----------------------------------------------------------------------------------

    @property
    def silence_s(self) -> float:
        """T [§9]."""
        round_trip_s = self.of(self.pair).round_trip_s
        if not round_trip_s:
            return UNMEASURED_S
        return min(max(2 * round_trip_s, SILENCE_MIN_S), SILENCE_MAX_S)

    def patience_s(self, packet: Ulp) -> float:
        """For how long the silence of the peer means nothing, whatever T is."""
        many = self.unanswered > FEW
        if packet[0] == TCP:
            return 0.0 if many else FEW_S
        if self.gap_s:
            return max(ONE_WAY_S, 2 * self.gap_s)
        return FEW_S if many else SILENCE_MAX_S

    def sent(self, packet: Ulp) -> None:
        """A data packet leaves."""
        now_s = time.monotonic()
        self.sent_s, self.unreturned = now_s, 0
        self.unanswered += 1
        if self.unanswered == 1:
            self.unanswered_s = now_s
        elif now_s - self.unanswered_s > max(self.silence_s, self.patience_s(packet)):
            self.suspect(packet=packet if packet[0] == TCP else None)

    def heard(self, pair: Pair) -> None:
        """A data packet came, from the peer's end of a pair to ours."""
        self.alive(pair)
        self.unheard = 0
        now_s = self.data_s = time.monotonic()
        self.unreturned += 1
        if self.unreturned >= KEEPALIVE_PACKETS and now_s - self.sent_s >= KEEPALIVE_S:
            self.sent_s, self.unreturned = now_s, 0
            self.host.keep_alive()

    def heard_plain(self) -> None:
        """A plain packet came, which counts while the pair in use is the AIDs."""
        talk = self.host.talk
        if talk is not None and talk.pair == (talk.local, talk.peer):
            self.alive(talk.pair)

    def alive(self, pair: Pair) -> None:
        """Something came: what was sent so far is not unanswered any more."""
        now_s = time.monotonic()
        if self.heard_s:
            longest_s = max(2 * self.gap_s, GAP_UNUSUAL_S) if self.gap_s else GAP_MAX_S
            gap_s = min(now_s - self.heard_s, longest_s, GAP_MAX_S)
            self.gap_s = (3 * self.gap_s + gap_s) / 4 if self.gap_s else gap_s
        self.of(pair).heard_s = self.heard_s = now_s
        self.unanswered = 0

    # --- testing the context ----------------------------------------------------------------------

    def test(self, silent: Callable[[], None]) -> None:
        """Another exchange came for the AIDs: asks whether the peer has the context [§10].

        Args:
            silent: what to do if no answer to an unpredictable nonce comes.
        """
        began_s, context = time.monotonic(), self.host.talk
        if context is None or began_s - self.tested_s < TEST_AGAIN_S:
            return
        self.tested_s = began_s
        context.update_nonce += 1 + secrets.randbits(32)
        before = context.update_nonce
        tell("testing")

        def is_open() -> bool:
            return self.host.talk is context and self.answered <= before

        def ask() -> None:
            if is_open():
                update = self.host.next_update().signed(self.host.key)
                for pair in {self.pair, *((self.pair[0], one) for one in context.lsv)}:
                    self.host.send(update, pair, self.host.base)

        def decide() -> None:
            if is_open():
                silent()

        for delay_s in TEST_ROUNDS_S:
            self.host.node.after(delay_s, ask)
        self.host.node.after(TEST_S, decide)

    # --- asking the pair in use -------------------------------------------------------------------

    def suspect(self, *, told: bool = False, packet: Ulp | None = None) -> None:
        """Asks the pair in use, unless that is in progress or had no answer recently."""
        talk = self.host.talk
        now_s = time.monotonic()
        if talk is None or not talk.carries or self.search is not None:
            return
        if not told and now_s < self.calm_until_s:
            return
        if not told and self.loses_data():
            self.lose(packet)
            return
        self.search = Search(told, packet, now_s)
        tell("asking", pair=talk.pair, told=told)
        self._probe(self.search, talk.pair, flags=0)
        self.search.asked = 1
        round_trip_s = self.of(talk.pair).round_trip_s
        self._later(1.25 * round_trip_s if round_trip_s else UNMEASURED_ASK_S, self._doubt)

    def _later(self, delay_s: float, call: Callable[[Search], None]) -> None:
        """Goes on with this search, if it is still under way by then."""
        search = self.search

        def go_on() -> None:
            talk = self.host.talk
            if search is not None and self.search is search and talk is not None and talk.carries:
                call(search)

        self.host.node.after(delay_s, go_on)

    def _doubt(self, search: Search) -> None:
        """No answer in the usual time: the pair is asked more, and the others are probed."""
        tell("doubting", pair=self.pair)
        self._try_next(search)
        for _ in range(ASKS - search.asked):
            self._probe(search, self.pair)
        search.asked = ASKS
        round_trip_s = self.of(self.pair).round_trip_s
        patience_s = max(1.5 * round_trip_s, PATIENCE_MIN_S) if round_trip_s else UNMEASURED_S
        self._later(patience_s, self._decide)

    def _decide(self, search: Search) -> None:
        """The pair in use is silent."""
        search.silent = True
        if search.working:
            self._switch(search, search.working[0])
        else:
            tell("searching")

    # --- data that is lost though messages pass ---------------------------------------------------

    @property
    def lost_elsewhere(self) -> bool:
        """Whether data was lost over another pair lately."""
        return any(one.loses_data for pair, one in self.history.items() if pair != self.pair)

    def loses_data(self) -> bool:
        """Counts a suspicion because of unanswered data; returns whether there were enough."""
        now_s = time.monotonic()
        self.unheard_s = self.unheard_s if self.unheard else now_s
        self.unheard += 1
        if self.authentic_s <= self.unheard_s:
            return False
        if self.lost_elsewhere:
            return self.unheard >= LOST_REPORTS_AGAIN
        return self.unheard >= LOST_REPORTS and now_s - self.unheard_s >= LOST_S

    def lose(self, packet: Ulp | None, *, told: bool = False, everywhere: bool = False) -> None:
        """Data over the pair in use is lost, or data over all pairs; the peer may have said so."""
        talk = self.host.talk
        assert talk is not None
        now_s, self.unheard = time.monotonic(), 0
        if now_s < self.plain_until_s:
            return
        everywhere |= self.lost_elsewhere or len(talk.pairs) == 1
        self.of(self.pair).lost_s, self.lost_nonce = now_s, talk.update_nonce + 1
        tell("lost data", pair=self.pair, everywhere=everywhere)
        if everywhere:
            self.search, self.plain_until_s = None, now_s + PLAIN_S
            message = self.host.next_update(HEARS_NOTHING | (0 if told else ALL_DATA_LOST))
            self.host.send(message.signed(self.host.key), (talk.local, talk.peer))
            return
        self.search = Search(told, packet, now_s, asked=ASKS, silent=True, lost=True)
        self._try_next(self.search)

    # --- probing the others -----------------------------------------------------------------------

    def _try_next(self, search: Search) -> None:
        """Probes the next pair: 16 in the first second, then 64/s, then all in a cycle's time."""
        assert self.host.talk is not None
        pairs = [pair for pair in self.host.talk.pairs if pair != self.pair or search.silent]
        pairs.sort(key=self.rank)
        if not pairs:
            self._later(CYCLE_S, self._try_next)
            return
        self._probe(search, pairs[search.turns % len(pairs)])
        search.turns += 1
        if search.turns > len(pairs):
            delay_s = CYCLE_S / len(pairs)
        elif search.turns < AT_ONCE:
            delay_s = 0.0  # the most promising ones
        else:
            delay_s = FIRST_INTERVAL_S if search.turns < BURST else LATER_INTERVAL_S
        self._later(delay_s, self._try_next)

    def rank(self, pair: Pair) -> tuple[int, bool, float, float]:
        """How promising a pair is; the smaller the better."""
        shared = pair[0] == self.pair[0] or pair[1] == self.pair[1]
        known = self.of(pair)
        return self.standing(pair), shared, -known.heard_s, known.round_trip_s or SILENCE_MAX_S

    def standing(self, pair: Pair) -> int:
        """What the owners of its ends say of a pair; the smaller the better."""
        talk = self.host.talk
        assert talk is not None
        flags = talk.peer_locators.get(pair[1], 0) | talk.locators.get(pair[0], 0)
        said = [flags & BROKEN, flags & DEPRECATED, flags & BACKUP]
        return sum(bool(flag) << place for place, flag in enumerate(reversed(said)))

    def _probe(self, search: Search, pair: Pair, *, flags: int = HEARS_NOTHING) -> None:
        flags = 0 if search.told else flags | DATA_LOST * search.lost
        message = self.host.next_update(flags)
        if search.silent:
            message = riding(message, search.packet)
        search.nonces[message.nonce] = pair, time.monotonic()
        self.host.send(message.signed(self.host.key), pair, self.host.base)

    def _switch(self, search: Search, pair: Pair) -> None:
        assert self.host.talk is not None
        spent_ms = (time.monotonic() - search.began_s) * 1000
        tell("switched", old=self.pair, new=pair, spent_ms=round(spent_ms))
        self.search, self.unanswered, self.alarms = None, 0, 0
        self.host.talk.pair = pair
        if search.packet is not None:
            self.host.carry(search.packet)

    # --- what the peer says -----------------------------------------------------------------------

    def on_acknowledgement(self, message: Message, way: Pair) -> None:
        self.alive(way)
        self.authentic_s = time.monotonic()
        self.answered = max(self.answered, message.nonce)
        self._reached(message.nonce, measures=True)

    def on_keepalive(self, message: Message, way: Pair) -> None:
        """A sign of life, unless it is an old one."""
        if message.nonce > self.newest_keepalive:
            self.newest_keepalive = message.nonce
            if not message.flags & DATA_ASKED:
                self.unheard = 0
            self.alive(way)
            self.authentic_s = time.monotonic()

    def _reached(self, nonce: int, *, measures: bool) -> None:
        """A UR of ours has reached the peer."""
        search = self.search
        if search is None or nonce not in search.nonces:
            return
        pair, sent_s = search.nonces.pop(nonce)
        if measures:
            self.of(pair).measure(time.monotonic() - sent_s)
        if search.lost and self.of(pair).loses_data:
            return
        if pair == self.pair:
            self.search = None
            wait_s = min(SUSPICION_S * 2**self.alarms, SUSPICION_MAX_S)
            self.alarms += 1
            self.calm_until_s = time.monotonic() + wait_s
            tell("alive", pair=pair)
        elif search.silent:
            self._switch(search, pair)
        elif pair not in search.working:
            search.working.append(pair)

    def on_update(self, message: Message, way: Pair, base: int, *, changes: bool) -> None:
        """Acknowledges a UR, takes what it names, and asks if the peer hears nothing."""
        talk = self.host.talk
        assert talk is not None
        if message.flags & ANSWER_HERE:
            self.of(way).heard_s = time.monotonic()  # it measures, and answers no data
        else:
            self.alive(way)
        if message.nonce > self.newest:
            self.authentic_s = time.monotonic()
        self.newest = max(self.newest, message.nonce)
        if message.heard <= talk.update_nonce:
            self.answered = max(self.answered, message.heard)
        self._reached(message.heard, measures=False)
        search = self.search
        if search is not None and search.asked == ASKS and not search.names:
            # What was probed before did not name this UR: all pairs once more.
            search.names, search.turns = True, 0
        told = bool(message.flags & (HEARS_NOTHING | ANSWER_HERE))
        best = min(map(self.standing, talk.pairs), default=0)
        pairs = [way] if told or changes or best < self.standing(talk.pair) else []
        if not told or way[1] not in talk.lsv:
            pairs.append(talk.pair)
        for pair in dict.fromkeys(pairs):
            if pair[1] in talk.lsv:
                self.host.send(self.host.acknowledgement(message), pair, base)
        if message.flags & DATA_ASKED and time.monotonic() - self.data_s < DATA_ASKED_S:
            self.host.keep_alive(DATA_ASKED)
        if message.flags & (DATA_LOST | ALL_DATA_LOST):
            if message.heard >= self.lost_nonce:
                self.lose(None, told=True, everywhere=bool(message.flags & ALL_DATA_LOST))
        elif message.flags & HEARS_NOTHING:
            self.suspect(told=True)
