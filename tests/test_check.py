# SPDX-License-Identifier: MIT
"""``noid check``: every problem of a file at once, and where commands find file and socket."""

import argparse
import json
import socket
from pathlib import Path

import pytest

from noid import config_places
from noid.cli import places
from noid.cli.main import main
from noid.config import DEFAULT_SOCKET, Config
from noid.errors import ConfigError
from tests.test_config import REFUSED

Capture = pytest.CaptureFixture[str]


def check(path: Path, text: str, capsys: Capture) -> tuple[int, list[dict[str, object]]]:
    path.write_text(text)
    status = main(["check", str(path), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["file"] == str(path)
    assert answer["ok"] is (status == 0)
    return status, answer["problems"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "noid.toml"


@pytest.mark.parametrize(("text", "key", "why"), REFUSED)
def test_each_refusal_has_key_reason_and_remedy(
    text: str, key: str, why: str, path: Path, capsys: Capture
) -> None:
    status, problems = check(path, text, capsys)
    assert status == 1
    key = str(path) if key == "configuration" else key
    (found, *_) = [one for one in problems if one["key"] == key]
    assert why in str(found["reason"])
    assert found["remedy"]
    assert found["refused"] is True


def test_every_wrong_key_is_reported_at_once(path: Path, capsys: Capture) -> None:
    text = "[host]\ninterface = []\nname = 1\n[dns]\nport = 0\n[plain]\n"
    _, problems = check(path, text, capsys)
    found = {one["key"]: one["remedy"] for one in problems}
    assert found == {
        "host.interface": "did you mean interfaces?",
        "host.name": 'such as: name = ""',
        "dns.port": "such as: port = 53",
        "plain": "did you mean plane?",
    }


@pytest.mark.parametrize("below", ["", "/state/noid"])
def test_a_state_directory_that_is_a_file_or_below_one_is_refused(
    below: str, path: Path, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "file"
    file.touch()
    status, (problem,) = check(path, f'[state]\ndirectory = "{file}{below}"\n', capsys)
    assert status == 1
    assert problem["key"] == "state.directory"
    assert problem["reason"] == f"{str(file)!r} is not a directory"


def test_a_state_directory_that_is_not_there_yet_is_right(
    path: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert check(path, f'[state]\ndirectory = "{tmp_path}/a/b"\n', capsys) == (0, [])


EVERYWHERE = """\
[host]
interfaces = [1, "none0", 2]
locators = ["a", "fe80::1"]
[dns]
listen = 5
trusted = ["2001:db8::53", "2001:db8::54"]
never_look_up = ["x"]
[policy]
plain = ["*"]
[policy.pin]
"b.example" = 1
"c.example" = 2
"d.example" = ""
[uplinks.eth1]
weight = 9
priority = 0
waight = 1
[uplinks."eth*"]
backup = 1
[codepoints]
rewritable_first = "224"
fixed_first = 230
"""


def test_every_problem_of_a_table_is_reported(path: Path, capsys: Capture) -> None:
    status, problems = check(path, EVERYWHERE, capsys)
    assert status == 1
    found = [(one["key"], one["refused"]) for one in problems]
    assert sorted(found) == sorted(
        [(key, True) for key in (
            *("host.interfaces[0]", "host.interfaces[2]", "host.locators", "host.locators"),
            *("dns.listen", "dns.trusted", "dns.trusted", "dns.never_look_up", "policy.plain"),
            *("policy.pin.b.example", "policy.pin.c.example", "policy.pin"),
            *("uplinks.eth1.weight", "uplinks.eth1.priority", "uplinks.eth1.waight"),
            *("uplinks.eth*.backup", "codepoints.rewritable_first"),
        )]
        + [("host.interfaces", False)]
    )  # fmt: skip
    assert all(one["reason"] and one["remedy"] for one in problems)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[dns]\nupstream = 1\ntrusted = ["2001:db8::53"]', "dns.upstream"),
        ("[dns]\ntrusted = 1\nrequire_dnssec = true", "dns.trusted"),
        ('name = 1\n"a - at `$[...].b.c.d" = 1', "name"),
        ("host.name.a.b.c.d = 1", "host.name"),
        ("[[host]]\nname = 1\n[[host]]\nname = 2", "host"),
    ],
)
def test_what_follows_from_a_problem_is_not_reported(
    text: str, key: str, path: Path, capsys: Capture
) -> None:
    _, problems = check(path, text, capsys)
    assert problems[0]["key"] == key
    assert len(problems) == 1 + text.count("$")


def test_a_glob_that_matches_nothing_is_a_warning(path: Path, capsys: Capture) -> None:
    names = [name for _, name in socket.if_nameindex()]
    text = f'[host]\ninterfaces = ["{names[0]}", "nothing*"]\nbackup = ["2001:db8::1", "none0"]'
    status, problems = check(path, text, capsys)
    assert status == 0
    assert [(one["key"], one["refused"]) for one in problems] == [
        ("host.interfaces", False),
        ("host.backup", False),
    ]
    assert "'nothing*' matches no interface; there are " in str(problems[0]["reason"])


@pytest.mark.parametrize("name", ["a..example", "a b.example", "a" * 64 + ".example"])
def test_a_name_that_is_no_host_name_is_a_warning(name: str, path: Path, capsys: Capture) -> None:
    status, (problem,) = check(path, f'[host]\nname = "{name}"\n', capsys)
    assert status == 0
    assert (problem["key"], problem["refused"]) == ("host.name", False)
    assert "is not a host name" in str(problem["reason"])


@pytest.mark.parametrize("name", ["", "a.example", "A.Example."])
def test_a_host_name_is_no_problem(name: str, path: Path, capsys: Capture) -> None:
    assert check(path, f'[host]\nname = "{name}"\n', capsys) == (0, [])


def test_check_prints_reason_and_remedy_for_people(path: Path, capsys: Capture) -> None:
    path.write_text("[dns]\nport = 0\n")
    assert main(["check", str(path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "wrong   dns.port: expected `int` >= 1",
        "        remedy: such as: port = 53",
    ]
    path.write_text("")
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: ok\n"


def test_a_file_that_is_not_there_is_wrong(path: Path, capsys: Capture) -> None:
    assert main(["check", str(path)]) == 1
    assert f"{path}: cannot be read: No such file" in capsys.readouterr().out


def test_without_a_file_there_are_defaults(
    path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_places, "USUAL_CONFIG", path)
    monkeypatch.delenv("NOID_SOCKET", raising=False)
    assert config_places.config_file(None) is None
    assert main(["check"]) == 0
    assert "noid runs with defaults" in capsys.readouterr().out
    assert config_places.control_socket("") == DEFAULT_SOCKET
    arguments = argparse.Namespace(config=None)
    assert places.configuration(arguments) == Config()


def test_a_daemon_reads_defaults_only_until_there_is_a_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_places, "USUAL_CONFIG", path)
    read = config_places.ConfigReader(None)
    assert read() == Config()
    path.write_text('[host]\nname = "a.example"\n')
    assert read().host.name == "a.example"
    path.unlink()
    with pytest.raises(ConfigError, match=f"{path}: cannot be read: No such file"):
        read()


def test_commands_find_the_socket_in_the_usual_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_places, "USUAL_CONFIG", path)
    monkeypatch.delenv("NOID_SOCKET", raising=False)
    path.write_text('[control]\nsocket = "/run/other.sock"')
    assert config_places.control_socket("") == Path("/run/other.sock")
    path.write_text("[control")
    assert config_places.control_socket("") == DEFAULT_SOCKET
    assert config_places.control_socket("/run/named.sock") == Path("/run/named.sock")
