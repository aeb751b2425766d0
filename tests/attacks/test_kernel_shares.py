# SPDX-License-Identifier: MIT
"""Packets that make the kernel's programs call the daemon: each /48 has its share [D46]."""

import mmap
from pathlib import Path

import pytest

from noid.locators import Locator
from noid.planes.bpf import libbpf
from noid.planes.bpf.loading import Programs
from noid.shares.policy import CONTROL, SHARES, UNKNOWN
from noid.wire import ipv6
from tests.planes.loading import constants, loaded, own, programs

__all__ = ["programs"]

ETHERNET = bytes(12) + b"\x86\xdd"
OURS = Locator(bytes.fromhex("20010db800010001") + bytes(7) + b"\x0b")
EVIL, GOOD = 0x20010DB8AAAA, 0x3FFF00000001
REDIRECTED = 7
"""TC_ACT_REDIRECT: to the device of the daemon."""
OPTIONS_PER_SECOND = 1_000
"""The same number as in inward.h."""


@pytest.fixture(autouse=True)
def _ours(programs: Programs) -> None:
    own(programs, OURS)


def packet(site: int, next_header: int, label: int, *, options: bool = False) -> bytes:
    """An M6 packet of a host of a site."""
    source = Locator(site.to_bytes(6, "big") + bytes(9) + b"\x01")
    payload = (bytes((next_header,)) + bytes(7)) * options + bytes(40)
    header = ipv6.Header(
        source=source,
        destination=OURS,
        next_header=ipv6.HOP_BY_HOP if options else next_header,
        payload_octets=len(payload),
        flow_label=label,
    )
    return ETHERNET + header.encode() + payload


def handed_over(programs: Programs, one: bytes, count: int) -> int:
    """How many of so many such packets reach the daemon."""
    verdicts = [programs.try_out("host_ingress", one)[0] for _ in range(count)]
    return verdicts.count(REDIRECTED)


@pytest.mark.parametrize(
    ("next_header", "label", "options", "limit"),
    [
        pytest.param(230, 0, False, CONTROL.limit, id="control in a slot"),
        pytest.param(224, 7, True, OPTIONS_PER_SECOND, id="hop-by-hop options"),
        pytest.param(224, 7, False, UNKNOWN.limit, id="unknown labels"),
    ],
)
def test_one_48_gets_an_eighth_and_another_is_heard(
    programs: Programs, next_header: int, label: int, options: bool, limit: int
) -> None:
    flood = packet(EVIL, next_header, label, options=options)
    share = limit // SHARES
    passed = handed_over(programs, flood, 4 * share)
    assert 0 < passed < 4 * share
    assert handed_over(programs, packet(GOOD, next_header, label, options=options), 1) == 1


def leave(programs: Programs, peer: Locator) -> None:
    """A packet of a program of this host to a peer leaves."""
    header = ipv6.Header(source=OURS, destination=peer, next_header=ipv6.TCP, payload_octets=40)
    programs.try_out("host_egress", ETHERNET + header.encode() + bytes(40))


def test_strangers_and_contexts_report_by_rings_of_their_own(programs: Programs) -> None:
    of_contexts: list[bytes] = []
    of_strangers: list[bytes] = []
    rings = [
        libbpf.Reports(programs.maps["reports"], of_contexts.append),
        libbpf.Reports(programs.maps["set_ups"], of_strangers.append, 16),
    ]
    for number in range(3_000):
        leave(programs, Locator(b"\x2a\x00" + number.to_bytes(14, "big")))
    rings[0].consume()
    rings[1].consume()
    assert of_contexts == []
    assert len(of_strangers) == 16, "then messages of others are read"
    for _ in range(1_000):
        rings[1].consume()
    assert 16 < len(of_strangers) < 3_000
    for ring in rings:
        ring.close()


def test_a_stranger_whose_report_is_lost_is_reported_by_its_next_packet(tmp_path: Path) -> None:
    few = {"set_ups": mmap.PAGESIZE}
    with loaded(tmp_path, settings=constants(referrals=True), sizes=few) as programs:
        own(programs, OURS)
        reported: list[bytes] = []
        ring = libbpf.Reports(programs.maps["set_ups"], reported.append)
        strangers = [Locator(b"\x2a\x00" + number.to_bytes(14, "big")) for number in range(150)]
        for peer in strangers:
            leave(programs, peer)
        ring.consume()
        assert 0 < len(reported) < len(strangers), "the others were lost"
        leave(programs, strangers[-1])
        ring.consume()
        assert reported[-1].find(strangers[-1]) > 0
        ring.close()
