# SPDX-License-Identifier: MIT
"""The packets without content that try whether data passes again [D47]."""

import pytest

from noid.constants import (
    EMPTY_PACKETS,
    KEEPALIVE_INTERVAL,
    MILLISECOND,
    RETRANSMIT_WAITING,
)
from noid.engine import retrying
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import (
    SendControl,
)
from noid.engine.history import Pair
from noid.engine.state import Path
from noid.wire import ipv6
from noid.wire.control import Code, Flag
from tests.engine.network import A1, B1, CODEPOINTS, packet
from tests.engine.test_probing_cases import FIRST, OTHER, put
from tests.engine.test_timetable import settled
from tests.engine.timetable import Timetable


@pytest.fixture
def network() -> Timetable:
    return settled()


@pytest.mark.parametrize(("asides", "pair"), [(0, FIRST), (1, FIRST), (2, OTHER), (5, FIRST)])
@pytest.mark.parametrize("protocol", [None, ipv6.TCP, ipv6.UDP, ipv6.ICMPV6 + 3])
def test_eight_empty_packets_try_whether_data_passes(
    network: Timetable, core: Core, context: Context, asides: int, pair: Pair, protocol: int | None
) -> None:
    one = put(core, context, Path.ASIDE)
    one.loses_all, one.asides = True, asides
    one.packet = b"" if protocol is None else packet(A1, B1, protocol=protocol)
    for number in range(1, EMPTY_PACKETS + 1):
        core.outputs.clear()
        assert not retrying.go_on(core, context, one)
        assert (one.empties, one.retried) == (number, pair)
        empty, *more = [out.packet for out in core.outputs if isinstance(out, SendControl)]
        header = ipv6.Header.decode(empty)
        slot = 0 if protocol == ipv6.TCP else 1
        assert header == ipv6.Header(
            source=pair[0],
            destination=pair[1],
            next_header=CODEPOINTS.rewritable_first + slot,
            payload_octets=4,
            flow_label=context.peer_label,
        )
        assert empty[ipv6.HEADER_OCTETS :] == bytes(4)
        is_last = number == EMPTY_PACKETS
        assert len(more) == is_last
        wait_ns = RETRANSMIT_WAITING if is_last else KEEPALIVE_INTERVAL
        assert one.batch_at_ns == core.now_ns + wait_ns
    network.begin()
    outputs, core.outputs = core.outputs, []
    for output in outputs:
        network.carry_out(network.a, output)
    ((_, asked, form, request),) = network.sent(network.a, Code.UR)
    assert (asked, form, request.flags) == (pair, True, Flag.DATA_ASKED)
    assert retrying.go_on(core, context, one)


def test_a_host_with_one_locator_says_that_no_source_may_be_rewritten(
    core: Core, context: Context
) -> None:
    context.own_local = (A1,)
    one = put(core, context, Path.ASIDE)
    context.first_round_trip_ns = 200 * MILLISECOND
    one.empties = EMPTY_PACKETS - 1
    one.retried = FIRST
    retrying.go_on(core, context, one)
    (empty, _) = [out.packet for out in core.outputs if isinstance(out, SendControl)]
    assert empty[6] == CODEPOINTS.fixed_first + 1
    assert one.batch_at_ns == core.now_ns + 400 * MILLISECOND
    core.outputs.clear()
