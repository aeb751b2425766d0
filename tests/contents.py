# SPDX-License-Identifier: MIT
"""What an object consists of, as comparable values: to show that a reset one equals a new one."""

import dataclasses
import enum
from collections import Counter, deque
from collections.abc import Mapping, Set

ATOMS = (str, bytes, bytearray, int, float, bool, type(None), enum.Enum, type)
NOTHING: frozenset[str] = frozenset()
CONTAINERS = (dict, set, list, deque)


def contents(thing: object) -> object:
    """The attributes of an object, of those that it consists of, and so on.

    Functions, and objects without attributes, are compared by their identity.

    Args:
        thing: the object; not one that leads back to itself.
    """
    if isinstance(thing, ATOMS):
        return thing
    if isinstance(thing, Mapping):
        return {key: contents(value) for key, value in thing.items()}
    if isinstance(thing, Set):
        return set(thing)
    if isinstance(thing, list | tuple):
        return [contents(one) for one in thing]
    return thing if callable(thing) else attributes(thing) or thing


def attributes(thing: object, *, without: frozenset[str] = NOTHING) -> dict[str, object]:
    """The contents of each attribute of an object, but for some, by name."""
    return {name: contents(getattr(thing, name)) for name in _names(thing) - without}


def differences(
    one: object, other: object, *, without: frozenset[str] = NOTHING
) -> dict[str, tuple[object, object]]:
    """The attributes in which two objects of a kind differ, with both values.

    Args:
        one: an object.
        other: another.
        without: names of attributes that are left out.
    """
    assert type(one) is type(other)
    ours, others = attributes(one, without=without), attributes(other, without=without)
    return {
        name: (ours.get(name), others.get(name))
        for name in ours.keys() | others.keys()
        if ours.get(name) != others.get(name)
    }


def sizes(thing: object) -> dict[str, int]:
    """How much is in each container of an object, and of objects of noid that it consists of.

    Counters are left out: they only grow.
    """
    found: dict[str, int] = {}
    seen: set[int] = set()
    left = [("", thing)]
    while left:
        path, one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        for name in sorted(_names(one)):
            value, place = getattr(one, name), f"{path}{name}"
            if isinstance(value, CONTAINERS) and not isinstance(value, Counter):
                found[place] = len(value)
            elif type(value).__module__.startswith("noid."):
                left.append((f"{place}.", value))
    return found


def _names(thing: object) -> set[str]:
    """The names of an object's attributes that have values."""
    if dataclasses.is_dataclass(thing):
        return {one.name for one in dataclasses.fields(thing)}
    slots = {name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())}
    return {name for name in slots if hasattr(thing, name)} | set(getattr(thing, "__dict__", {}))
