# SPDX-License-Identifier: MIT
"""The law of the state machine as documentation: a table and a diagram, generated from the data.

They are part of docs/protocol.md, so they show only what a second implementation has too: messages,
and other events that can change the state.
"""

import enum
from collections.abc import Callable, Iterable
from typing import TypeVar

from noid.engine.state import LAW, PATH_LAW, Cue, Path, State, Trigger
from noid.wire.control import Code

PUBLISHED = tuple(
    trigger
    for trigger in Trigger
    if trigger is not Trigger.CONTEXT_FOUND  # a daemon of ours follows another [D36]
    and (
        trigger.value in Code.__members__
        or any(LAW[state][trigger].next != {state} for state in State)
    )
)
"""The triggers of the page, in the order of their definition."""
NOTHING = "·"
"""A cell of a table whose trigger or cue changes nothing."""

Column = TypeVar("Column", bound=enum.Enum)
Row = TypeVar("Row", bound=enum.Enum)


def law_table() -> str:
    """``LAW`` as a Markdown table: the states that may follow each published trigger in each state.

    A dot means that the trigger does not change the state.
    """

    def cell(state: State, trigger: Trigger) -> str:
        following = [other.value for other in State if other in LAW[state][trigger].next]
        return NOTHING if following == [state.value] else ", ".join(following)

    return _table(State, PUBLISHED, cell)


def law_references() -> str:
    """The source of each entry of ``LAW`` that can change the state, as a Markdown list."""
    lines = []
    for state in State:
        for trigger in PUBLISHED:
            rule = LAW[state][trigger]
            if rule.next != {state}:
                lines.append(f"* {state.value}, {trigger.value}: {rule.reference}")
    return "\n".join(lines)


def law_diagram() -> str:
    """``LAW`` as a Mermaid state diagram: every possible change, and its triggers."""
    lines = ["stateDiagram-v2", "    [*] --> idle"]
    for state in State:
        for other in State:
            causes = [
                trigger.value
                for trigger in PUBLISHED
                if other is not state and other in LAW[state][trigger].next
            ]
            if causes:
                names = f"{state.value.replace('-', '_')} --> {other.value.replace('-', '_')}"
                lines.append(f"    {names}: {', '.join(causes)}")
    return "\n".join(lines)


def law_section() -> str:
    """The section of docs/protocol.md that is generated from the law."""
    return "\n\n".join(
        (
            "A dot means that the state does not change.",
            law_table(),
            "```mermaid\n" + law_diagram() + "\n```",
            "The sources of the changes:",
            law_references(),
        )
    )


def path_table() -> str:
    """``PATH_LAW`` as a Markdown table; a dot means that the cue changes nothing."""

    def cell(path: Path, cue: Cue) -> str:
        following = [other.value for other in Path if other in PATH_LAW[path][cue] - {path}]
        return ", ".join(following) or NOTHING

    return _table(Path, Cue, cell)


def _table(columns: type[Column], rows: Iterable[Row], cell: Callable[[Column, Row], str]) -> str:
    """A Markdown table with a column and a row for each member of two enumerations."""
    lines = [
        "| | " + " | ".join(one.value for one in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for row in rows:
        cells = " | ".join(cell(column, row) for column in columns)
        lines.append(f"| {row.value} | {cells} |")
    return "\n".join(lines)
