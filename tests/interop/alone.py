# SPDX-License-Identifier: MIT
"""A second implementation that acts by itself: a host with one peer [§6, §7, §8].

Written from docs/protocol.md and nothing else, with the standard library alone. It resolves the
name of its peer, sets up a context, repeats what is not answered, verifies by DNS, tells its sets
and follows those of its peer. ``reach`` has the search for a pair that works.
"""

import sys
import time
from collections import Counter
from dataclasses import replace
from typing import Any

from tests.interop.asking import Asker, Verifier, jitter
from tests.interop.closing import Closing
from tests.interop.context import Speaker
from tests.interop.names import AAAA, M6, Found, Inquiry, Question, Reply
from tests.interop.node import Node, tell
from tests.interop.octets import (
    IN_LSL,
    IN_LSR,
    M6_NEXT_HEADERS,
    NO_REWRITE,
    REWRITE_OK,
    Code,
    Malformed,
    Message,
    Option,
    Packet,
    control_message,
    control_packet,
    data_payload,
    ulp_payload,
)
from tests.interop.reach import Reach
from tests.interop.setup import SetUp
from tests.interop.talk import FIRST_S, HELD_MAX, UPDATE_MAX_S, Pair, Talk, Ulp
from tests.interop.ulp import Datagrams

EXCHANGE_S = 900.0
LOOK_AGAIN_S = 30.0
VERIFY_AGAIN_S = 300.0


class Alone(Speaker):
    """One host.

    Args:
        locators: its own, all of the node it runs on; the first is its AID.
        server: the address of its DNS server.
    """

    def __init__(self, locators: list[str], server: str) -> None:
        super().__init__(locators, ["::"])
        self.node = Node(locators)
        self.asker = Asker(self.node, server)
        self.talk: Talk | None = None
        self.lost: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        self.update_timer = self.again_timer = -1
        self.settled_at = 0.0
        self.setup = SetUp(self)
        self.closing = Closing(self)
        self.ulp = Datagrams(self.node, self.carry, lambda: (self.context.local, self.context.peer))
        self.reach = Reach(self)

    def run(self) -> None:
        """Acts until the commands end."""
        self.node.run(self.receive, self.obey)

    def obey(self, command: dict[str, Any]) -> None:
        match command["do"]:
            case "talk":
                self.ulp.every_s, self.ulp.left = command["every_ms"] / 1000, command["count"]
                self.ulp.port = command["port"]
                self.resolve(command["name"])
            case "lose":
                self.lost.update(command["messages"])
            case "ignore":
                self.ignored.update(command["messages"])
            case "have":
                self.locators = command["locators"]
                assert self.talk is not None
                self.talk.locators = self.locators
                self.send_update()
            case "report":
                tell("report", **self.ulp.report(), pair=self.talk.pair if self.talk else None)
            case "hush":
                self.ulp.left = 0
            case "close":
                self.closing.begin()
            case other:
                raise ValueError(other)

    # --- the peer ---------------------------------------------------------------------------------

    def resolve(self, name: str) -> None:
        """Finds the locators of a peer, and whether it speaks M6."""
        replies: dict[int, Reply] = {}

        def answered(question: Question, reply: Reply) -> None:
            replies[question.kind] = reply
            if len(replies) == 2 and replies[M6].certain and replies[AAAA].values:
                listed = replies[AAAA].values
                tell("resolved", name=name, locators=listed)
                self.talk = self.new_talk(next(iter(self.locators)), listed[0])
                self.talk.found = Found(name, listed, ())
                self.verify(Inquiry(self.talk.peer, [], replies[AAAA].name, listed))
                self.ulp.tick()
                self.setup.start()

        for kind in (AAAA, M6):
            self.asker.ask(Question(name, kind), answered)

    def new_talk(self, local: str, peer: str) -> Talk:
        self.context = self.talk = talk = Talk(local=local, peer=peer, locators=self.locators)
        return talk

    def verify(self, inquiry: Inquiry) -> None:
        assert self.talk is not None
        self.talk.verifier = Verifier(self.asker, inquiry, self.verified)
        self.talk.verifier.go_on()

    def verified(self) -> None:
        """The DNS has said something more [§7]."""
        talk = self.talk
        if talk is None or talk.verifier is None:
            return
        inquiry, settled = talk.verifier.inquiry, talk.verifier.settled
        if settled or not inquiry.later:
            talk.found = inquiry.found
        self.share_lsr()
        self.setup.proven_more()
        if talk.probation and talk.probation in talk.found.verified:
            talk.probation = ""
            talk.settle()
            tell("proven", source=talk.pair[1])
            for _, packet in talk.held:
                self.ulp.receive(packet)
            talk.held.clear()
        elif talk.probation and settled:
            self.forget("refuted")
            return
        if not settled:
            return
        talk.settle()
        self.settled_at = time.monotonic()
        tell("verified", name=talk.found.name, lsr=talk.lsr, lsv=talk.lsv)
        if inquiry.another:
            self.closing.begin()
            return
        lifetime_s = max(inquiry.ttl, VERIFY_AGAIN_S)
        self.look_again(lifetime_s / 2 + jitter(lifetime_s))
        self.tell_lsr()

    def look_again(self, delay_s: float) -> None:
        self.node.cancel(self.again_timer)
        self.again_timer = self.node.after(delay_s, self.verify_again)

    def verify_again(self) -> None:
        """Inquires again: from N if another locator is verified under it, else from the AID."""
        talk = self.talk
        if talk is None or not talk.settled:
            return
        later = any(one != talk.peer for one in talk.found.verified)
        self.verify(Inquiry(talk.peer, talk.lsl, talk.found.name if later else "", later=later))

    def share_lsr(self) -> None:
        """What the messages say as Lsr(peer): before the DNS has answered, all that it says."""
        talk = self.talk
        assert talk is not None
        known = not talk.settled or (talk.verifier is not None and talk.verifier.settled)
        self.lsr = dict.fromkeys(talk.lsr if known else talk.lsl, IN_LSR)

    def tell_lsr(self) -> None:
        """Tells the peer which of its locators the DNS knows, where it was told otherwise."""
        talk = self.talk
        if talk is None or not talk.settled or talk.verifier is None or not talk.verifier.settled:
            return
        said = set(talk.lsl)
        told = said if talk.told is None else said & talk.told
        if said & set(talk.lsr) != told:
            talk.told = set(talk.lsr)
            self.send_update()

    # --- messages ---------------------------------------------------------------------------------

    @property
    def base(self) -> int:
        """The slots of what we send: rewritable where Ls(local) has two or more locators."""
        several = self.talk is not None and len(self.talk.ls_local) > 1
        return REWRITE_OK if several else NO_REWRITE

    def send(self, message: Message, pair: Pair, base: int = 0) -> None:
        """Sends a message over a pair, unless it is to be lost."""
        name = Code(message.code).name
        if self.lost[name]:
            self.lost[name] -= 1
            tell("lost", message=name)
            return
        self.node.transmit(control_packet(message, *pair, base=base))

    def receive(self, packet: Packet) -> None:
        try:
            control = control_message(packet)
            if control is not None:
                self.receive_control(packet, *control)
            elif packet.next_header in M6_NEXT_HEADERS:
                self.receive_data(packet)
            elif self.talk is not None and packet.source == self.talk.peer:
                self.reach.heard_plain()
                self.ulp.receive((packet.next_header, packet.payload))
        except Malformed as malformed:
            tell("malformed", why=str(malformed), octets=packet.payload.hex())

    def receive_control(self, packet: Packet, message: Message, base: int) -> None:
        name = Code(message.code).name
        if self.ignored[name]:
            self.ignored[name] -= 1
            tell("ignored", message=name)
            return
        tell(name, **self.details(packet, message))
        way = packet.destination, packet.source
        match message.code:
            case Code.INIT:
                self.setup.on_init(message, way, base)
            case Code.CC:
                self.setup.on_cc(message, way, base)
            case Code.CCR:
                self.setup.on_ccr(message, way, base)
            case Code.CONF:
                self.setup.on_conf(message, way)
            case Code.UR if self.talk is None or message.labels.receiver != self.talk.label:
                complaint = self.complaint(packet, message.labels.receiver)
                self.send(complaint, way)
            case Code.UR if self.is_from_peer(message, way):
                self.on_update(message, way, base)
            case Code.UA if self.is_from_peer(message, way):
                self.on_acknowledgement(message, way)
            case Code.KEEPALIVE if self.is_from_peer(message, way):
                self.reach.on_keepalive(message, way)
            case Code.CLOSE:
                self.closing.on_close(message, way)
            case Code.CLOSEACK if self.talk is not None and self.talk.state == "closing":
                known = self.means_us(message) and message.nonce == self.talk.nonce
                if known and self.authenticity(message):
                    self.forget("closed")

    def is_from_peer(self, message: Message, way: Pair) -> bool:
        """The checks of a UR [§8]."""
        talk = self.talk
        if talk is None or talk.state not in ("established", "ur-sent", "closing"):
            return False
        if (message.receiver, message.sender) != (talk.local, talk.peer):
            return False
        said = message.locators(Option.SENDERS_LOCATORS) if message.code == Code.UR else {}
        adds = message.nonce > talk.greatest_nonce and said.get(way[1], 0) & IN_LSL
        if not self.means_us(message) or (way[1] not in talk.acceptable and not adds):
            return False
        return way[0] in self.locators and self.authenticity(message) is True

    # --- updates ----------------------------------------------------------------------------------

    def next_update(self, flags: int = 0) -> Message:
        """A UR with the next nonce."""
        self.context.update_nonce += 1
        self.share_lsr()
        update = self.update(flags)
        if not self.reach.newest:
            return update
        heard = self.reach.newest.to_bytes(8, "big")
        return replace(update, options={**update.options, Option.HEARD: heard})

    def send_update(self) -> None:
        """Tells the sets as they stand, until that is acknowledged or superseded [§8]."""
        talk = self.talk
        assert talk is not None
        talk.state = "ur-sent"
        talk.update = self.next_update().signed(self.key)
        self.repeat_update(talk.update, 0, time.monotonic())

    def repeat_update(self, update: Message, tries: int, since: float) -> None:
        talk = self.talk
        self.node.cancel(self.update_timer)
        if talk is None or talk.update is not update:
            return
        if time.monotonic() - since > EXCHANGE_S:
            talk.update = None
            return
        again = tries % 2 and len(self.locators) > 1
        self.send(update, talk.pair, self.base if again else 0)
        delay_s = jitter(min(FIRST_S * 2**tries, UPDATE_MAX_S))
        self.update_timer = self.node.after(
            delay_s, lambda: self.repeat_update(update, tries + 1, since)
        )

    def on_update(self, message: Message, way: Pair, base: int) -> None:
        talk = self.talk
        assert talk is not None
        talk.peer_birthday = message.labels.sender_birthday
        changes = False
        self.acknowledged(message.heard)
        if message.nonce > talk.greatest_nonce:
            talk.greatest_nonce = message.nonce
            before = talk.peer_locators, talk.own_lsr
            talk.peer_locators = message.locators(Option.SENDERS_LOCATORS)
            self.take_own_lsr(message)
            changes = before != (talk.peer_locators, talk.own_lsr)
            talk.settle()
            if set(talk.lsl) - set(talk.lsr):
                self.look_again_soon()
        if message.piggyback and not self.ulp.lately(message.piggyback):
            self.deliver(way[1], (message.protocol, message.piggyback))
        self.reach.on_update(message, way, base, changes=changes)

    def on_acknowledgement(self, message: Message, way: Pair) -> None:
        talk = self.talk
        assert talk is not None
        if message.nonce > talk.update_nonce:
            return
        self.acknowledged(message.nonce)
        self.reach.on_acknowledgement(message, way)

    def acknowledged(self, nonce: int) -> None:
        """The peer has heard a UR of ours, and so knows what every earlier one said."""
        talk = self.talk
        assert talk is not None
        if talk.update is not None and talk.update.nonce <= nonce:
            talk.update = None
            talk.state = "established"
            tell("told")

    def take_own_lsr(self, message: Message) -> None:
        """Takes what the peer found in the DNS about us, where it says so."""
        assert self.talk is not None
        said = message.locators(Option.RECEIVERS_LOCATORS)
        found = {one for one, flags in said.items() if flags & IN_LSR}
        if found:
            self.talk.own_lsr = found

    def look_again_soon(self) -> None:
        """The peer has a locator that the DNS did not list: the inquiry is due with the TTL."""
        talk = self.talk
        if talk is not None and talk.verifier is not None and talk.verifier.settled:
            due = self.settled_at + max(talk.verifier.inquiry.ttl, LOOK_AGAIN_S)
            self.look_again(max(0, due - time.monotonic()))

    # --- data -------------------------------------------------------------------------------------

    def carry(self, packet: Ulp) -> None:
        """Sends a packet of the ULP: by the context if that carries data, otherwise plain."""
        talk = self.talk
        if talk is None:
            return
        protocol, payload = packet
        if talk.carries and not self.reach.plain:
            slot, payload = data_payload(protocol, payload)
            next_header, label, pair = self.base + slot, talk.peer_label, talk.pair
            self.reach.sent(packet)
        else:
            talk.waiting = packet
            next_header, label, pair = protocol, 0, (talk.local, talk.peer)
        self.node.transmit(
            Packet(
                source=pair[0],
                destination=pair[1],
                next_header=next_header,
                label=label,
                payload=payload,
            )
        )

    def receive_data(self, packet: Packet) -> None:
        """A data packet [§3]: by its label, from a source and to a destination of the context."""
        talk = self.talk
        known = talk is not None and packet.label == talk.label and talk.announced
        if talk is None or not known or packet.source not in talk.acceptable:
            self.send(self.complaint(packet, packet.label), (packet.destination, packet.source))
            return
        if packet.destination in self.locators:
            ulp = ulp_payload(packet.next_header % 8, packet.payload)
            self.ulp.arrived[f"{packet.source} {packet.destination}"] += 1
            self.deliver(packet.source, ulp)
            self.reach.heard((packet.destination, packet.source))

    def deliver(self, source: str, packet: Ulp) -> None:
        """Gives a packet to the ULP, or holds it [§6, install before announcing, provisional]."""
        talk = self.talk
        assert talk is not None
        early = not talk.settled and talk.state != "closing"
        if talk.probation or (early and source not in {talk.peer, *talk.lsv}):
            if len(talk.held) < HELD_MAX:
                talk.held.append((source, packet))
        else:
            self.ulp.receive(packet)

    def keep_alive(self, flags: int = 0) -> None:
        """A sign of life for a peer whose data goes one way [§9]."""
        talk = self.talk
        if talk is not None and talk.carries:
            talk.update_nonce += 1
            message = self.message(Code.KEEPALIVE, talk.update_nonce, {Option.CONTEXT: self.labels})
            self.send(replace(message, flags=flags).signed(self.key), talk.pair, self.base)

    def forget(self, why: str) -> None:
        """The context is gone."""
        self.talk = None
        for timer in (self.setup.timer, self.update_timer, self.again_timer):
            self.node.cancel(timer)
        tell("gone", why=why)


def main() -> None:
    own, server = sys.argv[1:]
    Alone(own.split(","), server).run()


if __name__ == "__main__":
    main()
