# SPDX-License-Identifier: MIT
"""What false alarms teach, which is forgotten by halves [D43]. Pure."""

from noid.constants import SECOND, TOLERANCE_TIME
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.state import Timer


def learn(core: Core, context: Context, *, alarms: int = 0, misses: int = 0) -> None:
    """Notes false alarms and late answers; half of them are forgotten after a time."""
    before = context.history_of(context.pair)
    alarms, misses = before.alarms + alarms, before.misses + misses
    context.note(context.pair, before._replace(alarms=alarms, misses=misses))
    if not core.is_timer_set(context, Timer.TOLERANCE):
        core.set_timer(context, Timer.TOLERANCE, TOLERANCE_TIME)


def on_tolerance_timer(core: Core, context: Context) -> None:
    """Halves the effect of false alarms."""
    context.late = None
    context.tolerated_ns = context.tolerated_ns // 2 if context.tolerated_ns > SECOND // 100 else 0
    for pair, one in context.history.items():
        if one.alarms or one.misses:
            context.note(pair, one._replace(alarms=one.alarms // 2, misses=one.misses // 2))
    core.install(context)
    if context.tolerated_ns or any(one.alarms or one.misses for one in context.history.values()):
        core.set_timer(context, Timer.TOLERANCE, TOLERANCE_TIME)
