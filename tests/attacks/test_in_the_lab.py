# SPDX-License-Identifier: MIT
"""Attacks on a conversation between two real hosts, whose packets the kernel carries.

Attacker: off the path, spoofs any source, and knows AIDs, locators and labels. Guaranteed: no
second of the conversation is lost, nothing forged is delivered, and it goes on as before. Losses
are counted in datagrams that are sent at a fixed rate, so that a busy machine is no loss.
"""

import contextlib
import itertools
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import pytest

from noid.constants import Codepoints
from noid.identifiers import Label, Nonce, Token
from noid.lab import namespaces
from noid.lab.lab import Lab
from noid.lab.topology import locators
from noid.locators import Locator, format_locator, parse_locator
from noid.wire import icmpv6, ipv6
from noid.wire.control import Code, ControlMessage, Piggyback, encode_packet
from noid.wire.options import HASH_OCTETS, ContextOption, LocatorEntry, LocatorFlag, Tokens
from tests.attacks.spoofing import spoofed_datagram
from tests.attacks.taps import Tap, as_sent, icmpv6_type, is_error_of
from tests.engine.network import STRANGER
from tests.lab.conversations import (
    establish_context,
    established,
    reboot_without_noid,
)

pytestmark = pytest.mark.lab
alone = pytest.mark.alone
"""What fills the queues of the processors, or needs most of the time in which data may be lost."""
FLOOD_PER_SECOND = 1_000
"""So many packets fill them."""

CODEPOINTS = Codepoints()
A1, A2 = map(parse_locator, locators("a"))
B1, B2 = map(parse_locator, locators("b"))
X = parse_locator("2001:db8:4000::66")
"""An address of no host, which the attacker sends from."""
PORT = 7_777
GUARDED_PORT = 7_778
INTERVAL_S = 0.01
LOST_MAX = round(1 / INTERVAL_S)
"""Datagrams in a row, which are a second."""
RECOVERY_S = 60.0
REUNION_S = 60.0
ATTACK_S = 3.0
PARAMETER_PROBLEM = 4
UNKNOWN_NEXT_HEADER = 1


class Stream:
    """Datagrams from a to b and back, each with a number and a secret.

    Attributes:
        sent: how many went.
        came: the numbers that came back.
        forged: what arrived at either end and is none of ours.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.sent = 0
        self.came: set[int] = set()
        self.forged: list[bytes] = []
        self._secret = secrets.token_bytes(16)
        self._ends = [_socket(lab, host) for host in ("a", "b")]
        self._ends[0].connect((format_locator(B1), PORT))
        self._over = threading.Event()
        works = (self._send, self._take, self._echo)
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        for one in self._ends:
            one.close()

    def goes_on(self, timeout_s: float = RECOVERY_S) -> None:
        """Waits until something comes back that was sent after now."""
        now = self.sent
        self.lab.wait_for(
            "the conversation goes on", lambda: max(self.came, default=0) > now, timeout_s
        )

    @property
    def lost(self) -> int:
        """How many in a row did not come back, at the most."""
        numbers = [0, *sorted(self.came)]
        return max(after - before - 1 for before, after in itertools.pairwise(numbers))

    def _send(self) -> None:
        while not self._over.wait(INTERVAL_S):
            self.sent += 1
            try:
                self._ends[0].send(self._secret + self.sent.to_bytes(8, "big"))
            except OSError:
                continue

    def _take(self) -> None:
        for octets, _ in self._received(self._ends[0]):
            self.came.add(int.from_bytes(octets[16:], "big"))

    def _echo(self) -> None:
        for octets, sender in self._received(self._ends[1]):
            self._ends[1].sendto(octets, sender)

    def _received(self, end: socket.socket) -> Iterator[tuple[bytes, Any]]:
        while not self._over.is_set():
            try:
                octets, sender = end.recvfrom(2048)
            except OSError:
                continue
            if octets[:16] == self._secret and sender[0] in {*locators("a"), *locators("b")}:
                yield octets, sender
            else:
                self.forged.append(octets)


def _socket(lab: Lab, host: str, port: int = PORT) -> socket.socket:
    def make() -> socket.socket:
        one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        one.settimeout(0.2)
        one.bind((locators(host)[0], port))
        return one

    return namespaces.inside(namespaces.namespace(lab.name, host), make)


@dataclass(frozen=True, slots=True)
class Known:
    """What the attacker knows of the conversation: the labels of both ends."""

    a: int
    b: int


def message(code: Code, **said: object) -> ControlMessage:
    """A message in the name of b, as good as the attacker can make it."""
    sets = code in (Code.INIT, Code.UR)
    given: dict[str, Any] = {
        "nonce": secrets.randbits(63),
        "sender_aid": B1,
        "receiver_aid": A1,
        "sender_locators": (LocatorEntry(B1, LocatorFlag.LOCAL),) if sets else (),
        "receiver_locators": (LocatorEntry(A1, LocatorFlag.REMOTE),) if sets else (),
        "authentication": b"" if code is Code.INIT else secrets.token_bytes(HASH_OCTETS),
        **said,
    }
    return ControlMessage(code=code, **given)


def plainly(one: ControlMessage, source: Locator = B1) -> bytes:
    return encode_packet(one, source, A1, CODEPOINTS)


def conf_as_data(known: Known) -> bytes:
    conf = message(
        Code.CONF,
        context=ContextOption(sender_label=Label(known.b), receiver_label=Label(known.a)),
        tokens=Tokens(sender=Token(1), receiver=Token(1)),
        key=STRANGER.public,
    )
    packet = encode_packet(conf, B1, A1, CODEPOINTS, in_slot=True)
    first = int.from_bytes(packet[:4], "big") | known.a
    return first.to_bytes(4, "big") + packet[4:]


def init(label: Label, source: Locator, **said: object) -> bytes:
    labels = ContextOption(sender_label=label)
    tokens = Tokens(sender=Token(secrets.randbits(64)))
    return plainly(
        message(Code.INIT, context=labels, tokens=tokens, key=STRANGER.public, **said), source
    )


def init_with_a_new_label(known: Known) -> bytes:
    return init(Label(secrets.randbelow(0xFFFFF) + 1), B2)


def init_with_the_known_label(known: Known) -> bytes:
    return init(Label(known.b), B1)


def piggybacked(known: Known) -> bytes:
    datagram = spoofed_datagram(B1, A1, (PORT, PORT), b"forged by the attacker")
    return init(Label(5), B1, piggyback=Piggyback(ipv6.UDP, datagram[ipv6.HEADER_OCTETS :]))


def request(known: Known) -> bytes:
    labels = ContextOption(sender_label=Label(known.b), receiver_label=Label(known.a))
    return plainly(message(Code.UR, context=labels), secrets.choice((B1, B2)))


def close(known: Known) -> bytes:
    labels = ContextOption(sender_label=Label(known.b), receiver_label=Label(known.a))
    return plainly(message(Code.CLOSE, context=labels))


def of_ours(known: Known) -> bytes:
    """The head of a packet that a sends to b."""
    header = ipv6.Header(
        source=A1,
        destination=B1,
        next_header=CODEPOINTS.rewritable_first + 1,
        payload_octets=40,
        flow_label=Label(known.b),
    )
    return header.encode() + bytes(40)


def unknown_context(known: Known) -> bytes:
    uc = ControlMessage(
        code=Code.UC,
        nonce=Nonce(secrets.randbits(63)),
        sender_aid=Locator(bytes(16)),
        receiver_aid=Locator(bytes(16)),
        context=ContextOption(receiver_label=Label(known.b), sender_birthday=secrets.randbits(32)),
        reset_token=secrets.token_bytes(HASH_OCTETS),
        piggyback=Piggyback(ipv6.IPV6, of_ours(known)),
    )
    return plainly(uc)


def parameter_problem(known: Known) -> bytes:
    error = icmpv6.ErrorMessage(
        type=PARAMETER_PROBLEM,
        code=UNKNOWN_NEXT_HEADER,
        value=ipv6.NEXT_HEADER_AT,
        quote=of_ours(known),
    )
    return error.encode_packet(B1, A1)


def stranger_of_a_64(known: Known) -> bytes:
    source = Locator(bytes.fromhex("20010db840000000") + secrets.token_bytes(8))
    return init(Label(secrets.randbelow(0xFFFFF) + 1), source, sender_aid=source)


def stranger_on_the_link(known: Known) -> bytes:
    """In the name of a host next to the victim, whose link-layer address it has to ask for."""
    source = Locator(A1[:8] + secrets.token_bytes(8))
    return init(Label(secrets.randbelow(0xFFFFF) + 1), source, sender_aid=source)


ATTACKS: tuple[tuple[Callable[[Known], bytes], int], ...] = (
    (conf_as_data, 20),
    (init_with_a_new_label, 20),
    (init_with_the_known_label, 20),
    (piggybacked, 20),
    (unknown_context, 20),
    (parameter_problem, 20),
    (close, 20),
    (stranger_of_a_64, 1_000),
    (stranger_on_the_link, 1_000),
    (request, 1_500),
)
"""Packets, and how many in a second."""


def attack(lab: Lab, packets: Iterator[bytes], per_second: int) -> set[bytes]:
    """Sends packets from the core for a time, as fast as the machine allows up to a rate.

    Returns:
        The packets, with zeros for their hop limits.
    """
    sent = set()
    with namespaces.inside(namespaces.namespace(lab.name, "core"), _raw) as raw:
        for one in itertools.islice(packets, round(ATTACK_S * per_second)):
            raw.sendto(one, (format_locator(Locator(one[24:40])), 0))
            sent.add(as_sent(one))
            time.sleep(1 / per_second)
    return sent


def _raw() -> socket.socket:
    return socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)


def reached(lab: Lab, victim: Tap, sent: set[bytes]) -> None:
    """Waits until most packets of an attack have come to the victim; a busy router loses some."""
    lab.wait_for(
        "the attack reaches the victim",
        lambda: 2 * len(sent & set(victim.received)) > len(sent),
        RECOVERY_S,
    )


@pytest.mark.parametrize(
    ("make", "per_second"),
    [
        pytest.param(*one, marks=[alone] if one[1] >= FLOOD_PER_SECOND else [], id=one[0].__name__)
        for one in ATTACKS
    ],
)
def test_a_conversation_goes_on_under(
    lab: Lab, make: Callable[[Known], bytes], per_second: int
) -> None:
    establish_context(lab)
    (context,) = lab.contexts("a")
    known = Known(context["local_label"], context["peer_label"])
    with Stream(lab) as stream, Tap(lab, "a") as victim:
        sent = attack(lab, (make(known) for _ in itertools.count()), per_second)
        reached(lab, victim, sent)
        stream.goes_on()
    assert stream.lost <= LOST_MAX
    assert not stream.forged
    (after,) = lab.contexts("a")
    assert (after["local_label"], after["peer_label"]) == (known.a, known.b), "it is the same"


@contextlib.contextmanager
def firewall(lab: Lab) -> Iterator[None]:
    """The victim lets no datagram for a port in by its uplinks."""
    rule = f'iifname "up*" udp dport {GUARDED_PORT} drop'
    hook = "type filter hook input priority 0;"
    run = lab.run("a", ["nft", f"table inet guard {{ chain in {{ {hook} {rule}; }}; }}"])
    assert run.returncode == 0, run.stderr
    try:
        yield
    finally:
        lab.run("a", ["nft", "delete", "table", "inet", "guard"])


def to_the_port(payload: bytes) -> Iterator[bytes]:
    """A plain datagram of the attacker, a few times: a busy router loses some."""
    return itertools.repeat(spoofed_datagram(X, A1, (PORT, GUARDED_PORT), payload), 3)


def on_a_strangers_init(source: Locator, payload: bytes) -> bytes:
    datagram = spoofed_datagram(source, A1, (PORT, GUARDED_PORT), payload)
    rider = Piggyback(ipv6.UDP, datagram[ipv6.HEADER_OCTETS :])
    label = secrets.randbelow(0xFFFFF) + 1
    return init(Label(label), source, sender_aid=source, piggyback=rider)


def strangers() -> Iterator[Locator]:
    """The peer, in whose name the attacker sends too, and unknown addresses."""
    for _ in itertools.count():
        yield B1
        yield Locator(bytes.fromhex("20010db840000001") + secrets.token_bytes(8))


def test_what_rides_on_a_strangers_init_passes_no_rule_of_the_firewall(lab: Lab) -> None:
    establish_context(lab)
    came: list[bytes] = []

    def comes(payload: bytes) -> bool:
        with contextlib.suppress(TimeoutError):
            came.append(guarded.recv(2048))
        return payload in came

    with (
        Stream(lab) as stream,
        Tap(lab, "a") as victim,
        _socket(lab, "a", GUARDED_PORT) as guarded,
    ):
        attack(lab, to_the_port(b"before"), 20)
        lab.wait_for("the port is open", lambda: comes(b"before"), RECOVERY_S)
        with firewall(lab):
            riders = (on_a_strangers_init(one, b"forged") for one in strangers())
            sent = attack(lab, riders, 20)
            reached(lab, victim, sent)
            reached(lab, victim, attack(lab, to_the_port(b"dropped"), 20))
            # The daemon answers in the order in which the INITs come: so it has read them.
            lab.wait_for(
                "the INITs are answered",
                lambda: 2 * sum(map(_is_cc, list(victim.sent))) > len(sent),
                RECOVERY_S,
            )
        attack(lab, to_the_port(b"after"), 20)
        lab.wait_for("the port is open again", lambda: comes(b"after"), RECOVERY_S)
        stream.goes_on()
    assert set(came) == {b"before", b"after"}
    assert stream.lost <= LOST_MAX
    assert not stream.forged


def _is_cc(packet: bytes) -> bool:
    return icmpv6_type(packet) == CODEPOINTS.icmpv6_type and packet[41] == Code.CC


@alone
def test_a_conversation_outlives_a_peer_that_reboots_and_whose_kernel_answers_first(
    lab: Lab,
) -> None:
    establish_context(lab)
    birthday = lab.status("b")["birthday"]
    (before,) = lab.contexts("a")
    with Stream(lab) as stream, Tap(lab, "a") as tap:
        reboot_without_noid(lab, "b")
        lab.wait_for(
            "the kernel of b knows no M6",
            lambda: any(is_error_of(one, B1, PARAMETER_PROBLEM) for one in set(tap.received)),
            RECOVERY_S,
        )
        stream.goes_on()
        lab.start_daemon("b")
        lab.wait_for(
            "the peers have a new context",
            lambda: all(_has_another(lab, host, before) for host in ("a", "b")),
            REUNION_S,
        )
        stream.goes_on()
    assert lab.status("b")["birthday"] == birthday + 1, "b remembers nothing but that it lived"
    assert stream.lost <= LOST_MAX
    assert not stream.forged


def _has_another(lab: Lab, host: str, before: dict[str, Any]) -> bool:
    labels = before["local_label"], before["peer_label"]
    return established(lab, host) and all(
        {one["local_label"], one["peer_label"]} != set(labels) for one in lab.contexts(host)
    )
