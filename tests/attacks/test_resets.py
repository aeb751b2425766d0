# SPDX-License-Identifier: MIT
"""TCP resets that an attacker forges, plain and in the form of data [RFC 5961 §3].

Attacker: off the path, spoofs any source, and knows AIDs, locators and ports. Guaranteed: through
the shim a reset needs what it needs in plain IPv6, the exact sequence number, and the label too.
"""

import secrets
import socket
import struct
import time
from collections.abc import Callable
from typing import Self

import pytest

from noid.identifiers import NO_LABEL, Label
from noid.lab import namespaces
from noid.lab.lab import Lab
from noid.lab.topology import locators
from noid.locators import Locator
from noid.wire import ipv6
from tests.attacks.taps import Tap, as_sent
from tests.attacks.test_in_the_lab import A1, A2, B1, B2, CODEPOINTS, PORT, X, reached
from tests.lab.conversations import establish_context

pytestmark = pytest.mark.lab

RESETS = 60
PAUSE_S = 0.01
PATIENCE_S = 60.0
SEGMENT = struct.Struct("!HHIIBBHHH")
OFFSET, RST = 5 << 4, 0x04
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21
"""By which the kernel says what it expects next (linux/tcp.h); Python does not name them."""
REPAIR, OFF_WITHOUT_A_PROBE = 1, -1
RECEIVE_QUEUE = 1
IN_THE_WINDOW = 1_000
LABELS = 1 << 20


class Connection:
    """A TCP connection from a to b, both ends of which are here."""

    def __init__(self, lab: Lab) -> None:
        self.here, listener = (_bound(lab, *end) for end in (("a", 0), ("b", PORT)))
        with listener:
            listener.listen()
            self.here.connect((locators("b")[0], PORT))
            self.there, _ = listener.accept()
        self.there.settimeout(PATIENCE_S)
        self.ports = PORT, int(self.here.getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.here.close()
        self.there.close()

    def works(self) -> None:
        """Asserts that octets arrive both ways."""
        word = secrets.token_bytes(8)
        for one, other in ((self.here, self.there), (self.there, self.here)):
            one.sendall(word)
            assert other.recv(len(word), socket.MSG_WAITALL) == word

    @property
    def expected(self) -> int:
        """The sequence number that a expects next."""
        self.here.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR)
        try:
            self.here.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, RECEIVE_QUEUE)
            return self.here.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ) % (1 << 32)
        finally:
            self.here.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, OFF_WITHOUT_A_PROBE)


def _bound(lab: Lab, host: str, port: int) -> socket.socket:
    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        made.settimeout(PATIENCE_S)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((locators(host)[0], port))
        return made

    return namespaces.inside(namespaces.namespace(lab.name, host), make)


def reset(
    connection: Connection, ends: tuple[Locator, Locator], label: Label, *, ahead: int = 0
) -> bytes:
    """A reset in the name of b, as data with a label; plain with label 0.

    Args:
        connection: which it is to end.
        ends: the addresses of the packet.
        label: of a.
        ahead: how far behind the expected octet.
    """
    sequence = (connection.expected + ahead) % (1 << 32)
    segment = SEGMENT.pack(*connection.ports, sequence, 0, OFFSET, RST, 0, 0, 0)
    sum_ = ipv6.checksum(B1, A1, ipv6.TCP, segment)
    header = ipv6.Header(
        source=ends[0],
        destination=ends[1],
        next_header=CODEPOINTS.rewritable_first if label else ipv6.TCP,
        payload_octets=len(segment),
        flow_label=label,
    )
    return header.encode() + segment[:16] + sum_.to_bytes(2) + segment[18:]


PAIRS = ((B1, A1), (B2, A1), (B1, A2), (B2, A2))
FORGED: dict[str, Callable[[Connection, int], bytes]] = {
    "from a stranger": lambda one, label: reset(one, (X, A1), Label(label)),
    "with a guessed label": lambda one, label: reset(
        one, secrets.choice(PAIRS), Label((label + 1 + secrets.randbelow(LABELS - 2)) % LABELS or 1)
    ),
    "with a guessed sequence number": lambda one, label: reset(
        one, secrets.choice(PAIRS), Label(label), ahead=IN_THE_WINDOW
    ),
    "plain, with a guessed sequence number": lambda one, _: reset(
        one, (B1, A1), NO_LABEL, ahead=IN_THE_WINDOW
    ),
    "plain, between other locators": lambda one, _: reset(one, (B2, A2), NO_LABEL),
}


def send(lab: Lab, victim: Tap, make: Callable[[], bytes], count: int = RESETS) -> None:
    """Sends packets from the core, until the victim has them."""

    def raw() -> socket.socket:
        return socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)

    sent = set()
    with namespaces.inside(namespaces.namespace(lab.name, "core"), raw) as sender:
        for _ in range(count):
            packet = make()
            sender.sendto(packet, (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0))
            sent.add(as_sent(packet))
            time.sleep(PAUSE_S)
    reached(lab, victim, sent)


@pytest.mark.parametrize("kind", FORGED)
def test_a_connection_outlives_resets(lab: Lab, kind: str) -> None:
    establish_context(lab)
    (context,) = lab.contexts("a")
    with Connection(lab) as connection, Tap(lab, "a") as victim:
        connection.works()
        send(lab, victim, lambda: FORGED[kind](connection, context["local_label"]))
        connection.works()


@pytest.mark.parametrize("ends", PAIRS)
def test_who_knows_everything_resets_it_as_without_noid(
    lab: Lab, ends: tuple[Locator, Locator]
) -> None:
    """So the packets above are what they seem."""
    establish_context(lab)
    (context,) = lab.contexts("a")
    with Connection(lab) as connection, Tap(lab, "a") as victim:
        connection.works()
        packet = reset(connection, ends, context["local_label"])
        send(lab, victim, lambda: packet, 5)
        with pytest.raises(ConnectionResetError):
            connection.here.recv(1)
