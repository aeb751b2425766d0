# SPDX-License-Identifier: MIT
"""The scenarios with a conversation: one row each, and how all of them are played.

Host a talks with b over provider 1. A fault comes into force while they talk; a conversation that
survives goes on within some seconds, and a new one can be begun. What they are without noid,
``--plane none`` tells.
"""

import time
from dataclasses import dataclass
from typing import Final

from noid.constants import MILLISECOND, SECOND
from noid.errors import PlatformError
from noid.lab.configuration import ZONE
from noid.lab.conversation import WORD_OCTETS, Conversation, serve
from noid.lab.faults import FAULT_TEXTS, Fault
from noid.lab.inventory import Plane
from noid.lab.lab import Lab
from noid.lab.topology import HOSTS, locators
from noid.lab.variants import VARIANT_TEXTS, VARIANTS, Variant
from noid.lab.waiting import POLL_S

TALKER, LISTENER = HOSTS
READY_S: Final = 60.0
"""A busy machine."""
READY_WORDS: Final = 50
STEADY_NS: Final = SECOND
"""A conversation goes on if it hears a word that was said so long after the fault."""
MINUTE_NS: Final = 60 * SECOND
"""Long enough for a host to find out that its neighbour is dead."""
STALL_AFTER_S: Final = 20.0
NEW_CONNECTION_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A row of the table.

    Attributes:
        name: for ``noid lab run``.
        text: what happens, in one line.
        fault: what happens to provider 1 and host a.
        variant: in which network.
        device: the interface the talker's socket is bound to; none if empty.
        steady_ns: how long after the fault a word has to be said that comes back.
    """

    name: str
    text: str
    fault: Fault = Fault.SILENT
    variant: Variant = "plain"
    device: str = ""
    steady_ns: int = STEADY_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """The result of the scenario, as the result line says it.

    Attributes:
        scenario: the scenario.
        plane: the data plane, or ``none``.
        fault: what happened.
        variant: in which network.
        survived: whether the conversation went on.
        gap_ms: the longest time without a word after the fault, at the application.
        new_connection_ms: until the first word of a new connection came back while the fault was
            in force; None if none did within 5 s.
        intact: whether each word came back once and in order.
        words: how many came back.
        contexts: established contexts of a at the end.
        seconds: from the fault to the end.
    """

    scenario: str
    plane: Plane
    fault: str
    variant: Variant
    survived: bool
    gap_ms: float
    new_connection_ms: float | None
    intact: bool
    words: int
    contexts: int
    seconds: float

    @property
    def good(self) -> bool:
        """Whether the conversation survived undamaged, and a new connection was made."""
        return self.survived and self.intact and self.new_connection_ms is not None

    @property
    def figures(self) -> dict[str, str]:
        """The outcome as texts, by their labels."""
        silence = f"{self.gap_ms:.1f} ms" if self.survived else f"> {self.gap_ms / 1000:.1f} s"
        fresh = self.new_connection_ms
        return {
            "conversation survived": "yes" if self.survived else "no",
            "longest silence": silence,
            "new connection": "none" if fresh is None else f"{fresh:.1f} ms",
            "words in order": "yes" if self.intact else "no",
            "words": str(self.words),
            "contexts": str(self.contexts),
            "seconds": f"{self.seconds:.1f}",
        }


def _rows() -> tuple[Scenario, ...]:
    """A row for each fault, each variant, and what is neither."""
    of_faults = (
        Scenario(
            name=fault.value,
            text=FAULT_TEXTS[fault],
            fault=fault,
            variant="ra" if fault is Fault.RA else "plain",
        )
        for fault in Fault
    )
    of_variants = (
        Scenario(name=variant, text=f"silent, and {VARIANT_TEXTS[variant]}", variant=variant)
        for variant in VARIANTS
        if variant not in ("plain", "ra")
    )
    bound = Scenario(
        name="bound", text="silent, and the socket is bound to the uplink", device="up1"
    )
    minute = Scenario(
        name="router-minute",
        text="the router is dead behind a switch, and is so for a minute",
        fault=Fault.ROUTER,
        steady_ns=MINUTE_NS,
    )
    return (*of_faults, *of_variants, bound, minute)


SCENARIOS: Final = {row.name: row for row in _rows()}


def play(lab: Lab, scenario: Scenario, *, stall_after_s: float = STALL_AFTER_S) -> Talk:
    """Plays a scenario in a lab of its variant that is up and whole, and heals the lab.

    Args:
        lab: the lab.
        scenario: the scenario.
        stall_after_s: how long a word may take to come back until the conversation is given up.

    Raises:
        PlatformError: it does not come as far as the fault, or not over provider 1.
    """
    peer = f"{LISTENER}.{ZONE}"
    serve(lab, LISTENER)
    with Conversation(lab, TALKER, peer, device=scenario.device) as talk:
        _await_ready(lab, scenario, talk)
        cut_ns = lab.cut(1, scenario.fault, TALKER)
        try:
            survived = _goes_on(talk, cut_ns + scenario.steady_ns, stall_after_s)
            ended_ns = time.monotonic_ns()
            fresh_ms = _new_connection_ms(lab, peer, scenario.device)
        finally:
            lab.heal(1, TALKER)
        return Talk(
            scenario=scenario.name,
            plane=lab.plane,
            fault=scenario.fault.value,
            variant=scenario.variant,
            survived=survived,
            gap_ms=round(talk.longest_silence_ns(cut_ns, ended_ns) / MILLISECOND, 1),
            new_connection_ms=fresh_ms,
            intact=talk.intact,
            words=len(talk.heard),
            contexts=sum(one["state"] == "established" for one in lab.contexts(TALKER)),
            seconds=round((ended_ns - cut_ns) / SECOND, 3),
        )


def _await_ready(lab: Lab, scenario: Scenario, talk: Conversation) -> None:
    """Waits until the hosts talk, over provider 1, and with noid by a context that can move."""

    def is_ready() -> bool:
        if not talk.running:
            why = f"the conversation failed before the fault: {talk.complaint()}"
            raise PlatformError(scenario.name, 0, why)
        return len(talk.heard) >= READY_WORDS and (lab.plane == "none" or _can_move(lab))

    lab.wait_for("the hosts talk", is_ready, READY_S)
    octets, words = lab.delivered_octets(1, TALKER), len(talk.heard)
    lab.wait_for("they go on", lambda: len(talk.heard) >= words + READY_WORDS, READY_S)
    if lab.delivered_octets(1, TALKER) - octets < READY_WORDS * WORD_OCTETS:
        raise PlatformError(scenario.name, 0, "the conversation does not run over provider 1")


def _can_move(lab: Lab) -> bool:
    every = len(locators(LISTENER))
    return any(
        context["state"] == "established" and len(context["lsv_peer"]) >= every
        for context in lab.contexts(TALKER)
    )


def _goes_on(talk: Conversation, since_ns: int, patience_s: float) -> bool:
    """Whether a word that was said at a time or later comes back within a while after it."""
    deadline_ns = since_ns + int(patience_s * SECOND)
    while not talk.heard_of(since_ns):
        if time.monotonic_ns() >= deadline_ns or not talk.running:
            return False
        time.sleep(POLL_S)
    return True


def _new_connection_ms(lab: Lab, peer: str, device: str) -> float | None:
    """How long a new connection takes until its first word is back, the start of socat included."""
    with Conversation(lab, TALKER, peer, device=device) as fresh:
        if not _goes_on(fresh, fresh.started_ns, NEW_CONNECTION_S):
            return None
        return round((fresh.heard[0].heard_ns - fresh.started_ns) / MILLISECOND, 1)
