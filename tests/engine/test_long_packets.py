# SPDX-License-Identifier: MIT
"""Packets that are lost because they are long: programs are told to send shorter ones."""

from noid.constants import (
    LONG_LOST_TIME,
    LONGER_ASKED_MAX,
    LONGER_ASKED_TIME,
    LONGER_SPREAD,
    MILLISECOND,
    MINUTE,
    MTU_MIN,
    SECOND,
)
from noid.dns.verification import Verification
from noid.engine import lifecycle
from noid.engine.events import WidenPath
from noid.engine.state import Path
from noid.engine.update import short_message
from noid.flows.events import ControlMessageReceived, IcmpErrorReceived, LongPacketLost
from noid.identifiers import NO_NONCE
from noid.locators import Locator
from noid.wire import icmpv6, ipv6
from noid.wire.control import Code
from tests.engine.network import A1, A2, B1, B2, Network, established, packet
from tests.engine.test_data_loss import ACKNOWLEDGEMENT, talk
from tests.engine.test_second_lives import reboot

LONG = packet(A1, B1, bytes(1400))
WIDE, NARROWER = 1500, 1452


def told(network: Network) -> list[icmpv6.ErrorMessage]:
    """The errors about long packets that a program of a got, which are forgotten."""
    found = [one for one in network.a.delivered if icmpv6.is_too_big(one)]
    network.a.delivered.clear()
    sources = [ipv6.Header.decode(one).source for one in found]
    errors = (one[ipv6.HEADER_OCTETS :] for one in found)
    return [icmpv6.decode_error(one, by, A1) for one, by in zip(errors, sources, strict=True)]


def lose(network: Network, lost: bytes) -> list[icmpv6.ErrorMessage]:
    """The data plane of a says that long packets are lost; what the program is told."""
    network.give(network.a, LongPacketLost(network.a.context.local_label, lost))
    return told(network)


def test_a_program_is_told_once_in_a_time_how_long_its_packets_may_be() -> None:
    network = established()
    (error,) = lose(network, LONG)
    assert (error.type, error.value) == (icmpv6.PACKET_TOO_BIG, MTU_MIN)
    assert LONG.startswith(error.quote)
    assert lose(network, LONG) == []
    network.run(LONG_LOST_TIME + SECOND)
    assert lose(network, packet(A1, B1, bytes(MTU_MIN - ipv6.HEADER_OCTETS))) == []
    assert len(lose(network, LONG)) == 1
    assert network.a.context.path is Path.STEADY


def test_long_data_that_is_lost_is_shortened_before_its_pair_is_left() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = {(A1, B1), (B1, A1)}
    while not (errors := told(network)):
        network.ulp_sends(network.a, LONG)
        network.run(20 * MILLISECOND)
    assert [error.value for error in errors] == [MTU_MIN]
    assert network.a.context.pair == (A1, B1)
    network.drops_data = set()
    for _ in range(200):  # it was the length
        network.ulp_sends(network.a, packet(A1, B1))
        network.ulp_sends(network.b, packet(B1, A1, ACKNOWLEDGEMENT))
        network.run(20 * MILLISECOND)
    assert network.a.context.pair == (A1, B1)
    assert told(network) == []


def test_data_that_is_lost_at_any_length_goes_by_another_pair() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = {(A1, B1), (B1, A1)}
    errors = 0
    while network.a.context.pair == (A1, B1):
        network.ulp_sends(network.a, LONG)
        network.run(20 * MILLISECOND)
        errors += len(told(network))
    assert errors == 1


def asked(network: Network) -> list[int]:
    """The lengths of long messages that arrived anywhere, which are forgotten."""
    found = [len(one) for one in network.trace if len(one) > MTU_MIN]
    network.trace.clear()
    return found


def widened(network: Network) -> list[Locator]:
    """The peers to whom the stack of a may send long packets again; these orders are forgotten."""
    found = [one.aid for one in network.a.outputs if isinstance(one, WidenPath)]
    network.a.outputs.clear()
    return found


def test_long_packets_go_again_once_a_message_of_their_length_has_passed() -> None:
    network = established()
    lose(network, LONG)
    network.run(LONG_LOST_TIME - MILLISECOND)
    assert (asked(network), widened(network)) == ([], [])
    network.run(100 * MILLISECOND)
    assert (asked(network), widened(network)) == ([len(LONG)], [B1])
    assert not told(network)
    network.run(MINUTE)
    assert (asked(network), widened(network)) == ([], [])


def test_padding_is_no_packet_for_the_peer() -> None:
    network = established()
    before = list(network.b.delivered)
    lose(network, LONG)
    network.run(2 * LONG_LOST_TIME)
    assert asked(network)
    assert network.b.delivered == before


def test_a_path_that_stays_narrow_is_asked_ever_less_until_the_stack_forgets() -> None:
    network = established()
    network.mtu = MTU_MIN
    lose(network, LONG)
    network.run(11 * MINUTE)
    assert asked(network) == [len(LONG)] * LONGER_ASKED_MAX
    assert not widened(network)
    assert LONG_LOST_TIME * (2**LONGER_ASKED_MAX - 1) >= LONGER_ASKED_TIME


def test_long_packets_that_are_lost_again_and_again_wait_longer_each_time() -> None:
    """A device drops long data and passes long messages."""
    network = established()
    waited = []
    for _ in range(3):
        lose(network, LONG)
        begin_ns = network.now_ns
        while not widened(network):
            network.run(SECOND)
        waited.append((network.now_ns - begin_ns) // (10 * SECOND))
    assert waited == [1, 2, 4]


def test_the_count_starts_anew_once_the_stack_has_forgotten() -> None:
    network = established()
    network.mtu = MTU_MIN
    lose(network, LONG)
    network.run(LONGER_ASKED_TIME + MINUTE)
    assert asked(network) == [len(LONG)] * LONGER_ASKED_MAX
    lose(network, LONG)
    network.run(LONG_LOST_TIME + SECOND)
    assert asked(network) == [len(LONG)]
    network.mtu = WIDE
    network.run(2 * LONG_LOST_TIME)
    assert widened(network) == [B1]


def test_errors_that_are_forged_in_a_long_life_do_not_use_up_the_requests() -> None:
    network = established()
    network.a.in_use = network.b.in_use = True
    for _ in range(2 * LONGER_ASKED_MAX):
        lose(network, LONG)
        network.run(LONGER_ASKED_TIME)
        assert widened(network) == [B1]


def test_another_pair_is_asked_soon_whether_long_packets_pass() -> None:
    network = established()
    talk(network, SECOND)
    network.mtu = MTU_MIN
    lose(network, LONG)
    network.run(4 * MINUTE)
    assert not widened(network)
    network.mtu = WIDE
    network.kill_provider(1)
    talk(network, SECOND)
    assert network.a.context.pair == (A2, B2)
    assert not widened(network)
    talk(network, 2 * SECOND)
    assert widened(network) == [B1]


def test_the_size_in_an_error_of_a_router_is_checked_too() -> None:
    """The error may be forged, or the pair may be left."""
    network = established()
    network.ulp_sends(network.a, LONG)
    sent = network.wire[-1][1]
    error = icmpv6.ErrorMessage(type=icmpv6.PACKET_TOO_BIG, code=0, value=1300, quote=sent)
    packet_of_error = error.encode_packet(B2, A1)
    network.give(network.a, IcmpErrorReceived(B2, A1, packet_of_error[ipv6.HEADER_OCTETS :]))
    assert [one.value for one in told(network)] == [1300]
    network.run(2 * LONG_LOST_TIME)
    assert widened(network) == [B1]


def test_a_refused_packet_that_no_uplink_carries_is_asked_about_at_their_mtu() -> None:
    network = established()
    lose(network, packet(A1, B1, bytes(9000)))
    network.run(2 * LONG_LOST_TIME)
    assert asked(network) == [network.a.host.core.options.mtu]


def refuse(network: Network, sent: bytes, mtu: int) -> None:
    """A router refuses a packet of a."""
    error = icmpv6.ErrorMessage(type=icmpv6.PACKET_TOO_BIG, code=0, value=mtu, quote=sent)
    octets = error.encode_packet(B2, A1)[ipv6.HEADER_OCTETS :]
    network.give(network.a, IcmpErrorReceived(B2, A1, octets))


def refuse_next_request(network: Network, mtu: int) -> None:
    begin_ns = network.now_ns
    while not network.wire or len(network.wire[-1][1]) <= mtu:
        network.run(MILLISECOND)
        assert network.now_ns < begin_ns + MINUTE, "no request was sent"
    refuse(network, network.wire[-1][1], mtu)
    network.run(SECOND)


def test_the_last_length_that_was_lost_is_asked_about() -> None:
    """The first was refused rightly: the path is narrower than the uplink."""
    network = established()
    network.mtu = NARROWER
    lose(network, packet(A1, B1, bytes(WIDE - ipv6.HEADER_OCTETS)))
    network.run(LONG_LOST_TIME + SECOND)
    lose(network, packet(A1, B1, bytes(NARROWER - ipv6.HEADER_OCTETS)))
    network.run(MINUTE)
    assert (asked(network), widened(network)) == ([WIDE, NARROWER], [B1])


def test_a_request_that_is_too_long_is_followed_by_one_as_long_as_the_router_says() -> None:
    network = established()
    network.mtu = NARROWER
    lose(network, packet(A1, B1, bytes(WIDE - ipv6.HEADER_OCTETS)))
    refuse_next_request(network, NARROWER)
    network.run(MINUTE)
    assert (asked(network), widened(network)) == ([WIDE, NARROWER], [B1])


def test_a_request_that_is_refused_ends_no_size_that_is_right() -> None:
    network = established()
    network.mtu = NARROWER
    network.ulp_sends(network.a, packet(A1, B1, bytes(WIDE - ipv6.HEADER_OCTETS)))
    refuse(network, network.wire[-1][1], NARROWER)
    network.run(SECOND)
    for _ in range(3):
        refuse_next_request(network, NARROWER)
    assert set(asked(network)) == {WIDE}
    assert not widened(network)


def test_a_peer_that_restarts_is_asked_once_the_context_is_set_up_again() -> None:
    network = established()
    lose(network, LONG)
    reboot(network, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    while network.a.context.is_settled:
        network.run(MILLISECOND)
    asked(network)
    network.run(MINUTE)
    assert (asked(network), widened(network)) == ([len(LONG)], [B1])


def test_an_answer_to_no_request_shows_nothing() -> None:
    network = established()
    octets = bytearray(short_message(network.b.host.core, network.b.context, Code.UA, NO_NONCE))
    octets[2:4] = ipv6.checksum(B1, A1, ipv6.ICMPV6, bytes(octets)).to_bytes(2, "big")
    answer = ControlMessageReceived(octets=bytes(octets), source=B1, destination=A1, in_slot=False)
    lose(network, LONG)
    network.give(network.a, answer)
    assert not widened(network)


def test_a_host_with_many_contexts_does_not_ask_about_all_at_once() -> None:
    network = established()
    many = LONG_LOST_TIME // LONGER_SPREAD
    lost = LongPacketLost(network.a.context.local_label, LONG)
    for number in range(many - 1):
        aid = Locator(B1[:8] + (1 << 32 | number).to_bytes(8, "big"))
        lifecycle.create(network.a.host.core, A1, aid, Verification(aid, None), (A1,))
    network.give(network.a, lost)
    network.run(LONG_LOST_TIME + LONG_LOST_TIME // 2 - MILLISECOND)
    assert not asked(network)
    network.run(LONG_LOST_TIME + SECOND)
    assert asked(network) == [len(LONG)]
