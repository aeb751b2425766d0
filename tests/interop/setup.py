# SPDX-License-Identifier: MIT
"""Setting a context up, as initiator and as responder, in a second implementation [§6]."""

import hashlib
import secrets
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from tests.interop.asking import jitter
from tests.interop.context import multiple
from tests.interop.curve import BASE
from tests.interop.names import Inquiry
from tests.interop.node import tell
from tests.interop.octets import (
    DISCARDED,
    NOTHING,
    Code,
    Labels,
    Message,
    Option,
    packed,
)
from tests.interop.talk import FIRST_S, Pair, Talk, Ulp

if TYPE_CHECKING:
    from tests.interop.alone import Alone

WAITING_S = 0.25
ROUNDS_MAX = 4
REPLIES_MAX = 2
EXCHANGE_S = 900.0
PROVISIONAL_S = 30.0
COOKIE_S = 30.0
KEYS_NS = 600 * 10**9


class SetUp:
    """The exchanges of one host.

    Args:
        host: the host.
    """

    def __init__(self, host: "Alone") -> None:
        self.host = host
        self.periods: dict[int, tuple[bytes, bytes]] = {}
        self.timer = -1
        self.nonces: dict[str, int] = {}
        self.tried: set[Pair] = set()
        self.round, self.sent_s = 0, 0.0
        self.started = 0.0

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Sets the one timer of the exchange."""
        self.host.node.cancel(self.timer)
        self.timer = self.host.node.after(delay_s, call)

    # --- as initiator -----------------------------------------------------------------------------

    def start(self) -> None:
        """Begins an exchange, or begins it anew."""
        talk = self.host.talk
        assert talk is not None
        self.host.share_lsr()
        self.nonces, self.tried, self.round, talk.replies = {}, set(), 0, 0
        talk.state = "init-sent"
        self.started = self.started or time.monotonic()
        self.send_init()

    def send_init(self) -> None:
        talk = self.host.talk
        assert talk is not None
        if not self.untried:
            self.round += 1
            self.tried.clear()
        if self.round == ROUNDS_MAX or time.monotonic() - self.started > EXCHANGE_S:
            tell("unable")
            self.host.forget("unable")
            return
        pair = self.untried[0]
        self.tried.add(pair)
        talk.nonce = self.nonces.setdefault(pair[1], secrets.randbits(64))
        message = self.host.init()
        if pair[0] == talk.local and pair[1] != talk.peer:
            message = riding(message, talk.waiting)
        talk.carried = talk.waiting if message.piggyback else None
        self.sent_s = time.monotonic()
        repeats_rewritable = len(self.host.locators) > 1 and self.round % 2 == 1
        self.host.send(message, pair, self.host.base if repeats_rewritable else 0)
        hurry = talk.waiting is not None and self.untried
        self.later(WAITING_S if hurry else jitter(FIRST_S * 2**self.round), self.send_init)

    @property
    def untried(self) -> list[Pair]:
        """The pairs over which INIT has yet to go in this round."""
        assert self.host.talk is not None
        return [one for one in self.host.talk.first_contacts if one not in self.tried]

    def proven_more(self) -> None:
        """The DNS has proven something: another destination is tried 250 ms after the last."""
        talk = self.host.talk
        if talk is not None and talk.state == "init-sent" and self.untried:
            self.later(max(0, self.sent_s + WAITING_S - time.monotonic()), self.send_init)

    def destination_of(self, message: Message) -> str:
        """Where the INIT went whose nonce a message has; empty if it is none of this exchange."""
        talk = self.host.talk
        _, ours = message.tokens
        if talk is None or (ours, message.labels.receiver) != (talk.token, talk.label):
            return ""
        found = [one for one, nonce in self.nonces.items() if nonce == message.nonce]
        return found[0] if found else ""

    def on_cc(self, message: Message, way: Pair, base: int) -> None:
        talk, destination = self.host.talk, self.destination_of(message)
        theirs, _ = message.tokens
        if talk is None or talk.state != "init-sent" or not destination:
            return
        talk.peer_token, talk.peer_public = theirs, message.public
        talk.peer_birthday = message.labels.sender_birthday
        talk.peer_locators = message.locators(Option.SENDERS_LOCATORS)
        talk.aid_proven |= destination == talk.peer
        if message.piggyback and way[1] in talk.ls:
            self.host.ulp.receive((message.protocol, message.piggyback))
        talk.state, talk.announced = "ccr-sent", True
        reply = self.host.check_reply(message)
        brought = talk.carried == talk.waiting and not message.flags & DISCARDED
        if way[1] != talk.peer and way[1] in talk.lsv and not brought:
            reply = riding(reply, talk.waiting)
        self.send_ccr(reply, way, base)

    def send_ccr(self, reply: Message, way: Pair, base: int) -> None:
        talk = self.host.talk
        assert talk is not None
        if talk.replies == REPLIES_MAX:
            self.start()
            return
        self.host.send(reply, way, base)
        talk.replies += 1
        other = (0 if base else self.host.base) if len(self.host.locators) > 1 else base
        delay_s = jitter(FIRST_S * 2 ** (talk.replies - 1))
        self.later(delay_s, lambda: self.send_ccr(reply, way, other))

    def on_conf(self, message: Message, way: Pair) -> None:
        talk, destination = self.host.talk, self.destination_of(message)
        if talk is None or talk.state not in ("init-sent", "ccr-sent"):
            return
        if not destination or not message.labels.sender:
            return
        if not self.host.authenticity(message):
            return
        talk.aid_proven |= destination == talk.peer
        self.host.note_peer(message)
        self.host.take_own_lsr(message)
        self.establish(way)
        self.host.tell_lsr()
        if message.piggyback and way[1] in talk.ls:
            self.host.ulp.receive((message.protocol, message.piggyback))

    def establish(self, pair: Pair) -> None:
        talk = self.host.talk
        assert talk is not None
        self.host.node.cancel(self.timer)
        talk.state, talk.announced, talk.waiting = "established", True, None
        self.started = 0.0
        talk.start_on(pair)
        self.host.reach.begin()
        tell("established", pair=talk.pair, label=talk.label, probation=talk.probation)
        held, talk.held = talk.held, []
        for source, packet in held:
            if source in talk.acceptable:
                self.host.deliver(source, packet)

    # --- as responder -----------------------------------------------------------------------------

    def on_init(self, message: Message, way: Pair, base: int) -> None:
        talk = self.host.talk
        if not message.labels.sender or message.receiver not in self.host.locators:
            return
        if talk is None or talk.settled or talk.probation or talk.state == "closing":
            self.answer_statelessly(message, way, base)
            return
        if way[1] not in {*talk.acceptable, *talk.ls} or talk.state == "ccr-sent":
            return
        talk.announced = True
        self.host.send(self.answering(message), way, base)

    def answering(self, message: Message) -> Message:
        """CONF that answers an INIT or a CCR: with what that says of its sender."""
        conf = self.host.conf(message.nonce)
        labels = replace(conf.labels, receiver=message.labels.sender)
        theirs, _ = message.tokens
        options = dict(conf.options)
        options[Option.CONTEXT] = labels.encode()
        options[Option.TOKENS] = self.host.context.token + theirs
        return replace(conf, options=options).signed(self.host.context.key_for(message))

    def answer_statelessly(self, message: Message, way: Pair, base: int) -> None:
        token = secrets.token_bytes(8)
        now_ns = time.monotonic_ns()
        public = multiple(self.period(now_ns)[1], BASE)
        check = self.host.check(message, token, b"", public)
        cookie = self.seal(now_ns, way[1], check, message.public)
        check = replace(check, options={**check.options, Option.COOKIE: cookie})
        flags = DISCARDED if message.piggyback else 0
        self.host.send(replace(check, flags=flags), way, base)

    def period(self, at_ns: int) -> tuple[bytes, bytes]:
        """The key of the cookie and the private key of a time; kept for two periods."""
        number = at_ns // KEYS_NS
        self.periods = {one: both for one, both in self.periods.items() if one >= number - 1}
        return self.periods.setdefault(number, (secrets.token_bytes(32), secrets.token_bytes(32)))

    def seal(self, at_ns: int, locator: str, check: Message, public: bytes) -> bytes:
        """The cookie of a CC: only this host can make it, and only for what the exchange says."""
        kinds = (Option.SENDERS_LOCATORS, Option.RECEIVERS_LOCATORS, Option.TOKENS)
        said = b"".join(check.options[kind] for kind in (Option.CONTEXT, *kinds))
        ends = packed(check.sender) + packed(check.receiver)
        timestamp = struct.pack("!Q", at_ns)
        cookie_key, private = self.period(at_ns)
        octets = timestamp + packed(locator) + ends + said + public + multiple(private, BASE)
        digest = hashlib.blake2b(octets, digest_size=16, key=cookie_key).digest()
        return timestamp + packed(locator) + digest

    def sealed_locator(self, message: Message) -> str:
        """Where the CC went that a CCR brings back; empty if it is not ours, or too old."""
        cookie = message.options[Option.COOKIE]
        locator = str(IPv6Address(cookie[8:24]))
        labels = message.labels
        check = Message(
            code=Code.CC,
            nonce=message.nonce,
            sender=message.receiver,
            receiver=message.sender,
            options={
                Option.CONTEXT: Labels(
                    receiver=labels.sender,
                    sender_birthday=labels.receiver_birthday,
                    receiver_birthday=labels.sender_birthday,
                ).encode(),
                Option.SENDERS_LOCATORS: message.options[Option.RECEIVERS_LOCATORS],
                Option.RECEIVERS_LOCATORS: message.options[Option.SENDERS_LOCATORS],
                Option.TOKENS: message.options[Option.TOKENS][8:16]
                + message.options[Option.TOKENS][:8],
            },
        )
        at_ns = int.from_bytes(cookie[:8], "big")
        if not 0 <= (time.monotonic_ns() - at_ns) / 1e9 <= COOKIE_S:
            return ""
        return locator if cookie == self.seal(at_ns, locator, check, message.public) else ""

    def on_ccr(self, message: Message, way: Pair, base: int) -> None:
        """Our own state comes back [§6, the table of CCR]."""
        locator = self.sealed_locator(message)
        if not locator or message.receiver not in self.host.locators:
            return
        talk = self.host.talk
        said = message.labels.sender, message.tokens[0], message.public
        if talk is not None and talk.settled and talk.peer_said == said:
            pass  # the CONF was lost
        elif multiple(secrets.token_bytes(32), message.public) == bytes(32):
            return
        elif talk is not None and talk.settled and not talk.probation:
            if locator in (talk.lsv or [talk.peer]):
                self.host.reach.test(lambda: self.replace(message, way, base, locator))
            return
        elif talk is not None and talk.state == "init-sent":
            if locator not in {talk.peer, *talk.lsv} or way[1] not in talk.ls:
                return
            talk.aid_proven |= locator == talk.peer
            self.host.note_peer(message)
            self.host.take_own_lsr(message)
            self.establish((way[0], locator))
        elif talk is None or talk.probation or talk.state == "closing":
            talk = self.accept(message, way, locator)
        else:
            return
        self.host.send(self.answering(message), (way[0], locator), base)
        self.host.tell_lsr()
        if message.piggyback:
            self.host.deliver(way[1], (message.protocol, message.piggyback))

    def replace(self, message: Message, way: Pair, base: int, locator: str) -> None:
        """The peer of our context is silent [§10]: the one of this CCR takes its place."""
        assert self.host.talk is not None
        found = self.host.talk.found
        self.accept(message, way, locator).found = found
        self.host.send(self.answering(message), (way[0], locator), base)

    def accept(self, message: Message, way: Pair, locator: str) -> Talk:
        """Makes the context of a CCR, a provisional one if the AID did not get the CC."""
        talk = self.host.new_talk(message.receiver, message.sender)
        talk.token = message.tokens[1]
        cookie = message.options[Option.COOKIE]
        _, talk.private = self.period(int.from_bytes(cookie[:8], "big"))
        talk.aid_proven = locator == talk.peer
        talk.probation = "" if talk.aid_proven else locator
        self.host.note_peer(message)
        self.host.take_own_lsr(message)
        self.establish((way[0], locator))
        if talk.probation:
            self.host.node.after(PROVISIONAL_S, lambda: self.unproven(talk))
        if talk.lsl != [talk.peer] or not talk.aid_proven:
            self.host.verify(Inquiry(talk.peer, talk.lsl))
        return talk

    def unproven(self, talk: Talk) -> None:
        if self.host.talk is talk and talk.probation:
            self.host.forget("not proven in time")


def riding(message: Message, packet: Ulp | None) -> Message:
    """A message with a packet of a ULP on it, if one waits."""
    protocol, payload = packet or (NOTHING, b"")
    return replace(message, protocol=protocol, piggyback=payload)
