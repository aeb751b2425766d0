# SPDX-License-Identifier: MIT
"""Turning the host's resolver to noid and back, on a file that is not the host's."""

import os
from pathlib import Path

import pytest

from noid.cli.main import main
from noid.config import Config, upstream_resolvers
from noid.errors import PlatformError
from noid.host.resolvconf import is_on, resolvers_before, turn_off, turn_on

BEFORE = "# mine\nsearch example.org\nnameserver 192.0.2.53\noptions timeout:2\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "resolv.conf"
    file.write_text(BEFORE)
    file.chmod(0o640)
    os.utime(file, ns=(1_000_000_007, 2_000_000_009))
    return file


def state(path: Path) -> tuple[object, ...]:
    """All that off has to put back, and whatever else is in the directory."""
    status = os.lstat(path)
    target = os.readlink(path) if path.is_symlink() else path.read_bytes()
    about = status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns
    return target, about, sorted(os.listdir(path.parent))


def test_on_makes_programs_ask_noid_and_keeps_the_rest(path: Path) -> None:
    turn_on(path, "::1")
    lines = path.read_text().splitlines()[1:]
    assert lines == ["nameserver ::1", "search example.org", "options timeout:2"]
    assert is_on(path)


def test_off_puts_back_exactly_what_was_there(path: Path) -> None:
    before = state(path)
    turn_on(path, "::1")
    turn_off(path)
    assert state(path) == before


@pytest.mark.parametrize("target", ["real.conf", "not-there.conf"])
def test_a_symlink_comes_back_as_the_symlink_it_was(path: Path, target: str) -> None:
    os.rename(path, path.with_name("real.conf"))
    path.symlink_to(target)
    before = state(path)
    turn_on(path, "::1")
    assert not path.is_symlink()
    assert path.with_name("real.conf").read_text() == BEFORE
    turn_off(path)
    assert state(path) == before


def test_on_twice_and_off_twice_are_refused(path: Path) -> None:
    turn_on(path, "::1")
    with pytest.raises(PlatformError, match="asks noid already"):
        turn_on(path, "::1")
    turn_off(path)
    with pytest.raises(PlatformError, match="nothing to undo"):
        turn_off(path)


def test_what_somebody_else_wrote_meanwhile_is_left_alone(path: Path) -> None:
    turn_on(path, "::1")
    path.write_text("nameserver 192.0.2.99\n")
    with pytest.raises(PlatformError, match="changed by somebody else"):
        turn_off(path)
    assert path.read_text() == "nameserver 192.0.2.99\n"


def test_what_cannot_be_undone_is_not_done(path: Path) -> None:
    os.mkdir(path.with_name("directory"))
    with pytest.raises(PlatformError, match="no file"):
        turn_on(path.with_name("directory"), "::1")
    with pytest.raises(PlatformError, match="is not there"):
        turn_on(path.with_name("nothing"), "::1")
    path.with_name("resolv.conf.before-noid").write_text("of somebody else")
    with pytest.raises(PlatformError, match="is in the way"):
        turn_on(path, "::1")
    assert path.read_text() == BEFORE


def test_what_an_interrupted_run_left_does_not_matter(path: Path) -> None:
    os.link(path, path.with_name("resolv.conf.before-noid"))
    turn_on(path, "::1")
    turn_off(path)
    assert path.read_text() == BEFORE


def test_noid_itself_asks_those_that_were_asked_before(path: Path) -> None:
    turn_on(path, "::1")
    assert upstream_resolvers(Config(), resolvers_before(path)) == ("192.0.2.53",)


def test_the_command_turns_it_on_and_off(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    option = ["--resolv-conf", str(path)]
    assert main(["resolver", "status", *option]) == 1
    assert main(["resolver", "on", *option]) == 0
    assert main(["resolver", "status", "--json", *option]) == 0
    assert main(["resolver", "off", *option]) == 0
    assert main(["resolver", "off", *option]) == 1
    assert path.read_text() == BEFORE
    assert '"on":true' in capsys.readouterr().out


def test_a_file_that_names_noid_by_itself_is_told_apart(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_text("nameserver ::1\nnameserver 192.0.2.53\n")
    assert main(["resolver", "status", "--resolv-conf", str(path)]) == 0
    assert "not because of noid resolver on" in capsys.readouterr().out
    path.write_text("nameserver 192.0.2.53\nnameserver ::1\n")
    assert main(["resolver", "status", "--resolv-conf", str(path)]) == 1
