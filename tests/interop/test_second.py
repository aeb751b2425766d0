# SPDX-License-Identifier: MIT
"""noid and a second implementation of its protocol understand each other.

On host b of a lab runs noid, on host a nothing but ``second``, which knows the protocol from
docs/protocol.md alone. What one side says, the other side must be able to read, and both must end
with the same context.
"""

import hashlib
import struct
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from noid.constants import TRIAL_ROUNDS
from noid.lab.lab import Lab
from tests.interop.curve import x25519
from tests.interop.harness import (
    A1,
    A2,
    B1,
    B2,
    PATIENCE_S,
    Program,
    context_of,
    ping,
    verified,
)
from tests.interop.octets import (
    BROKEN,
    CRITICAL,
    DISCARDED,
    FRAGMENT,
    HEARS_NOTHING,
    ICMPV6,
    IN_LSL,
    IPV6_OCTETS,
    REWRITE_OK,
    TCP,
    UDP,
    Code,
    Labels,
    Message,
    Option,
    Packet,
    with_checksum,
)

UNKNOWN_TYPE = 0x7ABC
SYN, RST = 0x02, 0x04

ANNOTATED = """
c806 0000  3b0c 0000  0a0b0c0d0e0f1011
20010db80001000a000000000000000a  20010db80001000b000000000000000b
8001 0010  00012345  000abcde  00000007  ffffffff  00000000
8006 0010  101112131415161718191a1b1c1d1e1f  00000000
"""
"""The message that docs/protocol.md annotates."""


def echo_request(number: int) -> str:
    octets = struct.pack("!BBHHH", 128, 0, 0, 7, number) + b"second"
    return with_checksum(A1, B1, ICMPV6, octets).hex()


def echo_reply(number: int) -> str:
    octets = struct.pack("!BBHHH", 129, 0, 0, 7, number) + b"second"
    return with_checksum(B1, A1, ICMPV6, octets).hex()


def segment(flags: int, sequence: int) -> str:
    octets = struct.pack("!HHIIBBHHH", 7777, 80, sequence, 0, 5 << 4, flags, 6000, 0, 0)
    return with_checksum(A1, B1, TCP, octets).hex()


def hash_of(token: bytes) -> str:
    """What CONF says of a reset token."""
    return hashlib.blake2b(token, digest_size=16).hexdigest()


@pytest.mark.parametrize(
    ("private", "public", "shared"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "77076d0a7318a57d3c16c17251b26645df4c6f0e1c8bb9a0a5a5b0c6e1f5b5e5",
            "09" + "00" * 31,
            "",
        ),
    ],
)
def test_x25519_is_that_of_the_rfc(private: str, public: str, shared: str) -> None:
    ours = x25519(bytes.fromhex(private), bytes.fromhex(public))
    theirs = X25519PrivateKey.from_private_bytes(bytes.fromhex(private))
    point = X25519PublicKey.from_public_bytes(bytes.fromhex(public))
    assert ours == theirs.exchange(point)
    assert ours.hex() == shared or not shared


# --- the octets -----------------------------------------------------------------------------------


def test_the_annotated_message_reads_as_the_page_says() -> None:
    message = Message(
        code=Code.UA,
        nonce=0x0A0B0C0D0E0F1011,
        sender=A1,
        receiver=B1,
        options={
            Option.CONTEXT: Labels(
                sender=0x12345,
                receiver=0xABCDE,
                sender_birthday=7,
                receiver_birthday=0xFFFFFFFF,
            ).encode(),
            Option.AUTHENTICATION: bytes(range(0x10, 0x20)),
        },
    )
    octets = bytes.fromhex(ANNOTATED)
    assert message.encode() == octets
    assert Message.decode(octets) == message


# --- setting up -----------------------------------------------------------------------------------


@pytest.mark.lab
@pytest.mark.parametrize("rewritable", [False, True])
def test_the_second_sets_up_a_context(lab: Lab, second: Program, rewritable: bool) -> None:
    second.do("initiate", rewritable=rewritable)
    cc = second.expect("CC", source=B1, destination=A1, rewritable=rewritable, flags=0)
    assert (cc["nonce"], cc["receiver_label"]) == (cc["own_nonce"], cc["own_label"])
    assert cc["senders_locators"] == {B1: 0xC0, B2: 0xC0}
    assert cc["receivers_locators"] == {A1: IN_LSL, A2: IN_LSL}
    conf = second.expect("CONF", source=B1, destination=A1, nonce=cc["own_nonce"])
    context = verified(lab)
    assert (context["local_aid"], context["peer_aid"]) == (B1, A1)
    assert context["local_label"] == conf["sender_label"] != 0
    assert context["peer_label"] == conf["receiver_label"] == conf["own_label"]
    assert context["peer_birthday"] == conf["receiver_birthday"]
    assert lab.status("b")["birthday"] == conf["sender_birthday"] == cc["sender_birthday"]


@pytest.mark.lab
def test_the_second_sets_up_a_context_from_a_locator_that_is_not_its_aid(
    lab: Lab, second: Program
) -> None:
    second.do("initiate", source=A2, on="INIT", protocol=ICMPV6, payload=echo_request(1))
    second.expect("CC", source=B1, destination=A2, flags=DISCARDED)
    second.expect("CONF", source=B1, destination=A2)
    context_of(lab, peer_aid=A1, peer_locator=A2, lsv_peer=[A1, A2])


@pytest.mark.lab
def test_a_packet_that_rides_on_the_ccr_is_delivered(lab: Lab, second: Program) -> None:
    second.initiate(on="CCR", protocol=ICMPV6, payload=echo_request(2))
    assert second.expect("data", payload=echo_reply(2))["source"] == B1
    verified(lab)


@pytest.mark.lab
def test_a_packet_that_rides_on_the_init_is_discarded(lab: Lab, second: Program) -> None:
    second.do("initiate", on="INIT", protocol=ICMPV6, payload=echo_request(2))
    second.expect("CC", source=B1, destination=A1, flags=DISCARDED)
    second.expect("CONF", source=B1, destination=A1)
    second.do("data", protocol=ICMPV6, payload=echo_request(3))
    second.expect("data", payload=echo_reply(3))
    plain = [one for one in second.events if one["event"] == "plain"]
    assert not [one for one in plain if one["payload"] == echo_reply(2)]


@pytest.mark.lab
def test_unknown_options_are_skipped_unless_they_are_critical(lab: Lab, second: Program) -> None:
    second.do("initiate", unknown_options={UNKNOWN_TYPE | CRITICAL: "0102030405"})
    second.do("initiate", unknown_options={UNKNOWN_TYPE: "0102030405"})
    cc = second.expect("CC")
    assert cc["nonce"] == cc["own_nonce"], "the first INIT was not to be answered"
    second.expect("CONF")
    verified(lab)


@pytest.mark.lab
def test_noid_sets_up_a_context_with_the_second(lab: Lab, second: Program) -> None:
    with ping(lab, "-c", "3") as program:
        init = second.expect("INIT", source=B1, destination=A1, rewritable=False, flags=0)
        assert init["senders_locators"] == {B1: 0x80, B2: 0x80}
        assert init["receivers_locators"] == {A1: 0x40, A2: 0x40}
        assert init["receiver_label"] == 0
        ccr = second.expect("CCR", source=B1, destination=A1, sender_label=init["sender_label"])
        assert len(ccr["reset_token"]) == 32
        data = second.expect("data", known=True, source=B1, protocol=ICMPV6, checksum_ok=True)
        assert data["next_header"] == REWRITE_OK + 6
        assert program.wait(PATIENCE_S) == 0, "all were answered"
    context = verified(lab)
    assert context["local_label"] == init["sender_label"]
    assert context["peer_name"] == "a.example"


@pytest.mark.lab
def test_two_exchanges_that_cross_complete_each_other(lab: Lab, second: Program) -> None:
    second.do("cross")
    with ping(lab, "-c", "3") as program:
        init = second.expect("INIT")
        conf = second.expect("CONF", sender_label=init["sender_label"])
        assert conf["nonce"] == conf["own_nonce"] != init["nonce"]
        assert conf["senders_locators"] == {B1: 0x80, B2: 0x80}
        second.expect("data", known=True, checksum_ok=True)
        assert program.wait(PATIENCE_S) == 0
    assert verified(lab)["peer_label"] == conf["own_label"]


@pytest.mark.lab
def test_an_exchange_that_comes_again_is_confirmed_or_replaces(lab: Lab, second: Program) -> None:
    first = second.initiate()
    verified(lab)
    second.do("initiate", again=True)
    conf = second.expect("CONF", sender_label=first["sender_label"])
    assert conf["senders_locators"] == {B1: 0x80, B2: 0x80}
    other = second.initiate()
    assert verified(lab)["peer_label"] == other["own_label"] != first["own_label"]


# --- data -----------------------------------------------------------------------------------------


@pytest.mark.lab
def test_data_of_every_kind_of_slot_crosses_both_ways(lab: Lab, second: Program) -> None:
    second.initiate()
    verified(lab)
    second.do("data", protocol=ICMPV6, payload=echo_request(3))
    reply = second.expect("data", payload=echo_reply(3), known=True, checksum_ok=True)
    assert (reply["source"], reply["destination"]) == (B1, A1)
    assert reply["next_header"] == REWRITE_OK + 6

    alone = struct.pack("!BBHI", ICMPV6, 0, 0, 1) + bytes.fromhex(echo_request(4))
    second.do("data", protocol=FRAGMENT, payload=alone.hex())
    second.expect("data", payload=echo_reply(4), known=True)

    second.do("data", protocol=TCP, payload=segment(SYN, 99))
    answer = second.expect("data", protocol=TCP, checksum_ok=True, next_header=REWRITE_OK)
    assert bytes.fromhex(answer["payload"])[8:14] == struct.pack("!IBB", 100, 6 << 4, 0x12)
    second.do("data", protocol=TCP, payload=segment(RST, 100))

    datagram = with_checksum(A1, B1, UDP, struct.pack("!HHHH4s", 7777, 9, 12, 0, b"none"))
    second.do("data", protocol=UDP, payload=datagram.hex())
    refusal = bytes.fromhex(second.expect("data", protocol=ICMPV6)["payload"])
    assert refusal[:2] == bytes((1, 4)), "port unreachable"
    quoted = Packet.decode(refusal[8:])
    assert (quoted.source, quoted.destination, quoted.next_header) == (A1, B1, UDP)
    assert quoted.payload == datagram


@pytest.mark.lab
def test_a_protocol_without_a_slot_escapes_both_ways(lab: Lab, second: Program) -> None:
    program = (
        "import socket; raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 253); "
        "print('ready', flush=True); octets, source = raw.recvfrom(99); "
        "raw.sendto(octets[::-1], source)"
    )
    echo = lab.spawn("b", [sys.executable, "-c", program])
    lab.wait_for("a program listens to protocol 253", echo.output, PATIENCE_S)
    second.initiate()
    second.do("data", protocol=253, payload="0102030405")
    back = second.expect("data", known=True, protocol=253, payload="0504030201")
    assert back["next_header"] == REWRITE_OK + 7


@pytest.mark.lab
def test_what_is_in_the_wrong_slot_is_dropped(lab: Lab, second: Program) -> None:
    second.initiate()
    escaped = bytes((ICMPV6, 0, 1, 4, 0, 0, 0, 0)).hex() + echo_request(13)
    second.do("data", protocol=ICMPV6, payload=escaped, slot=7)
    second.do("data", protocol=ICMPV6, payload=echo_request(14), slot=3)
    second.do("data", protocol=ICMPV6, payload=echo_request(15))
    assert second.expect("data")["payload"] == echo_reply(15)


@pytest.mark.lab
def test_noid_follows_the_source_of_data_until_the_pair_before_answers(
    lab: Lab, second: Program
) -> None:
    second.initiate()
    verified(lab)
    second.do("data", protocol=ICMPV6, payload=echo_request(5), source=A2, destination=B2)
    second.expect("data", payload=echo_reply(5), source=B1, destination=A2, checksum_ok=True)
    second.expect("UR", source=B1, destination=A1, authentic=True, flags=0)
    second.expect("UR", source=B1, destination=A2, authentic=True, flags=0)
    context_of(lab, local_locator=B1, peer_locator=A1)


# --- updates, probes, failure ---------------------------------------------------------------------


@pytest.mark.lab
def test_updates_of_the_second_are_acknowledged_and_applied(lab: Lab, second: Program) -> None:
    second.initiate()
    verified(lab)
    second.do("update", key="00" * 16, nonce=1)
    second.do("update", locators={A1: IN_LSL}, nonce=2)
    answer = second.expect("UA", authentic=True)
    assert (answer["nonce"], answer["source"], answer["destination"]) == (2, B1, A1)
    context_of(lab, lsl_peer=[A1], lsv_peer=[A1])
    # What it no longer owns it cannot send from; and with one locator there is nothing to rewrite.
    second.do("data", protocol=ICMPV6, payload=echo_request(11), source=A2)
    second.do("data", protocol=ICMPV6, payload=echo_request(12))
    assert second.expect("data")["payload"] == echo_reply(12)
    second.do("update", locators={A1: IN_LSL, A2: IN_LSL}, nonce=3, destination=B2)
    second.expect("UA", authentic=True, nonce=3, source=B2, destination=A1)
    verified(lab)
    second.do("update", nonce=4, source=A2, rewritable=True)
    second.expect("UA", authentic=True, nonce=4, source=B1, destination=A1)
    second.do("update", nonce=5, protocol=ICMPV6, payload=echo_request(6))
    second.expect("UA", authentic=True, nonce=5)
    second.expect("data", payload=echo_reply(6), checksum_ok=True)
    second.do("update", nonce=1, locators={A1: IN_LSL})
    second.expect("UA", authentic=True, nonce=1)
    verified(lab)


@pytest.mark.lab
def test_noid_does_not_follow_to_what_the_peer_flags_broken(lab: Lab, second: Program) -> None:
    second.initiate()
    verified(lab)
    second.do("update", locators={A1: IN_LSL, A2: IN_LSL | BROKEN})
    second.expect("UA", authentic=True)
    second.do("data", protocol=ICMPV6, payload=echo_request(7), source=A2)
    second.expect("data", payload=echo_reply(7), destination=A1)


@pytest.mark.lab
def test_noid_asks_its_pair_when_the_second_hears_nothing(lab: Lab, second: Program) -> None:
    second.initiate()
    verified(lab)
    second.do("update", flags=HEARS_NOTHING)
    second.expect("UA", authentic=True)
    probe = second.expect("UR", source=B1, destination=A1, authentic=True)
    assert probe["flags"] & HEARS_NOTHING == 0, "no search because of a search"


@pytest.mark.lab
def test_a_conversation_of_noid_with_the_second_outlives_a_provider(
    lab: Lab, second: Program
) -> None:
    with ping(lab):
        second.expect("data", known=True, source=B1, destination=A1)
        lab.cut_provider(1)
        try:
            second.expect("UR", source=B2, destination=A2, authentic=True, flags=HEARS_NOTHING)
            request = second.expect("data", known=True, source=B2, destination=A2)
            assert request["checksum_ok"]
            context_of(lab, local_locator=B2, peer_locator=A2)
        finally:
            lab.heal_provider(1)
    second.do("data", protocol=ICMPV6, payload=echo_request(8))
    second.expect("data", payload=echo_reply(8), source=B2)


# --- closing and lost state -----------------------------------------------------------------------


@pytest.mark.lab
def test_a_closed_context_is_gone_and_packets_of_it_are_complained_of(
    lab: Lab, second: Program
) -> None:
    conf = second.initiate()
    verified(lab)
    second.do("close")
    closed = second.expect("CLOSEACK", authentic=True)
    assert closed["nonce"] == closed["own_nonce"]
    assert lab.contexts("b") == []

    second.do("data", protocol=ICMPV6, payload=echo_request(9))
    complaint = second.expect("UC", source=B1, destination=A1, rewritable=False)
    assert (complaint["sender"], complaint["receiver"]) == ("::", "::")
    assert complaint["receiver_label"] == conf["sender_label"]
    assert complaint["sender_birthday"] == conf["sender_birthday"]
    token = bytes.fromhex(complaint["reset_token"])
    assert hash_of(token) != conf["reset_token"], "noid has come up once"
    assert complaint["protocol"] == 41
    quoted = Packet.decode(bytes.fromhex(complaint["piggyback"]))
    assert (quoted.label, quoted.next_header) == (conf["sender_label"], REWRITE_OK + 6)
    assert quoted.payload.hex() == echo_request(9)

    second.do("close")
    again = second.expect("CLOSEACK", authentic=True)
    assert again["nonce"] == again["own_nonce"]


@pytest.mark.lab
@pytest.mark.parametrize(
    ("birthdays", "reset_key_too", "believed"),
    [(1, False, True), (0, False, False), (2, False, False), (1, True, False)],
)
def test_noid_believes_a_loss_of_state_with_its_token_or_after_a_test(
    lab: Lab, second: Program, birthdays: int, reset_key_too: bool, believed: bool
) -> None:
    second.initiate()
    before = verified(lab)
    second.do("forget", birthdays=birthdays, reset_key_too=reset_key_too)
    with ping(lab):
        # Of the complaint about data, or about an Update Request that was under way.
        second.expect("INIT", receiver_birthday=before["peer_birthday"])
        asked = [event["event"] for event in second.events].count("UR")
        assert believed or asked >= TRIAL_ROUNDS
        second.expect("data", known=True, checksum_ok=True)
    after = context_of(lab)
    assert after["peer_label"] != before["peer_label"]
    assert after["peer_birthday"] == (before["peer_birthday"] + birthdays) % 2**32


@pytest.mark.lab
def test_a_probe_tells_noid_that_the_second_has_lost_its_state(lab: Lab, second: Program) -> None:
    second.initiate()
    before = verified(lab)
    second.do("forget")
    lab.cut_provider(1)
    try:
        with ping(lab):
            second.expect("UR", source=B2, destination=A2)
            second.expect("INIT", source=B2, destination=A2)
            second.expect("CCR", source=B2, destination=A2)
            second.expect("data", known=True, source=B2, destination=A2, checksum_ok=True)
    finally:
        lab.heal_provider(1)
    assert context_of(lab)["peer_label"] != before["peer_label"]


@pytest.mark.lab
def test_noid_that_comes_up_without_its_contexts_says_so(lab: Lab, second: Program) -> None:
    conf = second.initiate()
    verified(lab)
    lab.stop_daemon("b")
    lab.start_daemon("b")
    second.do("data", protocol=ICMPV6, payload=echo_request(10))
    complaint = second.expect("UC", receiver_label=conf["sender_label"])
    assert hash_of(bytes.fromhex(complaint["reset_token"])) == conf["reset_token"]
    assert complaint["sender_birthday"] == (conf["sender_birthday"] + 1) % 2**32
    second.do("update")
    complaint = second.expect("UC", receiver_label=conf["sender_label"])
    assert bytes.fromhex(complaint["piggyback"])[IPV6_OCTETS + 1] == Code.UR
