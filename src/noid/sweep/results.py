# SPDX-License-Identifier: MIT
"""The results of a sweep in a file: a chunk that is in it need not be played again.

A file belongs to one version of the code, since the same seed may come to something else in
another; its fingerprint is in it.
"""

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

import noid
from noid.errors import UsageError
from noid.sim.coverage import entry_of, name_of
from noid.sweep.work import Chunk, Found, Outcome, Totals

PLAYED: Final = (
    *("constants.py", "counters.py", "identifiers.py", "locators.py", "errors.py", "text.py"),
    *("wire", "dns", "shares", "flows", "engine", "sim"),
)
"""What of the code a run depends on."""
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sweep (fingerprint TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS chunks (
    scenario TEXT NOT NULL, numbers TEXT NOT NULL, runs INTEGER NOT NULL,
    events INTEGER NOT NULL, seconds REAL NOT NULL, counts TEXT NOT NULL,
    PRIMARY KEY (scenario, numbers)
);
CREATE TABLE IF NOT EXISTS violations (
    scenario TEXT NOT NULL, seed INTEGER NOT NULL, violation TEXT NOT NULL,
    history TEXT NOT NULL, ladder TEXT NOT NULL,
    PRIMARY KEY (scenario, seed)
);
"""


def fingerprint() -> str:
    """A hash of the code that a run depends on."""
    root = Path(noid.__file__).parent
    total = hashlib.blake2b(digest_size=8)
    for name in PLAYED:
        place = root / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else (place,):
            total.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


class Results:
    """A file of results.

    Args:
        path: where; ``:memory:`` keeps them for as long as this object.

    Raises:
        UsageError: it is of other code, or no file of results.
    """

    def __init__(self, path: str) -> None:
        try:
            self._file = sqlite3.connect(path)
            self._file.executescript(SCHEMA)
            said = self._file.execute("SELECT fingerprint FROM sweep").fetchone()
        except sqlite3.Error as error:
            raise UsageError(f"{path}: {error}; name another file with --results") from None
        if said is None:
            self._file.execute("INSERT INTO sweep VALUES (?)", (fingerprint(),))
            self._file.commit()
        elif said[0] != fingerprint():
            self.close()
            raise UsageError(
                f"{path} has the results of other code; remove it, or name another with --results"
            )

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def missing(self, wanted: list[Chunk]) -> list[Chunk]:
        """The chunks that are not in the file."""
        there = set(self._file.execute("SELECT scenario, numbers FROM chunks"))
        return [one for one in wanted if (one.scenario, _numbers(one)) not in there]

    def keep(self, outcome: Outcome) -> None:
        """Stores the outcome of a chunk."""
        totals = outcome.totals
        row = (
            outcome.chunk.scenario,
            _numbers(outcome.chunk),
            totals.runs,
            totals.events,
            totals.seconds,
            _counts(totals),
        )
        with self._file:
            self._file.execute("INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?)", row)
            self._file.executemany(
                "INSERT OR REPLACE INTO violations VALUES (?, ?, ?, ?, ?)",
                [
                    (one.scenario, one.seed, one.violation, one.history, one.ladder)
                    for one in outcome.found
                ],
            )

    def totals(self) -> Totals:
        """What all chunks came to."""
        sum_of_all = Totals()
        rows = self._file.execute("SELECT scenario, runs, events, seconds, counts FROM chunks")
        for scenario, runs, events, seconds, counts in rows:
            injected, seen, judged = msgspec.json.decode(counts)
            sum_of_all.add(
                Totals(
                    runs=runs,
                    events=events,
                    seconds=seconds,
                    injected=Counter(injected),
                    seen=Counter({entry_of(name): count for name, count in seen.items()}),
                    judged=Counter(judged),
                    by_scenario=Counter({scenario: runs}),
                )
            )
        return sum_of_all

    def violations(self) -> Iterator[Found]:
        """Every violation."""
        query = "SELECT scenario, seed, violation, history, ladder FROM violations ORDER BY 1, 2"
        for row in self._file.execute(query):
            yield Found(*row)


def _numbers(chunk: Chunk) -> str:
    """The numbers of a chunk in few words."""
    octets = b" ".join(b"%d" % number for number in chunk.numbers)
    return f"{chunk.numbers[0]}+{hashlib.blake2b(octets, digest_size=8).hexdigest()}"


def _counts(totals: Totals) -> str:
    seen = {name_of(entry): count for entry, count in totals.seen.items()}
    return msgspec.json.encode((totals.injected, seen, totals.judged)).decode()
