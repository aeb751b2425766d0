# SPDX-License-Identifier: MIT
"""What a packet costs a router with a border, with few prefixes and with many.

    python -m tests.border.forwarding

The kernel forwards packets as if a device had received them: with the programs, rules, routes and
neighbours of two routers, in turn. Needs root, and an idle machine.
"""

import contextlib
import ctypes
import os
import random
import secrets
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from noid.constants import BORDER_PREFIXES_MAX
from noid.control.client import answers, ask
from noid.counters import BorderCounter
from noid.lab import namespaces
from noid.lab.inventory import PINS
from noid.lab.processes import start
from noid.lab.topology import BORDER, Link, Topology
from noid.lab.waiting import wait_for
from noid.locators import Locator, format_locator, parse_locator
from noid.wire import ipv6
from tests.border.cost import shown
from tests.border.packets import FIXED, REWRITABLE
from tests.border.test_law import packet
from tests.guide.vlan import PROG_LOAD, bpf, instruction

ROUNDS, RUNS, PACKETS = 9, 4096, 16
"""Each round forwards so many different packets, each so many times."""
PATIENCE_S: Final = 60.0
TEST_RUN, LIVE_FRAMES = 10, 1 << 1
"""BPF_F_TEST_XDP_LIVE_FRAMES: what the program passes is received by the device."""
XDP, XDP_ABORTED, XDP_PASS = 6, 0, 2
STORE_16: Final = 0x6A
LOAD = struct.Struct("=IIQQ48x")
RUN = struct.Struct("=IIIIQQIIIIQQI12x")
XDP_CONTEXT = struct.Struct("=6I")
"""``struct xdp_md``: where the packet begins and ends, its metadata, the device, and more."""
BEYOND: Final = "beyond"
"""The node at the other end of every link; IPv6 is off there, so that it drops all at once."""
ETHERNET_OCTETS: Final = 14
ETHERNET_IPV6: Final = b"\x86\xdd"
PEER: Final = "02:00:00:00:00:09"
"""The link-layer address of everything there."""
LAN, UPLINKS = "lan0", ("wan1", "wan2")
GATEWAYS = ("2001:db8:f001::1", "2001:db8:f002::1")
PROVIDER: Final = """
[[border.providers]]
name = "{uplink}"
uplink = "{uplink}"
gateway = "{gateway}"
prefixes = [{prefixes}]
"""


class Case(NamedTuple):
    """Packets of one kind.

    Attributes:
        few: the least number of prefixes with which they exist.
        is_rewritten: whether they get another prefix.
        is_leaving: whether they come from the LAN.
    """

    few: int
    is_rewritten: bool
    is_leaving: bool


CASES: Final = {
    "leaving, rewritten": Case(2, True, True),
    "leaving, unchanged": Case(1, False, True),
    "arriving": Case(1, False, False),
}


class Router:
    """A router with a border, all of whose rewritable packets leave by the last provider.

    Args:
        directory: for its files.
        count: how many prefixes its site has.
    """

    def __init__(self, directory: Path, count: int) -> None:
        self.directory = directory / str(count)
        self.directory.mkdir()
        self.lab = f"cost-{os.getpid()}-{secrets.token_hex(3)}"
        self.socket = self.directory / "border.sock"
        self.config = self.directory / "border.toml"
        self.prefixes = [f"2001:db8:{number:x}:" for number in range(1, count + 1)]
        links = (Link(left=(BORDER, one), right=(BEYOND, one)) for one in (LAN, *UPLINKS))
        self.plan = Topology(
            nodes=(BORDER, BEYOND), links=tuple(links), addresses=(), routes=(), rules=(), names=()
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Builds it and runs the border."""
        namespaces.create(self.lab, self.plan)
        noid = [sys.executable, "-m", "noid", "border"]
        try:
            self._configure()
            words = ["ip", "netns", "exec", namespaces.namespace(self.lab, BORDER), *noid]
            daemon = start(
                [*words, "run", "--config", str(self.config)],
                sequence=0,
                name=BORDER,
                node=BORDER,
                log_path=self.directory / "log",
            )
            try:
                wait_for("it answers", lambda: answers(self.socket), PATIENCE_S)
                wait_for("its uplinks work", self._works, PATIENCE_S)
                ask(self.socket, f"use {UPLINKS[min(len(self.prefixes), len(UPLINKS)) - 1]}")
                yield
            finally:
                daemon.end()
                subprocess.run(
                    [*words, "down", "--config", self.config], check=True, stdout=subprocess.DEVNULL
                )
        finally:
            namespaces.remove(self.lab, self.plan.nodes)

    def _configure(self) -> None:
        self._type(BEYOND, "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
        for node in self.plan.nodes:
            self._type(
                node, f"for one in lo {LAN} {' '.join(UPLINKS)}; do ip link set $one up; done"
            )
        uplinks = list(zip(UPLINKS, GATEWAYS, strict=True))
        own = [(f"{gateway[:-1]}2", one) for one, gateway in uplinks]
        own += [(f"{one}7::1", LAN) for one in self.prefixes]
        peers = [(gateway, one) for one, gateway in uplinks]
        peers += [(f"{one}7::a", LAN) for one in self.prefixes]
        lines = [f"address add {one}/64 dev {device}" for one, device in own]
        lines += [f"neighbour replace {one} lladdr {PEER} dev {device}" for one, device in peers]
        self._type(BORDER, "\n".join(["ip -6 -batch - <<END", *lines, "END"]))
        text = f'[border]\nlans = ["{LAN}"]\nsocket = "{self.socket}"\n'
        text += f'pins = "{self.directory / PINS}"\n'
        for number, (uplink, gateway) in enumerate(uplinks):
            prefixes = ", ".join(f'"{one}:/48"' for one in self.prefixes[number :: len(uplinks)])
            if prefixes:
                text += PROVIDER.format(uplink=uplink, gateway=gateway, prefixes=prefixes)
        self.config.write_text(text, encoding="utf-8")

    def _type(self, node: str, text: str) -> None:
        words = ["ip", "netns", "exec", namespaces.namespace(self.lab, node), "sh", "-ec", text]
        subprocess.run(words, check=True, timeout=PATIENCE_S)

    def _works(self) -> bool:
        return all(one["works"] for one in ask(self.socket, "status")["providers"])

    def packets(self, case: Case, chance: random.Random) -> list[bytes]:
        """Packets between a host in each prefix, and hosts anywhere."""
        number = REWRITABLE[0] if case.is_rewritten else FIXED[0]
        prefixes = self.prefixes[:: len(UPLINKS)] if case.is_rewritten else self.prefixes
        found = []
        for _ in range(PACKETS):
            inside = parse_locator(f"{chance.choice(prefixes)}7::a")
            ends = inside, Locator(b"\x24" + chance.randbytes(15))
            source, to = ends if case.is_leaving else reversed(ends)
            found.append(packet(number, format_locator(source), to))
        return found

    def cost_ns(self, case: Case, chance: random.Random) -> float:
        """The mean processor time of a packet."""
        incoming = LAN if case.is_leaving else UPLINKS[0]
        packets = self.packets(case, chance)

        def forward() -> int:
            head = bytes.fromhex(PEER.replace(":", "")) + ETHERNET_IPV6
            index, own = socket.if_nametoindex(incoming), _link_address(incoming)
            return sum(_forward(index, own + head + one) for one in packets)

        sent, rewritten = self._sent_octets(case), self._rewritten()
        taken_ns = namespaces.inside(namespaces.namespace(self.lab, BORDER), forward)
        assert self._sent_octets(case) - sent >= RUNS * sum(map(len, packets)), "none is lost"
        assert self._rewritten() - rewritten == RUNS * PACKETS * case.is_rewritten
        return taken_ns / (RUNS * PACKETS)

    def _sent_octets(self, case: Case) -> int:
        devices = UPLINKS if case.is_leaving else (LAN,)
        return sum(namespaces.sent_octets(self.lab, BORDER, one) for one in devices)

    def _rewritten(self) -> int:
        counters = ask(self.socket, "status")["counters"]
        return int(counters[BorderCounter.PACKETS_REWRITTEN.identifier])


def _link_address(device: str) -> bytes:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as opened:
        opened.bind((device, 0))
        address: bytes = opened.getsockname()[4]
        return address


def _forward(index: int, frame: bytes) -> int:
    """Has a device receive a frame RUNS times; returns the processor time in ns."""
    program = _receiving(frame[: ETHERNET_OCTETS + ipv6.HEADER_OCTETS])
    octets = ctypes.create_string_buffer(frame, len(frame))
    context = XDP_CONTEXT.pack(0, len(frame), 0, index, 0, 0)
    given = ctypes.create_string_buffer(context, len(context))
    data, about = ctypes.addressof(octets), ctypes.addressof(given)
    lengths = len(context), 0
    options = RUN.pack(program, 0, len(frame), 0, data, 0, RUNS, 0, *lengths, about, 0, LIVE_FRAMES)
    began_ns = time.thread_time_ns()
    try:
        bpf(TEST_RUN, options)
        return time.thread_time_ns() - began_ns
    finally:
        os.close(program)


def _receiving(header: bytes) -> int:
    """A program that puts a header into each frame, and passes it.

    The kernel uses the memory of earlier frames again, whose headers have changed on the way.
    """
    stores = b"".join(
        instruction(STORE_16, 2, offset=at, value=int.from_bytes(header[at : at + 2], "little"))
        for at in range(0, len(header), 2)
    )
    code = (
        instruction(0x61, 2, 1)  # from where on the frame is
        + instruction(0x61, 3, 1, 4)  # its end
        + instruction(0xBF, 4, 2)
        + instruction(0x07, 4, value=len(header))
        + instruction(0xB7, 0, value=XDP_ABORTED)
        + instruction(0x2D, 4, 3, len(stores) // 8 + 1)
        + stores
        + instruction(0xB7, 0, value=XDP_PASS)
        + instruction(0x95)
    )
    octets = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"MIT")
    places = ctypes.addressof(octets), ctypes.addressof(licence)
    return bpf(PROG_LOAD, LOAD.pack(XDP, len(code) // 8, *places))


def main() -> int:
    """Prints for each kind of packets the costs in ns, and the ratio of many prefixes to few."""
    chance = random.Random(1)
    counts = {BORDER_PREFIXES_MAX, *(one.few for one in CASES.values())}
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        routers = {count: Router(directory, count) for count in counts}
        for one in routers.values():
            stack.enter_context(one.running())
        for name, case in CASES.items():
            pair = [routers[count] for count in (case.few, BORDER_PREFIXES_MAX)]
            costs: list[list[float]] = [[], []]
            turn = list(zip(pair, costs, strict=True))
            for number in range(ROUNDS + 1):
                for router, found in turn if number % 2 else reversed(turn):
                    found.append(router.cost_ns(case, chance))
            few, many = (one[1:] for one in costs)  # the first warms up
            ratios = [after / before for before, after in zip(few, many, strict=True)]
            print(
                f"{name}: {case.few} prefixes {shown(few)} ns, "
                f"{BORDER_PREFIXES_MAX} {shown(many)} ns, ratio {shown(ratios, 3)}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
