# SPDX-License-Identifier: MIT
"""A host on no path asks which labels are in use, by what is and is not answered [D41]."""

import dataclasses
import itertools
from collections.abc import Callable
from random import Random

import pytest

from noid.constants import FLOW_LABEL_MASK, PREFIX_ERROR_RATE_PER_SECOND, SECOND
from noid.engine.events import SendControl
from noid.flows.software import Effect
from noid.identifiers import NO_NONCE, Label, Nonce
from noid.locators import Locator
from noid.shares.policy import ERRORS, REGION_SHIFT, SHARES, site_of
from noid.shares.rates import Rate
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, decode_message, encode_packet
from noid.wire.options import HASH_OCTETS, ContextOption, LocatorEntry, LocatorFlag
from tests.engine.network import A1, B1, CODEPOINTS, X1, Network, established

Ask = Callable[[Network, int], None]


def data(network: Network, label: Label) -> None:
    """An empty data packet with a label, from the stranger's own address."""
    for slot in (0, 1, 6, 7):
        header = ipv6.Header(
            source=X1,
            destination=A1,
            next_header=CODEPOINTS.fixed_first + slot,
            payload_octets=0,
            flow_label=label,
        )
        network.put(header.encode())
        network.run(SECOND)


def control(network: Network, label: Label, code: Code, source: Locator) -> None:
    """A message about a label, whose authentication is invented."""
    sets = code is Code.UR
    message = ControlMessage(
        code=code,
        nonce=Nonce(1 << 40),
        sender_aid=B1,
        receiver_aid=A1,
        context=ContextOption(sender_label=Label(0x4711), receiver_label=label),
        sender_locators=(LocatorEntry(B1, LocatorFlag.LOCAL),) if sets else (),
        receiver_locators=(LocatorEntry(A1, LocatorFlag.REMOTE),) if sets else (),
        authentication=bytes(HASH_OCTETS),
    )
    network.put(encode_packet(message, source, A1, CODEPOINTS))
    network.run(SECOND)


def answers(network: Network, ask: Ask, label: Label) -> list[bytes]:
    """What a sends to the stranger, with what differs from answer to answer as zeros."""
    network.a.outputs.clear()
    ask(network, label)
    answered = []
    for one in network.a.outputs:
        if isinstance(one, SendControl) and one.packet[24:40] == X1:
            message = decode_message(one.packet[40:], A1, X1, in_slot=False)
            assert message.context.receiver_label in (0, label, 0x4711)
            answered.append(alike(message, label))
    return answered


def alike(message: ControlMessage, label: Label) -> bytes:
    labels = message.context
    labels = labels._replace(
        sender_label=Label(0 if labels.sender_label == label else labels.sender_label),
        receiver_label=Label(0 if labels.receiver_label == label else labels.receiver_label),
    )
    message = dataclasses.replace(message, nonce=NO_NONCE, context=labels, piggyback=None)
    return dataclasses.replace(message, reset_token=bytes(len(message.reset_token))).encode(200)


@pytest.mark.parametrize(
    "ask",
    [
        data,
        lambda network, label: control(network, label, Code.UR, X1),
        lambda network, label: control(network, label, Code.CLOSE, X1),
        lambda network, label: control(network, label, Code.UA, X1),
        lambda network, label: control(network, label, Code.KEEPALIVE, X1),
    ],
    ids=["data", "UR", "CLOSE", "UA", "KEEPALIVE"],
)
def test_a_label_in_use_is_answered_as_any_other(ask: Ask) -> None:
    network = established()
    network.run(SECOND)
    used = network.a.context.local_label
    known = answers(network, ask, used)
    unknown = answers(network, ask, Label(used % FLOW_LABEL_MASK + 1))
    assert known == unknown
    assert network.a.context.local_label == used
    assert network.a.context.is_settled


def test_all_labels_take_a_day_to_ask_for() -> None:
    network = established()
    asked: list[Effect] = []
    network.a.outputs.clear()
    for label in range(1, 1000):
        header = ipv6.Header(
            source=X1,
            destination=A1,
            next_header=CODEPOINTS.fixed_first,
            payload_octets=0,
            flow_label=Label(label),
        )
        asked += network.a.datapath.from_network(header.encode(), network.now_ns)
    network.follow(network.a, asked)
    told = [one for one in network.a.outputs if isinstance(one, SendControl)]
    assert ERRORS.each_at_once // 2 < len(told) <= ERRORS.each_at_once
    assert FLOW_LABEL_MASK / PREFIX_ERROR_RATE_PER_SECOND > 24 * 3600


def test_a_close_that_fails_a_check_ends_nothing() -> None:
    network = established()
    label = network.a.context.local_label
    for source in (X1, B1):
        control(network, label, Code.CLOSE, source)
    assert network.a.context.local_label == label
    assert network.b.context.is_settled


def test_an_answer_to_a_forged_request_in_the_name_of_the_peer_ends_nothing() -> None:
    network = established()
    label = network.a.context.local_label
    control(network, label, Code.UR, B1)
    network.run(SECOND)
    assert network.a.context.is_settled
    assert network.b.context.is_settled
    assert network.b.context.peer_label == label


def told_of_a_label(fill: int, *, is_used: bool, key: int) -> bool:
    """Whether a stranger is answered after it has used up the total, and asked about one label.

    It asks in the name of the peer of the context. If the label is in use, that causes no answer,
    and one more is left for the stranger itself.
    """
    rate = Rate(ERRORS, key)
    for number in range(fill):
        rate.take(number << REGION_SHIFT, 0)
    if not is_used:
        rate.take(site_of(B1), 0)
    return rate.take(site_of(X1), 0)


def told_in_one_region(granted: int, *, is_used: bool, key: int) -> bool | None:
    """The same of a stranger whose /48s are in the /32 of the peer, by what it is answered.

    Returns:
        None if the stranger was not answered that often before.
    """
    rate, region = Rate(ERRORS, key), site_of(B1) >> REGION_SHIFT << REGION_SHIFT
    others = ((number + 1) << REGION_SHIFT for number in itertools.count())
    permitted = 0
    while permitted < ERRORS.at_once // 2:
        permitted += rate.take(next(others), 0)
    own = (region + 0x100 + number % SHARES for number in range(ERRORS.at_once))
    answered = itertools.accumulate(int(rate.take(one, 0)) for one in own)
    if granted and granted not in answered:
        return None
    if not is_used:
        rate.take(site_of(B1), 0)
    return rate.take(region + 0x77, 0)


def test_a_share_of_a_region_that_is_used_up_tells_little_of_a_label() -> None:
    keys = [Random(seed).getrandbits(64) | 1 for seed in range(400)]
    seen: set[float] = set()
    for granted in range(ERRORS.at_once // SHARES):
        chances = []
        for is_used in (True, False):
            told = [told_in_one_region(granted, is_used=is_used, key=key) for key in keys]
            known = [one for one in told if one is not None]
            chances.append(sum(known) / len(known))
        seen.add(chances[0])
        assert abs(chances[0] - chances[1]) < 0.15, granted
    assert max(seen) > 0.9
    assert min(seen) < 0.1, "the share was used up"


def test_a_total_that_is_used_up_tells_little_of_a_label() -> None:
    keys = [Random(seed).getrandbits(64) | 1 for seed in range(200)]
    seen: set[float] = set()
    for fill in range(ERRORS.at_once // 4 - 1, 2 * ERRORS.at_once, 25):
        chances = [
            sum(told_of_a_label(fill, is_used=used, key=key) for key in keys) / len(keys)
            for used in (True, False)
        ]
        seen.add(chances[0])
        assert abs(chances[0] - chances[1]) < 0.15
    assert max(seen) == 1
    assert min(seen) < 0.5, "the total was used up"
