# SPDX-License-Identifier: MIT
"""Packets that wait for the neighbour of an uplink leave with their own mark, and are counted."""

import json
import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from noid.counters import PlaneCounter
from noid.identifiers import Label
from noid.locators import Locator, format_locator
from tests.namespaces import ip
from tests.planes.keeping import AID, PEER, SECTION, Kept, flow_to_peer, keeping
from tests.waiting import until

ROUTER = "fe80::99"
THEIR_MARK = 7
PEERS = [Locator(PEER[:14] + number.to_bytes(2, "big")) for number in range(2, 5)]
RULES = """
table netdev seen {
  chain c {
    type filter hook ingress device far1 priority 0;
    ip6 nexthdr 224-239 meta mark %d counter
    ip6 nexthdr 224-239 meta mark %d counter
    ip6 nexthdr 224-239 counter
  }
}
"""


def seen(marks: tuple[int, int]) -> list[int]:
    """How many M6 packets have arrived beyond the uplink: with each mark, and at all."""
    shown = ["nft", "-j", "list", "table", "netdev", "seen"]
    done = subprocess.run(shown, check=True, capture_output=True, text=True)
    rules = [one["rule"]["expr"] for one in json.loads(done.stdout)["nftables"] if "rule" in one]
    return [one["counter"]["packets"] for rule in rules for one in rule if "counter" in one]


@pytest.mark.parametrize("mark", [0, THEIR_MARK])
def test_packets_that_waited_together_have_their_mark_again(pins: Path, mark: int) -> None:
    async def scenario(kept: Kept) -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one scout for all of them
        ip(f"route add default via {ROUTER} dev up1")
        for label, peer in enumerate(PEERS, start=2):
            theirs = frozenset({peer})
            flow = replace(
                flow_to_peer(),
                local_label=Label(label),
                peer_aid=peer,
                peer_locator=peer,
                peer_locators=theirs,
                verified_locators=theirs,
            )
            kept.plane.install(flow)
        marks = SECTION.mark, mark
        subprocess.run(["nft", "-f", "-"], input=RULES % marks, text=True, check=True)
        before = kept.plane.counters()[PlaneCounter.PACKETS_SENT]
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            sender.bind((format_locator(AID), 0))
            for peer in PEERS:
                sender.sendto(b"word", (format_locator(peer), 9))
        shown = subprocess.run(
            ["ip", "-j", "link", "show", "far1"], check=True, capture_output=True
        )
        link = json.loads(shown.stdout)[0]["address"]
        assert seen(marks)[2] == 0, "they wait"
        ip(f"neigh replace {ROUTER} lladdr {link} dev up1 nud reachable")
        await until(lambda: seen(marks)[2] == len(PEERS))
        assert seen(marks) == [0, len(PEERS), len(PEERS)]
        assert kept.plane.counters()[PlaneCounter.PACKETS_SENT] - before == len(PEERS)

    keeping(pins, scenario)
