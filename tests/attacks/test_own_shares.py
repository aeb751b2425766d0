# SPDX-License-Identifier: MIT
"""Messages that name a context have a share that neither strangers nor other contexts use up [D46].

Attacker: off the path, with any source, those of the peer's site too. Guaranteed: authentic
messages of a live context come through while what strangers may send in a second is used up.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from noid.constants import MILLISECOND, SECOND
from noid.counters import PlaneCounter
from noid.flows.clock import FlowClock
from noid.flows.events import ControlMessageReceived
from noid.flows.flow import Flow
from noid.flows.software import SoftwareDatapath
from noid.identifiers import Label, Nonce, Token
from noid.locators import Locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import TABLES
from noid.planes.bpf.loading import Programs
from noid.shares.policy import CONTROL, NAMED, SHARES
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, encode_packet
from noid.wire.options import HASH_OCTETS, ContextOption, LocatorEntry, LocatorFlag, Tokens
from tests.engine.network import A1, A2, B1, B2, CODEPOINTS, STRANGER, established
from tests.engine.test_reachability import silence
from tests.planes.loading import own, programs

__all__ = ["programs"]

REDIRECTED = 7
ETHERNET = bytes(12) + b"\x86\xdd"
ONE = Flow(
    local_aid=A1,
    peer_aid=B1,
    local_label=Label(7),
    peer_label=Label(8),
    local_locator=A1,
    peer_locator=B1,
    local_locators=frozenset({A1, A2}),
    peer_locators=frozenset({B1, B2}),
    verified_locators=frozenset({B1, B2}),
    rewritable=False,
    transmits=True,
    silence_ns=SECOND,
)
MANY = frozenset(Locator(B2[:15] + bytes((number,))) for number in range(16, 26))
LARGE = replace(ONE, local_label=Label(10), peer_locators=ONE.peer_locators | MANY)
NEIGHBOUR = Locator(B1[:15] + b"\x99")
OTHER = replace(
    ONE,
    local_label=Label(9),
    peer_aid=NEIGHBOUR,
    peer_locator=NEIGHBOUR,
    peer_locators=frozenset({NEIGHBOUR}),
    verified_locators=frozenset({NEIGHBOUR}),
)


def init(source: Locator, destination: Locator = A1, *, in_slot: bool = False) -> bytes:
    """A packet of a stranger: an INIT."""
    message = ControlMessage(
        code=Code.INIT,
        nonce=Nonce(1),
        sender_aid=source,
        receiver_aid=destination,
        context=ContextOption(sender_label=Label(5)),
        tokens=Tokens(sender=Token(1)),
        key=STRANGER.public,
        sender_locators=(LocatorEntry(source, LocatorFlag.LOCAL),),
        receiver_locators=(LocatorEntry(destination, LocatorFlag.REMOTE),),
    )
    return encode_packet(message, source, destination, CODEPOINTS, in_slot=in_slot)


def keepalive(flow: Flow, source: Locator, *, in_slot: bool = False) -> bytes:
    """A message that names the context of a flow, from any sender."""
    message = ControlMessage(
        code=Code.KEEPALIVE,
        nonce=Nonce(1),
        sender_aid=flow.peer_aid,
        receiver_aid=flow.local_aid,
        context=ContextOption(sender_label=flow.peer_label, receiver_label=flow.local_label),
        authentication=bytes(HASH_OCTETS),
    )
    return encode_packet(message, source, flow.local_aid, CODEPOINTS, in_slot=in_slot)


def spoofers(source: Locator) -> Iterator[Locator]:
    """Addresses of the site of an address, again and again."""
    for number in itertools.cycle(range(1, 1 << 16)):
        yield Locator(source[:6] + bytes(8) + number.to_bytes(2, "big"))


@pytest.mark.parametrize("in_slot", [False, True])
def test_spoofers_of_the_peers_sites_do_not_delay_the_failover(in_slot: bool) -> None:
    network = established()
    strangers = [spoofers(B1), spoofers(B2)]

    def flood(count: int) -> None:
        for spoofed in strangers:
            for _ in range(count):
                network.put(init(next(spoofed), in_slot=in_slot))

    flood(CONTROL.each)
    network.run(2 * MILLISECOND)
    network.kill_provider(1)
    network.give(network.a, silence(network.a))
    for _ in range(100):
        network.run(MILLISECOND)
        flood(4)
    assert network.a.context.pair == (A2, B2)
    assert network.a.datapath.counts[PlaneCounter.REFUSED_OVER_SHARE]


class Software:
    """The packet path in Python, and its clock that stands still."""

    def __init__(self) -> None:
        self.datapath = SoftwareDatapath(CODEPOINTS)

    def install(self, flow: Flow) -> None:
        self.datapath.install(flow)

    def has(self, one: bytes) -> bool:
        """Whether the engine is given a message."""
        (*effects,) = self.datapath.from_network(one, SECOND)
        return any(isinstance(one, ControlMessageReceived) for one in effects)

    has_first = has


class Kernel:
    """The programs in the kernel; of its sockets they say what these take."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.tables = {
            name: libbpf.Table(programs.maps[name], *sizes) for name, sizes in TABLES.items()
        }
        own(programs, A1)
        self.reported: list[bytes] = []
        self.ring = libbpf.Reports(programs.maps["reports"], self.reported.append)

    def install(self, flow: Flow) -> None:
        entry, more = layout.inbound_entries(flow, 0, FlowClock())
        self.tables["inbound"].put(layout.label_key(flow.local_label), entry)
        if more:
            self.tables["far"].put(layout.label_key(flow.local_label), more)

    def has(self, one: bytes) -> bool:
        """Whether the daemon is given a message."""
        return any(self._takers(one))

    def has_first(self, one: bytes) -> bool:
        """Whether the daemon is given a message before those of strangers."""
        return self._takers(one) == (True, False)

    def _takers(self, one: bytes) -> tuple[bool, bool]:
        """Whether a message goes where those of contexts go, and where those of strangers do."""
        if one[6] == ipv6.ICMPV6:
            filters = "host_named", "host_others"
            named, others = (self.programs.try_out(name, ETHERNET + one)[0] for name in filters)
            return named > 0, others > 0
        self.reported.clear()
        verdict, _ = self.programs.try_out("host_ingress", ETHERNET + one)
        self.ring.consume()
        for report in self.reported:
            assert report[layout.REPORT.size :][: len(one)] == one
        return bool(self.reported), verdict == REDIRECTED


@pytest.fixture
def kernel(programs: Programs) -> Iterator[Kernel]:
    found = Kernel(programs)
    yield found
    found.ring.close()


@pytest.fixture(params=["software", "kernel"])
def plane(request: pytest.FixtureRequest) -> Software | Kernel:
    if request.param == "software":
        return Software()
    found: Kernel = request.getfixturevalue("kernel")
    return found


def is_used_up(plane: Software | Kernel, flood: Iterator[bytes]) -> bool:
    """Whether a flood reaches a limit: on a slow machine a second may be over before."""
    return not all(plane.has(one) for one in itertools.islice(flood, 20 * CONTROL.each))


@pytest.mark.parametrize("in_slot", [False, True])
@pytest.mark.parametrize(("flow", "source"), [(ONE, B1), (ONE, B2), (LARGE, max(MANY))])
def test_a_context_has_a_share_besides_strangers_and_other_contexts(
    plane: Software | Kernel, flow: Flow, source: Locator, in_slot: bool
) -> None:
    for one in (flow, OTHER):
        plane.install(one)
    assert is_used_up(plane, (init(one, in_slot=in_slot) for one in spoofers(source)))
    if source == B1:
        message = keepalive(OTHER, NEIGHBOUR, in_slot=in_slot)
        assert is_used_up(plane, itertools.repeat(message)), "another context of the site"
    assert plane.has_first(keepalive(flow, source, in_slot=in_slot))


@pytest.mark.parametrize(
    ("flow", "source"),
    [
        pytest.param(replace(ONE, local_label=Label(11)), B1, id="another label"),
        pytest.param(replace(ONE, peer_aid=B2), B1, id="another AID"),
        pytest.param(ONE, NEIGHBOUR, id="a locator that the peer does not have"),
    ],
)
@pytest.mark.parametrize("in_slot", [False, True])
def test_what_does_not_name_a_context_has_no_such_share(
    plane: Software | Kernel, flow: Flow, source: Locator, in_slot: bool
) -> None:
    plane.install(ONE)
    message = keepalive(flow, source, in_slot=in_slot)
    assert is_used_up(plane, itertools.repeat(message))
    if isinstance(plane, Kernel):
        assert not plane.has_first(message)


def test_the_limits_in_c_are_those_of_the_policy() -> None:
    text = Path(layout.__file__).with_name("programs").joinpath("messages.h").read_text()
    numbers = dict(line.split()[1:3] for line in text.splitlines() if line.startswith("#define"))
    assert int(numbers["NAMED_PER_SECOND"]) == NAMED.each
    assert int(numbers["CONTROLS_PER_SECOND"]) == CONTROL.limit == SHARES * CONTROL.each
