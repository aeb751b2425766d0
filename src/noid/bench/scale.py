"""What a packet costs in the kernel with one context, and with a million."""

import argparse
import os
import random
import tempfile
import time
from pathlib import Path

from noid.bench.report import Bench, Report, Series, Watch, add_runs, positive
from noid.constants import Codepoints
from noid.errors import PlatformError
from noid.locators import Locator
from noid.plane import layout, libbpf
from noid.plane.bpf import TABLES, object_code
from noid.plane.rewrite import Flow
from noid.wire import ipv6

CODEPOINTS = Codepoints()
BATCH = 10_000
PACKETS = 20_000
ETHERNET = bytes(12) + b"\x86\xdd"
SPREAD = 0x9E3779B1
"""Odd, so that multiplying by it modulo 2**20 gives every label once."""
NOTE = (
    "the kernel's own count of nanoseconds (bpf_stats), of one run of host_egress and one of "
    "host_ingress for each packet, tried out from user space, whose calls between them cool the "
    "caches; one among many: every packet is of the same context; all of many: each is of another "
    "at random, as bad as it gets; memory is what the kernel says of the two tables"
)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser, default=3)
    parser.add_argument(
        "--contexts",
        type=positive,
        default=1_000_000,
        metavar="COUNT",
        help="how many are installed; default: %(default)s",
    )


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Fills the tables, and tries packets out.

    Raises:
        ShimError: not root, or the kernel refuses the programs.
    """
    if os.geteuid() != 0:
        raise PlatformError("bench scale", 1, "loading programs takes privileges; run as root")
    total = arguments.contexts
    with tempfile.TemporaryDirectory() as directory:
        one = _Tables(1, Path(directory))
        many = _Tables(total, Path(directory))
    began = time.perf_counter()
    many.fill(total, watch)
    took_s = time.perf_counter() - began
    one.fill(1, lambda done, of: None)
    with_one, among_many, with_many = [], [], []
    with libbpf.statistics():
        for run in range(arguments.runs):
            watch(run, arguments.runs)
            chance = random.Random(run)
            with_one.append(one.packet_ns([0] * PACKETS))
            among_many.append(many.packet_ns([chance.randrange(total)] * PACKETS))
            with_many.append(many.packet_ns([chance.randrange(total) for _ in range(PACKETS)]))
    ratios = [mine / other for mine, other in zip(with_many, with_one, strict=True)]
    octets = many.memory_octets()
    one.close()
    many.close()
    return Report(
        series={
            "one_among_many_to_one": Series(
                tuple(mine / other for mine, other in zip(among_many, with_one, strict=True))
            ),
            "all_of_many_to_one": Series(tuple(ratios)),
            "nanoseconds_with_one": Series(tuple(with_one)),
            "nanoseconds_of_one_among_many": Series(tuple(among_many)),
            "nanoseconds_of_all_of_many": Series(tuple(with_many)),
        },
        facts={
            "contexts": total,
            "seconds_to_install": round(took_s, 2),
            "kernel_octets_each": round(octets / total, 1),
            "counted": NOTE,
        },
    )


class _Tables:
    """Programs with tables of their own, attached to nothing."""

    def __init__(self, room: int, directory: Path) -> None:
        self.programs = libbpf.Programs(
            object_code(),
            sizes={"outbound": room, "inbound": room, "far": 1, "watched": 1},
            constants=layout.settings(
                CODEPOINTS, mark=1, slow_ifindex=1, segmenter_ifindex=1, referrals=False
            ),
            log_path=directory / "log",
        )
        maps = self.programs.maps
        self.outbound = libbpf.Table(maps["outbound"], *TABLES["outbound"])
        self.inbound = libbpf.Table(maps["inbound"], *TABLES["inbound"])

    def close(self) -> None:
        self.programs.close()

    def fill(self, total: int, watch: Watch) -> None:
        """Installs contexts, as a plane would that has them all at once."""
        way, clock = layout.Way(ifindex=1, mtu=1500), layout.Clock()
        for first in range(0, total, BATCH):
            watch(first, total)
            flows = [_flow(number) for number in range(first, min(first + BATCH, total))]
            aids = b"".join(layout.aids_key(flow) for flow in flows)
            labels = b"".join(layout.label_key(flow.local_label) for flow in flows)
            sent = b"".join(layout.outbound_entry(flow, way, CODEPOINTS, clock) for flow in flows)
            came = b"".join(layout.inbound_entries(flow, clock)[0] for flow in flows)
            for table, keys, values in (
                (self.outbound, aids, sent),
                (self.inbound, labels, came),
            ):
                if table.put_all(keys, values) != len(flows):
                    raise PlatformError("bench scale", 0, "the kernel has no room for so many")

    def packet_ns(self, numbers: list[int]) -> float:
        """What one packet out and one in cost, on average over contexts."""
        spent = -sum(libbpf.run_time_ns(self.programs.programs[name]) for name in PROGRAMS)
        for number in numbers:
            flow = _flow(number)
            self._try("host_egress", flow.local_aid, flow.peer_aid, 6, 0)
            label = flow.local_label
            self._try("host_ingress", flow.peer_locator, flow.local_locator, 224, label)
        spent += sum(libbpf.run_time_ns(self.programs.programs[name]) for name in PROGRAMS)
        return spent / len(numbers)

    def _try(
        self, program: str, source: Locator, destination: Locator, next_header: int, label: int
    ) -> None:
        header = ipv6.Header(
            source=source,
            destination=destination,
            next_header=next_header,
            payload_octets=20,
            flow_label=label,
        )
        self.programs.try_out(program, ETHERNET + header.encode() + bytes(20))

    def memory_octets(self) -> int:
        """What the kernel has allocated for the two tables."""
        return sum(
            libbpf.memory_octets(table.descriptor) for table in (self.outbound, self.inbound)
        )


PROGRAMS = ("host_egress", "host_ingress")


def _flow(number: int) -> Flow:
    """A context like any other: two locators an end, on its AIDs."""
    local = Locator(b"\x20\x01\x0d\xb8" + bytes(11) + b"\1")
    peers = [
        Locator(b"\x20\x01\x0d\xb8" + bytes((0, one)) + number.to_bytes(10, "big"))
        for one in (1, 2)
    ]
    label = (number * SPREAD & 0xFFFFF) or 0xFFFFF
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


BENCH = Bench(
    name="scale",
    summary="what a packet costs in the kernel with a million contexts, to what with one",
    explanation=(
        "Fills the tables of the data plane in the kernel, and tries packets of contexts at random "
        "out on its programs."
    ),
    example="noid bench scale --json",
    add_options=_add_options,
    measure=measure,
)
