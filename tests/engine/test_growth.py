# SPDX-License-Identifier: MIT
"""What a peer of ours may say for as long as it likes: nothing here grows with it, or breaks."""

import dataclasses

import pytest

from noid.constants import LOCATORS_MAX, SECOND
from noid.engine.events import LocatorsChanged
from noid.engine.secrets import keyed_hash
from noid.flows.events import UnansweredPacket
from noid.identifiers import Nonce
from noid.locators import Locator
from noid.wire.control import Code, ControlMessage
from noid.wire.options import LocatorEntry, LocatorFlag
from noid.wire.peek import blank_authentication
from tests.engine.network import A1, B1, CODEPOINTS, X1, Station, established, packet, receive
from tests.engine.test_conformance_setup import sent_by
from tests.engine.test_refusals import sent


def signed(station: Station, message: ControlMessage) -> ControlMessage:
    """A message as the peer of a station would have authenticated it."""
    context = station.context
    blanked = blank_authentication(message.encode(CODEPOINTS.icmpv6_type))
    digest = keyed_hash(context.agreed_key, blanked)
    return dataclasses.replace(message, authentication=digest)


def test_a_peer_that_changes_its_sets_constantly_grows_no_table() -> None:
    network = established()
    network.give(network.b, LocatorsChanged((B1,)))
    update = sent(network.b, Code.UR)
    source = B1
    for number in range(3 * LOCATORS_MAX):
        other = Locator(X1[:-1] + bytes((number,)))
        entries = tuple(LocatorEntry(one, LocatorFlag.LOCAL) for one in (B1, other))
        changed = dataclasses.replace(
            update, nonce=Nonce(update.nonce + number), sender_locators=entries
        )
        receive(network, network.a, signed(network.a, changed), source, A1)
        assert network.a.context.peer_acceptable == {B1, other}
        source = other
    assert len(network.a.context.history) <= LOCATORS_MAX


@pytest.mark.parametrize("octets", [b"", b"\x60", packet(A1, B1)[:39]])
def test_what_is_no_packet_rides_on_nothing(octets: bytes) -> None:
    network = established()
    network.kill_provider(1)
    network.kill_provider(2)
    network.give(network.a, UnansweredPacket(network.a.context.local_label, octets, SECOND))
    network.run(2 * SECOND)
    assert not any(one.piggyback for _, one in sent_by(network.a, Code.UR))
