# SPDX-License-Identifier: MIT
"""Every command has a man page and completions, which their programs take."""

import subprocess
import sys
from pathlib import Path

import pytest

from noid.cli.main import parser
from tests.test_cli import leaves

ROOT = Path(__file__).parent.parent.parent
COMMANDS = dict(leaves(parser()))
BASH = """
. "$0"
{ COMP_WORDS=(noid "$@"); COMP_CWORD=$#; _shtab_noid; } && printf '%s\\n' "${COMPREPLY[@]}"
"""


def said(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pages")
    said(sys.executable, str(ROOT / "scripts" / "make-pages"), str(directory))
    return directory


@pytest.mark.slow
def test_every_command_has_a_man_page(pages: Path) -> None:
    for command, one in COMMANDS.items():
        page = pages / "man" / f"{command.replace(' ', '-')}.8"
        shown = said("man", "--warnings", "--encoding=UTF-8", "--local-file", str(page))
        for action in one._actions:
            assert all(option in shown for option in action.option_strings), (command, action)
        assert command in shown


@pytest.mark.slow
def test_man_pages_can_be_found_by_what_they_are_for(pages: Path) -> None:
    found = said("lexgrog", *map(str, sorted((pages / "man").iterdir())))
    assert 'noid-run - run the shim on this host, in the foreground"' in found
    assert "parse failed" not in found


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_bash_completes_a_command_and_its_options(command: str, pages: Path) -> None:
    path = str(pages / "completions" / "noid.bash")
    *before, last = command.split()[1:]
    assert last in said("bash", "-c", BASH, path, *before, last[:-1]).split()
    options = said("bash", "-c", BASH, path, *before, last, "--").split()
    named = {one for action in COMMANDS[command]._actions for one in action.option_strings}
    assert {one for one in named if one.startswith("--")} <= set(options)


@pytest.mark.slow
def test_fish_completes_commands_and_options(pages: Path) -> None:
    path = pages / "completions" / "noid.fish"
    for command, one in COMMANDS.items():
        found = said("fish", "-c", f"source {path}; complete -C '{command} --'")
        offered = {line.split("\t")[0] for line in found.splitlines()}
        named = {option for action in one._actions for option in action.option_strings}
        assert {option for option in named if option.startswith("--")} <= offered, command


@pytest.mark.slow
def test_zsh_takes_its_completions_which_name_every_option(pages: Path) -> None:
    path = pages / "completions" / "_noid"
    said("zsh", "-n", str(path))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#compdef noid\n")
    for command, one in COMMANDS.items():
        name = "_".join(command.replace("-", "_").split())
        _, found, rest = text.partition(f"\n_shtab_{name}_options=(\n")
        options = rest.partition("\n)\n")[0]
        assert found, command
        for action in one._actions:
            assert all(option in options for option in action.option_strings), command
