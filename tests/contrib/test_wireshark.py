# SPDX-License-Identifier: MIT
"""The Wireshark dissector shows every message as the codec reads it, and data as its protocol."""

import json
import random
import struct
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Raw

from noid.identifiers import Label
from noid.locators import Locator, format_locator
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, encode_packet
from noid.wire.options import LocatorFlag
from noid.wire.slots import (
    SLOT_ESCAPE,
    SLOT_OF_PROTOCOL,
    escape_header,
    next_header_of,
)
from tests.wire.messages import A1, A2, B1, CODEPOINTS, CONTEXT, EXAMPLES, RECEIVER, SENDER

DISSECTOR = Path(__file__).parents[2] / "contrib" / "wireshark" / "noid.lua"
RAW_IPV6 = 229
"""LINKTYPE_IPV6: packets begin with their IPv6 header."""
SCTP = 132


def capture(path: Path, packets: Iterable[bytes]) -> Path:
    octets = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, RAW_IPV6)
    for number, packet in enumerate(packets):
        octets += struct.pack("=IIII", number, 0, len(packet), len(packet)) + packet
    path.write_bytes(octets)
    return path


def dissect(path: Path, packets: Iterable[bytes], *options: str) -> list[dict[str, Any]]:
    """The fields of each packet, those of all layers in one dictionary."""
    command = ["tshark", "-X", f"lua_script:{DISSECTOR}", "-r", str(capture(path, packets))]
    command += ["-T", "json", "--no-duplicate-keys", "-o", "tcp.check_checksum:TRUE", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Lua" not in done.stderr, done.stderr
    assert "Lua Error" not in done.stdout
    found: list[dict[str, Any]] = []
    for one in json.loads(done.stdout):
        fields: dict[str, Any] = {}
        flatten(one["_source"]["layers"], fields)
        found.append(fields)
    return found


def flatten(value: object, found: dict[str, Any], name: str = "") -> None:
    if isinstance(value, dict):
        for one, inner in value.items():
            found.setdefault("names", set()).add(one)
            flatten(inner, found, one)
    elif isinstance(value, list):
        for inner in value:
            flatten(inner, found, name)
    else:
        found.setdefault(name, []).append(value)


def numbers(fields: dict[str, Any], name: str) -> list[int]:
    return [int(one, 0) for one in fields.get(name, [])]


def octets(fields: dict[str, Any], name: str) -> list[bytes]:
    return [bytes.fromhex(one.replace(":", "")) for one in fields.get(name, [])]


def slot_packet(
    source: Locator, destination: Locator, slot: int, payload: bytes, *, label: Label
) -> bytes:
    number = next_header_of(slot, CODEPOINTS, rewritable=True)
    head = struct.pack(">IHBB", 6 << 28 | label, len(payload), number, 64)
    return head + source + destination + payload


@cache
def messages(in_slot: bool, directory: Path) -> dict[Code, dict[str, Any]]:
    packets = [
        encode_packet(one, A1, B1, CODEPOINTS, rewritable=in_slot and code is not Code.UC)
        for code, one in EXAMPLES.items()
    ]
    return dict(zip(EXAMPLES, dissect(directory / "messages.pcap", packets), strict=True))


@pytest.mark.parametrize("in_slot", [False, True])
@pytest.mark.parametrize("code", EXAMPLES)
def test_every_field_of_every_message_is_shown(
    code: Code, in_slot: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    message, fields = EXAMPLES[code], messages(in_slot, tmp_path_factory.getbasetemp())[code]
    assert numbers(fields, "m6.code") == [code.value]
    assert numbers(fields, "m6.nonce") == [message.nonce]
    assert fields["m6.sender_aid"] == [format_locator(message.sender_aid)]
    assert fields["m6.receiver_aid"] == [format_locator(message.receiver_aid)]
    for name in ("sender_label", "receiver_label", "sender_birthday", "receiver_birthday"):
        assert numbers(fields, f"m6.{name}") == [getattr(CONTEXT, name)]
    assert_options(message, fields)
    assert "m6.truncated" not in fields["names"]


def assert_options(message: ControlMessage, fields: dict[str, Any]) -> None:
    entries = (*message.sender_locators, *message.receiver_locators)
    assert fields.get("m6.locator", []) == [format_locator(one.locator) for one in entries]
    said = [one == "1" for one in fields.get("m6.locator.remote", [])]
    assert said == [bool(one.flags & LocatorFlag.REMOTE) for one in entries]
    assert (
        octets(fields, "m6.authentication")
        == [message.authentication][: bool(message.authentication)]
    )
    assert octets(fields, "m6.reset_token") == [message.reset_token][: bool(message.reset_token)]
    assert octets(fields, "m6.key") == [message.key][: bool(message.key)]
    if message.tokens is not None:
        assert numbers(fields, "m6.sender_token") == [message.tokens.sender]
        assert numbers(fields, "m6.receiver_token") == [message.tokens.receiver]
    if message.cookie is not None:
        assert fields["m6.cookie.locator"] == [format_locator(message.cookie.locator)]
        assert octets(fields, "m6.cookie.hash") == [message.cookie.keyed_hash]


def test_data_is_shown_as_its_protocol_between_the_aids(tmp_path: Path) -> None:
    """After a CONF, data between other locators is of its context, and its checksum is right."""
    conf = encode_packet(EXAMPLES[Code.CONF], A1, B1, CODEPOINTS)
    aids = IPv6(src=format_locator(A1), dst=format_locator(B1))
    label = CONTEXT.receiver_label
    upper = {
        ipv6.TCP: aids / TCP(sport=1234, dport=80, flags="A", seq=7) / Raw(b"hello"),
        ipv6.UDP: aids / UDP(sport=5000, dport=5001) / Raw(b"hello"),
        ipv6.ICMPV6: aids / ICMPv6EchoRequest(id=9, seq=3),
    }
    packets = [conf]
    for protocol, packet in upper.items():
        payload = bytes(packet)[40:]
        packets.append(slot_packet(A2, B1, SLOT_OF_PROTOCOL[protocol], payload, label=label))
    escaped = escape_header(ipv6.UDP) + bytes(upper[ipv6.UDP])[40:]
    packets.append(slot_packet(A2, B1, SLOT_ESCAPE, escaped, label=label))
    _, tcp, udp, echo, escape = dissect(tmp_path / "data.pcap", packets)
    assert tcp["tcp.srcport"] == ["1234"]
    assert tcp["tcp.checksum.status"] == ["1"], "it is right over the AIDs"
    assert udp["udp.dstport"] == ["5001"]
    assert echo["icmpv6.echo.identifier"] == ["0x0009"]
    assert escape["udp.srcport"] == ["5000"]
    assert numbers(escape, "m6.escaped") == [ipv6.UDP]
    for one in (tcp, udp, echo, escape):
        assert one["m6.source_aid"] == [format_locator(A1)]
        assert one["m6.destination_aid"] == [format_locator(B1)]


def test_a_source_that_a_border_has_rewritten_is_noted(tmp_path: Path) -> None:
    conf = encode_packet(EXAMPLES[Code.CONF], A1, B1, CODEPOINTS)
    label = CONTEXT.receiver_label
    aids = IPv6(src=format_locator(A1), dst=format_locator(B1))
    payload = bytes(aids / ICMPv6EchoRequest(id=9, seq=3))[40:]
    slot = SLOT_OF_PROTOCOL[ipv6.ICMPV6]
    data = [slot_packet(source, B1, slot, payload, label=label) for source in (A1, A1, A2, A2)]
    _, *found = dissect(tmp_path / "moved.pcap", [conf, *data])
    before = [one.get("m6.source_before", []) for one in found]
    assert before == [[], [], [format_locator(A1)], []]
    assert ["m6.source_moved" in one["names"] for one in found] == [False, False, True, False]


def test_data_of_an_unknown_context_is_shown_as_its_protocol(tmp_path: Path) -> None:
    segment = bytes(IPv6() / TCP(sport=1234, dport=80))[40:]
    (one,) = dissect(tmp_path / "data.pcap", [slot_packet(A1, B1, 0, segment, label=Label(77))])
    assert one["tcp.srcport"] == ["1234"]
    assert "m6.source_aid" not in one
    assert "m6.unknown_context" in one["names"]


def test_damaged_messages_end_no_dissection(tmp_path: Path) -> None:
    chance = random.Random(7)
    packets = []
    for message in EXAMPLES.values():
        whole = encode_packet(message, A1, B1, CODEPOINTS)
        for _ in range(20):
            octets = bytearray(whole[: chance.randrange(41, len(whole) + 1)])
            octets[4:6] = (len(octets) - 40).to_bytes(2, "big")
            if len(octets) > 48:
                octets[chance.randrange(41, len(octets))] = chance.randrange(256)
            packets.append(bytes(octets))
    found = dissect(tmp_path / "damaged.pcap", packets)
    assert len(found) == len(packets)
    assert sum("m6.truncated" in one["names"] for one in found) > len(packets) // 4


def test_the_examples_name_both_ends() -> None:
    """What the tests above rely on."""
    assert {one.locator for one in SENDER} == {A1, A2}
    assert {one.locator for one in RECEIVER} == {B1}


@pytest.mark.parametrize("in_slot", [False, True])
def test_packets_in_packets_in_packets_end_no_dissection(in_slot: bool, tmp_path: Path) -> None:
    """A UC quotes a packet, which may be a UC."""
    octets = b""
    for _ in range(600):
        octets = (
            struct.pack(">BBHBBH", CODEPOINTS.icmpv6_type, Code.UC, 0, 41, 6, 0)
            + bytes(40)
            + octets
        )
        number = next_header_of(6, CODEPOINTS, rewritable=True) if in_slot else ipv6.ICMPV6
        head = struct.pack(">IHBB", 6 << 28, len(octets), number, 64)
        octets = head + A1 + B1 + octets
    (fields,) = dissect(tmp_path / "nested.pcap", [octets])
    assert "m6.nested" in fields["names"]


def test_an_empty_message_ends_no_dissection(tmp_path: Path) -> None:
    empty = struct.pack(">IHBB", 6 << 28, 0, ipv6.ICMPV6, 64) + A1 + B1
    (fields,) = dissect(tmp_path / "empty.pcap", [empty])
    assert "m6.truncated_inner" in fields["names"]


def test_names_of_addresses_change_no_aid(tmp_path: Path) -> None:
    """Who owns an address can have it named as it likes, by its PTR record."""
    hosts = tmp_path / "hosts"
    text = format_locator(A1)
    hosts.write_text(f"{text} victim.example\n{format_locator(B1)} ::1\n")
    conf = encode_packet(EXAMPLES[Code.CONF], A1, B1, CODEPOINTS)
    data = slot_packet(A1, B1, 1, bytes(8), label=CONTEXT.receiver_label)
    _, fields = dissect(tmp_path / "named.pcap", [conf, data], "-N", "n", "-H", str(hosts))
    assert fields["m6.source_aid"] == [text]
    assert fields["m6.destination_aid"] == [format_locator(B1)]
