# SPDX-License-Identifier: MIT
"""What the raw sockets of noid take: nothing out of fragments, nor behind headers below M6 [D6].

Attacker: a peer with a context, whose data the stack reassembles, or any host that sends packets.
Guaranteed: a plain control message has ICMPv6 in its IPv6 header or behind hop-by-hop options.
"""

import contextlib
import itertools
import select
import socket

import pytest

from noid.flows.rewrite import Arrival, Refusal
from noid.locators import format_locator
from noid.planes.receivers import receive, receiver
from noid.wire import ipv6
from tests.differential.packets import CONTROL, DESTINATION, ETHERNET, OWN, PEERS, ROUTING
from tests.differential.players import LINK
from tests.namespaces import in_network_namespace, ip

REPEATED_AFTER_S = 3.0
TRIES_MAX = 10
BODY = CONTROL + b"\x07" + bytes(2) + bytes(60)
SUM = ipv6.checksum(PEERS[0], OWN[0], ipv6.ICMPV6, BODY).to_bytes(2, "big")
MESSAGE = BODY[:2] + SUM + BODY[4:]
LAST = CONTROL + b"\x63" + bytes(2) + bytes(4)
SENTINEL = (
    LAST[:2] + ipv6.checksum(PEERS[0], OWN[0], ipv6.ICMPV6, LAST).to_bytes(2, "big") + LAST[4:]
)
OPTIONS = bytes((ipv6.ICMPV6, 0, 1, 4)) + bytes(4)
ROUTE = bytes((ipv6.ICMPV6, 2, 4, 0)) + bytes(20)


def fragments(number: int, *cuts: int) -> list[tuple[int, bytes]]:
    """The message in fragments that end at the cuts and at its end; none makes an atomic one."""
    ends = [0, *cuts, len(MESSAGE)]
    made = []
    for start, end in itertools.pairwise(ends):
        place = (start | (end < len(MESSAGE))).to_bytes(2, "big")
        head = bytes((ipv6.ICMPV6, 0)) + place + number.to_bytes(4, "big")
        made.append((ipv6.FRAGMENT, head + MESSAGE[start:end]))
    return made


CASES: dict[str, tuple[list[tuple[int, bytes]], str]] = {
    "plain": ([(ipv6.ICMPV6, MESSAGE)], "taken"),
    "behind hop-by-hop options": ([(ipv6.HOP_BY_HOP, OPTIONS + MESSAGE)], "taken"),
    "behind destination options": ([(DESTINATION, OPTIONS + MESSAGE)], "nothing"),
    "behind a routing header": ([(ROUTING, ROUTE + MESSAGE)], "nothing"),
    "in two fragments": (fragments(1, 32), "refused"),
    "in three fragments, the last one first": (fragments(2, 16, 40)[::-1], "refused"),
    "in an atomic fragment": (fragments(3), "nothing"),
}


def played(sends: list[tuple[int, bytes]], link: socket.socket, one: socket.socket) -> str:
    """What comes of packets: before the message that is sent behind them."""

    def send() -> None:
        for next_header, body in [*sends, (ipv6.ICMPV6, SENTINEL)]:
            header = ipv6.plain_header(PEERS[0], OWN[0], next_header, len(body))
            link.send(LINK + ETHERNET[6:] + header + body)

    while select.select([one], [], [], 0)[0]:
        receive(one, ipv6.ICMPV6)  # of the case before, which was repeated
    send()
    outcome, tries = "nothing", 1
    while True:
        # The kernel drops packets when its backlog is full, as other tests can cause.
        if not select.select([one], [], [], REPEATED_AFTER_S)[0]:
            assert tries < TRIES_MAX, "the last message does not come"
            tries += 1
            send()
            continue
        arrival = receive(one, ipv6.ICMPV6)
        if isinstance(arrival, Refusal):
            outcome = "refused"
        elif isinstance(arrival, Arrival) and arrival.payload[:2] == SENTINEL[:2]:
            return outcome
        elif isinstance(arrival, Arrival) and arrival.payload == MESSAGE:
            outcome = "taken"


@pytest.mark.slow
def test_a_plain_message_is_taken_where_it_may_stand_alone() -> None:
    def play() -> None:
        ip("link add up1 type veth peer name far1")
        ip(f"link set up1 address {LINK.hex(':')}")
        for name in ("lo", "up1", "far1"):
            ip(f"link set {name} up")
        ip(f"addr add {format_locator(OWN[0])}/128 dev up1 nodad")
        with contextlib.ExitStack() as stack:
            one = stack.enter_context(receiver(ipv6.ICMPV6))
            link = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
            link.bind(("far1", 0))
            for name, (sends, expected) in CASES.items():
                assert played(sends, link, one) == expected, name

    in_network_namespace(play)
