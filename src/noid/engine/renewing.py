# SPDX-License-Identifier: MIT
"""Gives contexts the locators that the host has now, with what is said of them [draft §4.5]."""

from noid.engine import leaving, probing, update
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.own import marks
from noid.engine.state import Trigger


def renew(core: Core, context: Context, trigger: Trigger) -> None:
    """Updates our locators and marks in a context, and tells its peer of a change."""
    own_local = core.shared(core.locators_with(context.local_aid))
    own_marks = marks(
        core.own, own_local, context.local_aid, context.peer_aid, context.verification.name
    )
    if set(own_local) == set(context.own_local) and set(own_marks) == set(context.own_marks):
        return
    context.own_local, context.own_marks = own_local, own_marks
    core.install(context)
    context.untold = True
    update.tell_untold(core, context, trigger)
    leaving.leave(core, context, Cause.OWN_LOCATORS_BETTER)
    probing.resume(core, context)
