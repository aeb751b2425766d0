# SPDX-License-Identifier: MIT
"""Measuring pairs for people and for the model of uplinks, beside all that the protocol does.

A request is an Update Request with the sets as they stand, which every peer answers. The engine
believes nothing because of the answer: what it knows of pairs comes from its own asking.
"""

from noid.constants import MEASURED_PAIRS_MAX
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import MeasurePairs, PairMeasured
from noid.engine.phases import Probe
from noid.engine.update import next_nonce, request


def on_measure_pairs(core: Core, event: MeasurePairs) -> None:
    """Sends one Update Request over each pair that data may take."""
    context = core.labels.get(event.local_label)
    if context is None or not context.is_settled or context.is_provisional:
        return
    for pair in event.pairs:
        if pair[0] in context.own_set and context.is_verified(pair[1]):
            nonce = next_nonce(context)
            core.measured[context.local_label, nonce] = Probe(pair, core.now_ns)
            core.send_on(context, request(core, context, nonce), pair, in_slot=True)
    while len(core.measured) > MEASURED_PAIRS_MAX:
        core.measured.popitem(last=False)


def answered(core: Core, context: Context, nonce: int) -> None:
    """The peer has answered a request; nothing if that was given up, or was none of these."""
    probe = core.measured.pop((context.local_label, nonce), None)
    if probe is not None:
        round_trip_ns = core.now_ns - probe.sent_ns
        core.emit(PairMeasured(context.local_label, probe.pair, round_trip_ns))
