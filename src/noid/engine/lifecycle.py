# SPDX-License-Identifier: MIT
"""Creation, proof, replacement and deletion of contexts, in all tables of a host."""

from noid.constants import CONTEXT_IDLE_TIME, NO_USER
from noid.counters import Drop
from noid.dns.verification import Verification
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import DeliverToUlp, InstallFlow, RemoveFlow, WatchPeer
from noid.engine.own import marks
from noid.engine.phases import Probation
from noid.engine.state import State, Timer, Trigger
from noid.identifiers import NO_LABEL, NO_NONCE, Label
from noid.locators import Locator


def create(
    core: Core,
    local_aid: Locator,
    peer_aid: Locator,
    verification: Verification,
    own_local: tuple[Locator, ...],
    probation: Probation | None = None,
    *,
    label: Label = NO_LABEL,
    began: Locator | None = None,
    user: int = NO_USER,
) -> Context | None:
    """Creates a context in IDLE, in both tables; None if the tables are full.

    Args:
        core: the core of the host.
        local_aid: AID(local).
        peer_aid: AID(peer).
        verification: what is known of the peer.
        own_local: our locators.
        probation: the missing proof that makes it provisional; None if it is not provisional.
        label: F(local); 0 for a new one.
        began: the locator of the peer whose share it takes; None if a local program began.
        user: the user of that program.
    """
    if len(core.labels) >= core.options.contexts_max:
        core.drop(Drop.TOO_MANY_CONTEXTS)
        return None
    if probation is not None and core.provisional.is_full:
        core.drop(Drop.TOO_MANY_PROVISIONAL_CONTEXTS)
        return None
    if local_aid not in own_local:
        own_local = (local_aid, *own_local)
    own_local = core.shared(own_local)
    local_aid = own_local[own_local.index(local_aid)]
    context = Context(
        local_aid=local_aid,
        peer_aid=peer_aid,
        local_label=label or core.free_label(),
        own_local=own_local,
        local_token=core.token(),
        local_locator=local_aid,
        peer_locator=peer_aid,
        verification=verification,
        probation=probation,
        began=peer_aid if began == peer_aid else began,
        user=user,
    )
    context.own_marks = marks(core.own, own_local, local_aid, peer_aid, verification.name)
    core.labels[context.local_label] = context
    table, site = core.shares_of(context)
    table.add(site, context.local_label)
    if probation is None:  # a provisional context blocks no other [D37]
        _take_pair(core, context)
    return context


def prove(core: Core, context: Context) -> None:
    """Makes a provisional context a normal one, and delivers its packets [D37]."""
    assert context.probation is not None
    held = context.probation.held
    # The locator to which the CC was sent is known to work.
    context.peer_locator = context.probation.locator
    table, site = core.shares_of(context)
    table.remove(site, context.local_label)
    context.probation = None
    table, site = core.shares_of(context)
    table.add(site, context.local_label)
    core.enter(context, State.ESTABLISHED, Trigger.DNS_ANSWER, Cause.PROVEN)
    _take_pair(core, context)
    core.set_timer(context, Timer.IDLE, CONTEXT_IDLE_TIME)
    core.install(context)
    for packet in held:
        core.emit(DeliverToUlp(packet))


def set_aside(core: Core, context: Context) -> None:
    """Frees the AID pair for a new context; this context only receives [draft App. A]."""
    _leave_pair(core, context)
    table, site = core.shares_of(context)
    table.end(site, context.local_label)
    core.emit(InstallFlow(context.flow()))


def discard(core: Core, context: Context, trigger: Trigger, why: Cause) -> None:
    """Deletes a context, in all tables."""
    core.enter(context, State.IDLE, trigger, why)
    renewing = context.renewal.open if context.renewal is not None else ()
    for question in (*context.verification.open, *renewing):
        waiting = core.questions.get(context.asked(question))
        if waiting is not None:
            waiting.pop(context, None)
    table, site = core.shares_of(context)
    table.remove(site, context.local_label)
    core.quarantine.keep(context, core.now_ns)
    know_peer_label(core, context, NO_LABEL)
    del core.labels[context.local_label]
    core.emit(RemoveFlow(context.local_label))
    _leave_pair(core, context)


def know_peer_label(core: Core, context: Context, label: Label) -> None:
    """Stores F(peer) in the context and in the table of these labels; 0 removes it."""
    if context.peer_label:
        alike = core.by_peer_label.pop(context.peer_label)
        others = tuple(other for other in alike if other is not context)
        if others:
            core.by_peer_label[context.peer_label] = others
    if label and label != context.peer_label:
        # A peer with another label has started again, and so have its nonces [D17].
        context.peer_update_nonce = context.peer_keepalive_nonce = NO_NONCE
        context.unseen_nonces = 0
    context.peer_label = label
    if label:
        core.by_peer_label[label] = (*core.by_peer_label.get(label, ()), context)


def _take_pair(core: Core, context: Context) -> None:
    """Enters a context in the table by AIDs, where packets of the ULP find it."""
    assert context.key not in core.contexts
    core.contexts[context.key] = context
    core.uses[context.peer_aid] += 1
    core.emit(WatchPeer(context.peer_aid))


def _leave_pair(core: Core, context: Context) -> None:
    if core.contexts.get(context.key) is context:
        del core.contexts[context.key]
        core.uses[context.peer_aid] -= 1
        core.release(context.peer_aid)
