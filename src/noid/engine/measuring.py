# SPDX-License-Identifier: MIT
"""Measurements of pairs for people and for the model of uplinks, outside the protocol.

A request is an Update Request with unchanged sets, which every peer answers. The engine concludes
nothing from the answer: it learns about pairs only by its own requests, which a missing answer may
cause. It reports that the peer doubts a pair, since one direction of a path may fail alone, which
only one end notices.
"""

from noid.constants import MEASURED_PAIRS_MAX, MEASURED_TOGETHER
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import MeasurePairs, PairMeasured, PeerDoubts
from noid.engine.history import Pair
from noid.engine.phases import Probe
from noid.engine.searching import search
from noid.engine.update import next_nonce, request
from noid.identifiers import Nonce
from noid.locators import Locator
from noid.wire.control import NO_FLAGS, Flag


def on_measure_pairs(core: Core, event: MeasurePairs) -> None:
    """Sends one Update Request over each pair that data may take."""
    context = core.labels.get(event.local_label)
    if context is None or not context.is_settled:
        return
    if event.suspects:
        search(core, context, Cause.NOTHING_HEARD)
    flags = Flag.ANSWER_HERE if event.here else NO_FLAGS
    for pair in event.pairs:
        if pair[0] in context.own_set and context.is_verified(pair[1]):
            nonce = next_nonce(context)
            core.measured[context.local_label, nonce] = Probe(pair, core.now_ns, event.here)
            core.send_on(context, request(core, context, nonce, flags=flags), pair, in_slot=True)
    while len(core.measured) > MEASURED_PAIRS_MAX:
        core.measured.popitem(last=False)


def answered(core: Core, context: Context, nonce: Nonce, destination: Locator) -> None:
    """The peer has answered a request; ignored if it was given up or did not measure.

    Args:
        core: the core of the host.
        context: the context.
        nonce: of the request.
        destination: our locator at which the answer has arrived.
    """
    probe = core.measured.pop((context.local_label, nonce), None)
    if probe is not None:
        round_trip_ns = core.now_ns - probe.sent_ns
        returned = destination == probe.pair[0]
        core.emit(
            PairMeasured(context.local_label, probe.pair, round_trip_ns, probe.here, returned)
        )


def notice_doubt(core: Core, context: Context, pair: Pair, flags: Flag) -> None:
    """Reports whether a request of the peer shows that it doubts a pair.

    Args:
        core: the core of the host.
        context: the context.
        pair: the pair over which the request came.
        flags: the flags of the request.
    """
    history = context.history_of(pair)
    is_second = history.asked_ns > core.now_ns - MEASURED_TOGETHER
    context.note(pair, history._replace(asked_ns=core.now_ns))
    if flags & Flag.HEARS_NOTHING or (is_second and flags & Flag.ANSWER_HERE):
        core.emit(PeerDoubts(context.local_label))
