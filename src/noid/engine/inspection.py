# SPDX-License-Identifier: MIT
"""The tables of a host, for simulators, benches and tests; the daemon does not use them.

What is read here is not to be changed. Methods change a host where no event does: they bring about
what takes long in reality, or remove what a comparison of states has to ignore.
"""

from collections.abc import Mapping

from noid.dns.records import Question
from noid.dns.verification import Verification
from noid.engine import lifecycle
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.known import Disowning, KnownPeer
from noid.engine.secrets import HostKeys
from noid.engine.state import Cue, Path, Timer, Trigger
from noid.identifiers import Label
from noid.locators import Locator
from noid.shares.policy import Row
from noid.shares.rates import Each, Rate


class Inspection:
    """What a host knows.

    Args:
        core: the core of the host.
    """

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def contexts(self) -> Mapping[bytes, Context]:
        """The contexts that packets of the ULP find, by <AID(local), AID(peer)>."""
        return self._core.contexts

    @property
    def labels(self) -> Mapping[Label, Context]:
        """Every context, by F(local)."""
        return self._core.labels

    @property
    def by_peer_label(self) -> Mapping[Label, tuple[Context, ...]]:
        """Contexts by F(peer)."""
        return self._core.by_peer_label

    @property
    def peers(self) -> Mapping[Locator, KnownPeer]:
        """The peers that the resolver has told of, by AID."""
        return self._core.peers

    @property
    def uses(self) -> Mapping[Locator, int]:
        """How many contexts an AID of a peer has."""
        return self._core.uses

    @property
    def unable(self) -> Mapping[Locator, int]:
        """The peers that are reached plainly, and until when."""
        return self._core.unable

    @property
    def questions(self) -> Mapping[Question, Mapping[Context, None]]:
        """The questions to the DNS, and the contexts that wait for their answers."""
        return self._core.questions

    @property
    def turns(self) -> Mapping[tuple[Path, Cue], int]:
        """What changed the belief in a pair in use, counted by that belief."""
        return self._core.turns

    @property
    def rates(self) -> dict[Row, Rate | Each]:
        """The rates by what they limit."""
        core = self._core
        every: tuple[Rate | Each, ...] = (
            *(core.errors, core.checks),
            *(core.messages, core.repeats, core.agreements, core.hints),
        )
        return {one.row: one for one in every}

    @property
    def sizes(self) -> dict[str, int]:
        """The numbers of entries of the tables that others can make grow, by their names."""
        core = self._core
        return {
            "contexts": len(core.contexts),
            "labels": len(core.labels),
            "by_peer_label": len(core.by_peer_label),
            "peers": len(core.peers),
            "unable": len(core.unable),
            "uses": len(core.uses),
            "questions": len(core.questions),
            "lookups": len(core.lookups),
            "quarantine": len(core.quarantine),
            "checks": len(core.checks),
        }

    @property
    def provisional_count(self) -> int:
        """How many contexts are provisional, by the table of their shares."""
        return self._core.provisional.count

    @property
    def retries_ns(self) -> list[int]:
        """When peers that are reached plainly are watched again."""
        return [until_ns for until_ns, _ in self._core.retries]

    def is_unable(self, aid: Locator) -> bool:
        """Whether a peer is reached plainly now."""
        return self._core.is_unable(aid)

    def next_timer(self) -> tuple[int, tuple[Context, Timer]] | None:
        """When the next timer expires, and which of which context."""
        return self._core.next_timer()

    def is_timer_set(self, context: Context, timer: Timer) -> bool:
        """Whether one of a context's timers is set."""
        return self._core.is_timer_set(context, timer)

    # --- changes ----------------------------------------------------------------------------------

    def expire(self, context: Context, timer: Timer) -> None:
        """Makes a timer of a context due."""
        self._core.set_timer(context, timer, 0)

    def evict(self, context: Context) -> None:
        """Removes a context as if another needed its room; the next event gives the outputs."""
        lifecycle.discard(self._core, context, Trigger.NO_ROOM, Cause.NO_ROOM)

    def create(self, local_aid: Locator, peer_aid: Locator) -> None:
        """Creates a context in IDLE that no program and no peer has begun."""
        core = self._core
        lifecycle.create(core, local_aid, peer_aid, Verification(peer_aid, ""), core.locators)
        core.outputs.clear()

    def use_keys(self, keys: HostKeys) -> None:
        """Replaces the secrets of exchanges and of the stateless cookie."""
        self._core.keys = keys

    def prepare_keys(self) -> None:
        """Makes the key pair that the first exchange would make."""
        self._core.keys.pair(self._core.now_ns)

    def forget(self) -> None:
        """Removes what depends on how the state was reached: counts, rates, old deadlines."""
        core = self._core
        core.drops.clear()
        for rate in self.rates.values():
            rate.forget()
        core.timers = core.timers.rebuilt()

    @property
    def disowning(self) -> Disowning:
        """Contexts whose AID is asked, and AIDs that a set-up has to prove."""
        return self._core.disowning
