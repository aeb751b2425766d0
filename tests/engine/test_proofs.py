# SPDX-License-Identifier: MIT
"""A question for a proof of the pair in use proves both ends, and so one is enough [D41]."""

from collections import Counter

from noid.constants import QUESTION_WAIT, SECOND, UNPROVEN_TIME
from noid.engine.state import Path
from noid.flows.events import LongUnproven, UnansweredPacket
from noid.wire import ipv6
from noid.wire.control import Code
from tests.engine.network import A1, B1, DELAY_NS, Network, Station, established, packet

GAP_NS = SECOND // 10
CODE_AT = ipv6.HEADER_OCTETS + 1


def talk(network: Network, duration_ns: int) -> Counter[Code]:
    """Both programs send all the time; returns the number of messages of each kind."""
    before = len(network.trace)
    until_ns = network.now_ns + duration_ns
    while network.now_ns < until_ns:
        network.ulp_sends(network.a, packet(A1, B1, b"question"))
        network.ulp_sends(network.b, packet(B1, A1, b"answer"))
        network.run(GAP_NS)
    control = [one for one in network.trace[before:] if one[1:4] == bytes(3) and one[CODE_AT] <= 10]
    return Counter(Code(one[CODE_AT]) for one in control if one[ipv6.HEADER_OCTETS] == 200)


def suspect(network: Network, station: Station) -> None:
    network.give(station, LongUnproven(station.context.local_label))


def quiet() -> Network:
    """A network both of whose ends have proven themselves to each other, and are silent now."""
    network = established()
    talk(network, 2 * UNPROVEN_TIME)
    network.run(2 * UNPROVEN_TIME)
    return network


def test_one_question_and_its_answer_prove_both_ends() -> None:
    network = quiet()
    said = talk(network, 10 * UNPROVEN_TIME)
    assert 8 <= said[Code.UR] <= 11
    assert said[Code.UA] == said[Code.UR]


def test_the_end_with_the_greater_aid_waits_for_the_question_of_the_other() -> None:
    network = quiet()
    suspect(network, network.b)
    before = network.b.context.update_nonce
    suspect(network, network.a)
    network.run(2 * DELAY_NS + 1)
    assert network.b.context.path is Path.STEADY
    network.run(2 * QUESTION_WAIT)
    assert network.b.context.update_nonce == before


def test_it_asks_by_itself_if_none_comes() -> None:
    network = quiet()
    before = network.b.context.update_nonce
    suspect(network, network.b)
    network.run(QUESTION_WAIT + 1)
    assert network.b.context.update_nonce == before + 1
    network.run(2 * DELAY_NS)
    assert network.b.context.path is Path.STEADY


def test_it_asks_at_once_if_data_is_unanswered() -> None:
    network = quiet()
    before = network.b.context.update_nonce
    suspect(network, network.b)
    sent = packet(B1, A1, b"unanswered")
    network.give(network.b, UnansweredPacket(network.b.context.local_label, sent, GAP_NS))
    assert network.b.context.update_nonce == before + 1
