# SPDX-License-Identifier: MIT
"""The raw sockets that packets leave by: few, and one for all strangers."""

import contextlib
import socket
from collections.abc import Callable

import pytest

from noid.lab.waiting import wait_for
from noid.locators import Locator, format_locator, parse_locator
from noid.planes.senders import CODE_AT, SENDERS_MAX, Senders
from noid.wire import icmpv6, ipv6
from noid.wire.control import Code
from tests.namespaces import in_network_namespace, ip

pytestmark = pytest.mark.lab

HERE = parse_locator("2001:db8::1")
MARK = 0x6D36
PATIENCE_S = 60.0
"""A busy machine."""


def address(number: int) -> Locator:
    return Locator(HERE[:8] + number.to_bytes(8, "big"))


def forge(mtu: int) -> None:
    """An error of a router about a message that this host may have sent, though it sent none."""
    error = icmpv6.ErrorMessage(
        type=icmpv6.PACKET_TOO_BIG, code=0, value=mtu, quote=packet(HERE, address(9), octets=1400)
    )
    router = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with router:
        router.sendto(error.encode_packet(address(2), HERE), (format_locator(HERE), 0))


def packet(source: Locator, destination: Locator, code: int = 0, octets: int = 4) -> bytes:
    body = bytearray(ipv6.plain_header(source, destination, ipv6.ICMPV6, octets) + bytes(octets))
    body[CODE_AT] = bytes((code,))
    return bytes(body)


def with_senders(scenario: Callable[[Senders], None]) -> None:
    """Runs a scenario on a host with one device, through which every address is reached."""

    def play() -> None:
        ip("link add out type veth peer name far")
        for name in ("out", "far"):
            ip(f"link set {name} up")
        ip("-6 route add default dev out")
        with contextlib.closing(Senders(MARK)) as senders:
            scenario(senders)
        assert len(senders) == 0

    in_network_namespace(play)


def test_strangers_share_a_socket_whatever_the_addresses() -> None:
    def scenario(senders: Senders) -> None:
        for number in range(2 * SENDERS_MAX):
            for code in (Code.CC, Code.UC):
                answer = packet(address(number), address(number + 1), code)
                assert senders.send(answer, is_control=True) == 0
        assert len(senders) == 1

    with_senders(scenario)


def test_each_address_has_a_socket_up_to_a_limit() -> None:
    def scenario(senders: Senders) -> None:
        for number in range(SENDERS_MAX + 8):
            for peer in range(3):
                senders.send(packet(address(number), address(peer)), is_control=bool(peer))
            assert len(senders) == min(number + 1, SENDERS_MAX)

    with_senders(scenario)


def test_the_mtu_of_the_path_is_told() -> None:
    def scenario(senders: Senders) -> None:
        ip("link set out mtu 1300")
        assert senders.send(packet(HERE, address(9), octets=1200)) == 0
        assert senders.send(packet(HERE, address(9), octets=1400)) == 1300
        assert senders.send(packet(HERE, address(9), Code.CC, 1400), is_control=True) == 1300

    with_senders(scenario)


def test_a_long_message_asks_the_path_whatever_an_error_said() -> None:
    def scenario(senders: Senders) -> None:
        for order in ("link set lo up", "addr add 2001:db8::1/128 dev lo"):
            ip(order)
        data, message = (
            packet(HERE, address(9), octets=1400),
            packet(HERE, address(9), Code.UR, 1400),
        )
        assert senders.send(data) == 0

        def has_arrived() -> bool:
            forge(1280)  # a full backlog may drop it
            return senders.send(data) == 1280

        wait_for("the error has arrived", has_arrived, PATIENCE_S)
        assert senders.send(message, is_control=True) == 0

    with_senders(scenario)
