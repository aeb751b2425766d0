# SPDX-License-Identifier: MIT
"""Two engines, a bad network and a moody DNS: whatever happens, these things hold.

The model is small: which packets were sent, and which locators the DNS proves. Everything else that
must hold is between the tables of the engines themselves.
"""

import dataclasses
from collections import deque

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from noid.constants import MILLISECOND, MINUTE, SECOND
from noid.engine.context import Context
from noid.engine.events import Input, LocatorsChanged, Output, PeerResolved
from noid.engine.host import Host
from noid.engine.state import TIMERS_OF, Path, State, Timer
from noid.flows.events import UnansweredPacket
from noid.flows.software import SoftwareDatapath
from noid.locators import Locator, parse_locator
from noid.wire import ipv6
from noid.wire.slots import slot_of
from tests.engine.network import A1, A2, B1, B2, CODEPOINTS, Network, Station, packet

A3, A4 = parse_locator("2001:db8:3:a::a"), parse_locator("2001:db8:4:a::a")
"""A3 is in the forward DNS alone, A4 in the reverse DNS alone: neither may ever get data."""
PROVEN = {"a": {A1, A2}, "b": {B1, B2}}
LOCATOR_SETS = {
    "a": [(A1, A2), (A2, A1), (A1,), (A1, A2, A3), (A1, A4), (A2,)],
    "b": [(B1, B2), (B2, B1), (B1,), (B2,)],
}
DURATIONS = [MILLISECOND, 10 * MILLISECOND, 15 * MILLISECOND, 300 * MILLISECOND]
DURATIONS += [SECOND, 10 * SECOND, MINUTE, 15 * MINUTE - SECOND, 20 * MINUTE]

sides = st.sampled_from(["a", "b"])
places = st.integers(0, 1000)


class World(Network):
    """The network, with the unsolicited reports of a data plane, and a record of the truth."""

    def __init__(self, seed: int) -> None:
        self.sent: dict[str, list[bytes]] = {"a": [], "b": []}
        self.known: dict[Context, Station] = {}
        self.dns_delay_ns = 0
        super().__init__(seed)
        self.names[self.a.name].append(A3)
        self.reverse[A4] = self.a.name

    def side(self, name: str) -> Station:
        return self.a if name == "a" else self.b

    def name_of(self, station: Station) -> str:
        return "a" if station is self.a else "b"

    def give(self, station: Station, event: Input) -> list[Output]:
        """Takes the DNS as much longer as it takes just now."""
        before = len(self.inquiries)
        outputs = super().give(station, event)
        inquiries = list(self.inquiries)
        late = [(at + self.dns_delay_ns, who, what) for at, who, what in inquiries[before:]]
        self.inquiries = deque(sorted(inquiries[:before] + late, key=lambda one: one[0]))
        return outputs

    def put(self, packet: bytes) -> None:
        """Looks at every packet that an end sends: data goes where the DNS says, or nowhere."""
        header = ipv6.Header.decode(packet)
        slot = slot_of(header.next_header, CODEPOINTS)
        if slot is not None and header.flow_label != 0:
            sender = self.a if header.source in {A1, A2, A3, A4} else self.b
            destination = header.destination
            assert destination in PROVEN["b" if sender is self.a else "a"]
            assert any(
                context.peer_label == header.flow_label
                and header.source in context.own_set
                and destination in context.peer_verified
                for context in sender.host.contexts
            )
        super().put(packet)

    def program_sends(self, name: str, pair: tuple[Locator, Locator]) -> bytes:
        """A packet no other is equal to."""
        number = sum(map(len, self.sent.values()))
        one = packet(*pair, f"packet {number}".encode())
        self.sent[name].append(one)
        self.ulp_sends(self.side(name), one)
        return one

    def forget_everything(self, station: Station) -> None:
        """The station comes up again without its contexts, one birthday later."""
        options = station.host.core.options
        options = dataclasses.replace(options, birthday=(options.birthday + 1) % (1 << 32))
        station.host = Host(options, station.random.randbytes)
        station.datapath = SoftwareDatapath(CODEPOINTS)
        for inquiry in [one for one in self.inquiries if one[1] is station]:
            self.inquiries.remove(inquiry)
        self.give(station, LocatorsChanged(station.locators))

    def change_locators(self, station: Station, locators: tuple[Locator, ...]) -> None:
        station.locators = locators
        self.give(station, LocatorsChanged(locators))


class TwoHosts(RuleBasedStateMachine):
    """What can happen, in any order."""

    world: World

    @initialize(seed=st.integers(0, 1000), acquainted=st.booleans())
    def begin(self, seed: int, acquainted: bool) -> None:
        self.world = World(seed)
        if acquainted:
            self.world.resolve(self.world.a, self.world.b)
            self.world.program_sends("a", (A1, B1))
            self.world.run(SECOND)

    @rule(side=sides, second=st.booleans())
    def a_program_resolves_the_peer(self, side: str, second: bool) -> None:
        station = self.world.side(side)
        peer = self.world.b if side == "a" else self.world.a
        locators = tuple(self.world.names[peer.name])
        self.world.give(station, PeerResolved(peer.name, locators[second], locators))

    @rule(side=sides, own=st.booleans(), other=st.booleans())
    def a_program_sends(self, side: str, own: bool, other: bool) -> None:
        ends = (A1, A2)[own], (B1, B2)[other]
        self.world.program_sends(side, ends if side == "a" else ends[::-1])

    @rule(side=sides, own=st.booleans(), other=st.booleans())
    def a_connection_begins(self, side: str, own: bool, other: bool) -> None:
        self.a_program_resolves_the_peer(side, other if side == "a" else own)
        self.a_program_sends(side, own, other)
        self.world.run(100 * MILLISECOND)

    @rule(side=sides, which=places)
    def a_silence_is_reported(self, side: str, which: int) -> None:
        station = self.world.side(side)
        flows = list(station.rewriter.by_label.values())
        if not flows:
            return
        flow = flows[which % len(flows)]
        ends = flow.local_aid + flow.peer_aid
        mine = [one for one in self.world.sent[side] if one[8:40] == ends]
        if mine and flow.transmits:
            event = UnansweredPacket(flow.local_label, mine[-1], 2 * flow.silence_ns)
            self.world.give(station, event)

    @rule(duration_ns=st.sampled_from(DURATIONS))
    def time_passes(self, duration_ns: int) -> None:
        self.world.run(duration_ns)

    @rule(which=places)
    def a_packet_is_lost(self, which: int) -> None:
        if self.world.wire:
            del self.world.wire[which % len(self.world.wire)]

    @rule(which=places)
    def a_packet_is_doubled(self, which: int) -> None:
        wire = self.world.wire
        if wire:
            wire.insert(which % len(wire), wire[which % len(wire)])

    @rule(which=places, other=places)
    def two_packets_overtake_each_other(self, which: int, other: int) -> None:
        wire = self.world.wire
        if wire:
            one, two = which % len(wire), other % len(wire)
            (one_ns, one_packet), (two_ns, two_packet) = wire[one], wire[two]
            wire[one], wire[two] = (one_ns, two_packet), (two_ns, one_packet)

    @rule(number=st.integers(1, 2))
    def a_provider_dies(self, number: int) -> None:
        self.world.kill_provider(number)

    @rule(own=st.booleans(), other=st.booleans(), back=st.booleans())
    def one_direction_of_a_pair_dies(self, own: bool, other: bool, back: bool) -> None:
        ends = (A1, A2)[own], (B1, B2)[other]
        self.world.dead.add(ends[::-1] if back else ends)

    @rule()
    def the_network_heals(self) -> None:
        self.world.dead.clear()

    @rule(works=st.booleans(), delay_ns=st.sampled_from([0, 100 * MILLISECOND, 3 * SECOND]))
    def the_dns_changes_its_mood(self, works: bool, delay_ns: int) -> None:
        self.world.dns_works = works
        self.world.dns_delay_ns = delay_ns

    @rule(side=sides, which=places)
    def locators_change(self, side: str, which: int) -> None:
        sets = LOCATOR_SETS[side]
        self.world.change_locators(self.world.side(side), sets[which % len(sets)])

    @rule(side=sides, in_use=st.booleans())
    def a_program_holds_a_connection_open(self, side: str, in_use: bool) -> None:
        self.world.side(side).in_use = in_use

    @rule(side=sides)
    def an_end_loses_its_contexts(self, side: str) -> None:
        self.world.forget_everything(self.world.side(side))

    @invariant()
    def what_is_delivered_was_sent(self) -> None:
        for name, other in (("a", "b"), ("b", "a")):
            station = self.world.side(name)
            while station.delivered:
                one = station.delivered.pop()
                assert any(one[6:] == sent[6:] for sent in self.world.sent[other])

    @invariant()
    def the_tables_agree(self) -> None:
        for station in self.world.stations:
            core = station.host.core
            aside = 0
            for label, context in core.labels.items():
                self.world.known[context] = station
                assert context.local_label == label
                is_aside = context.is_provisional or context.state is State.CLOSING
                assert (core.contexts.get(context.key) is context) is not is_aside
                aside += is_aside
                if context.peer_label:
                    assert core.by_peer_label[context.peer_label].count(context) == 1
                    assert station.rewriter.by_label[context.local_label].peer_label
            assert len(core.labels) == len(core.contexts) + aside
            known = [one for one in core.labels.values() if one.peer_label]
            assert sum(map(len, core.by_peer_label.values())) == len(known)
            assert all(core.by_peer_label.values())
            usable = [one for one in core.labels.values() if one.peer_label or one.announced]
            assert set(station.rewriter.by_label) == {one.local_label for one in usable}
            counted = {aid: count for aid, count in core.uses.items() if count}
            peers = [one.peer_aid for one in core.contexts.values()]
            assert counted == {aid: peers.count(aid) for aid in peers}

    @invariant()
    def timers_are_those_of_contexts_that_exist(self) -> None:
        for context, station in list(self.world.known.items()):
            core = station.host.core
            alive = core.labels.get(context.local_label) is context
            if not alive:
                assert not any(core.is_timer_set(context, timer) for timer in Timer)
                del self.world.known[context]
                continue
            for timer in set(Timer) - TIMERS_OF[context.state]:
                assert not core.is_timer_set(context, timer)
            waits = core.is_timer_set(context, Timer.RETRANSMIT)
            probes = core.is_timer_set(context, Timer.PROBE)
            if context.search is None:
                assert not probes
            elif not probes:
                assert context.path is Path.SEARCHING, "until a program wants a pair"
            if context.state is State.UR_SENT:
                assert waits
                assert context.update is not None
            else:
                assert waits == (context.exchange is not None)

    @invariant()
    def every_inquiry_is_under_way_or_to_be_tried_again(self) -> None:
        for station in self.world.stations:
            core = station.host.core
            asked = {question for _, asker, question in self.world.inquiries if asker is station}
            for context in core.labels.values():
                if context.state is State.CLOSING:
                    continue
                for question in context.verification.open:
                    assert context in core.questions[context.asked(question)]
                    assert context.asked(question) in asked
                if context.verification.failed:
                    assert core.is_timer_set(context, Timer.DNS_RETRY)

    def teardown(self) -> None:
        """The network heals, and everything must work again within minutes."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.dead.clear()
        world.dns_works = True
        world.dns_delay_ns = 0
        for name, station in (("a", world.a), ("b", world.b)):
            world.change_locators(station, LOCATOR_SETS[name][0])
        for side in ("a", "b"):
            self.a_program_resolves_the_peer(side, False)
            self.a_program_resolves_the_peer(side, True)
        for _ in range(20):
            self.everybody_sends()
            world.run(30 * SECOND)
            self.check()
        last = self.everybody_sends()
        for station in world.stations:
            station.delivered.clear()
        world.run(SECOND)
        arrived = {one[6:] for station in world.stations for one in station.delivered}
        assert {one[6:] for one in last} <= arrived
        self.check()

    def everybody_sends(self) -> list[bytes]:
        pairs = [(own, other) for own in (A1, A2) for other in (B1, B2)]
        there = [self.world.program_sends("a", pair) for pair in pairs]
        return there + [self.world.program_sends("b", pair[::-1]) for pair in pairs]

    def check(self) -> None:
        self.what_is_delivered_was_sent()
        self.the_tables_agree()
        self.timers_are_those_of_contexts_that_exist()
        self.every_inquiry_is_under_way_or_to_be_tried_again()


@pytest.mark.slow
def test_two_hosts_come_through_any_order_of_events() -> None:
    run_state_machine_as_test(
        TwoHosts,
        # What fails is reported as it was found: shrinking takes longer than a test may.
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),
        ),
    )
