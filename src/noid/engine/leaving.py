# SPDX-License-Identifier: MIT
"""Leaving a pair for one that its owners call better [draft §4.5, D20, D22, D25]. Pure."""

from noid.constants import SEARCH_INTERVAL_MIN, SUSPICION_TIME
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.phases import Search
from noid.engine.probing import keep
from noid.engine.searching import on_probe_timer, take
from noid.engine.selection import better_pairs, is_broken, is_questioned
from noid.engine.state import Cue, Path


def leave(core: Core, context: Context, why: Cause, *, patience_ns: int = SUSPICION_TIME) -> None:
    """Looks for another pair, if one is said to be better than the one in use [D20, D22, D25].

    "It is recommended that the host stop using the deprecated locator(s)" [draft §4.5]. The pair in
    use carries data until a better one answers. If it is broken, no answer over it is waited for.
    """
    if not (better := better_pairs(context)) or not context.is_settled:
        return
    one, ends = context.search, is_broken(context)
    if one is not None and ends and context.path is Path.DOUBTING:
        keep(context, one, {context.pair, *better})
        if one.found is not None:
            take(core, context, one, one.found)
        return
    if one is not None and (is_questioned(context) or (ends and context.path is Path.ASKING)):
        context.late, context.searched_ns = one.probes, core.now_ns
        one = Search(why, core.now_ns, one.packet, 0, False)
    elif context.path not in (Path.STEADY, Path.LEAVING):
        return
    context.search = one = one or Search(why, core.now_ns, b"", 0, False)
    core.turn(context, Path.LEAVING, Cue.MARKS)
    one.untried, one.until_ns = [], core.now_ns + patience_ns
    # Earlier requests get time for an answer.
    wait_ns = max(SEARCH_INTERVAL_MIN, context.history_of(context.pair).ask_wait_ns)
    one.batch_at_ns = max(core.now_ns, one.batch_ns + wait_ns)
    on_probe_timer(core, context)
