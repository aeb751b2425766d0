# SPDX-License-Identifier: MIT
"""Contexts that outlive their daemon: what is stored of each, and how it is restored [D36].

Without a daemon the data plane in the kernel continues with its flows. What only the engine knows
of a context (its key, nonces, what the DNS proved) is stored by the shell as a ``ContextRecord``
whenever a flow is installed, and given to the next engine as ``ContextRestored``. Such a context is
ESTABLISHED, and is verified again soon.
"""

from noid.constants import CONTEXT_IDLE_TIME, VERIFY_FOUND_INTERVAL
from noid.counters import Drop
from noid.dns.verification import Verification
from noid.engine import data_loss, lifecycle
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import ContextRestored
from noid.engine.records import ContextRecord
from noid.engine.searching import go_on
from noid.engine.state import State, Timer, Trigger
from noid.identifiers import Nonce

UPDATE_NONCE_LEAP = 1 << 40
"""More nonces than a context uses between two records of it, because nonces only grow [D17]."""
AS_IT_IS = (
    "aid_proven",
    "agreed_key",
    "former",
    "left_pair",
    "local_locator",
    "own_remote",
    "peer_birthday",
    "peer_keepalive_nonce",
    "peer_local",
    "peer_locator",
    "peer_reset_hash",
    "peer_update_nonce",
    "told_remote",
)
"""Fields of a context that are stored and restored unchanged."""


def remember(context: Context) -> ContextRecord | None:
    """The record of a context; None if it is not complete, provisional or closing."""
    if not context.is_known_to_peer or context.is_provisional or context.state is State.CLOSING:
        return None
    return ContextRecord(
        local_aid=context.local_aid,
        peer_aid=context.peer_aid,
        local_label=context.local_label,
        peer_label=context.peer_label,
        own_local=context.own_local,
        peer_marks=tuple((one.locator, one.flags) for one in context.peer_marks),
        name=context.verification.name,
        remote=context.verification.remote,
        proven=context.verification.proven,
        update_nonce=context.update_nonce,
        round_trip_ns=context.round_trip_ns,
        began=context.began,
        is_plain=context.is_searching,
        lost=data_loss.remember(context),
        plain_until_ns=data_loss.plain_until_ns(context),
        **{name: getattr(context, name) for name in AS_IT_IS},
    )


def on_context_found(core: Core, event: ContextRestored) -> Context | None:
    """Restores a context of an earlier daemon, unless another has its AIDs or label."""
    memory = event.memory
    if memory.local_label in core.labels or memory.local_aid + memory.peer_aid in core.contexts:
        core.drop(Drop.CONTEXT_RESTORED_TWICE)
        return None
    verification = Verification.recalled(memory.peer_aid, memory.name, memory.remote, memory.proven)
    context = lifecycle.create(
        core,
        memory.local_aid,
        memory.peer_aid,
        verification,
        memory.own_local,
        label=memory.local_label,
        began=memory.began,
    )
    if context is None:
        return None
    lifecycle.know_peer_label(core, context, memory.peer_label)
    for name in AS_IT_IS:
        setattr(context, name, getattr(memory, name))
    context.peer_marks = memory.peer_entries
    context.update_nonce = Nonce(memory.update_nonce + UPDATE_NONCE_LEAP)
    context.measure(context.pair, core.now_ns - memory.round_trip_ns, core.now_ns)
    context.share_sets()
    core.enter(context, State.ESTABLISHED, Trigger.CONTEXT_FOUND, Cause.TAKEN_UP)
    context.established_ns = core.now_ns
    # There may be very many, whose timers should not expire at the same time.
    core.set_timer(context, Timer.IDLE, core.jittered(CONTEXT_IDLE_TIME))
    turn_ns = len(core.labels) * VERIFY_FOUND_INTERVAL
    core.set_timer(context, Timer.VERIFY_AGAIN, turn_ns)
    data_loss.recall(core, context, memory.lost)
    if memory.is_plain:
        go_on(core, context, turn_ns)
        data_loss.stay_plain(core, context, memory.plain_until_ns)
    core.install(context)
    return context
