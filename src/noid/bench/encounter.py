# SPDX-License-Identifier: MIT
"""Two engines that meet: a server that stays, and clients that come one after another.

All are real engines with two locators each. What one orders, the other is given at once, and the
DNS answers truly and at once: nothing but the engines takes time.
"""

import random
from collections import deque
from dataclasses import dataclass

from noid.constants import MILLISECOND, PREFIX_OCTETS, SECOND, Codepoints
from noid.dns.records import Answer, Kind, Status, reverse_name
from noid.engine.events import (
    AnswerArrived,
    AskDns,
    Input,
    LocatorsChanged,
    PeerResolved,
    SendControl,
)
from noid.engine.host import Host
from noid.engine.options import HostOptions
from noid.flows.events import ControlMessageReceived, UlpPacketSeen
from noid.locators import LOCATOR_OCTETS, Locator
from noid.wire import ipv6

CODEPOINTS = Codepoints()
KEY_OCTETS = 32
SERVER = 0
"""The number of the host that stays, and of its site."""
PROVIDERS = (0x3FFF_0000_0000, 0x3FFF_0800_0000)
"""The first /48 of each, within the documentation's own prefix (RFC 9637)."""
TTL_SECONDS = 3_600
STEP_NS = MILLISECOND
"""How long a message is under way, in the engines' own time."""
Answers = dict[tuple[Kind, str], Answer]
"""By kind and name of the question."""
FIRST_PACKET = bytes(40)
"""What the ULP begins with: as many octets as a TCP SYN."""


def locators_of(site: int, interface: int = 1) -> tuple[Locator, ...]:
    """The locators of a host: each site has a /48 of its own from each provider."""
    suffix = interface.to_bytes(LOCATOR_OCTETS - PREFIX_OCTETS, "big")
    return tuple(
        Locator((provider + site).to_bytes(PREFIX_OCTETS, "big") + suffix) for provider in PROVIDERS
    )


def name_of(number: int) -> str:
    """What the DNS calls host ``number``."""
    return f"host{number}.example"


def answers_about(number: int) -> Answers:
    """What the DNS says about host ``number``, forward and reverse."""
    name, locators = name_of(number), locators_of(number)
    forward = Answer(status=Status.FOUND, locators=locators, ttl_seconds=TTL_SECONDS)
    reverse = Answer(status=Status.FOUND, names=(name,), ttl_seconds=TTL_SECONDS)
    return {
        (Kind.LOCATORS, name): forward,
        **{(Kind.NAMES, reverse_name(one)): reverse for one in locators},
    }


def host(number: int, chance: random.Random) -> Host:
    """An engine that knows its locators, and has a key pair, as one that has set up contexts."""
    options = HostOptions(codepoints=CODEPOINTS, birthday=number, reset_key=bytes(KEY_OCTETS))
    made = Host(options, chance.randbytes)
    made.handle(LocatorsChanged(locators_of(number)), 0)
    made.inspection.prepare_keys()
    return made


def first_packet(source: Locator, destination: Locator) -> bytes:
    """The packet between AIDs that makes a context be set up."""
    header = ipv6.Header(
        source=source,
        destination=destination,
        next_header=ipv6.TCP,
        payload_octets=len(FIRST_PACKET),
    )
    return header.encode() + FIRST_PACKET


@dataclass(slots=True)
class Client:
    """A host that is about to meet the server, and what it and the DNS will say.

    Attributes:
        host: its engine.
        locators: its own.
        events: a program resolves the server's name, and sends a first packet.
        answers: what the DNS says about it.
    """

    host: Host
    locators: tuple[Locator, ...]
    events: tuple[Input, ...]
    answers: Answers


class Encounter:
    """A server, and a way for clients to set up a context with it.

    Args:
        seed: where keys, nonces and labels come from.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now_ns = SECOND
        self.messages = 0
        self.answers_given = 0
        self.server = host(SERVER, self.chance)
        self._server_locators = locators_of(SERVER)
        self._about_server = answers_about(SERVER)

    def client(self, number: int) -> Client:
        """Host ``number``, from 1 on, with everything it needs ready."""
        there = self._server_locators
        here = locators_of(number)
        return Client(
            host(number, self.chance),
            here,
            (
                PeerResolved(name_of(SERVER), there[0], there),
                UlpPacketSeen(first_packet(here[0], there[0])),
            ),
            {**self._about_server, **answers_about(number)},
        )

    def meet(self, client: Client) -> None:
        """A complete set-up, until no message and no query is outstanding."""
        todo: deque[tuple[Host, Input]] = deque((client.host, event) for event in client.events)
        while todo:
            one, event = todo.popleft()
            self.now_ns += STEP_NS
            for output in one.handle(event, self.now_ns):
                if isinstance(output, SendControl):
                    self.messages += 1
                    other = client.host if one is self.server else self.server
                    todo.append((other, arrived(output.packet)))
                elif isinstance(output, AskDns):
                    self.answers_given += 1
                    answer = client.answers[output.question[:2]]
                    todo.append((one, AnswerArrived(output.question, answer)))


def arrived(packet: bytes) -> ControlMessageReceived:
    """A control message as a plane gives it to the engine."""
    return ControlMessageReceived(
        Locator(packet[8:24]), Locator(packet[24:40]), False, packet[ipv6.HEADER_OCTETS :]
    )
