# SPDX-License-Identifier: MIT
"""What a packet costs in the kernel with one context, and with a million, under traffic."""

import argparse
import contextlib
import dataclasses
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from noid.bench.report import Bench, Report, Series, Watch, add_contexts, add_runs
from noid.constants import Codepoints
from noid.errors import PlatformError
from noid.flows.clock import FlowClock
from noid.flows.flow import Flow
from noid.identifiers import Label
from noid.lab import namespaces
from noid.lab.lab import Lab
from noid.locators import Locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import PASSING_TABLES, TABLES
from noid.planes.bpf.loading import Programs
from noid.planes.bpf.pins import object_code
from noid.planes.uplink import ETHERNET, LINK_OCTETS, RECEIVES, SENDS, Uplink
from noid.wire import ipv6

CODEPOINTS = Codepoints()
BATCH = 10_000
PACKETS = 20_000
IN_USE = (1_000, 10_000)
"""Contexts that have packets at one time; the others are idle."""
HOST = "a"
ETHERNET_HEADER = bytes(12) + b"\x86\xdd"
SPREAD = 0x9E3779B1
"""Odd, so that multiplying by it modulo 2**20 gives every label once."""
NOTE = (
    "packets sent one by one through a device pair of a lab, host_egress on the one end and "
    "host_ingress on the other; the kernel's own statistics of the programs (bpf_stats): their "
    "nanoseconds for each run, both added; one among many: every packet is of the same context; "
    "so many among many: each is of one of so many at random, all met before; all of many: each is "
    "of any at random, and hardly any is met twice, as bad as it gets; memory is what the kernel "
    "says of the two tables"
)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser, default=7)
    add_contexts(parser, 1_000_000, "are installed")


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Fills the tables, and sends packets by them.

    Raises:
        ShimError: not root, or the kernel refuses the programs.
    """
    if os.geteuid() != 0:
        raise PlatformError("bench scale", 1, "loading programs takes privileges; run as root")
    total = arguments.contexts
    in_use = sorted({1, *(count for count in IN_USE if count < total), total})
    with_one: list[float] = []
    among_many: dict[int, list[float]] = {count: [] for count in in_use}
    with (
        tempfile.TemporaryDirectory() as directory,
        Lab.create(plane="none") as lab,
        _tables(lab, 1, 1, Path(directory)) as one,
        _tables(lab, 2, total, Path(directory)) as many,
        libbpf.statistics(),
    ):
        began = time.perf_counter()
        many.fill(total, watch)
        took_s = time.perf_counter() - began
        one.fill(1, lambda done, of: None)
        for run in range(arguments.runs):
            watch(run, arguments.runs)
            chance = random.Random(run)
            with_one.append(one.packet_ns([0] * PACKETS))
            for count in in_use:
                used = chance.sample(range(total), count)
                if count < total:
                    many.packet_ns(used)
                among_many[count].append(many.packet_ns(chance.choices(used, k=PACKETS)))
        octets = many.memory_octets()
    names = {count: f"{count}_among_many" for count in in_use}
    names |= {1: "one_among_many", total: "all_of_many"}
    return Report(
        series={
            **{f"{names[n]}_to_one": _ratios(among_many[n], with_one) for n in in_use},
            "nanoseconds_with_one": Series(tuple(with_one)),
            **{f"nanoseconds_of_{names[n]}": Series(tuple(among_many[n])) for n in in_use},
        },
        facts={
            "contexts": total,
            "seconds_to_install": round(took_s, 2),
            "kernel_octets_each": round(octets / total, 1),
            "counted": NOTE,
        },
    )


def _ratios(values: list[float], to: list[float]) -> Series:
    return Series(tuple(mine / other for mine, other in zip(values, to, strict=True)))


@contextlib.contextmanager
def _tables(lab: Lab, number: int, room: int, directory: Path) -> Iterator["_Tables"]:
    """Programs with tables of their own, on both ends of the host's link to a provider."""
    programs = Programs(
        object_code(),
        sizes={"outbound": room, "inbound": room, "far": 1, "watched": 1},
        constants=layout.settings(
            CODEPOINTS, mark=1, devices=layout.Interfaces(1, 1, 1), referrals=False, timers=False
        ),
        log_path=directory / "log",
    )
    with contextlib.ExitStack() as stack:
        stack.callback(programs.close)
        near, far = f"up{number}", f"cust{HOST}"
        for node, device, name, hook in (
            (HOST, near, "host_egress", libbpf.TCX_EGRESS),
            (f"isp{number}", far, "host_ingress", libbpf.TCX_INGRESS),
        ):
            stack.callback(os.close, _attach(lab, node, device, programs.programs[name], hook))
        sending, ifindex = namespaces.inside(
            namespaces.namespace(lab.name, HOST), lambda: _sender(near)
        )
        stack.enter_context(sending)
        yield _Tables(programs, sending, ifindex)


def _attach(lab: Lab, node: str, device: str, program: int, hook: int) -> int:
    """Attaches a program to a device of a node while the descriptor is open."""
    return namespaces.inside(
        namespaces.namespace(lab.name, node),
        lambda: libbpf.attach(program, socket.if_nametoindex(device), hook),
    )


def _sender(device: str) -> tuple[socket.socket, int]:
    """A socket for whole frames out of a device, and the device's number."""
    sending = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sending.bind((device, 0))
    return sending, socket.if_nametoindex(device)


class _Tables:
    """Tables, the programs that go by them, and a socket whose packets both programs see.

    Args:
        programs: loaded and attached.
        sending: for frames.
        ifindex: of the device they leave by.
    """

    def __init__(self, programs: Programs, sending: socket.socket, ifindex: int) -> None:
        self.programs = programs
        self.sending = sending
        self.ifindex = ifindex
        maps = programs.maps
        self.outbound = libbpf.Table(maps["outbound"], *TABLES["outbound"])
        self.inbound = libbpf.Table(maps["inbound"], *TABLES["inbound"])

    def fill(self, total: int, watch: Watch) -> None:
        """Installs contexts, as a plane would that has them all at once."""
        clock = FlowClock()
        self._take_uplink()
        for first in range(0, total, BATCH):
            watch(first, total)
            flows = [_flow(number) for number in range(first, min(first + BATCH, total))]
            aids = b"".join(layout.aids_key(flow) for flow in flows)
            labels = b"".join(layout.label_key(flow.local_label) for flow in flows)
            sent = b"".join(layout.outbound_entry(flow, ROW, CODEPOINTS, clock) for flow in flows)
            came = b"".join(layout.inbound_entries(_other_end(flow), 0, clock)[0] for flow in flows)
            for table, keys, values in (
                (self.outbound, aids, sent),
                (self.inbound, labels, came),
            ):
                if table.put_all(keys, values) != len(flows):
                    raise PlatformError("bench scale", 0, "the kernel has no room for so many")

    def _take_uplink(self) -> None:
        """The device the frames leave by is the uplink of all contexts."""
        flags = ETHERNET | SENDS | RECEIVES
        uplink = Uplink(self.ifindex, 1500, bytes(LINK_OCTETS), flags)
        table = libbpf.Table(self.programs.maps["uplinks"], *PASSING_TABLES["uplinks"])
        table.put(layout.ROW.pack(ROW), layout.uplink_row(uplink))

    def packet_ns(self, numbers: list[int]) -> float:
        """What one packet out and one in cost, on average over contexts.

        Raises:
            PlatformError: not all of them were seen by both programs.
        """
        frames = [_frame(_flow(number)) for number in numbers]
        programs = [self.programs.programs[name] for name in PROGRAMS]
        counts = [libbpf.run_count(one) for one in programs]
        times = [libbpf.run_time_ns(one) for one in programs]
        for frame in frames:
            self.sending.send(frame)
        spent = 0.0
        for one, count, time_ns in zip(programs, counts, times, strict=True):
            count, time_ns = libbpf.run_count(one) - count, libbpf.run_time_ns(one) - time_ns
            if count < len(frames):
                raise PlatformError("bench scale", 0, "a program has not seen every packet")
            spent += time_ns / count
        return spent

    def memory_octets(self) -> int:
        """What the kernel has allocated for the two tables."""
        return sum(
            libbpf.memory_octets(table.descriptor) for table in (self.outbound, self.inbound)
        )


PROGRAMS = ("host_egress", "host_ingress")
ROW = 1
"""Of the one uplink."""


def _frame(flow: Flow) -> bytes:
    """A packet of the ULP, as it leaves the stack."""
    header = ipv6.Header(
        source=flow.local_aid, destination=flow.peer_aid, next_header=6, payload_octets=20
    )
    return ETHERNET_HEADER + header.encode() + bytes(20)


def _flow(number: int) -> Flow:
    """The flow of an ordinary context: two locators at each end, and the AIDs in use."""
    local = Locator(b"\x20\x01\x0d\xb8" + bytes(11) + b"\1")
    peers = [
        Locator(b"\x20\x01\x0d\xb8" + bytes((0, one)) + number.to_bytes(10, "big"))
        for one in (1, 2)
    ]
    label = Label((number * SPREAD & 0xFFFFF) or 0xFFFFF)
    return Flow(
        local_aid=local,
        peer_aid=peers[0],
        local_label=label,
        peer_label=label,
        local_locator=local,
        peer_locator=peers[0],
        local_locators=frozenset({local}),
        peer_locators=frozenset(peers),
        verified_locators=frozenset(peers),
        rewritable=True,
        transmits=True,
        silence_ns=10**9,
    )


def _other_end(flow: Flow) -> Flow:
    """The flow that the peer has."""
    return dataclasses.replace(
        flow,
        local_aid=flow.peer_aid,
        peer_aid=flow.local_aid,
        local_locator=flow.peer_locator,
        peer_locator=flow.local_locator,
        local_locators=flow.peer_locators,
        peer_locators=flow.local_locators,
        verified_locators=flow.local_locators,
    )


BENCH = Bench(
    name="scale",
    summary="what a packet costs in the kernel with a million contexts, to what with one",
    explanation=(
        "Fills the tables of the data plane in the kernel, and sends packets of contexts at random "
        "through its programs, in a lab."
    ),
    example="noid bench scale --json",
    add_options=_add_options,
    measure=measure,
)
