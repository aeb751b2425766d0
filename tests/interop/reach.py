"""The search for a pair that works, in a second implementation [§9].

It asks the pair in use first, and with it the others, one after another. Another pair is used only
after three URs over the pair in use have stayed unanswered. What a UR says it has heard counts as
an acknowledgement: the way back of that pair may be dead while another works.
"""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.interop.asking import jitter
from tests.interop.node import tell
from tests.interop.octets import (
    BACKUP,
    BROKEN,
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
SILENCE_MIN_S: Final = 0.005
SILENCE_MAX_S: Final = 3.0
FEW: Final = 4
FEW_S: Final = 1 / 16
ASKS: Final = 3
PATIENCE_MIN_S: Final = 0.01
BURST: Final = 16
FIRST_INTERVAL_S: Final = 1 / 16
LATER_INTERVAL_S: Final = 1 / 64
BACK_OFF_MAX_S: Final = 10.0
KEEPALIVE_PACKETS: Final = 2
KEEPALIVE_S: Final = 0.04


@dataclass(slots=True)
class History:
    """What is known of one pair: its round-trip time, and when it was last heard from."""

    round_trip_s: float = 0.0
    heard_s: float = 0.0

    def measure(self, round_trip_s: float) -> None:
        """Smooths as RFC 6298 does."""
        before = self.round_trip_s
        self.round_trip_s = before + (round_trip_s - before) / 8 if before else round_trip_s


@dataclass(slots=True)
class Search:
    """A search under way.

    Attributes:
        flags: what its URs say.
        packet: of the ULP, that rides on them.
        began_s: when.
        asked: how often the pair in use was asked.
        decided: whether another pair may be used.
        nonces: of the URs sent, the pair and the time.
        working: the pairs that were acknowledged, the first one first.
        turns: URs sent over other pairs.
    """

    flags: int
    packet: Ulp | None
    began_s: float
    asked: int = 0
    decided: bool = False
    nonces: dict[int, tuple[Pair, float]] = field(default_factory=dict)
    working: list[Pair] = field(default_factory=list)
    turns: int = 0


class Reach:
    """What one host knows of its pairs, and its search.

    Args:
        host: whose.
    """

    def __init__(self, host: "Alone") -> None:
        self.host = host
        self.begin()

    def begin(self) -> None:
        """A new context: nothing is known."""
        self.history: dict[Pair, History] = {}
        self.search: Search | None = None
        self.plain = False
        self.unanswered, self.unanswered_s = 0, 0.0
        self.unreturned, self.sent_s = 0, 0.0
        self.newest = 0

    def of(self, pair: Pair) -> History:
        return self.history.setdefault(pair, History())

    # --- silence ----------------------------------------------------------------------------------

    @property
    def silence_s(self) -> float:
        """T [§9]."""
        assert self.host.talk is not None
        round_trip_s = self.of(self.host.talk.pair).round_trip_s
        if not round_trip_s:
            return UNMEASURED_S
        return min(max(2 * round_trip_s, SILENCE_MIN_S), SILENCE_MAX_S)

    def sent(self, packet: Ulp) -> None:
        """A data packet leaves."""
        now_s = time.monotonic()
        self.sent_s, self.unreturned = now_s, 0
        self.unanswered += 1
        if self.unanswered == 1:
            self.unanswered_s = now_s
            return
        silent_s = now_s - self.unanswered_s
        if silent_s > self.silence_s and (self.unanswered > FEW or silent_s > FEW_S):
            self.look(HEARS_NOTHING, packet if packet[0] == TCP else None)

    def heard(self, pair: Pair) -> None:
        """A data packet came, from the peer's end of a pair to ours."""
        self.alive(pair)
        now_s = time.monotonic()
        self.unreturned += 1
        if self.unreturned >= KEEPALIVE_PACKETS and now_s - self.sent_s >= KEEPALIVE_S:
            self.sent_s, self.unreturned = now_s, 0
            self.host.keep_alive()

    def heard_plain(self) -> None:
        talk = self.host.talk
        if talk is not None and talk.pair == (talk.local, talk.peer):
            self.alive(talk.pair)

    def alive(self, pair: Pair) -> None:
        """Something came: what was sent so far is not unanswered any more."""
        self.of(pair).heard_s = time.monotonic()
        self.unanswered = 0

    # --- the search -------------------------------------------------------------------------------

    def look(self, flags: int, packet: Ulp | None = None) -> None:
        """Begins to search, if no search is under way."""
        talk = self.host.talk
        if talk is None or not talk.carries or self.search is not None:
            return
        self.search = Search(flags, packet, time.monotonic())
        tell("searching", pair=talk.pair, flags=flags)
        self._ask(self.search)
        self._try_next(self.search)

    def _still(self, search: Search) -> bool:
        return self.search is search and self.host.talk is not None and self.host.talk.carries

    def _ask(self, search: Search) -> None:
        """Asks the pair in use, three times close together; then it may be left."""
        if not self._still(search):
            return
        assert self.host.talk is not None
        round_trip_s = self.of(self.host.talk.pair).round_trip_s
        if search.asked < ASKS:
            search.asked += 1
            self._probe(search, self.host.talk.pair)
            last = search.asked == ASKS
            patience_s = max(1.5 * round_trip_s, PATIENCE_MIN_S) if round_trip_s else UNMEASURED_S
            gap_s = max(round_trip_s / 2, PATIENCE_MIN_S / 4)
            self.host.node.after(patience_s if last else gap_s, lambda: self._ask(search))
            return
        search.decided = True
        if search.working:
            self._switch(search.working[0])

    def _try_next(self, search: Search) -> None:
        """Probes the next of the other pairs: 16 in the first second, then 64/s, then rarely."""
        if not self._still(search):
            return
        assert self.host.talk is not None
        others = sorted(
            (pair for pair in self.host.talk.pairs if pair != self.host.talk.pair), key=self.rank
        )
        if not others:
            return
        rounds, turn = divmod(search.turns, len(others))
        self._probe(search, others[turn])
        search.turns += 1
        if search.decided and turn == 0:
            self._probe(search, self.host.talk.pair)
        if turn + 1 < len(others):
            delay_s = FIRST_INTERVAL_S if search.turns < BURST else LATER_INTERVAL_S
        else:
            delay_s = min(FIRST_INTERVAL_S * 2 ** (rounds + 1), BACK_OFF_MAX_S)
        if rounds == 0 and search.turns < ASKS:
            delay_s = 0  # the most promising go at once
        self.host.node.after(jitter(delay_s), lambda: self._try_next(search))

    def rank(self, pair: Pair) -> tuple[int, bool, float, float]:
        """How promising a pair is; the smaller the better."""
        talk = self.host.talk
        assert talk is not None
        flags = talk.peer_locators.get(pair[1], 0) | talk.locators.get(pair[0], 0)
        standing = flags & (BROKEN | DEPRECATED | BACKUP)
        shared = pair[0] == talk.pair[0] or pair[1] == talk.pair[1]
        known = self.of(pair)
        return standing, shared, -known.heard_s, known.round_trip_s or SILENCE_MAX_S

    def _probe(self, search: Search, pair: Pair) -> None:
        message = riding(self.host.next_update(search.flags), search.packet)
        search.nonces[message.nonce] = pair, time.monotonic()
        self.host.send(message.signed(self.host.key), pair, self.host.base)

    def _switch(self, pair: Pair) -> None:
        talk = self.host.talk
        assert talk is not None
        assert self.search is not None
        spent_ms = (time.monotonic() - self.search.began_s) * 1000
        tell("switched", old=talk.pair, new=pair, spent_ms=round(spent_ms))
        packet = self.search.packet
        self.search, self.unanswered = None, 0
        talk.pair = pair
        if packet is not None:
            self.host.carry(packet)

    # --- what the peer says -----------------------------------------------------------------------

    def on_acknowledgement(self, message: Message, way: Pair) -> None:
        self.alive(way)
        self._reached(message.nonce, measured=True)

    def _reached(self, nonce: int, *, measured: bool) -> None:
        """A UR of ours has reached the peer."""
        search, talk = self.search, self.host.talk
        if search is None or talk is None or nonce not in search.nonces:
            return
        pair, sent_s = search.nonces[nonce]
        if measured:
            self.of(pair).measure(time.monotonic() - sent_s)
        if pair == talk.pair:
            self.search = None
            tell("alive", pair=pair)
        elif search.decided:
            self._switch(pair)
        elif pair not in search.working:
            search.working.append(pair)

    def on_update(self, message: Message, way: Pair, base: int, repeated: bool) -> None:
        """Acknowledges a UR, and looks for another pair if the peer hears nothing."""
        talk = self.host.talk
        assert talk is not None
        self.alive(way)
        self.newest = max(self.newest, message.nonce)
        back = way if way[1] in talk.lsv else talk.pair
        pairs = [back]
        if repeated:
            pairs += [pair for pair in talk.pairs if pair not in pairs][:4]
        for pair in pairs:
            if pair[1] in talk.lsv:
                self.host.send(self.host.acknowledgement(message), pair, base)
        if message.flags & HEARS_NOTHING:
            self.look(0)
