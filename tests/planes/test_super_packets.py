# SPDX-License-Identifier: MIT
"""Super-packets that do not arrive are noticed, and cut for a while, on their pair of locators."""

import struct
import time
from dataclasses import replace
from typing import NamedTuple

from noid.constants import SECOND, UNANSWERED_MANY
from noid.counters import KERNEL_COUNTERS, PlaneCounter
from noid.flows.clock import FlowClock
from noid.planes.bpf import layout, libbpf
from tests.planes import test_keepalives
from tests.planes.test_keepalives import FLOW, KEY, Kernel
from tests.planes.test_layout import ETHERNET as FRAME
from tests.planes.test_layout import PEER, install
from tests.planes.test_long_segments import segment

kernel = test_keepalives.kernel

SUPER_PACKET = struct.Struct("=IIQ32sQII")
SEGMENTS_AT, SEGMENT_OCTETS_AT, CONTEXT_OCTETS = 164, 176, 192
"""Offsets in ``struct __sk_buff``."""
CUT_TIME = 60 * SECOND
DOUBLED_MAX = 4


class Watched(NamedTuple):
    """The fields of ``struct super_packet``."""

    ports: int
    sequence: int
    sent_ns: int
    locators: bytes
    cut_until_ns: int
    losses: int
    cuts: int


def context(segment_octets: int) -> bytes:
    """The context of a super-packet of two segments; of another packet, if 0."""
    octets = bytearray(CONTEXT_OCTETS)
    struct.pack_into("=I", octets, SEGMENTS_AT, 2 * bool(segment_octets))
    struct.pack_into("=I", octets, SEGMENT_OCTETS_AT, segment_octets)
    return bytes(octets)


WHOLE, ALONE = context(700), context(0)


def watched(kernel: Kernel) -> libbpf.Table:
    """The table of super-packets that are watched."""
    return libbpf.Table(kernel.programs.maps["super_packets"], 4, SUPER_PACKET.size)


def pass_time(kernel: Kernel, time_ns: int) -> None:
    """Lets the last super-packet have been sent earlier, and the time of cutting begun earlier."""
    entry = watched(kernel).find(KEY)
    if entry is not None:
        one = Watched(*SUPER_PACKET.unpack(entry))
        until_ns = max(one.cut_until_ns - time_ns, 1) if one.cut_until_ns else 0
        one = one._replace(sent_ns=one.sent_ns - time_ns, cut_until_ns=until_ns)
        watched(kernel).put(KEY, SUPER_PACKET.pack(*one))


def is_cut(kernel: Kernel, kind: bytes, sequence: int, *, is_heard: bool = True) -> bool:
    """Sends a packet a little later than the last; whether it was to be cut first."""
    pass_time(kernel, SECOND // 5)
    kernel.given(received_ns=time.monotonic_ns() if is_heard else 1)
    before = counted(kernel, PlaneCounter.PACKETS_CUT)
    kernel.programs.try_out("host_egress", FRAME + segment(sequence=sequence), kind)
    return counted(kernel, PlaneCounter.PACKETS_CUT) > before


def counted(kernel: Kernel, counter: PlaneCounter) -> int:
    """How often the programs have counted something."""
    size = layout.COUNT.size * libbpf.processors()
    table = libbpf.Table(kernel.programs.maps["counts"], 4, size)
    each = table.find(KERNEL_COUNTERS.index(counter).to_bytes(4, "little")) or b""
    return sum(value for (value,) in layout.COUNT.iter_unpack(each))


def lose_two(kernel: Kernel, *, is_heard: bool = True) -> None:
    """Sends two super-packets, and the start of each again."""
    for sequence in (1, 2):
        assert not is_cut(kernel, WHOLE, sequence)
        assert not is_cut(kernel, ALONE, sequence, is_heard=is_heard)


def test_after_two_that_are_lost_all_are_cut_for_a_while(kernel: Kernel) -> None:
    lose_two(kernel)
    assert counted(kernel, PlaneCounter.SUPERS_NOT_ARRIVED) == 1
    assert is_cut(kernel, WHOLE, 3)
    assert not is_cut(kernel, ALONE, 3)
    pass_time(kernel, CUT_TIME - 2 * SECOND)
    assert is_cut(kernel, WHOLE, 4)
    pass_time(kernel, 2 * SECOND)
    assert not is_cut(kernel, WHOLE, 5)


def test_the_time_is_doubled_each_time_up_to_a_limit(kernel: Kernel) -> None:
    for number in range(DOUBLED_MAX + 2):
        lose_two(kernel)
        pass_time(kernel, (CUT_TIME << min(number, DOUBLED_MAX)) - 2 * SECOND)
        assert is_cut(kernel, WHOLE, 3)
        pass_time(kernel, 2 * SECOND)


def test_it_is_not_doubled_after_one_has_arrived(kernel: Kernel) -> None:
    for _ in range(2):
        lose_two(kernel)
        pass_time(kernel, CUT_TIME)
        assert not is_cut(kernel, WHOLE, 3)
        pass_time(kernel, SECOND)
        assert not is_cut(kernel, ALONE, 4)


def test_what_is_not_lost_is_not_cut(kernel: Kernel) -> None:
    for number in range(1, 20):
        assert not is_cut(kernel, WHOLE, number), "it makes progress"
    lose_two(kernel, is_heard=False)
    assert not is_cut(kernel, WHOLE, 3), "nothing arrives at all"
    for number in range(4, 10):
        assert not is_cut(kernel, ALONE, number)
        assert not is_cut(kernel, ALONE, number), "they are not whole"


def test_single_losses_between_others_that_arrive_do_not_count(kernel: Kernel) -> None:
    for number in range(1, 20, 2):
        assert not is_cut(kernel, WHOLE, number)
        assert not is_cut(kernel, ALONE, number)
        assert not is_cut(kernel, WHOLE, number + 1)
        pass_time(kernel, SECOND)
        assert not is_cut(kernel, ALONE, number + 2)
    assert counted(kernel, PlaneCounter.SUPERS_NOT_ARRIVED) == 0


def test_another_pair_of_locators_is_not_concerned(kernel: Kernel) -> None:
    lose_two(kernel)
    assert is_cut(kernel, WHOLE, 3)
    other = replace(FLOW, peer_locator=next(one for one in PEER if one != FLOW.peer_locator))
    install(kernel.programs, other, FlowClock())
    kernel.programs.try_out("host_egress", FRAME + segment(sequence=4), WHOLE)
    entry = watched(kernel).find(KEY)
    assert entry is not None
    assert Watched(*SUPER_PACKET.unpack(entry)).cut_until_ns == 0


def test_each_that_leaves_after_an_answer_is_unanswered_since_then(kernel: Kernel) -> None:
    """Also the last of many in a tick: no packet may follow it for long."""
    kernel.given()
    for number in range(100):
        kernel.hears(unasked=False)
        before_ns = time.monotonic_ns()
        kernel.programs.try_out("host_egress", FRAME + segment(sequence=number), WHOLE)
        clock = kernel.clock()
        assert before_ns <= clock.unanswered_ns <= time.monotonic_ns()
        assert clock.unanswered >= UNANSWERED_MANY
