# SPDX-License-Identifier: MIT
"""Fixes taken back, one at a time: what a law of the simulator must notice."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Revert:
    """A fix, taken back.

    Attributes:
        name: what noid did before.
        edits: the file under ``src/noid``, what stands there once, and what is put in its place.
        family: of the simulator, one of whose first histories notices.
        law: which law or check is violated then.
        number: the first history that noticed when it was last searched for, by
            ``python -m tests.reverts``; the test begins with it, and then searches from 0.
    """

    name: str
    edits: tuple[tuple[str, str, str], ...]
    family: str
    law: str
    number: int = 0


REVERTS = (
    Revert(
        "each round of a search probes the same four pairs",
        (
            (
                "engine/probing.py",
                "one.untried, one.tried, one.count = others, 0, len(others)",
                "one.untried, one.tried, one.count = others[:4], 0, 4",
            ),
        ),
        "walk-4x4",
        "liveness",
        1,
    ),
    Revert(
        "another verification begins with the PTR of the AID",
        (
            (
                "engine/verifying.py",
                "context.renewal = context.verification.again()",
                "context.renewal = Verification(context.peer_aid, None)",
            ),
        ),
        "renumbering-by-rules",
        "renumbering",
        1,
    ),
    Revert(
        "data in one direction has no feedback",
        (("engine/host.py", "keepalives.on_one_way_data(core, event)", "pass"),),
        "walk-1x6",
        "liveness",
        30,
    ),
    Revert(
        "nothing follows a UC that is not believed",
        (("engine/loss.py", "        trial.begin(core, context)\n", "        pass\n"),),
        "lost-amnesia",
        "set-up",
    ),
    Revert(
        "a search without an answer is taken for a firewall",
        (
            (
                "engine/probing.py",
                "if max(one.plain_ns, one.rejected_ns) >= one.cycle_ns > 0 and not is_aside:",
                "if one.cycle_ns > 0 and not is_aside:",
            ),
            ("engine/reachability.py", "check_plain(core, context, context.search)", "pass"),
        ),
        "walk-2x2",
        "liveness",
        16,
    ),
    Revert(
        "a request is taken for lost although the way back of the peer is silent",
        (
            (
                "engine/searching.py",
                "if found.by is not None and found.by != found.pair:",
                "if found is None:",
            ),
            (
                "engine/searching.py",
                "is_missed = is_way_alive(context, one) and (",
                "is_missed = bool(",
            ),
        ),
        "turning",
        "liveness",
        3,
    ),
    Revert(
        "an expired Update Request is not sent again",
        (
            (
                "engine/update.py",
                "context.update, context.untold = None, True",
                "context.update, context.untold = None, False",
            ),
            # A routine question tells the sets, too.
            (
                "flows/rewrite.py",
                "if now_ns - self.proven_ns < UNPROVEN_TIME:",
                "if True:",
            ),
        ),
        "expired",
        "agreement",
    ),
    Revert(
        "an unable peer is not tried again",
        (
            (
                "engine/peers.py",
                "core.unable[aid] = core.now_ns + unable_ns",
                "core.unable[aid] = core.now_ns + (1 << 62)",
            ),
        ),
        "unable",
        "set-up",
        4,
    ),
    Revert(
        "the label is not accepted in CCR-SENT and INIT-SENT",
        (
            (
                "engine/announcing.py",
                "    context.announced = True\n    core.install(context)\n",
                "    pass\n",
            ),
        ),
        "lost-setup",
        "what the peer may send by has its flow",
    ),
    Revert(
        "the round trip is measured on repeated messages",
        (
            (
                "engine/handshake.py",
                "if (exchange.ccr_tries or exchange.tries) == 1:",
                "if exchange.tries:",
            ),
            (
                "engine/handshake.py",
                "exchange.sent_ns = core.now_ns\n    exchange.tries += 1",
                "exchange.sent_ns = exchange.started_ns\n    exchange.tries += 1",
            ),
            (
                "engine/handshake.py",
                "    exchange.sent_ns = core.now_ns\n    turn = exchange",
                "    turn = exchange",
            ),
            (
                "engine/handshake.py",
                "    return core.jittered(after_ns)\n",
                "    return CONTEXT_IDLE_TIME\n",
            ),
        ),
        "lost-run",
        "liveness",
        5,
    ),
    Revert(
        "a move of Lp(peer) by data is never taken back",
        (
            (
                "engine/following.py",
                "if not context.is_moved or one.left is None:",
                "if True:",
            ),
        ),
        "walk-2x2",
        "liveness",
        124,
    ),
    Revert(
        "data moves Lp(peer) although the peer has proven to send from there",
        (
            (
                "engine/searching.py",
                "if source != context.peer_locator:",
                "if False:",
            ),
        ),
        "walk-4x4",
        "liveness",
        9,
    ),
    Revert(
        "Lp(local) is the AID after set-up over any pair",
        (
            (
                "engine/handshake.py",
                "context.local_locator, context.peer_locator = pair",
                "context.peer_locator = pair[1]",
            ),
        ),
        "cut-from-start",
        "liveness",
        82,
    ),
    Revert(
        "messages in the slot are answered plainly",
        (
            (
                "engine/responder.py",
                "core.send(reply, (event.destination, event.source), in_slot=event.in_slot)",
                "core.send(reply, (event.destination, event.source))",
            ),
            (
                "engine/responder.py",
                "core.send(octets, (event.destination, destination), in_slot=event.in_slot)",
                "core.send(octets, (event.destination, destination))",
            ),
        ),
        "slots-alone",
        "set-up",
    ),
    Revert(
        "a context that is set up again keeps a search without its timer",
        (
            (
                "engine/core.py",
                "            context.path = Path.STEADY\n",
                "",
            ),
        ),
        "restored",
        "handle() never raises",
    ),
    Revert(
        "a new daemon sends data in the form that a firewall drops",
        (("engine/adoption.py", "    if memory.is_plain:\n", "    if False:\n"),),
        "restarted",
        "never worse than plain",
        4,
    ),
    Revert(
        "a host that no peer can verify lists all its locators",
        (
            (
                "engine/own.py",
                "    if not is_verifiable:\n",
                "    if False:\n",
            ),
            (
                "engine/handshake.py",
                "core.locators if core.options.is_verifiable else core.locators_with(local_aid)",
                "core.locators",
            ),
        ),
        "unverifiable",
        "the AID alone is left",
    ),
    Revert(
        "answers to requests are taken for a proof that data passes",
        (
            (
                "engine/data_loss.py",
                "    answered_ns = max(",
                "    return False\n    answered_ns = max(",
            ),
        ),
        "data-filtered",
        "never worse than plain",
        1,
    ),
    Revert(
        "answers that come late together are taken for a longer path",
        (("engine/history.py", "is_late = round_trip_ns > at_once_ns", "is_late = False"),),
        "starved",
        "liveness",
        1,
    ),
)
"""In the order of the findings."""
