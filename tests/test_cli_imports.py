# SPDX-License-Identifier: MIT
"""What a command imports: no more than it needs."""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from noid.cli.main import main, parser
from noid.cli.table import MODULES

TESTBED = ("noid.sim", "noid.sweep", "noid.lab", "noid.bench", "rich", "matplotlib", "distributed")
"""What a host that only runs noid needs nothing of."""


LOADED = """
import sys
from noid.cli.main import main
{}
try:
    main({!r})
except SystemExit:
    pass
print(*sys.modules, file=sys.stderr)
"""


def imported_by(*words: str, before: str = "") -> set[str]:
    """The modules that a command line has imported when it ends, in a process of its own."""
    program = LOADED.format(before, list(words))
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(ended.stderr.split())


def of_testbed(modules: set[str]) -> set[str]:
    return {one for one in modules if one.startswith(TESTBED)}


@pytest.mark.slow
def test_a_daemon_imports_nothing_of_the_testbed(tmp_path: Path) -> None:
    path = tmp_path / "noid.toml"
    path.write_text(f'[state]\ndirectory = "{path}/below"\n[dns]\nupstream = ["2001:db8::53"]')
    found = imported_by("run", "--config", str(path))
    assert "noid.roles.host" in found
    assert "noid.planes.bpf.plane" in found
    assert not of_testbed(found)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "down", "status", "zone", "resolver", "doctor"])
def test_commands_of_a_host_import_nothing_of_the_testbed(command: str) -> None:
    assert not of_testbed(imported_by(command, "--help"))


@pytest.mark.parametrize("words", [["--version"], ["--help"], [], ["fly"]])
def test_words_without_a_command_import_no_command(words: list[str]) -> None:
    ours = {one for one in imported_by(*words) if one.startswith("noid.")}
    assert ours == {
        *("noid.cli", "noid.cli.main", "noid.cli.output", "noid.cli.table"),
        *("noid.counters", "noid.errors", "noid.text"),
    }


@pytest.mark.slow
def test_the_help_of_all_commands_is_that_of_their_modules() -> None:
    assert parser("").format_help() == parser().format_help()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_adds_the_commands_of_its_row_in_the_table(module: str) -> None:
    top = argparse.ArgumentParser()
    commands = top.add_subparsers()
    importlib.import_module(f"noid.cli.{module}").add_commands(commands)
    assert list(commands.choices) == list(MODULES[module])


@pytest.mark.slow
def test_a_command_without_its_library_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in sys.modules if one.startswith(("rich", "noid.cli.lab"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(["lab", "status"]) == 1
    wanted = "noid lab is not available: it needs rich.console: pip install 'noid-m6[testbed]'"
    assert capsys.readouterr().err == f"noid: {wanted}\n"
