# SPDX-License-Identifier: MIT
"""What the attacker of a bench sends arrives, in order and round and round."""

import os
import socket

import pytest

from noid.bench.volley import Volley
from noid.errors import PlatformError
from noid.locators import Locator
from tests.attacks.spoofing import spoofed_datagram
from tests.waiting import LIMIT_S

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")

LOOPBACK = Locator(bytes(15) + b"\x01")


def raw_socket() -> socket.socket:
    return socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)


@pytest.mark.parametrize("counts", [(25,), (7, 1, 10), (0, 103)])
def test_packets_arrive_in_order_and_go_round(counts: tuple[int, ...]) -> None:
    with raw_socket() as raw, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.bind(("::1", 0))
        server.settimeout(LIMIT_S)
        ports = 9, server.getsockname()[1]
        payloads = [bytes((number,)) * 3 for number in range(10)]
        volley = Volley(raw, [spoofed_datagram(LOOPBACK, LOOPBACK, ports, one) for one in payloads])
        number = 0
        for count in counts:
            volley.send(count)
            for _ in range(count):
                assert server.recv(16) == payloads[number % len(payloads)]
                number += 1


def test_a_packet_that_the_kernel_refuses_is_reported() -> None:
    with raw_socket() as raw, pytest.raises(PlatformError, match="send packets"):
        Volley(raw, [bytes(70_000)]).send(1)
