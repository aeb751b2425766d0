# SPDX-License-Identifier: MIT
"""The front door: one event in, the outputs it causes out.

``Host.handle(event, now_ns)`` and ``Host.deadline()`` are all there is. The host has no clock,
randomness, socket or log; what arrives from the network never makes it raise: it is answered,
applied, or dropped and counted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import assert_never

from noid.constants import CONTEXTS_PER_TURN, LOCATORS_MAX, TIMERS_PER_TURN
from noid.counters import Drop
from noid.dns.records import canonical_name
from noid.engine import (
    adoption,
    announcing,
    close,
    following,
    handshake,
    keepalives,
    loss,
    measuring,
    peers,
    probing,
    reachability,
    responder,
    searching,
    selection,
    switching,
    trial,
    unknown,
    update,
    verifying,
)
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import (
    AnswerArrived,
    ContextRecord,
    ContextRestored,
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
from noid.engine.options import HostOptions
from noid.engine.own import marks
from noid.engine.secrets import Entropy
from noid.engine.state import Timer, Trigger
from noid.errors import WireError
from noid.flows.events import (
    ControlMessageReceived,
    DatapathEvent,
    IcmpErrorReceived,
    LongUnproven,
    OneWayDataSeen,
    PacketHeld,
    SourceMoved,
    UlpPacketSeen,
    UnansweredPacket,
    UnknownLabelSeen,
    UnknownPeerSeen,
)
from noid.locators import Locator
from noid.shares.policy import Standing
from noid.wire.control import Code, ControlMessage, decode_message

TRIGGER_OF = {code: Trigger(code.name) for code in Code}
TRIGGER_OF_TIMER = {timer: Trigger(timer.value) for timer in Timer}
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
"""Who takes each message."""
OF_TIMER: dict[Timer, Callable[[Core, Context], None]] = {
    Timer.RETRANSMIT: handshake.on_retransmit,
    Timer.PROBE: following.on_probe_timer,
    Timer.BETTER: reachability.on_better_timer,
    Timer.TOLERANCE: searching.on_tolerance_timer,
    Timer.IDLE: close.on_idle_timer,
    Timer.CLOSE: close.on_close_timer,
    Timer.TRIAL: trial.on_timer,
    Timer.PROVISIONAL: verifying.on_provisional_timer,
    Timer.REPEAT: switching.on_repeat_timer,
    Timer.DNS_RETRY: verifying.on_retry,
    Timer.VERIFY_AGAIN: verifying.on_verify_again,
}
"""Who takes each timer that expires."""


class Host:
    """The M6 protocol of one host.

    Args:
        options: what the host is born with.
        entropy: so many random octets, each time it is asked.
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
        """When ``TimePassed`` is wanted next, and what for; at once if there is more to do."""
        if self.core.outdated:
            return Deadline(self.core.now_ns, Trigger.LOCATORS_CHANGED.value)
        upcoming = self.core.next_timer()
        retries = self.core.retries
        if retries and (upcoming is None or retries[0][0] <= upcoming[0]):
            return Deadline(retries[0][0], "unable peer")
        return None if upcoming is None else Deadline(upcoming[0], upcoming[1][1].value)

    @property
    def contexts(self) -> list[Context]:
        """Every context, for those who look; not to be changed."""
        return list(self.core.labels.values())

    def belongs_to_another(self, name: str, aid: Locator) -> bool:
        """Whether an address that a name lists is another name's, as the DNS proved [D33]."""
        return peers.confirmed_name(self.core, aid) not in ("", canonical_name(name))

    def bypasses(self, name: str, aid: Locator) -> bool:
        """Whether the operator wants a peer to be reached as without M6."""
        return self.core.bypasses(aid) or self.core.policy.names_it(canonical_name(name))

    def working(self, locators: Sequence[Locator]) -> tuple[Locator, ...]:
        """Those of a peer's locators at which a connection may well begin [D24].

        Not at an AID that did not answer by M6, and so may be dead, if there are others [D49].
        """
        able = [one for one in locators if not self.core.is_unable(one)]
        return selection.working(self._contexts_at(locators), able or locators)

    def answering(self, locators: Sequence[Locator]) -> tuple[Locator, ...]:
        """Those of a peer's locators at which it is known to answer by M6 now [D49]."""
        return selection.answering(self._contexts_at(locators))

    def _contexts_at(self, locators: Sequence[Locator]) -> Iterator[Context]:
        found = (
            self.core.contexts.get(own + aid) for aid in locators for own in self.core.locators
        )
        return filter(None, found)

    def memory_of(self, local_label: int) -> ContextRecord | None:
        """What is to be kept of a context for the next daemon; None where nothing is [D36]."""
        context = self.core.labels.get(local_label)
        return None if context is None else adoption.remember(context)

    @property
    def uncovered(self) -> tuple[Locator, ...]:
        """Addresses that programs send to M6 peers from and that are no locators."""
        return tuple(self.core.uncovered)

    @property
    def drops(self) -> dict[Drop, int]:
        """How much from the network had no effect, by reason."""
        return dict(self.core.drops)

    @property
    def shares(self) -> list[Standing]:
        """Who has most of what sources compete for [D46]."""
        core = self.core
        return [
            one.standing
            for one in (core.begun_by_peers, core.provisional, core.checks, core.errors)
        ]

    def _dispatch(self, event: Input) -> None:
        core = self.core
        match event:
            case TimePassed():
                self._time_passed()
            case PeerResolved():
                peers.on_resolved(core, event)
            case AnswerArrived():
                core.trigger = Trigger.DNS_ANSWER
                peers.on_answer(core, event)
                verifying.on_answer(core, event)
            case LocatorsChanged():
                self._locators_changed(event)
            case PolicyChanged():
                peers.on_policy_changed(core, event)
            case IdleChecked():
                core.trigger = Trigger.IDLE_CHECKED
                close.on_idle_checked(core, event)
                verifying.on_use_checked(core, event)
            case ContextRestored():
                core.trigger = Trigger.CONTEXT_FOUND
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
                core.trigger = Trigger.ULP_PACKET
                handshake.on_ulp_packet(core, event)
                reachability.on_plain_packet(core, event)
            case UnansweredPacket():
                self._renew([event.local_label])
                core.trigger = Trigger.UNANSWERED
                reachability.on_unanswered(core, event)
            case LongUnproven():
                core.trigger = Trigger.UNANSWERED
                reachability.on_long_unproven(core, event)
            case OneWayDataSeen():
                core.trigger = Trigger.ONE_WAY_DATA
                keepalives.on_one_way_data(core, event)
            case SourceMoved():
                core.trigger = Trigger.SOURCE_MOVED
                following.on_source_moved(core, event)
            case PacketHeld():
                core.trigger = Trigger.PACKET_HELD
                announcing.on_packet_held(core, event)
            case UnknownLabelSeen():
                unknown.on_unknown_label(core, event)
            case UnknownPeerSeen():
                peers.on_unknown_peer(core, event)
            case IcmpErrorReceived():
                core.trigger = Trigger.ICMP_ERROR
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
        core.trigger = TRIGGER_OF[message.code]
        OF_CODE[message.code](core, event, message)

    def _locators_changed(self, event: LocatorsChanged) -> None:
        """The host's own sets; each peer gets an update about the change [draft §4.5].

        With very many contexts that takes seconds. Therefore contexts are processed in batches,
        with other events in between, and those that lose packets come first.
        """
        core = self.core
        core.own = replace(event, locators=event.locators[:LOCATORS_MAX])
        core.uncovered = {one: None for one in core.uncovered if one not in core.locators}
        core.own_sets.clear()
        core.outdated = dict.fromkeys(core.labels)
        self._renew_some()

    def _renew_some(self) -> None:
        """Those contexts whose turn it is hear of a change of the host's locators."""
        if self.core.outdated:
            self._renew(list(islice(self.core.outdated, CONTEXTS_PER_TURN)))

    def _renew(self, labels: Sequence[int]) -> None:
        """These contexts hear of it now, if they have not yet."""
        core = self.core
        core.trigger = Trigger.LOCATORS_CHANGED
        for label in labels:
            if label in core.outdated:
                del core.outdated[label]
                if label in core.labels:
                    self._renew_own(core.labels[label])

    def _renew_own(self, context: Context) -> None:
        """Gives a context the locators that the host has now, and tells its peer of a change."""
        core = self.core
        own_local = core.shared(core.locators_with(context.local_aid))
        own_marks = marks(core.own, own_local)
        if set(own_local) == set(context.own_local) and set(own_marks) == set(context.own_marks):
            return
        context.own_local, context.own_marks = own_local, own_marks
        core.install(context)
        context.untold = True
        update.tell_untold(core, context)
        searching.leave(core, context, Cause.OWN_LOCATORS_BETTER)
        probing.resume(core, context)

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
            core.trigger = TRIGGER_OF_TIMER[timer]
            OF_TIMER[timer](core, context)
