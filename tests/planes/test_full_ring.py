# SPDX-License-Identifier: MIT
"""With a full ring no packet is lost, and what was not reported is reported once there is room."""

import mmap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from noid.constants import SECOND
from noid.counters import KERNEL_COUNTERS, PlaneCounter
from noid.flows.clock import FlowClock
from noid.identifiers import Label, Nonce
from noid.lab.waiting import wait_for
from noid.locators import Locator, parse_locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import TABLES
from noid.planes.bpf.layout import ReportKind
from noid.planes.bpf.loading import Programs
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, encode_packet
from noid.wire.options import HASH_OCTETS, ContextOption
from tests.planes.loading import A1, CODEPOINTS, constants, loaded, own
from tests.planes.test_layout import ETHERNET, LOCAL, PEER, SENDING, install, packet_of

WITHIN_S: Final = 30.0
"""Less than what is put off for a minute, and enough for a busy machine."""
WATCHED: Final = parse_locator("2001:db8:78::1")
LOST: Final = KERNEL_COUNTERS.index(PlaneCounter.REPORTS_LOST).to_bytes(4, "little")

Stimulus = Callable[[Programs], None]
"""Has the programs report something, always about the same host or flow."""


def send(programs: Programs, source: Locator, destination: Locator) -> None:
    packet = packet_of(source, destination, ipv6.UDP, Label(0))
    programs.try_out("host_egress", ETHERNET + packet)


def to_a_stranger(programs: Programs) -> None:
    send(programs, A1, parse_locator("2001:db8:77::1"))


def to_a_watched_peer(programs: Programs) -> None:
    send(programs, A1, WATCHED)


def in_silence(programs: Programs) -> None:
    send(programs, SENDING.local_aid, SENDING.peer_aid)


def from_elsewhere(programs: Programs) -> None:
    packet = packet_of(PEER[5], LOCAL[2], 224, SENDING.local_label)
    programs.try_out("host_ingress", ETHERNET + packet)


STIMULI: Final[dict[ReportKind, tuple[str, Stimulus]]] = {
    ReportKind.UNKNOWN_PEER: ("set_ups", to_a_stranger),
    ReportKind.PLAIN_PACKET: ("set_ups", to_a_watched_peer),
    ReportKind.UNANSWERED_PACKET: ("reports", in_silence),
    ReportKind.SOURCE_MOVED: ("reports", from_elsewhere),
}
"""The ring that each kind of report needs, and what causes one."""


def install_silent(programs: Programs) -> None:
    """A flow that has sent for long and heard nothing, and has not reported it."""
    now_ns = time.monotonic_ns()
    silent = FlowClock(unanswered_ns=now_ns - 10 * SECOND, unanswered=4)
    install(programs, replace(SENDING, silence_ns=SECOND // 100), silent)


def lost(programs: Programs) -> int:
    octets = layout.COUNT.size * libbpf.processors()
    each = libbpf.Table(programs.maps["counts"], 4, octets).find(LOST) or b""
    return sum(one for (one,) in layout.COUNT.iter_unpack(each))


def fill(programs: Programs, ring: str) -> None:
    """Has the programs report other things until there is no room."""
    before = lost(programs)
    for number in range(2, 200):
        if lost(programs) > before:
            return
        if ring == "set_ups":
            send(programs, A1, parse_locator(f"2001:db8:77::{number:x}"))
        else:
            install_silent(programs)
            from_elsewhere(programs)
    pytest.fail("there is always room")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Programs]:
    sizes = {"reports": mmap.PAGESIZE, "set_ups": mmap.PAGESIZE}
    settings = constants(referrals=True)
    with loaded(tmp_path, sizes=sizes, settings=settings) as programs:
        own(programs, A1)
        watched = libbpf.Table(programs.maps["watched"], *TABLES["watched"])
        assert watched.put(WATCHED, layout.WATCHED.pack(0))
        yield programs


@pytest.mark.parametrize("kind", STIMULI)
def test_what_found_the_ring_full_is_reported_once_there_is_room(
    small: Programs, kind: ReportKind
) -> None:
    name, stimulus = STIMULI[kind]
    kinds: list[int] = []
    ring = libbpf.Reports(small.maps[name], lambda one: kinds.append(layout.Report.of(one).kind))
    fill(small, name)
    install_silent(small)
    before = lost(small)
    stimulus(small)
    assert lost(small) > before, "there was no room for it"
    ring.consume()
    kinds.clear()

    def is_reported() -> bool:
        stimulus(small)
        ring.consume()
        return kind in kinds

    wait_for(f"{kind.name} is reported", is_reported, WITHIN_S)
    ring.close()


# --- what happens to the packets themselves -------------------------------------------------------

MESSAGE: Final = ControlMessage(
    code=Code.KEEPALIVE,
    nonce=Nonce(1),
    sender_aid=SENDING.peer_aid,
    receiver_aid=SENDING.local_aid,
    context=ContextOption(sender_label=SENDING.peer_label, receiver_label=SENDING.local_label),
    authentication=bytes(HASH_OCTETS),
)
PACKETS: Final[dict[str, tuple[str, bytes]]] = {
    "to a stranger": (
        "host_egress",
        packet_of(A1, parse_locator("2001:db8:77::1"), ipv6.UDP),
    ),
    "to a watched peer": ("host_egress", packet_of(A1, WATCHED, ipv6.UDP)),
    "of a flow": ("host_egress", packet_of(SENDING.local_aid, SENDING.peer_aid, ipv6.UDP)),
    "of a flow, by TCP": ("host_egress", packet_of(SENDING.local_aid, SENDING.peer_aid, ipv6.TCP)),
    "from another locator": (
        "host_ingress",
        packet_of(PEER[5], LOCAL[2], 225, SENDING.local_label),
    ),
    "message that names a flow": (
        "host_ingress",
        encode_packet(MESSAGE, PEER[1], LOCAL[2], CODEPOINTS, in_slot=True),
    ),
    "with an unknown label": ("host_ingress", packet_of(PEER[5], A1, 225, Label(0x777))),
}
"""Each program and packet of which the programs say something to the daemon, or give it that."""
FOR_THE_DAEMON: Final = {"message that names a flow", "with an unknown label"}
TO_THE_DAEMON: Final = "to the daemon"
DROPPED, REDIRECTED = 2, 7
"""TC_ACT_SHOT and TC_ACT_REDIRECT."""


@pytest.mark.parametrize("ring", ["reports", "set_ups"])
@pytest.mark.parametrize("name", PACKETS)
def test_no_packet_is_lost_because_a_ring_is_full(small: Programs, name: str, ring: str) -> None:
    program, packet = PACKETS[name]
    copies: list[bytes] = []
    rings = [libbpf.Reports(small.maps[one], copies.append) for one in ("reports", "set_ups")]

    def fate() -> object:
        """What becomes of it; the daemon gets it as a report, or by the device of its own."""
        copies.clear()
        install_silent(small)
        verdict, left = small.try_out(program, ETHERNET + packet)
        if verdict == REDIRECTED and left == ETHERNET + packet:
            return TO_THE_DAEMON
        for one in rings:
            one.consume()
        is_copied = any(one[layout.REPORT.size :][: len(packet)] == packet for one in copies)
        return TO_THE_DAEMON if is_copied and verdict == DROPPED else (verdict, left)

    for address in (SENDING.local_aid, LOCAL[2]):
        own(small, address)
    fill(small, ring)
    without_room = fate()
    for one in rings:
        one.consume()
    assert without_room == fate()
    assert (without_room == TO_THE_DAEMON) == (name in FOR_THE_DAEMON)
    for one in rings:
        one.close()
