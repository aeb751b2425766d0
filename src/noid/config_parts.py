# SPDX-License-Identifier: MIT
"""Takes a configuration file apart, so that each value is checked without the others. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

DEPTH_MAX: Final = 3
"""Tables in tables that are taken apart; no key of ours is deeper."""
Table = dict[str, Any]


class Part(NamedTuple):
    """One value of a file.

    Attributes:
        path: the keys that lead to it.
        value: the value.
        place: its place in a list, from 0; None if it is in no list.
    """

    path: tuple[str, ...]
    value: Any
    place: int | None = None

    @property
    def content(self) -> Table:
        """A file that has this value only."""
        return whole([self])

    def located(self, message: str) -> str:
        """An error of msgspec about the content, with the names and the place of the whole file.

        msgspec writes ``[...]`` for a name that the operator has chosen.
        """
        why, at, where = message.rpartition(" - at `$")
        above, chosen, below = where.partition("[...]")
        if chosen:
            depth = min(above.count("."), len(self.path) - 1)
            where = f"{above}.{self.path[depth]}{below}"
        if self.place is not None:
            where = where.replace("[0]", f"[{self.place}]")
        return why + at + where


def parts(table: Table, path: tuple[str, ...] = ()) -> Iterator[Part]:
    """Every value of a file."""
    for key, value in table.items():
        here = (*path, key)
        if value and isinstance(value, dict) and len(here) < DEPTH_MAX:
            yield from parts(value, here)
        elif value and isinstance(value, list):
            yield from (Part(here, one, place) for place, one in enumerate(value))
        else:
            yield Part(here, value)


def whole(found: Iterable[Part]) -> Table:
    """The file that has these values."""
    root: Table = {}
    for part in found:
        *above, key = part.path
        table = root
        for name in above:
            table = table.setdefault(name, {})
        if part.place is None:
            table[key] = part.value
        else:
            table.setdefault(key, []).append(part.value)
    return root
