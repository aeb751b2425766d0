# SPDX-License-Identifier: MIT
"""Closing a context, in a second implementation [§11]."""

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.interop.asking import jitter
from tests.interop.octets import Code, Labels, Message, Option
from tests.interop.talk import FIRST_S, UPDATE_MAX_S, Pair

if TYPE_CHECKING:
    from tests.interop.alone import Alone


class Closing:
    """The end of the contexts of one host.

    Args:
        host: the host.
    """

    def __init__(self, host: "Alone") -> None:
        self.host = host

    def begin(self) -> None:
        """Says CLOSE until that is acknowledged."""
        host, talk = self.host, self.host.talk
        if talk is None or not talk.peer_label:
            return
        talk.state, talk.nonce = "closing", secrets.randbits(64)
        message = host.message(Code.CLOSE, talk.nonce, {Option.CONTEXT: host.labels})
        self.repeat(message.signed(host.key), 0)

    def repeat(self, message: Message, tries: int) -> None:
        """Says it again over the next pair."""
        talk = self.host.talk
        if talk is None or talk.state != "closing":
            return
        pairs = [talk.pair, *(pair for pair in talk.pairs if pair != talk.pair)]
        self.host.send(message, pairs[tries % len(pairs)])
        delay_s = jitter(min(FIRST_S * 2**tries, UPDATE_MAX_S))
        self.host.node.after(delay_s, lambda: self.repeat(message, tries + 1))

    def on_close(self, message: Message, way: Pair) -> None:
        """Acknowledges a CLOSE of the peer, and ends the context that it names."""
        host, labels = self.host, message.labels
        own = Labels(sender=labels.receiver, receiver=labels.sender).encode()
        answer = replace(
            host.message(Code.CLOSEACK, message.nonce, {Option.CONTEXT: own}),
            sender=message.receiver,
            receiver=message.sender,
        )
        if host.talk is not None and host.means_us(message):
            if not host.is_from_peer(message, way):
                return
            answer = answer.signed(host.key)
            host.forget("closed by the peer")
        elif host.means_us(message) and host.authenticity(message):
            answer = answer.signed(host.key)  # the first answer was lost
        host.send(answer, way)
