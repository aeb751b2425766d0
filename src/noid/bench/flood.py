# SPDX-License-Identifier: MIT
"""How many INITs a responder answers in a second, and that it keeps no state of them [D8, D9]."""

import argparse
import random
import time

from noid.bench.encounter import CODEPOINTS, SERVER, arrived, host, locators_of
from noid.bench.memory import resident_octets
from noid.bench.report import Bench, Report, Series, Watch, add_runs, positive
from noid.constants import SECOND
from noid.engine.events import SendControl
from noid.errors import ShimError
from noid.identifiers import Label, Nonce, Token
from noid.locators import Locator
from noid.shares.rates import KEY_LIFETIME
from noid.wire.control import Code, ControlMessage, encode_packet
from noid.wire.options import ContextOption, Entries, LocatorEntry, LocatorFlag, Tokens

OFFERED_PER_SECOND = 40_000
"""How fast INITs come in the engine's own time: slower than the limit of D9 in total."""
BATCH = 5_000
"""INITs made at one time, since a million would be a memory of their own."""
INITS = 40_000
"""In each run: seven turns of two commits take less than five minutes."""
WARM_UPS = 8
"""Each under another key of the rates, so that sites get all places there are."""
NOTE = (
    "one process, one core, seconds of processor time; from packet to packet: decoding and "
    "its sum, the rate limits of D9, the keyed hash, encoding and its sum; the limits are in "
    f"force and not reached, since INITs come {OFFERED_PER_SECOND:,} a second in the engine's "
    "time, each from a /48 of its own; not in the figure: the making of the INITs; the "
    "refused ones all come from one /48"
)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser, 7)
    parser.add_argument(
        "--inits",
        type=positive,
        default=INITS,
        metavar="COUNT",
        help="how many come in each run; default: %(default)s",
    )


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Floods one responder in each run, and measures its tables and memory afterwards."""
    flood = Flood()
    for _ in range(WARM_UPS):  # makes what is made once: the buckets of D9
        flood.answered(min(BATCH, arguments.inits))
        flood.now_ns += KEY_LIFETIME
    entries, resident = flood.table_entries, resident_octets()
    answered = []
    for run in range(arguments.runs):
        watch(run, arguments.runs)
        answered.append(flood.answered(arguments.inits))
    growth = resident_octets() - resident
    entries_growth = flood.table_entries - entries
    refused = [flood.refused(min(arguments.inits, BATCH)) for _ in range(arguments.runs)]
    watch(arguments.runs, arguments.runs)
    return Report(
        series={
            "inits_answered_per_second": Series(tuple(answered)),
            "inits_refused_per_second": Series(tuple(refused)),
        },
        facts={
            "inits_in_all": arguments.inits * arguments.runs,
            "resident_octets": resident,
            "resident_octets_growth": growth,
            "table_entries": entries,
            "table_entries_growth": entries_growth,
            "counted": NOTE,
        },
    )


class Flood:
    """A responder, and strangers that ask it for a context, no two alike."""

    def __init__(self) -> None:
        self.chance = random.Random(0)
        self.responder = host(SERVER, self.chance)
        self.now_ns = SECOND
        self.strangers = 0

    @property
    def table_entries(self) -> int:
        """The entries of all tables of the responder, with the buckets of D9."""
        return sum(self.responder.inspection.sizes.values())

    def answered(self, count: int) -> float:
        """How many INITs are answered in a second, each from a site of its own.

        Raises:
            ShimError: one was not.
        """
        seconds = 0.0
        for start in range(0, count, BATCH):
            batch = min(BATCH, count - start)
            # No batch has a name: the next one would be made while it is still in memory.
            sent, taken = self._pour([self._init(one_site=False) for _ in range(batch)])
            seconds += taken
            if sent != batch:
                raise ShimError(f"{batch - sent} INITs were not answered")
        return round(count / seconds, 1)

    def refused(self, count: int) -> float:
        """How many INITs of one site are looked at in a second; most are over its rate."""
        self.now_ns += SECOND
        _, seconds = self._pour([self._init(one_site=True) for _ in range(count)])
        return round(count / seconds, 1)

    def _pour(self, inits: list[bytes]) -> tuple[int, float]:
        """Hands the packets over; how many were answered, and in how many seconds."""
        sent = 0
        now_ns = self.now_ns
        handle = self.responder.handle
        started_ns = time.process_time_ns()
        for packet in inits:
            now_ns += SECOND // OFFERED_PER_SECOND
            for output in handle(arrived(packet), now_ns):
                sent += isinstance(output, SendControl)
        seconds = (time.process_time_ns() - started_ns) / 1e9
        self.now_ns = now_ns
        return sent, seconds

    def _init(self, *, one_site: bool) -> bytes:
        """The packet of a stranger: its locators, its label, its nonce and token."""
        self.strangers += 1
        place = (1, self.strangers) if one_site else (self.strangers, 1)
        return init_of(locators_of(*place), locators_of(SERVER), self.chance)


def init_of(here: tuple[Locator, ...], there: tuple[Locator, ...], chance: random.Random) -> bytes:
    """An INIT of another host.

    Args:
        here: its locators, its AID first, from which the packet comes.
        there: those of the responder, its AID first, to which it goes.
        chance: where its label, its nonce and its token come from.
    """
    message = ControlMessage(
        code=Code.INIT,
        nonce=Nonce(chance.getrandbits(64)),
        sender_aid=here[0],
        receiver_aid=there[0],
        context=ContextOption(Label(chance.randrange(1, 1 << 20)), sender_birthday=1),
        tokens=Tokens(sender=Token(chance.getrandbits(64))),
        key=chance.randbytes(32),
        sender_locators=_entries(here, LocatorFlag.LOCAL),
        receiver_locators=_entries(there, LocatorFlag.REMOTE),
    )
    return encode_packet(message, here[0], there[0], CODEPOINTS)


def _entries(locators: tuple[Locator, ...], flags: int) -> Entries:
    return tuple(LocatorEntry(locator, flags) for locator in locators)


BENCH = Bench(
    name="flood",
    summary="INITs of strangers, answered by a responder that keeps nothing",
    explanation=f"What is counted: {NOTE}.",
    example="noid bench flood --json",
    add_options=_add_options,
    measure=measure,
    sizes=("inits",),
)
