# SPDX-License-Identifier: MIT
"""TCP connections whose timers have become long are made to send again (RFC 6069)."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from noid.host.socket_diag import Unacknowledged, unacknowledged_connections
from noid.lab import nft
from noid.locators import format_locator
from noid.planes.bpf import stalled as module
from noid.planes.bpf.stalled import OUTAGE_MIN
from noid.wire import ipv6
from tests.namespaces import ip
from tests.planes.keeping import AID, PEER, Kept, flow_to_peer, keeping
from tests.waiting import until

PORT = 7000
CONNECTIONS = 3
EXPIRIES = 3
RETRANSMITS_AT, BACKOFF_AT, INFO_OCTETS = 2, 4, 8
"""Where struct tcp_info has tcpi_retransmits and tcpi_backoff."""


@contextlib.contextmanager
def connections() -> Iterator[list[socket.socket]]:
    """Connections from AID to PEER, both on this host."""
    place, own = (format_locator(PEER), PORT), (format_locator(AID), 0)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(place, family=socket.AF_INET6))
        found = []
        for _ in range(CONNECTIONS):
            found.append(stack.enter_context(socket.create_connection(place, source_address=own)))
            stack.enter_context(server.accept()[0])
        yield found


def beginning() -> socket.socket:
    """A socket that begins a connection from AID to PEER; an error about its SYN would end it."""
    one = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    one.setblocking(False)
    one.bind((format_locator(AID), 0))
    with contextlib.suppress(BlockingIOError):
        one.connect((format_locator(PEER), PORT))
    return one


def expiries(connection: socket.socket) -> int:
    """How often the timer of a connection has expired in a row."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_OCTETS)[RETRANSMITS_AT]


def doublings(connection: socket.socket) -> int:
    """How often the time to the next retransmission has doubled."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_OCTETS)[BACKOFF_AT]


def stalled(some: list[socket.socket]) -> list[Unacknowledged]:
    """What the kernel says of those of some connections that wait for long."""
    assert unacknowledged_connections({PEER + AID}) == []
    ports = {struct.pack("!HH", one.getsockname()[1], PORT) for one in some}
    every = unacknowledged_connections({AID + PEER})
    found = [one for one in every if one.expiries >= EXPIRIES]
    assert ports >= {one.ports for one in found}
    assert {(one.local, one.peer) for one in found} <= {(AID, PEER)}
    return found


def test_every_connection_of_a_flow_sends_again_after_a_long_outage(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        label = flow_to_peer().local_label
        ip(f"addr add {format_locator(PEER)}/128 dev lo nodad")
        with connections() as some:
            nft.run(
                "add table ip6 cut\n"
                "add chain ip6 cut in { type filter hook input priority 0; }\n"
                f"add rule ip6 cut in tcp dport {PORT} drop\n"
            )
            assert stalled(some) == []
            for one in some:
                one.sendall(b"lost")
            connecting = beginning()
            await until(lambda: len(stalled(some)) == CONNECTIONS and expiries(connecting) > 0)
            kept.plane.send_again(label, b"", OUTAGE_MIN - 1)
            assert min(map(doublings, some)) >= EXPIRIES
            kept.plane.send_again(label, b"", OUTAGE_MIN)
            await until(lambda: max(map(doublings, some)) < EXPIRIES - 1)
            with connecting:
                assert connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0

    keeping(pins, scenario)


@pytest.mark.parametrize(
    ("protocol", "silent_ns", "is_sent"),
    [
        (socket.IPPROTO_TCP, OUTAGE_MIN - 1, True),
        (socket.IPPROTO_TCP, OUTAGE_MIN, False),
        (socket.IPPROTO_UDP, OUTAGE_MIN, True),
    ],
)
def test_a_segment_is_not_sent_again_before_the_timer_of_tcp_is_reverted(
    pins: Path, protocol: int, silent_ns: int, is_sent: bool
) -> None:
    """To TCP its answer is a round trip of the whole outage, and its timer waits for a multiple."""

    async def scenario(kept: Kept) -> None:
        header = ipv6.Header(source=AID, destination=PEER, next_header=protocol, payload_octets=20)
        packet = header.encode() + bytes(20)
        sent = kept.bpf.stalled.add(flow_to_peer(), packet, silent_ns)
        assert sent == (packet if is_sent else b"")
        again = kept.bpf.stalled.add(flow_to_peer(), packet, 0)
        assert again == sent, "the first repetition comes before it is reverted, too"

    keeping(pins, scenario)


def test_a_look_that_fails_is_not_the_last_one(pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[None] = []

    def look(ends: object) -> list[Unacknowledged]:
        looks.append(None)
        raise ValueError("what the kernel says cannot be read")

    monkeypatch.setattr(module, "unacknowledged_connections", look)

    async def scenario(kept: Kept) -> None:
        label = flow_to_peer().local_label

        def looks_again() -> bool:
            kept.plane.send_again(label, b"", OUTAGE_MIN)
            return len(looks) > 1

        await until(looks_again)

    keeping(pins, scenario)
