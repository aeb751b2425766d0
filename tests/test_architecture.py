# SPDX-License-Identifier: MIT
"""The rooms of docs/architecture.md, held against the imports of the code."""

import ast
import functools
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from noid.cli.table import MODULES as COMMANDS

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "noid"
LINES_MAX = 450
FUNCTION_LINES_MAX = 70


class Room(NamedTuple):
    """A package, or a module that is none, of ``src/noid``.

    Attributes:
        pure: whether it has no clock, randomness, input, output or log.
        imports: the rooms it may import, besides the common ones.
    """

    pure: bool
    imports: frozenset[str]


def room(imports: str = "", *, pure: bool = False) -> Room:
    return Room(pure, frozenset(imports.split()))


COMMON = {"constants", "counters", "errors", "identifiers", "locators", "text"}
"""Modules that every room may import. All are pure."""

ROOMS = {
    "wire": room(pure=True),
    "shares": room(pure=True),
    "flows": room("wire shares", pure=True),
    "dns": room(pure=True),
    "engine": room("wire dns flows shares", pure=True),
    "policy_config": room(pure=True),
    "config_parts": room(pure=True),
    "config_text": room(),
    "config_values": room(pure=True),
    "config": room("config_parts config_text config_values policy_config"),
    "config_places": room("config"),
    "border_config": room("config config_text config_values flows"),
    "host": room(),
    "resolver": room("dns host shares"),
    "planes": room("config flows host wire"),
    "planes.bpf": room("config flows host planes wire"),
    "state": room("engine flows host planes.bpf"),
    "control": room("engine host shares"),
    "roles": room(
        "border_config config control dns engine flows host planes planes.bpf policy_config"
        " resolver state"
    ),
    "doctor": room("border_config config control dns host planes planes.bpf resolver wire"),
    "sockets": room("config_places control"),
    "setup": room("dns host state"),
    "cli": room(
        "bench border_config config config_places config_text control dns doctor host lab"
        " planes.bpf resolver roles setup sim state sweep wire"
    ),
    "sim": room("dns engine flows shares wire", pure=True),
    "sweep": room("bench engine sim"),
    "lab": room("config control host planes.bpf"),
    "bench": room("control dns engine flows host lab planes planes.bpf resolver shares state wire"),
}
"""Every room. The arrows between them have no cycle."""

TESTBED = {"sim", "sweep", "lab", "bench"}
"""Rooms that only ``cli`` imports, when a command needs them; a daemon never does."""

IMPURE = {
    "asyncio", "ctypes", "datetime", "logging", "multiprocessing", "os", "pathlib", "pyroute2",
    "random", "secrets", "select", "selectors", "signal", "socket", "subprocess", "sys",
    "threading", "time", "uuid",
}  # fmt: skip
SEEDED = {"sim": {"random"}}
"""Room -> the impure modules that it may use: random numbers that come from a seed."""

ENGINE_DOORS = {
    *("engine.causes", "engine.events", "engine.host"),
    *("engine.context", "engine.options", "engine.records", "engine.secrets"),
}
"""What of the engine others may import: the door, its data, what a host starts with."""


OUTSIDE = {"__main__", "sockets", "sim.explore", "sim.illustration"}
"""Modules that Python, programs of users, scripts or tests alone import."""


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


@functools.cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """The syntax of a file, which several tests read."""
    return tuple(ast.walk(ast.parse(path.read_text())))


@functools.cache
def imports_of(path: Path) -> frozenset[str]:
    found: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def is_in(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def room_of(name: str) -> str | None:
    """The room a module is in; none for the package itself and its common modules."""
    found = [one for one in ROOMS if is_in(name, one)]
    return max(found, key=len, default=None)


def is_pure(name: str) -> bool:
    one = room_of(name)
    return name in COMMON if one is None else ROOMS[one].pure


def ours(name: str) -> set[str]:
    """The modules of noid that a module imports."""
    found = {one.removeprefix("noid.") for one in imports_of(MODULES[name]) if is_in(one, "noid")}
    return found & MODULES.keys()


def acyclic(arrows: dict[str, set[str]]) -> set[str]:
    """What remains of a graph when leaves are removed until there are none."""
    arrows = {name: targets & arrows.keys() for name, targets in arrows.items()}
    while leaves := {name for name, targets in arrows.items() if not targets & arrows.keys()}:
        arrows = {name: targets for name, targets in arrows.items() if name not in leaves}
    return set(arrows)


@pytest.mark.parametrize("name", [name for name in MODULES if is_pure(name)])
def test_pure_modules_have_no_clock_no_randomness_and_no_io(name: str) -> None:
    allowed = {one for room, ones in SEEDED.items() if is_in(name, room) for one in ones}
    impure = {one.partition(".")[0] for one in imports_of(MODULES[name])} & IMPURE - allowed
    assert not impure, f"noid.{name} is pure: time and entropy are arguments"


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_only_what_it_may(name: str) -> None:
    here = room_of(name)
    if here is None:
        return
    for one in ours(name):
        there = room_of(one)
        if there is None:
            assert one in COMMON | {""}, f"noid.{name} imports noid.{one}"
        else:
            assert there == here or there in ROOMS[here].imports, f"noid.{name} imports noid.{one}"


def test_every_module_is_imported_or_has_commands() -> None:
    used = {one for name in MODULES for one in ours(name)}
    commands = {"cli.main", *(f"cli.{name}" for name in COMMANDS)}
    others = {
        name
        for name, path in MODULES.items()
        if path.name == "__init__.py" or 'if __name__ == "__main__"' in path.read_text()
    }
    assert MODULES.keys() - used - commands - others == OUTSIDE


def test_every_arrow_is_used() -> None:
    used = {(room_of(name), room_of(one)) for name in MODULES for one in ours(name)}
    for here, declared in ROOMS.items():
        for there in declared.imports:
            assert (here, there) in used, f"{here} imports nothing of {there}"


def test_pure_rooms_import_only_pure_ones() -> None:
    for declared in ROOMS.values():
        if declared.pure:
            assert all(ROOMS[one].pure for one in declared.imports)


def test_no_rooms_and_no_modules_import_each_other() -> None:
    assert not acyclic({name: set(declared.imports) for name, declared in ROOMS.items()})
    # A package's own name stands in every import of one of its modules.
    modules = {name for name in MODULES if MODULES[name].name != "__init__.py"}
    assert not acyclic({name: ours(name) & modules for name in modules})


def test_only_commands_import_the_testbed() -> None:
    for here, declared in ROOMS.items():
        if here not in TESTBED | {"cli"}:
            assert not declared.imports & TESTBED


def test_the_linter_knows_the_same_pure_rooms() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    ignoring = {
        pattern
        for pattern, codes in settings["per-file-ignores"].items()
        if "TID251" in codes and not pattern.startswith(("tests/", "scripts/", "hatch_build.py"))
    }
    impure = {one for one in ROOMS if not ROOMS[one].pure and "." not in one} | SEEDED.keys()
    assert ignoring == {
        f"src/noid/{one}/**" if (SOURCE / one).is_dir() else f"src/noid/{one}.py" for one in impure
    }


def test_the_page_has_the_same_rooms() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("| `")
    ]
    found = {
        row[0].strip("`").rstrip("/").replace("/", "."): room(
            row[2].replace("`", "").replace("/", ".").replace(",", ""), pure=row[1] == "yes"
        )
        for row in rows
        if len(row) == 4
    }
    assert found == ROOMS


def test_the_engine_is_entered_by_its_doors() -> None:
    for name, path in MODULES.items():
        if is_in(name, "engine"):
            continue
        inner = (
            {"engine.state", "engine.inspection"} if name.startswith(("sim", "bench")) else set()
        )
        doors = ENGINE_DOORS | inner
        for one in imports_of(path):
            target = one.removeprefix("noid.")
            if target in MODULES and is_in(target, "engine") and target != "engine":
                assert target in doors, f"noid.{name} imports {one}"


def test_only_the_engine_and_its_own_tests_access_its_core() -> None:
    for path in (*MODULES.values(), *sorted((ROOT / "tests").rglob("*.py"))):
        if {"src/noid/engine", "tests/engine"}.isdisjoint(
            str(one) for one in path.relative_to(ROOT).parents
        ):
            text = path.read_text()
            if ".core" in text:  # in prose, too
                nodes = ast.walk(ast.parse(text))
                found = [one for one in nodes if isinstance(one, ast.Attribute)]
                lines = [one.lineno for one in found if one.attr == "core"]
                assert not lines, f"{path}:{lines}"


LIBRARY = "host.library"
"""The module that imports the netlink library, without the parts that no one uses."""
NETLINK = {"host.netlink", "host.reading", "host.clsact"}
"""Modules besides the lab that use it."""


def test_every_task_ends_when_it_is_told_to() -> None:
    """``asyncio.wait_for`` of Python 3.11 goes on if what it waits for has just come."""
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (
                isinstance(node, ast.Attribute)
                and node.attr == "wait_for"
                and isinstance(node.value, ast.Name)
                and node.value.id == "asyncio"
            ), f"noid.{name} uses asyncio.wait_for: take asyncio.timeout"


def test_only_two_rooms_speak_netlink() -> None:
    for name, path in MODULES.items():
        if any(one.partition(".")[0] == "pyroute2" for one in imports_of(path)):
            assert name == LIBRARY
        if f"noid.{LIBRARY}" in imports_of(path):
            assert name in NETLINK or is_in(name, "lab"), name


@pytest.mark.parametrize("name", MODULES)
def test_no_function_is_too_long(name: str) -> None:
    for node in nodes_of(MODULES[name]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX, node.name


# --- sources -------------------------------------------------------------------------------------

MIT = "SPDX-License-Identifier: MIT"
EITHER = "SPDX-License-Identifier: MIT OR GPL-2.0-only"
FIRST_LINES = 2
"""The first line, or the second, after that of the interpreter."""
SOURCE_PLACES = ("src", "tests", "scripts", "contrib", ".ci")
SOURCE_KINDS = {
    *(".py", ".c", ".h", ".sh", ".js", ".css", ".html", ".lua", ""),
    *(".service", ".socket", ".path", ".toml", ".yml", ".lintian-overrides"),
}
NOT_SOURCES = {"changelog", "copyright", "format", "py.typed", ".ready"}


def sources() -> list[Path]:
    found = [ROOT / "hatch_build.py", ROOT / "Makefile"]
    for place in SOURCE_PLACES:
        for path in sorted((ROOT / place).rglob("*")):
            if path.is_file() and path.suffix in SOURCE_KINDS and path.name not in NOT_SOURCES:
                found.append(path)
    return found


def test_no_source_file_is_too_long() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert not {path: count for path, count in lines.items() if count > LINES_MAX}


def test_every_source_file_names_its_licence() -> None:
    paths = sources()
    assert len(paths) > 400
    for path in paths:
        head = path.read_text(encoding="utf-8").splitlines()[:FIRST_LINES]
        licence = EITHER if path.suffix in {".c", ".h"} else MIT
        assert any(line.strip("/*#<!-> ") == licence for line in head), f"{path} lacks: {licence}"
