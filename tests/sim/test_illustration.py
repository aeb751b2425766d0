# SPDX-License-Identifier: MIT
"""The law as people read it says what the law says, and all of it."""

from noid.engine.state import LAW, PATH_LAW, Cue, Path, State, Trigger
from noid.sim.illustration import (
    PUBLISHED,
    law_diagram,
    law_references,
    law_section,
    law_table,
    path_table,
)
from noid.wire.control import Code

CHANGES = {
    (state, trigger, other)
    for state in State
    for trigger in PUBLISHED
    for other in LAW[state][trigger].next
    if other is not state
}


def test_every_message_and_every_change_but_a_daemons_own_is_published() -> None:
    assert {code.name for code in Code} <= {trigger.value for trigger in PUBLISHED}
    left_out = set(Trigger) - set(PUBLISHED)
    assert Trigger.CONTEXT_FOUND in left_out
    for trigger in left_out - {Trigger.CONTEXT_FOUND}:
        assert all(LAW[state][trigger].next == {state} for state in State), trigger


def test_the_table_has_a_row_for_each_trigger_and_a_cell_for_each_state() -> None:
    heading, _, *rows = [line.strip("| ").split(" | ") for line in law_table().splitlines()]
    assert heading == [state.value for state in State]
    assert [row[0] for row in rows] == [trigger.value for trigger in PUBLISHED]
    for trigger, row in zip(PUBLISHED, rows, strict=True):
        for state, cell in zip(State, row[1:], strict=True):
            following = LAW[state][trigger].next
            said = {state} if cell == "·" else {State(word) for word in cell.split(", ")}
            assert said == following


def test_the_diagram_has_an_arrow_for_each_change() -> None:
    _, start, *arrows = law_diagram().splitlines()
    assert start == "    [*] --> idle"
    drawn = set()
    for arrow in arrows:
        ends, _, causes = arrow.strip().partition(": ")
        old, new = (State(end.replace("_", "-")) for end in ends.split(" --> "))
        drawn |= {(old, Trigger(cause), new) for cause in causes.split(", ")}
    assert drawn == CHANGES


def test_every_change_has_its_reference() -> None:
    lines = law_references().splitlines()
    changing = {(state, trigger) for state, trigger, _ in CHANGES}
    assert len(lines) == len(changing)
    for state, trigger in changing:
        reference = LAW[state][trigger].reference
        assert f"* {state.value}, {trigger.value}: {reference}" in lines


def test_the_section_has_the_table_the_diagram_and_the_references() -> None:
    section = law_section()
    for part in (law_table(), law_diagram(), law_references()):
        assert part in section


def test_the_table_of_paths_says_what_follows_each_cue() -> None:
    heading, _, *rows = [line.strip("| ").split(" | ") for line in path_table().splitlines()]
    assert heading == [path.value for path in Path]
    assert [row[0] for row in rows] == [cue.value for cue in Cue]
    for cue, row in zip(Cue, rows, strict=True):
        for path, cell in zip(Path, row[1:], strict=True):
            said = set() if cell == "·" else {Path(word) for word in cell.split(", ")}
            assert said == PATH_LAW[path][cue] - {path}
