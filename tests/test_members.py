# SPDX-License-Identifier: MIT
"""Each member of an enumeration is used: a counter is counted, a cause reported, a timer set."""

import enum
import functools
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

import noid
from noid.counters import (
    KERNEL_COUNTERS,
    BorderCounter,
    Drop,
    PlaneCounter,
    StubCounter,
    UpstreamCounter,
)
from noid.engine.causes import Cause
from noid.engine.state import Cue, Timer
from noid.planes.bpf.layout import ReportKind
from noid.wire.control import Flag
from tests.test_counters import FAULTS

SOURCE = Path(noid.__path__[0])
PROGRAMS = SOURCE / "planes" / "bpf" / "programs"
DECLARED_IN: dict[type[enum.Enum], frozenset[str]] = {
    PlaneCounter: frozenset({"counters.py"}),
    StubCounter: frozenset({"counters.py"}),
    UpstreamCounter: frozenset({"counters.py"}),
    Drop: frozenset({"counters.py"}),
    Cause: frozenset({"engine/causes.py"}),
    Timer: frozenset({"engine/state.py", "engine/host.py"}),
    Cue: frozenset({"engine/state.py"}),
    ReportKind: frozenset({"planes/bpf/layout.py"}),
    Flag: frozenset({"wire/control.py"}),
}
"""Enumerations, and the files that do not count as a use: where a member is declared or handled."""
ELSEWHERE: frozenset[enum.Enum] = frozenset(
    {
        *KERNEL_COUNTERS,
        *(Drop[f"{code}_{fault}"] for code in ("UR", "UA", "KEEPALIVE") for fault in FAULTS),
        *(ReportKind.UNKNOWN_LABEL_SEEN, ReportKind.CONTROL_SEEN, ReportKind.OPTION_SEEN),
        *(ReportKind.TAKEN_AS_NAMED, ReportKind.TAKEN_AS_OTHER, ReportKind.ESCAPE_SEEN),
    }
)
"""What the programs alone use, and reasons of drops that ``engine/matching.py`` composes."""
TESTBED = ("sim", "lab", "bench", "sweep")


@functools.cache
def texts() -> dict[str, str]:
    """The text of each file of the daemons and commands, by its path."""
    paths = {str(path.relative_to(SOURCE)): path for path in sorted(SOURCE.rglob("*.py"))}
    return {name: path.read_text() for name, path in paths.items() if not name.startswith(TESTBED)}


def unused(members: Iterable[enum.Enum], declared_in: frozenset[str]) -> list[str]:
    others = [text for name, text in texts().items() if name not in declared_in]
    found = {word for text in others for word in re.findall(r"\b[A-Z]\w+\.[A-Z]\w+\b", text)}
    return [str(one) for one in members if f"{type(one).__name__}.{one.name}" not in found]


@pytest.mark.parametrize("kind", DECLARED_IN, ids=lambda kind: kind.__name__)
def test_every_member_is_used(kind: type[enum.Enum]) -> None:
    members = [one for one in kind if one not in ELSEWHERE]
    assert unused(members, DECLARED_IN[kind]) == []


def test_every_counter_of_the_programs_is_counted_there() -> None:
    text = "\n".join(path.read_text() for path in sorted(PROGRAMS.glob("*.[ch]")))
    words = re.findall(
        r"\w+", re.sub(r"enum (?:border_)?count \{.*?\};", "", text, flags=re.DOTALL)
    )
    assert {one.name for one in (*KERNEL_COUNTERS, *BorderCounter)} - set(words) == set()
