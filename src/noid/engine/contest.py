# SPDX-License-Identifier: MIT
"""Two hosts answer as one peer: data is plain where plain packets take the same path [D39, D49].

An attacker that reads all packets can answer a set-up before the genuine host, and then answers the
tests of the context, too. The genuine host answers the same Update Requests with UC. Only hosts on
the path of one of them know their nonces, so that no other host causes this; an observer of a pair
that is not in use does. This host cannot know which of the two is the peer. It keeps the context,
and sends data plain for a time if the pair in use is the AIDs: the packets arrive as without M6,
and another pair is used if this one fails.
"""

from noid.constants import CONTESTED_TIME
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.state import Timer
from noid.identifiers import Nonce


def refuse(core: Core, context: Context, nonce: Nonce) -> bool:
    """Notes a UC that quotes a request of ours.

    Args:
        core: the core of the host.
        context: the context.
        nonce: of that request.

    Returns:
        Whether it was a request of the last test.
    """
    is_recent = core.now_ns < min(context.next_trial_ns, context.doubt.until_ns)
    if not is_recent or not context.doubt.covers(nonce, context.update_nonce):
        return False
    if context.trial is not None:
        context.trial.is_refused = True
    else:  # it has been answered
        begin(core, context)
        core.install(context)
    return True


def begin(core: Core, context: Context) -> None:
    """Makes data plain for a time."""
    context.contested_until_ns = core.now_ns + CONTESTED_TIME
    go_on(core, context)


def go_on(core: Core, context: Context) -> None:
    """Sets the timer for the end, after a test has used it, unless a CCR waits for the next."""
    if context.contested_until_ns and context.rival is None:
        delay_ns = max(0, context.contested_until_ns - core.now_ns)
        core.set_timer(context, Timer.TRIAL, delay_ns)


def end(core: Core, context: Context) -> None:
    """Data goes by the context again."""
    context.contested_until_ns = 0
    core.install(context)
