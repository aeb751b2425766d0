# SPDX-License-Identifier: MIT
"""The questions of a second implementation to a DNS server, and when they are asked again [§7]."""

import random
import secrets
import socket
from collections.abc import Callable

from tests.interop.names import UNKNOWN, Inquiry, Question, Reply, ask, read
from tests.interop.node import Node

DNS_PORT = 53
PATIENCE_S = 2.0
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 600.0


def jitter(delay_s: float) -> float:
    """A delay times a random factor 0.5 to 1.5 [§12]."""
    return delay_s * random.uniform(0.5, 1.5)


class Asker:
    """A client of one DNS server.

    Args:
        node: whose clock it uses.
        server: the address of the server.
    """

    def __init__(self, node: Node, server: str) -> None:
        self.node = node
        self.socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.socket.connect((server, DNS_PORT))
        self._open: dict[int, tuple[Question, Callable[[Question, Reply], None]]] = {}
        node.watch(self.socket, self._receive)

    def ask(self, question: Question, call: Callable[[Question, Reply], None]) -> None:
        """Asks once; what has no answer in time is not certain."""
        number = secrets.randbits(16)
        self._open[number] = question, call
        self.node.after(PATIENCE_S, lambda: self._end(number, UNKNOWN))
        try:
            self.socket.send(ask(number, question))
        except OSError:
            return  # as if it were lost on the way

    def _receive(self) -> None:
        try:
            octets = self.socket.recv(65536)
        except OSError:
            return  # an error about what was sent
        number = int.from_bytes(octets[:2], "big")
        if number in self._open:
            self._end(number, read(octets, self._open[number][0]))

    def _end(self, number: int, reply: Reply) -> None:
        if number in self._open:
            question, call = self._open.pop(number)
            call(question, reply)


class Verifier:
    """An inquiry under way.

    Args:
        asker: whom it asks.
        inquiry: what it is about.
        changed: called whenever something more is known.
    """

    def __init__(self, asker: Asker, inquiry: Inquiry, changed: Callable[[], None]) -> None:
        self.asker = asker
        self.inquiry = inquiry
        self.changed = changed
        self.flying: set[Question] = set()
        self.failed: set[Question] = set()
        self.tries = 0

    @property
    def settled(self) -> bool:
        return not self.inquiry.missing

    def go_on(self) -> None:
        """Asks what is to be asked now."""
        for question in sorted(self.inquiry.missing - self.flying - self.failed):
            self.flying.add(question)
            self.asker.ask(question, self._answered)

    def _answered(self, question: Question, reply: Reply) -> None:
        self.flying.discard(question)
        self.inquiry.replies[question] = reply
        if not reply.certain:
            if not self.failed:
                delay_s = min(RETRY_FIRST_S * 2**self.tries, RETRY_MAX_S)
                self.asker.node.after(jitter(delay_s), self._retry)
                self.tries += 1
            self.failed.add(question)
        self.go_on()
        self.changed()

    def _retry(self) -> None:
        self.failed.clear()
        self.go_on()
