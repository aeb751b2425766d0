# SPDX-License-Identifier: MIT
"""What a provider sees of noid, read by tshark."""

import contextlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from noid.constants import CONTROL_FLOW_LABEL
from noid.host.netlink import SUMMING
from noid.lab.download import Download
from noid.lab.lab import Lab
from noid.lab.topology import locators
from noid.wire.control import Code
from tests.lab.captures import CONTROL_TYPE, GOOD, M6_ICMPV6, M6_TCP, Row, read_capture
from tests.lab.conversations import PATIENCE_S, established

A_1, A_2 = locators("a")
B_1, B_2 = locators("b")
BEFORE_CUT_OCTETS = 2 * 2**20
AFTER_CUT_OCTETS = 4 * 2**20
HEADERS = ("ipv6.nxt", "ipv6.flow", "ipv6.plen", "ipv6.src", "ipv6.dst")
SEGMENT = ("tcp.seq_raw", "tcp.ack_raw", "tcp.len", "tcp.checksum")
CHECKSUM = "tcp.checksum.status"
CODE = "icmpv6.code"


@dataclass(frozen=True)
class Captures:
    """A download whose provider died half way, seen from four places.

    Attributes:
        provider_1: on the provider that died, at a's link.
        provider_2: on the other, at a's link.
        shim: on b, which sends the data, between its programs and the shim; None where the shim is
            in the kernel, which has no such place.
        label: F of a, which the packets for a carry.
        octets: what had arrived when the provider died, and at the end.
    """

    provider_1: Path
    provider_2: Path
    shim: Path | None
    label: int
    octets: tuple[int, int]


@pytest.fixture(scope="module")
def captures(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Captures:
    directory = tmp_path_factory.mktemp("captures")
    places = {"isp1": "custa", "isp2": "custa"}
    if lab.plane == "tun":
        places["b"] = "noid0"
    paths = {node: directory / f"{node}.pcapng" for node in places}
    _send_single_segments(lab)
    if lab.plane == "bpf":
        # Or the sums would be left to a device at the far end that there is not.
        for host in ("a", "b"):
            lab.set_features(host, [SUMMING], on=False)
    with contextlib.ExitStack() as stack:
        for node, interface in places.items():
            stack.enter_context(lab.capture(node, interface, paths[node]))
        with Download(lab, "a", "b.example") as download:
            lab.wait_for(
                "the context is up and some of the file has come",
                lambda: download.octets >= BEFORE_CUT_OCTETS and established(lab, "a"),
                PATIENCE_S,
            )
            lab.cut_provider(1)
            before = download.octets
            lab.wait_for(
                "more of the file has come",
                lambda: download.octets >= before + AFTER_CUT_OCTETS,
                PATIENCE_S,
            )
        (context,) = lab.contexts("a")
        octets = (before, download.octets)
    label = int(context["local_label"])
    return Captures(paths["isp1"], paths["isp2"], paths.get("b"), label, octets)


@pytest.fixture(scope="module")
def plain_capture(plain_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same download without noid, captured on provider 1."""
    path = tmp_path_factory.mktemp("plain") / "isp1.pcapng"
    _send_single_segments(plain_lab)
    with (
        plain_lab.capture("isp1", "custa", path),
        Download(plain_lab, "a", "b.example") as download,
    ):
        plain_lab.wait_for(
            "some has come", lambda: download.octets >= BEFORE_CUT_OCTETS, PATIENCE_S
        )
    return path


def test_after_the_switch_every_tcp_packet_has_an_m6_next_header_and_a_label(
    captures: Captures,
) -> None:
    rows = _segments(captures.provider_2)
    assert not read_capture(captures.provider_2, "ipv6.nxt == 6", *HEADERS)
    assert {int(row["ipv6.nxt"]) for row in rows} == {M6_TCP}
    labels = {int(row["ipv6.flow"], 16) for row in rows if row["ipv6.dst"] == A_2}
    assert labels == {captures.label}
    others = {int(row["ipv6.flow"], 16) for row in rows if row["ipv6.dst"] == B_2}
    assert len(others) == 1
    assert 0 not in labels | others


def test_after_the_switch_the_packets_carry_the_other_providers_locators(
    captures: Captures,
) -> None:
    rows = _segments(captures.provider_2)
    pairs = {(row["ipv6.src"], row["ipv6.dst"]) for row in rows}
    assert pairs == {(A_2, B_2), (B_2, A_2)}
    octets = sum(int(row["tcp.len"]) for row in rows if row["ipv6.dst"] == A_2)
    before, after = captures.octets
    assert octets >= after - before - 2**20, "what came after the cut came by this provider"


def test_a_full_segment_is_as_long_with_noid_as_without(
    captures: Captures, plain_capture: Path
) -> None:
    to_a = f"tcp.srcport == 80 && ipv6.dst in {{{A_1}, {A_2}}}"
    fields = ("ipv6.nxt", "ipv6.plen", "tcp.len")
    plain = _fullest(read_capture(plain_capture, f"{to_a} && ipv6.nxt == 6", *fields))
    shimmed = _fullest(read_capture(captures.provider_2, to_a, *fields))
    assert plain == ("6", "1460", "1428")
    assert shimmed == (str(M6_TCP), *plain[1:])


def test_every_segment_is_as_long_on_the_wire_as_it_left_tcp(captures: Captures) -> None:
    if captures.shim is None:
        return  # the test above is what can be seen from outside
    fields = (*HEADERS, *SEGMENT)
    before = {
        tuple(row[field] for field in SEGMENT): row["ipv6.plen"]
        for row in read_capture(captures.shim, f"tcp && ipv6.src == {B_1}", *fields)
    }
    assert len(before) > 2000
    wire = [row for row in _segments(captures.provider_2) if row["ipv6.src"] == B_2]
    assert len(wire) > 2000
    for row in wire:
        segment = tuple(row[field] for field in SEGMENT)
        assert before[segment] == row["ipv6.plen"], row


def test_the_tcp_checksum_fits_the_identifiers_whatever_the_locators(captures: Captures) -> None:
    def statuses(path: Path, display_filter: str) -> Counter[str]:
        # Linux writes 0xffff for a sum of 0, which means the same; tshark does not see it so.
        plain = f"({display_filter}) && tcp.checksum != 0xffff"
        return Counter(row[CHECKSUM] for row in read_capture(path, plain, CHECKSUM))

    shimmed = f"ipv6.nxt == {M6_TCP}"
    if captures.shim is not None:
        assert set(statuses(captures.shim, "tcp")) == {GOOD}
    # A copy of a packet that nothing answers may pass provider 1 from one pair to the other.
    by_aids = f"{shimmed} && ipv6.addr == {A_1} && ipv6.addr == {B_1}"
    assert set(statuses(captures.provider_1, by_aids)) == {GOOD}, "the AIDs are the locators"
    assert GOOD not in statuses(captures.provider_2, shimmed), "the sum is over the AIDs still"


@dataclass(frozen=True)
class Control:
    """The control messages of the captures: as tshark starts slowly, it reads each capture once.

    Attributes:
        provider_1: those that it carried.
        provider_2: the same of the other.
    """

    provider_1: list[Row]
    provider_2: list[Row]

    def of(self, code: Code) -> tuple[list[Row], list[Row]]:
        """The messages of one code."""
        both = self.provider_1, self.provider_2
        one, other = ([row for row in rows if row[CODE] == str(code.value)] for rows in both)
        return one, other

    @property
    def have_crossed(self) -> bool:
        """Whether both hosts sent INIT at a time: then there is no CC or CCR [draft §4.3.1]."""
        return len({row["ipv6.src"] for row in self.of(Code.INIT)[0]}) > 1


@pytest.fixture(scope="module")
def control(captures: Captures) -> Control:
    fields = (CODE, "ipv6.src", "ipv6.dst", "ipv6.nxt", "ipv6.flow", "icmpv6.checksum.status")
    wanted = f"icmpv6.type == {CONTROL_TYPE}"
    one, other = (
        read_capture(path, wanted, *fields) for path in (captures.provider_1, captures.provider_2)
    )
    return Control(one, other)


@pytest.mark.parametrize("code", [Code.INIT, Code.CC, Code.CCR, Code.CONF, Code.UR, Code.UA])
def test_tshark_calls_the_checksum_of_a_control_message_correct(
    control: Control, code: Code
) -> None:
    rows_1, rows_2 = control.of(code)
    assert rows_1 or rows_2 or (code in (Code.CC, Code.CCR) and control.have_crossed)
    plain = [row for row in rows_1 + rows_2 if row["ipv6.nxt"] == "58"]
    assert plain or not (rows_1 or rows_2) or code in (Code.UR, Code.UA), (
        "in the form of data [D47]"
    )
    assert {row["icmpv6.checksum.status"] for row in plain} <= {GOOD}
    # In a slot the sum is over the AIDs [D6], which are the locators at provider 1 alone,
    # and there not of a copy that passes it from one pair to the other.
    in_slot = [row for row in rows_1 if row["ipv6.nxt"] != "58"]
    assert {int(row["ipv6.nxt"]) for row in in_slot} <= {M6_ICMPV6}
    assert {int(row["ipv6.flow"], 16) for row in in_slot} <= {CONTROL_FLOW_LABEL}
    by_aids = [row for row in in_slot if {row["ipv6.src"], row["ipv6.dst"]} == {A_1, B_1}]
    assert by_aids or code is not Code.UR, "the pair in use is asked"
    assert {row["icmpv6.checksum.status"] for row in by_aids} <= {GOOD}


def _send_single_segments(lab: Lab) -> None:
    """Or the kernel hands over trains of segments, which only real hardware would take apart."""
    for uplink in ("up1", "up2"):
        single = ["ip", "link", "set", "dev", uplink, "gso_max_segs", "1"]
        assert lab.run("b", single).returncode == 0


def _segments(path: Path) -> list[Row]:
    """The TCP segments of a capture between the hosts, plain or not."""
    return read_capture(path, "tcp", *HEADERS, *SEGMENT)


def _fullest(rows: list[Row]) -> tuple[str, ...]:
    """Next header, payload length and TCP length of most of the packets."""
    ((most, count),) = Counter(tuple(row.values()) for row in rows).most_common(1)
    assert count > len(rows) / 2
    return most
