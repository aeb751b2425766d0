# SPDX-License-Identifier: MIT
"""Contexts that outlive their daemon: what is kept of each, and how the next one takes it up [D36].

While a daemon is away the data plane in the kernel goes on by the flows it has. What only the
engine knows of a context (its key, nonces, what the DNS proved) is kept by the shell as a
``ContextRecord``, written whenever a flow is installed, and given back as ``ContextRestored``. A
context that comes back so is ESTABLISHED, and is verified anew before long.
"""

from noid.constants import CONTEXT_IDLE_TIME, VERIFY_FOUND_INTERVAL
from noid.counters import Drop
from noid.dns.verification import Verification
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import ContextRecord, ContextRestored
from noid.engine.searching import go_on
from noid.engine.state import Path, State, Timer

UPDATE_NONCE_LEAP = 1 << 32
"""More Update Requests and keepalives than go between two memories of a context, whose nonces only
grow [D17]."""
AS_IT_IS = (
    "aid_proven",
    "agreed_key",
    "former",
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
"""Fields of a context that are kept and given back unchanged."""


def remember(context: Context) -> ContextRecord | None:
    """What has to be kept of a context; None of one that is not worth it: unproven, or leaving."""
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
        is_plain=context.path is Path.SEARCHING,
        **{name: getattr(context, name) for name in AS_IT_IS},
    )


def on_context_found(core: Core, event: ContextRestored) -> Context | None:
    """Takes a context up where an earlier daemon left it, unless there is one in its place."""
    memory = event.memory
    if memory.local_label in core.labels or memory.local_aid + memory.peer_aid in core.contexts:
        core.drop(Drop.CONTEXT_RESTORED_TWICE)
        return None
    verification = Verification.recalled(memory.peer_aid, memory.name, memory.remote, memory.proven)
    context = core.create(
        memory.local_aid,
        memory.peer_aid,
        verification,
        memory.own_local,
        label=memory.local_label,
        began=memory.began,
    )
    if context is None:
        return None
    core.know_peer_label(context, memory.peer_label)
    for name in AS_IT_IS:
        setattr(context, name, getattr(memory, name))
    context.peer_marks = memory.peer_entries
    context.update_nonce = memory.update_nonce + UPDATE_NONCE_LEAP
    context.measure(context.pair, memory.round_trip_ns)
    context.share_sets()
    core.enter(context, State.ESTABLISHED, Cause.TAKEN_UP)
    context.established_ns = core.now_ns
    # There may be very many, which should not all want something at one time from now on.
    core.set_timer(context, Timer.IDLE, core.jittered(CONTEXT_IDLE_TIME))
    turn_ns = len(core.labels) * VERIFY_FOUND_INTERVAL
    core.set_timer(context, Timer.VERIFY_AGAIN, turn_ns)
    if memory.is_plain:
        go_on(core, context, turn_ns)
    core.install(context)
    return context
