# SPDX-License-Identifier: MIT
"""One log line about objects that were restored after others had removed or changed them. Pure."""

from collections import Counter
from collections.abc import Iterable

NAMES_MAX = 6
"""Things of one kind that a line names; of the others it gives the number."""


class Restored:
    """The objects restored since the last line."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._names: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to report."""
        return bool(+self._counts)

    def note(self, kind: str, names: Iterable[str]) -> int:
        """Records objects of a kind, such as ``rules``; returns their number."""
        count = 0
        for name in sorted(names):
            count += 1
            known = self._names.setdefault(kind, [])
            if len(known) <= NAMES_MAX and name not in known:
                known.append(name)
        self._counts[kind] += count
        return count

    def take(self) -> str:
        """Returns the line and clears the record; empty if there is nothing to report."""
        kinds = [
            f"{kind}: {self._counts[kind]} ({_list(names)})" for kind, names in self._names.items()
        ]
        self._counts.clear()
        self._names.clear()
        return "; ".join(kinds)


def _list(names: list[str]) -> str:
    return ", ".join([*names[:NAMES_MAX], *["..."] * (len(names) > NAMES_MAX)])
