# SPDX-License-Identifier: MIT
"""What attacks a lab in ``noid bench under-attack``: a program for inside a namespace.

    python -m noid.bench.assault flood --inits 30000 --strangers 30000 --requests 1500 --label 7
    python -m noid.bench.assault ask --name example

The flood comes from everywhere: each INIT and each packet with an unknown label from a /48 of its
own. The Update Requests come from the locator of the peer, and are not authentic. ``ask`` is an
ordinary client of the stub: it asks for one new name after the other.
"""

import argparse
import itertools
import json
import os
import random
import signal
import socket
import statistics
import struct
import time
from typing import Final

from noid.bench.encounter import CODEPOINTS
from noid.bench.flood import init_of
from noid.bench.volley import Volley
from noid.constants import FLOW_LABEL_MASK
from noid.identifiers import Label, Nonce
from noid.lab import topology
from noid.locators import Locator, parse_locator
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, encode_packet
from noid.wire.options import HASH_OCTETS, ContextOption, LocatorEntry, LocatorFlag

VICTIM, PEER = topology.HOSTS
POOL: Final = 4_096
"""Packets of a kind, made in advance; they go round."""
STEP_S: Final = 0.01
"""A machine that is too slow for the rates sends all kinds more slowly alike."""
SITES: Final = 0x2001_0DB8_4000
"""The first source /48 of the strangers; no host has a route to it."""
PRIORITY: Final = -15
"""Of the attacker, which has a machine of its own elsewhere."""
SEND_BUFFER_OCTETS: Final = 8 << 20
ASK_EVERY_S: Final = 0.02
ANSWER_TIMEOUT_S: Final = 2.0
STUB: Final = "::1", 53
NOBODY: Final = 65534
AAAA: Final = 28


class Stream:
    """One kind of packet.

    Args:
        raw: the socket that sends them.
        per_second: how many should go.
        packets: those that go round.
    """

    def __init__(self, raw: socket.socket, per_second: int, packets: list[bytes]) -> None:
        self.per_step = round(per_second * STEP_S)
        self.sent = 0
        self._volley = Volley(raw, packets)

    def step(self) -> None:
        """Sends the packets of one step."""
        self._volley.send(self.per_step)
        self.sent += self.per_step


def main() -> int:
    """Runs until it is terminated; prints what it did as one line of JSON."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, _end)
    try:
        arguments.work(arguments)
    except KeyboardInterrupt:
        return 0
    return 1


def _end(*_: object) -> None:
    raise KeyboardInterrupt


def flood(arguments: argparse.Namespace) -> None:
    """Sends all kinds by turns, each at its rate."""
    chance = random.Random(arguments.label)
    pools = {
        "inits": [_init(chance) for _ in range(POOL)],
        "strangers": [_stranger(chance) for _ in range(POOL)],
        "requests": [_request(chance, Label(arguments.label)) for _ in range(POOL)],
    }
    os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_OCTETS)
        streams = {
            name: Stream(raw, getattr(arguments, name), pool) for name, pool in pools.items()
        }
        begun_s, begun_ns = time.monotonic(), time.process_time_ns()
        print("ready", flush=True)
        try:
            for number in itertools.count(1):
                for one in streams.values():
                    one.step()
                time.sleep(max(0, begun_s + number * STEP_S - time.monotonic()))
        finally:
            seconds = time.monotonic() - begun_s
            rates = {name: round(one.sent / seconds) for name, one in streams.items()}
            sent = sum(one.sent for one in streams.values())
            used_ns = time.process_time_ns() - begun_ns
            said = {
                **rates,
                "processor_percent": round(used_ns / seconds / 1e7),
                "processor_ns_per_packet": round(used_ns / max(sent, 1)),
            }
            print(json.dumps(said), flush=True)


def ask(arguments: argparse.Namespace) -> None:
    """Asks for one new name after the other, as a user of its own, and times the answers."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    chance = random.Random()
    taken_ms: list[float] = []
    unanswered = 0
    print("ready", flush=True)
    try:
        while True:
            name = f"n{chance.getrandbits(48):x}.{arguments.name}"
            took_ms = _answer_ms(name, chance.getrandbits(16))
            if took_ms is None:
                unanswered += 1
            else:
                taken_ms.append(took_ms)
            time.sleep(ASK_EVERY_S)
    finally:
        median = round(statistics.median(taken_ms), 2) if taken_ms else None
        said = {"answered": len(taken_ms), "unanswered": unanswered, "median_ms": median}
        print(json.dumps(said), flush=True)


def _answer_ms(name: str, number: int) -> float | None:
    labels = b"".join(bytes((len(one),)) + one.encode() for one in name.split("."))
    question = struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0"
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(ANSWER_TIMEOUT_S)
        client.connect(STUB)
        begun_s = time.monotonic()
        client.send(question + struct.pack("!2H", AAAA, 1))
        try:
            client.recv(2**16)
        except OSError:
            return None
        return (time.monotonic() - begun_s) * 1000


def _locators(host: str) -> list[Locator]:
    return [parse_locator(one) for one in topology.locators(host)]


def _somewhere(chance: random.Random) -> Locator:
    """An address in a /48 that is used for nothing else."""
    site = SITES + chance.getrandbits(12)
    return Locator(site.to_bytes(6, "big") + chance.randbytes(10))


def _init(chance: random.Random) -> bytes:
    victim = _locators(VICTIM)
    chance.shuffle(victim)
    return init_of((_somewhere(chance),), tuple(victim), chance)


def _stranger(chance: random.Random) -> bytes:
    """Data with a label that the victim does not know, most likely."""
    header = ipv6.Header(
        source=_somewhere(chance),
        destination=chance.choice(_locators(VICTIM)),
        next_header=CODEPOINTS.rewritable_first,
        payload_octets=20,
        flow_label=_label(chance),
    )
    return header.encode() + chance.randbytes(20)


def _label(chance: random.Random) -> Label:
    return Label(chance.randrange(1, FLOW_LABEL_MASK))


def _request(chance: random.Random, label: Label) -> bytes:
    """A UR of the peer's that is not authentic."""
    here, there = _locators(PEER), _locators(VICTIM)
    message = ControlMessage(
        code=Code.UR,
        nonce=Nonce(chance.getrandbits(40)),
        sender_aid=here[0],
        receiver_aid=there[0],
        context=ContextOption(_label(chance), label),
        sender_locators=tuple(LocatorEntry(one, LocatorFlag.LOCAL) for one in here),
        receiver_locators=tuple(LocatorEntry(one, LocatorFlag.REMOTE) for one in there),
        authentication=chance.randbytes(HASH_OCTETS),
    )
    provider = chance.randrange(2)
    return encode_packet(message, here[provider], there[provider], CODEPOINTS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="noid.bench.assault")
    kinds = parser.add_subparsers(required=True)
    flooding = kinds.add_parser("flood")
    for name in ("inits", "strangers", "requests", "label"):
        flooding.add_argument(f"--{name}", type=int, required=True)
    flooding.set_defaults(work=flood)
    asking = kinds.add_parser("ask")
    asking.add_argument("--name", required=True)
    asking.set_defaults(work=ask)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
