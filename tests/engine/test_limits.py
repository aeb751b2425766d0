# SPDX-License-Identifier: MIT
"""Every limit of the engine has a name, and is reached here or in the test of what it limits."""

import ast
import itertools
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from random import Random

import pytest

import noid
from noid.constants import (
    CC_AMPLIFICATION_MAX,
    CC_RATE_PER_SECOND,
    CCR_TRIES_MAX,
    CONTEXT_IDLE_TIME,
    CONTEXTS_MAX,
    CONTROL_OCTETS_MAX,
    ERROR_RATE_PER_SECOND,
    INIT_ROUNDS_MAX,
    LOCATORS_MAX,
    MILLISECOND,
    MINUTE,
    MTU_MIN,
    PREFIX_ERROR_RATE_PER_SECOND,
    PREFIX_OCTETS,
    PREFIX_RATE_PER_SECOND,
    PROBES_PER_ROUND_MAX,
    RETRANSMIT_WAITING,
    SECOND,
    SILENCE_MAX,
    SILENCE_MIN,
    SILENCE_UNMEASURED,
    SOURCES_MAX,
    UPDATE_RETRANSMIT_FIRST,
)
from noid.engine import update
from noid.engine.causes import Cause
from noid.engine.core import Core
from noid.engine.events import (
    LocatorsChanged,
    PeerResolved,
    PeerUnable,
    ProbeStarted,
    SendControl,
    SourceNotCovered,
)
from noid.engine.history import History
from noid.engine.options import HostOptions
from noid.engine.unknown import QUOTE_OCTETS_MAX
from noid.engine.update import (
    ENTRIES_KEPT_MAX,
    FRAMES_KEPT_MAX,
    own_entries,
    request,
    short_message,
)
from noid.flows.events import (
    ControlMessageReceived,
    UlpPacketSeen,
    UnansweredPacket,
    UnknownLabelSeen,
)
from noid.identifiers import Label, Nonce, Token
from noid.locators import Locator, parse_locator
from noid.shares.policy import CHECKS, ERRORS
from noid.shares.rates import PLACES
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, encode_packet
from noid.wire.options import ContextOption, LocatorEntry, LocatorFlag, Tokens
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    STRANGER,
    X1,
    Network,
    Station,
    begun,
    established,
    packet,
)

SOURCE = Path(noid.__file__).parent
LIMITING = (
    *("constants.py", "control/schema.py", "control/server.py", "dns/verification.py"),
    "engine/*.py",
)
ENDINGS = ("_MAX", "_MIN", "_TIME", "_LIFETIME", "_BURST", "_PER_SECOND", "_BUCKETS", "_WAITING")
A3 = parse_locator("2001:db8:3:a::a")


def mentioned(names: set[str], paths: Iterable[Path]) -> set[str]:
    """Those names that the code of files mentions."""
    found: set[str] = set()
    for path in paths:
        text = path.read_text()
        if any(name in text for name in names - found):
            nodes = ast.walk(ast.parse(text))
            found |= names.intersection(one.id for one in nodes if isinstance(one, ast.Name))
    return found


def limits() -> set[str]:
    """Names of numbers that the code of another file, or of their own, obeys."""
    found: set[str] = set()
    for path in (path for pattern in LIMITING for path in SOURCE.glob(pattern)):
        for node in ast.parse(path.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            targets += [node.target] if isinstance(node, ast.AnnAssign) else []
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            found |= {name for name in names if name.endswith(ENDINGS)}
    code = SOURCE.rglob("*.py")
    obeying = (one for one in code if one.name != "constants.py" and "lab" not in one.parts)
    return mentioned(found, obeying)


LIMITS = limits()


@cache
def named_by_tests() -> set[str]:
    """Those that a test names."""
    return mentioned(LIMITS, Path(__file__).parent.parent.rglob("test_*.py"))


@pytest.mark.parametrize("limit", sorted(LIMITS))
def test_a_limit_that_is_obeyed_is_named_by_a_test(limit: str) -> None:
    assert limit in named_by_tests(), f"{limit} has no test that reaches it"


# --- setting up -----------------------------------------------------------------------------------


def codes_sent(station: Station) -> list[int]:
    """The codes of the control messages a station sent."""
    return [one.packet[41] for one in station.outputs if isinstance(one, SendControl)]


def test_while_a_packet_waits_the_next_pair_is_tried_soon() -> None:
    network = begun()
    deadline = network.a.host.deadline()
    assert deadline is not None
    assert deadline.at_ns == network.now_ns + RETRANSMIT_WAITING


def test_the_first_repetition_of_an_update_comes_soon() -> None:
    network = established()
    network.dead |= {(one, other) for one in (A1, A2) for other in (B1, B2)}
    network.give(network.a, LocatorsChanged((A1,)))
    deadline = network.a.host.deadline()
    assert deadline is not None
    wait_ns = deadline.at_ns - network.now_ns
    assert UPDATE_RETRANSMIT_FIRST // 2 <= wait_ns <= UPDATE_RETRANSMIT_FIRST * 3 // 2


def lose(network: Network, code: Code, duration_ns: int) -> None:
    """Lets time pass in a network that swallows one kind of message."""
    until_ns = network.now_ns + duration_ns
    while network.now_ns < until_ns:
        kept = [one for one in network.wire if one[1][6] == ipv6.TCP or one[1][41] != code]
        network.wire.clear()
        network.wire.extend(kept)
        network.run(5 * MILLISECOND)


def test_after_the_last_ccr_the_exchange_restarts_with_init() -> None:
    network = begun()
    lose(network, Code.CONF, 60 * SECOND)
    codes = codes_sent(network.a)
    first = codes.index(Code.CCR)
    again = codes.index(Code.INIT, first)
    assert codes[first:again] == [Code.CCR] * CCR_TRIES_MAX


@pytest.mark.slow
def test_a_peer_that_never_answers_ccr_is_abandoned_after_the_idle_time() -> None:
    network = begun()
    lose(network, Code.CCR, CONTEXT_IDLE_TIME + MINUTE)
    assert network.a.host.contexts == []
    assert PeerUnable(B1, Cause.NO_ANSWER_TO_INIT) in network.a.outputs
    assert codes_sent(network.a).count(Code.INIT) > 2 * INIT_ROUNDS_MAX


# --- tables ---------------------------------------------------------------------------------------


def core(contexts_max: int = CONTEXTS_MAX) -> Core:
    options = HostOptions(
        codepoints=CODEPOINTS, birthday=0, reset_key=bytes(32), contexts_max=contexts_max
    )
    return Core(options, Random(1).randbytes)


def numbered(number: int) -> Locator:
    """A locator of a prefix of its own."""
    return Locator(b"\x20\x01" + number.to_bytes(4, "big") + bytes(9) + b"\x01")


def region(number: int) -> Locator:
    """A locator of a /32 of its own."""
    return Locator((0x2000_0000 + number).to_bytes(4, "big") + bytes(11) + b"\x01")


def test_a_set_has_no_more_locators_than_it_may() -> None:
    network = Network()
    many = tuple(numbered(number) for number in range(LOCATORS_MAX + 1))
    network.give(network.a, LocatorsChanged(many))
    assert network.a.host.core.locators == many[:-1]
    network.give(network.a, PeerResolved("many.example", many[-1], many))
    assert network.a.host.core.peers[many[-1]].locators == (many[-1], *many[: LOCATORS_MAX - 1])
    network.ulp_sends(network.a, packet(many[0], many[-1]))
    network.give(network.a, LocatorsChanged(many[1:]))
    assert len(network.a.context.own_local) == LOCATORS_MAX


def test_the_answer_to_the_smallest_init_is_limited_to_a_multiple_of_its_length() -> None:
    network = Network()
    network.give(network.b, LocatorsChanged((B1, *map(numbered, range(LOCATORS_MAX)))))
    init = ControlMessage(
        code=Code.INIT,
        nonce=Nonce(1),
        sender_aid=A1,
        receiver_aid=B1,
        context=ContextOption(sender_label=Label(1)),
        tokens=Tokens(sender=Token(1)),
        key=STRANGER.public,
        sender_locators=(LocatorEntry(A1, LocatorFlag.LOCAL),),
        receiver_locators=(LocatorEntry(B1, LocatorFlag.REMOTE),),
    )
    question = encode_packet(init, A1, B1, CODEPOINTS)
    event = ControlMessageReceived(A1, B1, False, question[ipv6.HEADER_OCTETS :])
    (answer,) = network.give(network.b, event)
    assert isinstance(answer, SendControl)
    assert len(answer.packet) <= CC_AMPLIFICATION_MAX * len(question)


# --- rates ----------------------------------------------------------------------------------------


def test_unknown_contexts_are_told_at_their_rate_once_the_burst_is_gone() -> None:
    network = Network()
    data = established().a.rewriter.outbound(
        packet(A1, B1), established().a.rewriter.by_aids[A1 + B1]
    )

    def answers(count: int) -> int:
        outputs = [network.give(network.b, UnknownLabelSeen(data)) for _ in range(count)]
        return sum(isinstance(one, SendControl) for each in outputs for one in each)

    first = answers(10 * ERRORS.each_at_once)
    assert ERRORS.each_at_once // 2 < first <= ERRORS.each_at_once
    network.now_ns += SECOND
    later = answers(10 * ERRORS.each_at_once)
    assert 0 < later <= ERRORS.each_at_once - first + PREFIX_ERROR_RATE_PER_SECOND


def test_unknown_contexts_of_all_prefixes_are_told_at_the_total_rate() -> None:
    host = core()
    sources = [region(number) for number in range(2 * ERRORS.at_once)]
    first = sum(host.may_answer(source, host.errors) for source in sources)
    assert ERRORS.at_once // 2 < first <= ERRORS.at_once
    host.now_ns += SECOND
    later = sum(host.may_answer(source, host.errors) for source in sources)
    assert 0 < later <= ERRORS.at_once - first + ERROR_RATE_PER_SECOND


def test_one_prefix_gets_its_rate_whatever_the_total() -> None:
    host = core()
    total = host.checks
    sources = [Locator(X1[:PREFIX_OCTETS] + bytes(9) + bytes((n % 256,))) for n in range(1000)]
    assert sum(host.may_answer(source, total) for source in sources) == CHECKS.each_at_once
    host.now_ns += SECOND
    assert sum(host.may_answer(source, total) for source in sources) == PREFIX_RATE_PER_SECOND


def test_prefixes_share_so_many_places() -> None:
    host = core()
    for number in range(8 * PLACES):
        host.may_answer(region(number), host.checks)
    assert PLACES // 2 < len(host.checks) <= 2 * PLACES


@pytest.mark.slow
def test_all_prefixes_together_get_no_more_than_the_total() -> None:
    host = core()
    sources = [region(number) for number in range(2 * CHECKS.at_once)]
    assert sum(host.may_answer(source, host.checks) for source in sources) == CHECKS.at_once
    host.now_ns += SECOND
    assert sum(host.may_answer(source, host.checks) for source in sources) == CC_RATE_PER_SECOND


# --- silence and searches -------------------------------------------------------------------------


def silence(station: Station, payload: bytes = b"unanswered") -> UnansweredPacket:
    """What a data plane says of a packet that went unanswered too long."""
    context = station.context
    one = packet(context.local_aid, context.peer_aid, payload)
    return UnansweredPacket(context.local_label, one, context.silence_ns)


@pytest.mark.parametrize(
    ("round_trip_ns", "silence_ns"),
    [
        (0, SILENCE_UNMEASURED),
        (1, SILENCE_MIN),
        (SILENCE_MIN, 2 * SILENCE_MIN),
        (SILENCE_MAX, SILENCE_MAX),
    ],
)
def test_silence_is_twice_the_round_trip_within_bounds(round_trip_ns: int, silence_ns: int) -> None:
    context = established().a.context
    context.note(context.pair, History(round_trip_ns=round_trip_ns))
    assert context.silence_ns == silence_ns


def with_six_pairs() -> Network:
    """A network in which b has six pairs of locators to a."""
    network = Network()
    network.names[network.a.name].append(A3)
    network.reverse[A3] = network.a.name
    network.a.locators = (A1, A2, A3)
    network.give(network.a, LocatorsChanged(network.a.locators))
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    network.run(SECOND)
    assert len(network.b.context.peer_verified) * len(network.b.context.own_set) == 6
    return network


def test_so_many_other_pairs_are_probed_at_one_time() -> None:
    network = with_six_pairs()
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    (started,) = [one for one in network.b.outputs if isinstance(one, ProbeStarted)]
    assert len(started.pairs) == 1 + PROBES_PER_ROUND_MAX


# --- octets ---------------------------------------------------------------------------------------


def test_no_uplink_has_less_than_the_least_mtu() -> None:
    HostOptions(codepoints=CODEPOINTS, birthday=0, reset_key=bytes(32), mtu=MTU_MIN)
    with pytest.raises(AssertionError):
        HostOptions(codepoints=CODEPOINTS, birthday=0, reset_key=bytes(32), mtu=MTU_MIN - 1)


@pytest.mark.parametrize(("beyond", "rides"), [(0, True), (1, False)])
def test_a_packet_rides_on_a_message_only_if_both_fit_the_mtu(beyond: int, rides: bool) -> None:
    network = established()
    core, context = network.b.host.core, network.b.context
    bare = len(request(core, context, Nonce(1)))
    room = core.options.mtu - ipv6.HEADER_OCTETS - bare
    octets = request(core, context, Nonce(1), packet=packet(B1, A1, bytes(room + beyond)))
    assert len(octets) == (bare + room if rides else bare)


def test_a_quote_is_cut_so_that_the_message_fits_the_least_mtu() -> None:
    network = Network()
    a = established().a
    data = a.rewriter.outbound(packet(A1, B1, bytes(1400)), a.rewriter.by_aids[A1 + B1])
    network.give(network.b, UnknownLabelSeen(data))
    (answer,) = [one for one in network.b.outputs if isinstance(one, SendControl)]
    assert len(answer.packet) == CONTROL_OCTETS_MAX
    assert answer.packet.endswith(data[:QUOTE_OCTETS_MAX])


def test_the_recorded_sources_that_are_not_locators_are_limited() -> None:
    network = established()
    sources = [Locator(X1[:14] + number.to_bytes(2)) for number in range(SOURCES_MAX + 1)]
    outputs = [network.give(network.a, UlpPacketSeen(packet(one, B1))) for one in sources]
    assert outputs[:-1] == [[SourceNotCovered(one, B1)] for one in sources[:-1]]
    assert outputs[-1] == []
    assert network.a.host.uncovered == tuple(sources[:-1])


def test_the_number_of_cached_locator_sets_is_limited() -> None:
    network = established()
    context = network.a.context
    for number in range(ENTRIES_KEPT_MAX + 10):
        context.own_local = (A1, Locator(A2[:-2] + number.to_bytes(2, "big")))
        assert [one.locator for one in own_entries(context)] == list(context.own_local)
    assert update._entries.cache_info().currsize == ENTRIES_KEPT_MAX


def test_the_number_of_cached_frames_is_limited() -> None:
    network = established()
    context, core = network.a.context, network.a.host.core
    code_points = itertools.product((Code.UA, Code.CLOSE), range(FRAMES_KEPT_MAX))
    for code, number in code_points:
        context.local_label = Label(number + 1)
        short_message(core, context, code, Nonce(1))
    assert update._frame.cache_info().currsize == FRAMES_KEPT_MAX
