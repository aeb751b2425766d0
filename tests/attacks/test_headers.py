# SPDX-License-Identifier: MIT
"""Header chains that two parsers could read in two ways [D2, D6].

Attacker: any host that can send packets to this host; for data, one who knows a label and locators.
Guaranteed: every plane and the second implementation give the verdict below; nothing that arrives
is sent again, and no control message comes out of data, fragments or other headers.
"""

from pathlib import Path

import pytest

from noid.identifiers import Label
from noid.wire import ipv6
from noid.wire.slots import escape_header
from tests.differential.packets import CONTROL, DESTINATION, LABELS, OWN, PEERS, ROUTING, Frame
from tests.differential.play import Stage
from tests.namespaces import in_network_namespace

TCP_SLOT, FRAGMENT_SLOT, ICMPV6_SLOT, ESCAPE = 224, 229, 230, 231
FRAGMENT_HEAD = b"\0" + bytes(7)
ROUTING_HEAD = bytes((2, 4, 0)) + bytes(20)
OPTIONS_HEAD = bytes((0, 1, 4)) + bytes(4)
MESSAGE = CONTROL + bytes(47)
CASES: dict[str, tuple[int, int, bytes, str]] = {
    "data": (LABELS[0], TCP_SLOT, bytes(20), "restored"),
    "data behind hop-by-hop options": (
        LABELS[0],
        0,
        bytes((TCP_SLOT,)) + OPTIONS_HEAD + bytes(20),
        "restored",
    ),
    "data behind a routing header": (
        LABELS[0],
        ROUTING,
        bytes((TCP_SLOT,)) + ROUTING_HEAD + bytes(20),
        "not M6",
    ),
    "data behind destination options": (
        LABELS[0],
        DESTINATION,
        bytes((TCP_SLOT,)) + OPTIONS_HEAD + bytes(20),
        "not M6",
    ),
    "data in a fragment": (
        LABELS[0],
        ipv6.FRAGMENT,
        bytes((TCP_SLOT,)) + FRAGMENT_HEAD[1:] + bytes(20),
        "not M6",
    ),
    "a message in the slot": (0, ICMPV6_SLOT, MESSAGE, "control"),
    "a message behind a routing header": (
        0,
        ROUTING,
        bytes((ICMPV6_SLOT,)) + ROUTING_HEAD + MESSAGE,
        "not M6",
    ),
    "a message as data": (LABELS[0], ICMPV6_SLOT, MESSAGE, "dropped"),
    "a message as data, escaped": (
        LABELS[0],
        ESCAPE,
        escape_header(ipv6.ICMPV6) + MESSAGE,
        "dropped",
    ),
    "M6 in an escape": (LABELS[0], ESCAPE, escape_header(ICMPV6_SLOT) + MESSAGE, "dropped"),
    "options in an escape, and M6 behind them": (
        LABELS[0],
        ESCAPE,
        escape_header(ipv6.HOP_BY_HOP) + bytes((ICMPV6_SLOT,)) + OPTIONS_HEAD + MESSAGE,
        "dropped",
    ),
    "a jumbo option": (
        LABELS[0],
        0,
        bytes((TCP_SLOT, 0, 0xC2, 4)) + bytes(4) + bytes(20),
        "dropped",
    ),
}


def packet(label: Label, next_header: int, body: bytes) -> bytes:
    return (
        ipv6.Header(
            source=PEERS[0],
            destination=OWN[0],
            next_header=next_header,
            payload_octets=len(body),
            flow_label=label,
        ).encode()
        + body
    )


@pytest.mark.slow
def test_every_plane_gives_the_verdict_of_the_page(tmp_path: Path) -> None:
    def play() -> None:
        stage = Stage(tmp_path, has_stack=True)
        try:
            for name, (label, next_header, body, outcome) in CASES.items():
                frame = Frame(packet(Label(label), next_header, body))
                assert stage.law.play(frame).outcome == outcome, name
                assert not stage.differences(frame), name
            for octets in range(41, 48):
                frame = Frame(packet(LABELS[0], 0, bytes((TCP_SLOT,)) + OPTIONS_HEAD)[:octets])
                assert stage.law.play(frame).outcome == "dropped", octets
                assert not stage.differences(frame), octets
        finally:
            stage.close()

    in_network_namespace(play)
