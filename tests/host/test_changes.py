# SPDX-License-Identifier: MIT
"""The kernel's messages about the network: those that matter, and those that are no messages."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noid.host.changes import (
    ADDRESS_OCTETS,
    FAR_AWAY_BITS,
    PREFIXES_MAX,
    Changes,
    take,
)
from noid.host.messages import (
    DELETE_ADDRESS,
    DELETE_LINK,
    DELETE_NEIGHBOUR,
    DELETE_ROUTE,
    HEADER,
    HOST_BITS,
    IFA_ADDRESS,
    IFA_LOCAL,
    LINK,
    MAIN_TABLE,
    NDA_DESTINATION,
    NEIGHBOUR,
    NEW_LINK,
    NEW_NEIGHBOUR,
    NEW_ROUTE,
    REFUSING,
    ROUTE,
    RTA_DESTINATION,
    RTA_METRIC,
    RTA_TABLE,
    UNICAST,
)
from noid.host.routes import EVERYWHERE, DeletedRoute, Prefix
from noid.locators import Locator, parse_locator

PEER, GATEWAY = parse_locator("2001:db8::1"), parse_locator("fe80::1")
NEW_RULE = 32
UP, CARRIES = 0x1, 0x10000


def message(kind: int, body: bytes) -> bytes:
    octets = HEADER.size + len(body)
    return HEADER.pack(octets, kind, 0, 0, 0) + body + bytes(-octets % 4)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def link(kind: int, index: int, flags: int) -> bytes:
    return message(kind, LINK.pack(0, 1, index, flags, 0))


def route(
    kind: int, bits: int, *attributes: bytes, table: int = 252, refusing: int = UNICAST
) -> bytes:
    header = bytes([10, bits, 0, 0, table, 0, 0, refusing]) + bytes(ROUTE.size - 8)
    return message(kind, header + b"".join(attributes))


def neighbour(kind: int, address: bytes) -> bytes:
    return message(kind, bytes(NEIGHBOUR.size) + attribute(NDA_DESTINATION, address))


def said(*messages: bytes) -> Changes:
    found = Changes()
    take(b"".join(messages), found, GATEWAY)
    return found


def test_a_link_has_the_flags_that_it_had_all_the_time() -> None:
    assert said(link(NEW_LINK, 3, UP | CARRIES), link(NEW_LINK, 3, UP)) == Changes(True, {3: UP})
    assert said(link(NEW_LINK, 3, UP), link(NEW_LINK, 3, UP | CARRIES)) == Changes(True, {3: UP})
    assert said(link(NEW_LINK, 3, UP), link(DELETE_LINK, 3, UP)) == Changes(True, {3: 0})


def test_a_deleted_route_to_one_address_is_named() -> None:
    attributes = (
        attribute(RTA_DESTINATION, PEER),
        attribute(RTA_TABLE, struct.pack("=I", 27958)),
        attribute(RTA_METRIC, struct.pack("=I", 100)),
    )
    deleted = {DeletedRoute(27958, PEER, 100)}
    assert said(route(DELETE_ROUTE, HOST_BITS, *attributes)) == Changes(deleted=deleted)
    assert said(route(NEW_ROUTE, HOST_BITS, *attributes)) == Changes()


@pytest.mark.parametrize("kind", [NEW_ROUTE, DELETE_ROUTE])
def test_a_route_to_the_wide_world_matters_and_one_to_somewhere_does_not(kind: int) -> None:
    assert said(route(kind, 0)).matters
    assert said(route(kind, FAR_AWAY_BITS)).matters
    assert said(route(kind, FAR_AWAY_BITS + 1)) == Changes()
    assert said(route(kind, HOST_BITS)) == Changes(), "it has no destination"


@pytest.mark.parametrize("kind", [NEW_ROUTE, DELETE_ROUTE])
def test_a_route_to_somewhere_names_its_prefix(kind: int) -> None:
    to_peer = attribute(RTA_DESTINATION, PEER)
    assert said(route(kind, 64, to_peer)) == Changes(prefixes={Prefix(PEER, 64)})
    found = said(route(kind, HOST_BITS, to_peer, table=MAIN_TABLE))
    assert found.prefixes == {Prefix(PEER, HOST_BITS)}


@pytest.mark.parametrize("kind", [NEW_ROUTE, DELETE_ROUTE])
@pytest.mark.parametrize("bits", [3, 64, HOST_BITS])
def test_a_route_that_refuses_packets_names_its_prefix_in_any_table(kind: int, bits: int) -> None:
    for refusing in REFUSING:
        found = said(route(kind, bits, attribute(RTA_DESTINATION, PEER), refusing=refusing))
        assert found.prefixes == {Prefix(PEER, bits)}


def test_where_very_many_prefixes_change_any_may_have() -> None:
    many = [
        route(NEW_ROUTE, 64, attribute(RTA_DESTINATION, number.to_bytes(8) + bytes(8)))
        for number in range(PREFIXES_MAX + 1)
    ]
    assert said(*many).prefixes == {EVERYWHERE}
    assert EVERYWHERE.covers(PEER)


@pytest.mark.parametrize("kind", [NEW_NEIGHBOUR, DELETE_NEIGHBOUR])
def test_of_neighbours_only_the_gateway_matters(kind: int) -> None:
    assert said(neighbour(kind, GATEWAY)).matters
    assert said(neighbour(kind, PEER)) == Changes()


def test_a_deleted_address_is_the_host_s_own_and_not_its_peer() -> None:
    head, own, other = bytes(ADDRESS_OCTETS), attribute(IFA_LOCAL, PEER), Locator(bytes(16))
    deleted = message(DELETE_ADDRESS, head + attribute(IFA_ADDRESS, PEER))
    assert said(deleted).unaddressed == {PEER}
    deleted = message(DELETE_ADDRESS, head + attribute(IFA_ADDRESS, other) + own)
    assert said(deleted).unaddressed == {PEER}


def test_a_change_of_the_rules_matters() -> None:
    assert said(message(NEW_RULE, b"")) == Changes(True)


def test_truncated_messages_name_nothing() -> None:
    assert said(message(NEW_LINK, bytes(3))) == Changes(True)
    assert said(message(DELETE_ROUTE, b"")) == Changes(True)
    assert said(message(NEW_NEIGHBOUR, bytes(NEIGHBOUR.size - 1))) == Changes()
    assert said(bytes(HEADER.size - 1)) == Changes()
    short = attribute(RTA_DESTINATION, Locator(PEER)[:8])
    assert said(route(DELETE_ROUTE, HOST_BITS, short)) == Changes()


@given(st.binary(max_size=200))
def test_any_octets_raise_nothing(octets: bytes) -> None:
    said(octets)


@given(
    st.sampled_from([NEW_LINK, DELETE_LINK, NEW_ROUTE, DELETE_ROUTE, NEW_NEIGHBOUR, NEW_RULE]),
    st.binary(max_size=80),
    st.integers(0, 100),
)
def test_a_message_of_any_stated_length_raises_nothing(kind: int, body: bytes, octets: int) -> None:
    said(HEADER.pack(octets, kind, 0, 0, 0) + body)
