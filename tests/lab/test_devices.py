# SPDX-License-Identifier: MIT
"""Uplinks that carry less than others, and packets that are for other devices on them."""

import socket
import struct
from collections.abc import Iterator

import pytest

from noid.counters import PlaneCounter
from noid.lab import namespaces
from noid.lab.lab import Lab
from noid.lab.topology import HOSTS, locators
from noid.locators import parse_locator
from noid.wire import ipv6
from tests.lab.conversations import (
    PATIENCE_S,
    counters,
    establish_context,
    restart_daemons,
    serve_echoes,
    tcp,
)

NARROW, WIDE = {"a": 1400, "b": 1380}, 1500
"""The second is less than what is known of the path from the first."""
LONG_OCTETS = 60_000
TOO_BIG = PlaneCounter.PACKETS_TOO_BIG
ANOTHER_VLAN = PlaneCounter.PACKETS_OF_OTHER_VLAN
M6_TCP = 225
TAGGED = 50


@pytest.fixture(scope="module")
def echoing(lab: Lab) -> Lab:
    """The lab, with echo servers on both hosts."""
    serve_echoes(lab)
    return lab


@pytest.fixture
def narrowing(echoing: Lab) -> Iterator[Lab]:
    """The echoing lab, both daemons fresh; everything is as wide as before afterwards."""
    restart_daemons(echoing)
    yield echoing
    echoing.heal_provider(1)
    for host in HOSTS:
        _set_mtu(echoing, host, WIDE)


@pytest.mark.parametrize("client", HOSTS)
def test_a_connection_adapts_to_the_other_uplink_which_carries_less(
    narrowing: Lab, client: str
) -> None:
    lab = narrowing
    with tcp(lab, client) as conversation:
        conversation.echoes()
        establish_context(lab, client)
        _set_mtu(lab, client, NARROW[client])
        conversation.echoes(octets=LONG_OCTETS)
        assert not counters(lab, client)[TOO_BIG], "nothing has gone there yet"
        lab.cut_provider(1)
        conversation.echoes(octets=LONG_OCTETS)
        conversation.echoes(octets=LONG_OCTETS)
        assert lab.contexts(client)[0]["local_locator"] == locators(client)[1]
        # Its own shim tells the client; the provider tells the other, by the packet as it saw it.
        assert counters(lab, client)[TOO_BIG] > 0


def test_packets_with_a_tag_are_for_another_device(echoing: Lab) -> None:
    lab = echoing
    establish_context(lab)
    before = counters(lab, "a")
    _send_tagged(lab, TAGGED, vlan=5)
    if lab.plane == "bpf":
        lab.wait_for(
            "they are counted", lambda: counters(lab, "a")[ANOTHER_VLAN] == TAGGED, PATIENCE_S
        )
    else:
        establish_context(lab)  # by when they have come, and gone to no raw socket
    received = PlaneCounter.PACKETS_RECEIVED
    # The hosts may measure their pairs at that time: a few messages, not as many as were sent.
    assert counters(lab, "a")[received] - before[received] < TAGGED


def test_packets_with_a_tag_that_says_a_priority_alone_are_for_this_device(echoing: Lab) -> None:
    """As switches and providers tag them (IEEE 802.1Q: VLAN 0)."""
    lab = echoing
    establish_context(lab)
    received = PlaneCounter.PACKETS_RECEIVED
    before = counters(lab, "a")[received]
    _send_tagged(lab, TAGGED, vlan=0)
    lab.wait_for(
        "they are received", lambda: counters(lab, "a")[received] - before >= TAGGED, PATIENCE_S
    )


def _set_mtu(lab: Lab, host: str, octets: int) -> None:
    """Narrows or widens the link between a host and provider 2, at both ends."""
    for node, name in ((host, "up2"), ("isp2", f"cust{host}")):
        done = lab.run(node, ["ip", "link", "set", name, "mtu", str(octets)])
        assert done.returncode == 0, done.stderr


def _send_tagged(lab: Lab, number: int, *, vlan: int) -> None:
    """Sends a M6 packets of its context, but on a VLAN."""
    (context,) = lab.contexts("a")
    header = ipv6.Header(
        source=parse_locator(context["peer_locator"]),
        destination=parse_locator(context["local_locator"]),
        next_header=M6_TCP,
        payload_octets=20,
        flow_label=context["local_label"],
    )
    tag = struct.pack("!HHH", 0x8100, vlan, 0x86DD)
    shown = lab.run("a", ["cat", "/sys/class/net/up1/address"]).stdout.strip()
    ends = bytes.fromhex(shown.replace(":", "")) + bytes(6)

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("custa", 0))
            for _ in range(number):
                wire.send(ends + tag + header.encode() + bytes(20))

    namespaces.inside(namespaces.namespace(lab.name, "isp1"), send)
