# SPDX-License-Identifier: MIT
"""The entry point: takes one event, returns the outputs that it causes.

``Host.handle(event, now_ns)`` and ``Host.deadline()`` drive a host. It has no clock, randomness,
socket or log. Nothing from the network makes it raise: a message is answered, applied, or dropped
and counted.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from operator import attrgetter
from typing import assert_never

from noid.constants import CONTEXTS_PER_TURN, LOCATORS_MAX, TIMERS_PER_TURN
from noid.counters import Drop
from noid.dns.records import canonical_name
from noid.engine import (
    adoption,
    announcing,
    at_aid,
    close,
    following,
    handshake,
    keepalives,
    loss,
    measuring,
    peers,
    reachability,
    renewing,
    responder,
    selection,
    switching,
    tolerance,
    trial,
    unknown,
    verifying,
    widening,
)
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import (
    AnswerArrived,
    ContextRestored,
    DataHasCome,
    Deadline,
    IdleChecked,
    Input,
    LocatorsChanged,
    MeasurePairs,
    Output,
    PeerResolved,
    PolicyChanged,
    TimePassed,
)
from noid.engine.inspection import Inspection
from noid.engine.options import HostOptions
from noid.engine.own import pinned
from noid.engine.records import ContextRecord
from noid.engine.secrets import Entropy
from noid.engine.state import State, Timer, Trigger
from noid.errors import WireError
from noid.flows.events import (
    ControlMessageReceived,
    DatapathEvent,
    IcmpErrorReceived,
    LongPacketLost,
    LongUnproven,
    OneWayDataSeen,
    PacketHeld,
    SourceMoved,
    UlpPacketSeen,
    UnansweredPacket,
    UnknownLabelSeen,
    UnknownPeerSeen,
)
from noid.identifiers import Label
from noid.locators import Locator
from noid.shares.policy import Standing
from noid.wire.control import Code, ControlMessage, decode_message

OF_CODE: dict[Code, Callable[[Core, ControlMessageReceived, ControlMessage], None]] = {
    Code.INIT: responder.on_init,
    Code.CC: handshake.on_cc,
    Code.CCR: responder.on_ccr,
    Code.CONF: handshake.on_conf,
    Code.UR: reachability.on_ur,
    Code.UA: reachability.on_ua,
    Code.UC: loss.on_uc,
    Code.CLOSE: close.on_close,
    Code.CLOSEACK: close.on_closeack,
    Code.KEEPALIVE: keepalives.on_keepalive,
}
"""The function for each message."""
OF_TIMER: dict[Timer, Callable[[Core, Context], None]] = {
    Timer.RETRANSMIT: handshake.on_retransmit,
    Timer.PROBE: following.on_probe_timer,
    Timer.BETTER: reachability.on_better_timer,
    Timer.TOLERANCE: tolerance.on_tolerance_timer,
    Timer.IDLE: close.on_idle_timer,
    Timer.CLOSE: close.on_close_timer,
    Timer.TRIAL: trial.on_timer,
    Timer.PROVISIONAL: verifying.on_provisional_timer,
    Timer.AID: at_aid.on_timer,
    Timer.REPEAT: switching.on_repeat_timer,
    Timer.LONGER: widening.on_timer,
    Timer.DNS_RETRY: verifying.on_retry,
    Timer.VERIFY_AGAIN: verifying.on_verify_again,
}
"""The function for each timer that expires."""


class Host:
    """The M6 protocol of one host.

    Args:
        options: what does not change while it runs.
        entropy: returns as many random octets as asked for.
    """

    def __init__(self, options: HostOptions, entropy: Entropy) -> None:
        self.core = Core(options, entropy)

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        """Takes one event.

        Args:
            event: what happened.
            now_ns: when, by a monotonic clock; never less than the time before.

        Returns:
            What to do about it, in order.
        """
        core = self.core
        assert now_ns >= core.now_ns, "time goes back"
        core.now_ns = now_ns
        self._dispatch(event)
        outputs, core.outputs = core.outputs, []
        return outputs

    def deadline(self) -> Deadline | None:
        """When ``TimePassed`` is due next, and for what; at once if work is left."""
        if self.core.outdated:
            return Deadline(self.core.now_ns, Trigger.LOCATORS_CHANGED.value)
        upcoming = self.core.next_timer()
        retries = self.core.retries
        if retries and (upcoming is None or retries[0][0] <= upcoming[0]):
            return Deadline(retries[0][0], "unable peer")
        return None if upcoming is None else Deadline(upcoming[0], upcoming[1][1].value)

    @property
    def options(self) -> HostOptions:
        """The options that it was created with."""
        return self.core.options

    @property
    def contexts(self) -> list[Context]:
        """Every context; not to be changed."""
        return list(self.core.labels.values())

    @property
    def context_count(self) -> int:
        """The number of all contexts."""
        return len(self.core.labels)

    @property
    def counts_by_state(self) -> Counter[State]:
        """The number of contexts in each state, in a few milliseconds for 100,000."""
        return Counter(map(attrgetter("state"), self.core.labels.values()))

    @property
    def counts_by_locator(self) -> Counter[Locator]:
        """The number of contexts that use each locator of ours, as fast."""
        return Counter(map(attrgetter("local_locator"), self.core.labels.values()))

    def contexts_from(self, start: int, count: int) -> list[Context]:
        """As many contexts in the order of their creation; no others are copied.

        Args:
            start: the position of the first, from 0.
            count: how many; fewer are returned if there are no more.
        """
        return list(islice(self.core.labels.values(), start, start + count))

    def context(self, local_label: Label) -> Context | None:
        """The context with a label of ours, if there is one."""
        return self.core.labels.get(local_label)

    def context_between(self, local_aid: Locator, peer_aid: Locator) -> Context | None:
        """The context that packets of the ULP between two AIDs find, if there is one."""
        return self.core.contexts.get(local_aid + peer_aid)

    @property
    def inspection(self) -> Inspection:
        """The tables of the host, for simulators, benches and tests."""
        return Inspection(self.core)

    def belongs_to_another(self, name: str, aid: Locator) -> bool:
        """Whether the DNS proved that an address in a name belongs to another name [D33]."""
        return peers.confirmed_name(self.core, aid) not in ("", canonical_name(name))

    def bypasses(self, name: str, aid: Locator) -> bool:
        """Whether the operator wants to reach a peer as without M6."""
        return self.core.bypasses(aid) or self.core.policy.names_it(canonical_name(name))

    def working(self, locators: Sequence[Locator]) -> tuple[Locator, ...]:
        """The locators of a peer at which a connection can probably start, by weight [D24].

        An AID that did not answer by M6 may be dead and is left out if there are others [D49].

        Returns:
            Each locator as often as its weight.
        """
        able = [one for one in locators if not self.core.is_unable(one)]
        contexts = list(self._contexts_at(locators))
        kept = selection.working(contexts, able or locators)
        return tuple(one for one in kept for _ in range(selection.weight(contexts, one)))

    def answering(self, locators: Sequence[Locator]) -> tuple[Locator, ...]:
        """The locators of a peer at which it is known to answer by M6 now [D49]."""
        return selection.answering(self._contexts_at(locators))

    def _contexts_at(self, locators: Sequence[Locator]) -> Iterator[Context]:
        found = (
            self.core.contexts.get(own + aid) for aid in locators for own in self.core.locators
        )
        return filter(None, found)

    def pinned(self, aid: Locator) -> frozenset[Locator]:
        """Our locators on the uplink to which a peer is pinned; empty if it is not pinned."""
        core = self.core
        return pinned(core.own, aid, peers.name_of(core, aid)) if core.own.pins else frozenset()

    def memory_of(self, local_label: Label) -> ContextRecord | None:
        """What the next daemon needs of a context; None if it needs nothing [D36]."""
        context = self.core.labels.get(local_label)
        return None if context is None else adoption.remember(context)

    @property
    def uncovered(self) -> tuple[Locator, ...]:
        """Addresses that are not locators and from which programs send to M6 peers."""
        return tuple(self.core.uncovered)

    @property
    def drops(self) -> dict[Drop, int]:
        """The number of packets and messages without effect, by reason."""
        return dict(self.core.drops)

    @property
    def shares(self) -> list[Standing]:
        """The largest users of each table and rate that sources share [D46]."""
        core = self.core
        return [
            one.standing
            for one in (
                *(core.begun_by_peers, core.begun_here, core.resolved, core.provisional),
                *(core.checks, core.errors),
            )
        ]

    def _dispatch(self, event: Input) -> None:
        core = self.core
        match event:
            case TimePassed():
                self._time_passed()
            case PeerResolved():
                peers.on_resolved(core, event)
            case AnswerArrived():
                peers.on_answer(core, event)
                verifying.on_answer(core, event)
            case LocatorsChanged():
                self._locators_changed(event)
            case PolicyChanged():
                peers.on_policy_changed(core, event)
            case IdleChecked():
                close.on_idle_checked(core, event)
                verifying.on_use_checked(core, event)
            case DataHasCome():
                keepalives.on_data_has_come(core, event)
            case ContextRestored():
                adoption.on_context_found(core, event)
            case MeasurePairs():
                measuring.on_measure_pairs(core, event)
            case _:
                self._datapath(event)

    def _datapath(self, event: DatapathEvent) -> None:
        core = self.core
        match event:
            case ControlMessageReceived():
                self._control(event)
            case UlpPacketSeen():
                handshake.on_ulp_packet(core, event)
                reachability.on_plain_packet(core, event)
            case UnansweredPacket():
                self._renew([event.local_label])
                reachability.on_unanswered(core, event)
            case LongUnproven():
                reachability.on_long_unproven(core, event)
            case LongPacketLost():
                reachability.on_long_lost(core, event)
            case OneWayDataSeen():
                keepalives.on_one_way_data(core, event)
            case SourceMoved():
                following.on_source_moved(core, event)
            case PacketHeld():
                announcing.on_packet_held(core, event)
            case UnknownLabelSeen():
                unknown.on_unknown_label(core, event)
            case UnknownPeerSeen():
                peers.on_unknown_peer(core, event)
            case IcmpErrorReceived():
                loss.on_icmp_error(core, event)
            case _:
                assert_never(event)

    def _control(self, event: ControlMessageReceived) -> None:
        core = self.core
        if not core.is_another_host(event.source):
            core.drop(Drop.SOURCE_OF_NO_OTHER_HOST)
            return
        try:
            message = decode_message(
                event.octets, event.source, event.destination, in_slot=event.in_slot
            )
        except WireError as error:
            core.drop(error.drop, error.reason)
            return
        OF_CODE[message.code](core, event, message)

    def _locators_changed(self, event: LocatorsChanged) -> None:
        """The host's own sets have changed; each peer gets an update [draft §4.5].

        With very many contexts this takes seconds. Therefore contexts are processed in batches,
        with other events in between, and contexts that lose packets are processed first.
        """
        core = self.core
        core.own = replace(event, locators=event.locators[:LOCATORS_MAX])
        core.uncovered = {one: None for one in core.uncovered if one not in core.locators}
        core.own_sets.clear()
        core.outdated = dict.fromkeys(core.labels)
        self._renew_some()

    def _renew_some(self) -> None:
        """Gives the next batch of contexts the new locators."""
        if self.core.outdated:
            self._renew(list(islice(self.core.outdated, CONTEXTS_PER_TURN)))

    def _renew(self, labels: Sequence[Label]) -> None:
        """Gives these contexts the new locators, if they do not have them yet."""
        core = self.core
        for label in labels:
            if label in core.outdated:
                del core.outdated[label]
                if label in core.labels:
                    renewing.renew(core, core.labels[label], Trigger.LOCATORS_CHANGED)

    def _time_passed(self) -> None:
        core = self.core
        self._renew_some()
        core.keys.forget(core.now_ns)
        peers.on_time(core)
        for _ in range(TIMERS_PER_TURN):
            upcoming = core.next_timer()
            if upcoming is None or upcoming[0] > core.now_ns:
                break
            context, timer = upcoming[1]
            core.stop_timer(context, timer)
            OF_TIMER[timer](core, context)
