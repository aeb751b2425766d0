# SPDX-License-Identifier: MIT
"""ICMPv6 redirects that an attacker on the link of one uplink forges [RFC 4861 §8, D50].

Attacker: a host on the link of an uplink, which sends in the name of the router there, and of the
neighbour that routes of noid name. Guaranteed: no second of a conversation is lost, and packets to
the peer wait for no host of that link. An attacker on a link can also make that uplink fail, as
without noid.
"""

import itertools
import os
import socket
import time
from collections.abc import Iterator

import pytest

from noid.lab import namespaces
from noid.lab.lab import Lab
from noid.locators import Locator, format_locator, parse_locator
from noid.planes.bpf.loading import Programs
from noid.planes.steering import GATEWAY
from noid.wire import ipv6
from tests.attacks.taps import Tap, as_sent
from tests.attacks.test_in_the_lab import A1, ATTACK_S, B1, B2, LOST_MAX, RECOVERY_S, Stream
from tests.differential.packets import ETHERNET
from tests.lab.conftest import lab_machine
from tests.lab.conversations import assert_no_errors, establish_context
from tests.planes.loading import programs

__all__ = ["lab_machine", "programs"]

ROUTER = parse_locator("fe80::1")
TARGET = parse_locator("fe80::bad")
TARGET_LINK = bytes((2, 1)) + bytes.fromhex("020000000bad")
"""The option that the target has this link-layer address, which no host has."""
OPTIONS = bytes((ipv6.ICMPV6, 0, 1, 4)) + bytes(4)
REDIRECT, HOP_LIMIT = 137, 255
PER_SECOND = 100
PASSES, DROPPED = -1, 2
"""TCX_NEXT and TCX_DROP."""


def redirect(
    sender: Locator,
    destination: Locator,
    target: Locator,
    *,
    link: bytes = b"",
    options: bytes = b"",
) -> bytes:
    """A whole packet: packets for a destination are to go to a target, which no host is."""
    body = bytes((REDIRECT, 0)) + bytes(6) + target + destination + link
    total = ipv6.checksum(sender, A1, ipv6.ICMPV6, body).to_bytes(2)
    header = ipv6.Header(
        source=sender,
        destination=A1,
        next_header=ipv6.HOP_BY_HOP if options else ipv6.ICMPV6,
        payload_octets=len(options + body),
        hop_limit=HOP_LIMIT,
    )
    return header.encode() + options + body[:2] + total + body[4:]


def redirects() -> list[bytes]:
    """All that a host may believe: to another router or to the destination, known or not."""
    return [
        redirect(sender, destination, target, link=link)
        for sender, destination in itertools.product((GATEWAY, ROUTER), (B1, B2))
        for target in (TARGET, destination)
        for link in (b"", TARGET_LINK)
    ]


@pytest.mark.parametrize("options", [b"", OPTIONS], ids=["plain", "behind options"])
@pytest.mark.parametrize(
    ("sender", "verdict"),
    [(GATEWAY, DROPPED), (ROUTER, PASSES)],
    ids=["of the neighbour", "of the router"],
)
def test_a_packet_of_the_neighbour_that_is_none_is_dropped(
    programs: Programs, sender: Locator, verdict: int, options: bytes
) -> None:
    frame = ETHERNET + redirect(sender, B1, TARGET, options=options)
    assert programs.try_out("host_ingress", frame)[0] == verdict & 0xFFFFFFFF


@pytest.fixture
def lab(lab_machine: None) -> Iterator[Lab]:
    """Host a gets its routes from a router with a link-local address, as by advertisements."""
    if os.geteuid() != 0:
        pytest.skip("needs root: builds a lab")
    with Lab.create(plane="bpf") as made:
        router = format_locator(ROUTER)
        words(made, "isp1", f"ip address add {router}/64 dev custa nodad")
        words(made, "a", f"ip -6 route replace default dev up1 table 101 metric 1024 via {router}")
        words(made, "a", f"ip -6 route replace default dev up1 metric 100 via {router}")
        yield made
        assert_no_errors(made)


def words(lab: Lab, node: str, line: str) -> str:
    """What a command says."""
    done = lab.run(node, line.split())
    assert done.returncode == 0, done.stderr
    return done.stdout


def link_address(lab: Lab, node: str, device: str) -> bytes:
    text = words(lab, node, f"cat /sys/class/net/{device}/address")
    return bytes.fromhex(text.strip().replace(":", ""))


def attack(lab: Lab) -> set[bytes]:
    """Sends every redirect on the link of a's first uplink for a time; returns the packets."""
    ends = link_address(lab, "a", "up1") + link_address(lab, "isp1", "custa")

    def link() -> socket.socket:
        one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        one.bind(("custa", 0))
        return one

    with namespaces.inside(namespaces.namespace(lab.name, "isp1"), link) as one:
        for packet in itertools.islice(itertools.cycle(redirects()), round(ATTACK_S * PER_SECOND)):
            one.send(ends + ETHERNET[12:] + packet)
            time.sleep(1 / PER_SECOND)
    return set(map(as_sent, redirects()))


@pytest.mark.lab
@pytest.mark.alone  # losses are counted in datagrams of a time
def test_a_conversation_goes_on_and_waits_for_no_neighbour(lab: Lab) -> None:
    establish_context(lab)
    route = f"ip -6 route get {format_locator(B1)} from {format_locator(A1)}"
    to_placeholder = f"via {format_locator(GATEWAY)}"
    lab.wait_for(
        "packets to the peer take our route",
        lambda: to_placeholder in words(lab, "a", route),
        RECOVERY_S,
    )
    with Stream(lab) as stream, Tap(lab, "a") as victim:
        sent = attack(lab)
        lab.wait_for("they arrive", lambda: sent <= victim.received, RECOVERY_S)
        stream.goes_on()
    assert to_placeholder in words(lab, "a", route)
    assert stream.lost <= LOST_MAX
    assert not stream.forged
