# SPDX-License-Identifier: MIT
"""The programs in the kernel do to packets what rewrite.py says, bit for bit."""

import errno
import random
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from noid.errors import PlatformError
from noid.flows.clock import FlowClock
from noid.flows.flow import Flow
from noid.flows.rewrite import ANSWERED, Arrival, Refusal, Rewriter, Watch
from noid.identifiers import Label
from noid.lab.waiting import wait_for
from noid.locators import Locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import PASSING_TABLES, TABLES
from noid.planes.bpf.copies import finished
from noid.planes.bpf.loading import SUMMED_UP, Programs
from noid.planes.uplink import ETHERNET, RECEIVES
from noid.wire import ipv6
from noid.wire.slots import SLOT_ICMPV6, SLOT_OF_PROTOCOL, slot_of
from tests.planes.loading import (
    CODEPOINTS,
    ELSEWHERE,
    HERE,
    constants,
    loaded,
    put_uplinks,
    uplink,
)

PASS, DROP, REDIRECT = 0xFFFFFFFF, 2, 7
"""The first is -1 in the kernel: let the next program on the hook have it."""
ETHERNET_HEADER = bytes(12) + b"\x86\xdd"
MARK = 0x6D36
CASES = 24_000
SEED = 1
NEVER = 1 << 62
"""A time of the kernel that does not come."""
PATIENCE_S = 30.0
PROTOCOLS = (*SLOT_OF_PROTOCOL, 0, 43, 47, 51, 59, 60, 135, 253)
ANOTHER_HOST = bytes((2, 0, 0, 0, 0, 9))
"""A link address that is not the one of the interface."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    directory = tmp_path_factory.mktemp("bpf")
    with loaded(directory, room=256, settings=constants(mark=MARK)) as found:
        yield found


class Kernel:
    """The tables and programs, filled as the plane fills them."""

    def __init__(self, programs: Programs, chance: random.Random) -> None:
        self.programs = programs
        self.tables = {
            name: libbpf.Table(programs.maps[name], *sizes) for name, sizes in TABLES.items()
        }
        for table in self.tables.values():
            for key in list(table.keys()):
                table.remove(key)
        self.rewriter = Rewriter(CODEPOINTS)
        self.watches: dict[int, Watch] = {}
        self.chance = chance
        self.ours: set[Locator] = set()

    def own(self, address: Locator) -> None:
        """It is one of this host's."""
        self.ours.add(address)
        self.tables["ours"].put(address, layout.ROW.pack(HERE))

    def install(self, flow: Flow) -> None:
        for address in flow.local_locators:
            self.own(address)
        self.rewriter.install(flow)
        self.watches[flow.local_label] = Watch()
        clock = FlowClock()
        key = layout.label_key(flow.local_label)
        entry, far = layout.inbound_entries(flow, HERE, clock)
        self.tables["inbound"].put(key, entry)
        if far:
            self.tables["far"].put(key, far)
        if flow.transmits:
            row = self.chance.choice((HERE, ELSEWHERE))
            sent = layout.outbound_entry(flow, row, CODEPOINTS, clock)
            self.tables["outbound"].put(layout.aids_key(flow), sent)

    def run(self, program: str, packet: bytes, *, flags: int = 0) -> tuple[int, bytes]:
        verdict, after = self.programs.try_out(program, ETHERNET_HEADER + packet, flags=flags)
        return verdict, after[len(ETHERNET_HEADER) :]


def test_thousands_of_packets_leave_and_arrive_as_the_law_says(programs: Programs) -> None:
    chance = random.Random(SEED)
    seen = {"out": 0, "plain": 0, "in": 0, "refused": 0, "slow": 0}
    while sum(seen.values()) < CASES:
        kernel = Kernel(programs, chance)
        # Data moves no flow here: the law has no clock, and a busy machine may be silent for long.
        flows = [random_flow(chance) for _ in range(chance.randint(1, 4))]
        flows = [replace(flow, follow_ns=NEVER) for flow in flows]
        for flow in flows:
            kernel.install(flow)
        for _ in range(120):
            if chance.random() < 0.5:
                _compare_outbound(kernel, flows, seen)
            else:
                _compare_inbound(kernel, flows, seen)
    assert min(seen.values()) > 200, seen


def _compare_outbound(kernel: Kernel, flows: list[Flow], seen: dict[str, int]) -> None:
    chance = kernel.chance
    flow = chance.choice(flows)
    source = chance.choice((flow.local_aid, flow.local_aid, flow.peer_aid))
    destination = chance.choice((flow.peer_aid, flow.peer_aid, random_locator(chance)))
    packet = random_packet(chance, source, destination, chance.choice(PROTOCOLS))
    if packet[6] == ipv6.ICMPV6 and len(packet) > 40 and chance.random() < 0.5:
        kind = bytes((chance.randrange(128, 142),))
        packet = packet[:40] + kind + packet[41:]
    verdict, after = kernel.run("host_egress", packet)
    carrying = kernel.rewriter.flow_of(packet)
    story = f"seed {SEED}: {packet.hex()} -> {verdict} {after.hex()}"
    if carrying is None:
        assert (verdict, after) == (PASS, packet), story
        seen["plain"] += 1
    elif packet[6] not in SLOT_OF_PROTOCOL:
        assert (verdict, after) == (REDIRECT, packet), story
        seen["slow"] += 1
    else:
        assert after == kernel.rewriter.outbound(packet, carrying), story
        assert verdict in (PASS, REDIRECT), story
        on_aids = after[8:40] == packet[8:40]
        assert on_aids or verdict == REDIRECT, story
        seen["out"] += 1


def _compare_inbound(kernel: Kernel, flows: list[Flow], seen: dict[str, int]) -> None:
    chance = kernel.chance
    flow = chance.choice(flows)
    source = chance.choice((*sorted(flow.peer_locators) * 3, random_locator(chance)))
    destination = chance.choice((*sorted(flow.local_locators) * 3, random_locator(chance)))
    if chance.random() < 0.5:
        kernel.own(destination)
    label = chance.choice((flow.local_label,) * 8 + (0, chance.randrange(1 << 20)))
    next_header = chance.randrange(222, 242)
    packet = random_packet(chance, source, destination, next_header, label=label)
    verdict, after = kernel.run("host_ingress", packet)
    story = f"seed {SEED}: {packet.hex()} -> {verdict} {after.hex()}"
    slot = slot_of(next_header, CODEPOINTS)
    if slot is None or destination not in kernel.ours:
        assert (verdict, after) == (PASS, packet), story
        seen["plain"] += 1
        return
    if slot.number == SLOT_ICMPV6 and label == 0:
        assert (verdict, after) == (REDIRECT, packet), story
        seen["slow"] += 1
        return
    header = ipv6.Header.decode(packet)
    delivery = kernel.rewriter.inbound(
        Arrival(
            source=header.source,
            destination=header.destination,
            next_header=next_header,
            flow_label=Label(label),
            traffic_class=header.traffic_class,
            hop_limit=header.hop_limit,
            payload=packet[ipv6.HEADER_OCTETS :],
        )
    )
    if delivery in {Refusal.UNKNOWN_LABEL, *ANSWERED}:
        assert verdict in (DROP, REDIRECT), story
        assert after == packet, story
        seen["refused"] += 1
    elif isinstance(delivery, Refusal) and delivery is not Refusal.BAD_ESCAPE:
        assert (verdict, after) == (DROP, packet), story
        seen["refused"] += 1
    elif isinstance(delivery, Refusal) or slot.number == 7 or delivery.flow.holds:
        assert (verdict, after) == (REDIRECT, packet), story
        seen["slow"] += 1
    else:
        assert (verdict, after) == (PASS, delivery.packet), story
        # The kernel follows the peer's source; so does the law.
        kernel.watches[delivery.flow.local_label].received(delivery, time.monotonic_ns())
        seen["in"] += 1


@pytest.mark.parametrize("slot", [*SLOT_OF_PROTOCOL.values(), 3, 7])
def test_the_sum_of_a_device_holds_after_each_slot(programs: Programs, slot: int) -> None:
    chance = random.Random(SEED)
    for _ in range(50):
        kernel = Kernel(programs, chance)
        flow = random_flow(chance)
        kernel.install(flow)
        source = chance.choice(sorted(flow.peer_locators))
        packet = random_packet(
            chance, source, flow.local_locator, 224 + slot, label=flow.local_label
        )
        try:
            after = kernel.run("host_ingress", packet, flags=SUMMED_UP)
        except PlatformError as error:
            if error.errno == errno.EINVAL:
                pytest.skip("this kernel has no BPF_F_TEST_SKB_CHECKSUM_COMPLETE")
            raise
        assert after == kernel.run("host_ingress", packet), packet.hex()


def test_what_goes_to_another_host_on_the_link_is_left_alone(programs: Programs) -> None:
    chance = random.Random(SEED)
    kernel = Kernel(programs, chance)
    for label, next_header in ((0, 230), (7, 224), (7, 227), (7, 231), (7, 0)):
        packet = random_packet(
            chance, random_locator(chance), random_locator(chance), next_header, label=label
        )
        packet = packet[:40] + bytes((224, 0, 1, 4, 0, 0, 0, 0)) + packet[48:]
        frame = ANOTHER_HOST + ETHERNET_HEADER[6:] + packet
        assert programs.try_out("host_ingress", frame) == (PASS, frame)
        assert kernel.run("host_ingress", packet) == (PASS, packet), "we are its router"
        kernel.own(Locator(packet[24:40]))
        assert kernel.run("host_ingress", packet)[0] != PASS, "this one is for us"


def test_the_early_program_does_the_same_or_nothing(programs: Programs) -> None:
    chance = random.Random(SEED)
    restored = 0
    for _ in range(400):
        kernel = Kernel(programs, chance)
        flow = random_flow(chance)
        kernel.install(flow)
        source = chance.choice((flow.peer_locator, random_locator(chance)))
        packet = random_packet(
            chance, source, flow.local_locator, chance.randrange(222, 242), label=flow.local_label
        )
        early = kernel.run("host_ingress_early", packet)[1]
        if early != packet:
            verdict, later = kernel.run("host_ingress", packet)
            assert (verdict, later) == (PASS, early)
            restored += 1
    assert restored > 50


def test_a_source_outside_the_set_is_refused_without_a_peer_locator_in_use(
    programs: Programs,
) -> None:
    chance = random.Random(SEED)
    kernel = Kernel(programs, chance)
    flow = random_flow(chance)
    flow.transmits, flow.peer_locator = False, random_locator(chance)
    kernel.install(flow)
    packet = random_packet(
        chance, random_locator(chance), flow.local_locator, 224, label=flow.local_label
    )
    assert kernel.run("host_ingress_early", packet)[1] == packet
    kernel.own(flow.local_locator)
    # Packets of other tests may have used up the share of this second.
    wait_for(
        "it is to be answered with a UC",
        lambda: kernel.run("host_ingress", packet) == (REDIRECT, packet),
        PATIENCE_S,
    )


def test_the_peer_is_followed_to_a_verified_source_in_the_kernel(
    programs: Programs,
) -> None:
    chance = random.Random(SEED)
    kernel = Kernel(programs, chance)
    flow = next(
        one
        for one in iter(lambda: random_flow(chance), None)
        if len(one.verified_locators) > 1 and one.transmits and not one.holds
    )
    kernel.install(flow)
    other = next(iter(flow.verified_locators - {flow.peer_locator}))
    packet = random_packet(chance, other, flow.local_locator, 224, label=flow.local_label)
    assert kernel.run("host_ingress", packet)[0] == PASS
    entry = kernel.tables["outbound"].find(layout.aids_key(flow))
    assert entry is not None
    assert layout.peer_locator_of(entry) == other


@pytest.mark.parametrize("segment", [0, 100])
def test_a_copy_of_an_unfinished_packet_is_finished(segment: int) -> None:
    payload = bytearray(20 + 250)
    payload[12] = 5 << 4
    payload[13] = 0x19
    payload[16:18] = b"\xab\xcd"  # what a stack that leaves the sum to the device writes
    source, destination = (Locator(bytes([2, number] + [0] * 14)) for number in (1, 2))
    header = ipv6.Header(
        source=source, destination=destination, next_header=6, payload_octets=len(payload)
    )
    done = finished(header.encode() + payload, segment)
    body = done[40:]
    assert len(body) == (20 + segment if segment else len(payload))
    assert ipv6.Header.decode(done).payload_octets == len(body)
    assert ipv6.checksum(source, destination, 6, body) == 0
    assert body[13] == (0x10 if segment else 0x19), "FIN and PSH are the last segment's"


def test_a_truncated_copy_has_no_next_header() -> None:
    header = ipv6.Header(
        source=Locator(bytes(16)), destination=Locator(bytes(16)), next_header=6, payload_octets=999
    )
    done = finished(header.encode() + bytes(100), 0)
    assert ipv6.Header.decode(done).next_header == ipv6.NO_NEXT_HEADER


def random_locator(chance: random.Random) -> Locator:
    return Locator(b"\x20\x01\x0d\xb8" + chance.randbytes(12))


def random_flow(chance: random.Random) -> Flow:
    """Any flow a plane may be given, but for its times."""
    local = [random_locator(chance) for _ in range(chance.choice((1, 2, 2, 3, 5, 16)))]
    peer = [random_locator(chance) for _ in range(chance.choice((1, 2, 2, 3, 5, 16)))]
    verified = frozenset(chance.sample(peer, chance.randint(0, len(peer))))
    aside = chance.random() < 0.2
    transmits = bool(verified) and not aside and chance.random() < 0.9
    return Flow(
        local_aid=local[0],
        peer_aid=peer[0],
        local_label=Label(chance.randint(1, 0xFFFFF)),
        peer_label=Label(chance.randint(1, 0xFFFFF)),
        local_locator=chance.choice(local),
        peer_locator=chance.choice(sorted(verified) if transmits else peer),
        local_locators=frozenset(local),
        peer_locators=frozenset(peer),
        verified_locators=verified,
        rewritable=chance.random() < 0.5,
        transmits=transmits,
        silence_ns=1,  # so that the locator in use is always silent, whatever the time
        aside=aside,
        holds=aside and chance.random() < 0.5,
    )


def random_packet(
    chance: random.Random,
    source: Locator,
    destination: Locator,
    next_header: int,
    *,
    label: int = -1,
) -> bytes:
    payload = chance.randbytes(chance.choice((0, 1, 7, 8, 20, 64, 200)))
    header = ipv6.Header(
        source=source,
        destination=destination,
        next_header=next_header,
        payload_octets=len(payload),
        flow_label=Label(chance.randrange(1 << 20) if label < 0 else label),
        traffic_class=chance.randrange(256),
        hop_limit=chance.randrange(256),
    )
    return header.encode() + payload


NO_NEIGHBOUR = bytes.fromhex("020000006d36") + bytes(6) + b"\x86\xdd"
"""The Ethernet header of a packet that a route of ours led to the uplink."""


def test_our_device_gets_packets_only_while_the_uplink_of_their_source_sends_none(
    programs: Programs,
) -> None:
    """A program that is bound to it would pass the rules for the uplink.

    Without a carrier an uplink is up; the kernel may ignore its routes, and takes those to us.
    """
    chance = random.Random(SEED)
    kernel = Kernel(programs, chance)
    flow = next(one for one in iter(lambda: random_flow(chance), None) if one.transmits)
    kernel.install(flow)
    packet = random_packet(chance, flow.local_aid, flow.peer_aid, ipv6.UDP)
    assert kernel.run("host_own", packet) == (DROP, packet)
    uplinks = libbpf.Table(programs.maps["uplinks"], *PASSING_TABLES["uplinks"])
    try:
        for flags in (ETHERNET, ETHERNET | RECEIVES):
            uplinks.put(layout.ROW.pack(HERE), uplink(1, flags))
            assert kernel.run("host_own", packet)[0] == REDIRECT
    finally:
        put_uplinks(programs)


def test_packets_to_the_neighbour_itself_are_dropped(programs: Programs) -> None:
    chance = random.Random(SEED)
    kernel = Kernel(programs, chance)
    source = random_locator(chance)
    for first in ("fe80", "ff02"):
        destination = Locator(bytes.fromhex(first) + bytes(13) + b"\1")
        packet = random_packet(chance, source, destination, ipv6.UDP)
        assert programs.try_out("host_egress", NO_NEIGHBOUR + packet)[0] == DROP
        assert kernel.run("host_egress", packet) == (PASS, packet)
    packet = random_packet(chance, source, random_locator(chance), ipv6.UDP)
    assert programs.try_out("host_egress", NO_NEIGHBOUR + packet)[0] == REDIRECT
