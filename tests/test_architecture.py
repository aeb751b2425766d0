"""The arrows of docs/architecture.md, held against the imports of the code."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "noid"
LINES_MAX = 600
FUNCTION_LINES_MAX = 70

PURE = (
    "shares",
    "constants",
    "datapath",
    "errors",
    "locators",
    "wire",
    "engine",
    "dns.messages",
    "dns.queries",
    "dns.records",
    "dns.responses",
    "dns.verification",
    "sim",
)
IMPURE = {
    "asyncio", "ctypes", "datetime", "logging", "multiprocessing", "os", "pathlib", "pyroute2",
    "random", "secrets", "select", "selectors", "signal", "socket", "subprocess", "sys",
    "threading", "time", "uuid",
}  # fmt: skip
SEEDED = {"sim": {"random"}}
"""Room -> what of the impure it may use: chance, out of a seed."""

FORBIDDEN: dict[str, tuple[tuple[str, ...], str]] = {
    "wire": (("engine", "dns", "plane", "config"), "octets know nothing of what they mean"),
    "engine": (
        ("daemon", "control", "config", "netlink", "lab", "plane"),
        "the engine decides, alone",
    ),
    "datapath": (
        ("engine", "dns", "plane", "config"),
        "the packet path knows flows, not who made them nor what moves the packets",
    ),
    "dns": (("engine", "plane", "daemon"), "the DNS part answers questions, whoever asks"),
    "plane": (
        ("daemon", "control", "cli", "lab", "dns", "engine"),
        "a plane reports, it does not call",
    ),
    "daemon": (("cli", "lab", "bench"), "the daemon does not know who started it"),
    "sim": (
        ("daemon", "control", "cli", "lab", "bench", "plane", "dns.stub", "dns.upstream"),
        "a world of its own",
    ),
    "lab": (("cli", "bench"), "the lab does not know who looks at it"),
    "bench": (("cli",), "a bench measures, it does not print"),
    "control": (("daemon", "engine", "plane"), "the socket carries answers, it has none"),
}
"""Room -> rooms it may not import, and why."""

ENGINE_DOORS = {
    *("engine.events", "engine.host", "engine.core"),
    *("engine.context", "engine.options", "engine.secrets"),
}
"""What of the engine others may import: the door, its data, what a host starts with."""


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_in(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def pure_modules() -> list[str]:
    return [name for name in MODULES if any(is_in(name, room) for room in PURE)]


@pytest.mark.parametrize("name", pure_modules())
def test_what_decides_has_no_clock_no_randomness_and_no_io(name: str) -> None:
    allowed = {one for room, ones in SEEDED.items() if is_in(name, room) for one in ones}
    impure = {one.partition(".")[0] for one in imports_of(MODULES[name])} & IMPURE - allowed
    assert not impure, f"noid.{name} is pure: time and entropy are arguments"


@pytest.mark.parametrize("name", pure_modules())
def test_what_is_pure_imports_only_what_is_pure(name: str) -> None:
    ours = {one.removeprefix("noid.") for one in imports_of(MODULES[name]) if is_in(one, "noid")}
    modules = {one for one in ours if one in MODULES and "__init__" not in MODULES[one].name}
    for one in modules:
        assert any(is_in(one, room) for room in PURE), f"noid.{name} imports noid.{one}"


@pytest.mark.parametrize("room", FORBIDDEN)
def test_the_arrows_point_one_way(room: str) -> None:
    rooms, why = FORBIDDEN[room]
    for name, path in MODULES.items():
        if is_in(name, room):
            for one in imports_of(path):
                target = one.removeprefix("noid.")
                bad = one.startswith("noid.") and any(is_in(target, other) for other in rooms)
                assert not bad, f"noid.{name} imports {one}: {why}"


def test_the_engine_is_entered_by_its_doors() -> None:
    for name, path in MODULES.items():
        if is_in(name, "engine"):
            continue
        doors = ENGINE_DOORS | ({"engine.state"} if name.startswith(("sim", "bench")) else set())
        for one in imports_of(path):
            target = one.removeprefix("noid.")
            if target in MODULES and is_in(target, "engine") and target != "engine":
                assert target in doors, f"noid.{name} imports {one}"


def test_only_two_rooms_speak_netlink() -> None:
    for name, path in MODULES.items():
        if any(one.partition(".")[0] == "pyroute2" for one in imports_of(path)):
            assert name == "netlink" or is_in(name, "lab"), name


@pytest.mark.parametrize("name", MODULES)
def test_every_file_reads_in_one_sitting(name: str) -> None:
    text = MODULES[name].read_text()
    assert len(text.splitlines()) <= LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX, node.name


def test_no_modules_of_the_simulator_import_each_other() -> None:
    arrows = {
        name: {one.removeprefix("noid.") for one in imports_of(path)} & MODULES.keys()
        for name, path in MODULES.items()
        if is_in(name, "sim")
    }
    while leaves := {name for name, targets in arrows.items() if not targets & arrows.keys()}:
        arrows = {name: targets for name, targets in arrows.items() if name not in leaves}
    assert not arrows, f"a cycle among {', '.join(arrows)}"
