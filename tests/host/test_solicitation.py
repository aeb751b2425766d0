# SPDX-License-Identifier: MIT
"""Neighbour solicitations that the daemon sends itself."""

import contextlib
import socket
import struct
import time

import pytest

from noid.errors import PlatformError
from noid.host.solicitation import solicit, solicitation
from noid.locators import parse_locator
from tests.namespaces import in_network_namespace, ip

TARGET = parse_locator("2001:db8:f::12:3456")
LINK = bytes.fromhex("020000000001")
ETH_P_IPV6 = 0x86DD


def test_a_solicitation_has_the_layout_of_rfc_4861() -> None:
    header = bytes((135, 0)) + bytes(6)
    assert solicitation(TARGET, LINK) == header + TARGET + bytes((1, 1)) + LINK


def test_it_goes_to_all_who_may_have_the_address_by_that_device_alone() -> None:
    def run() -> bytes:
        ip("link add up1 type veth peer name far1")
        for name in ("lo", "up1", "far1"):
            ip(f"link set {name} up")
        index = socket.if_nametoindex("up1")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IPV6)) as far:
            far.bind(("far1", ETH_P_IPV6))
            far.settimeout(0.1)
            deadline_s = time.monotonic() + 60  # a busy machine
            while time.monotonic() < deadline_s:
                with contextlib.suppress(PlatformError, TimeoutError):  # its address is new
                    solicit(TARGET, index, LINK)
                    while (frame := far.recv(2048))[62:78] != TARGET:
                        pass
                    return frame
        raise AssertionError("no solicitation has come")

    frame = in_network_namespace(run)
    assert frame[:6] == bytes.fromhex("3333ff123456")
    assert frame[38:54] == parse_locator("ff02::1:ff12:3456")
    assert frame[21] == 255
    assert struct.unpack_from("!H", frame, 56)[0], "the kernel sets the checksum"
    assert frame[78:86] == bytes((1, 1)) + LINK


def test_a_device_that_is_gone_is_an_error_with_advice() -> None:
    def run() -> None:
        with pytest.raises(PlatformError, match="is the uplink there"):
            solicit(TARGET, 4242, LINK)

    in_network_namespace(run)
