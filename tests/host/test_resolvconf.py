# SPDX-License-Identifier: MIT
"""Turning the host's resolver to noid and back, on a file that is not the host's."""

import errno
import os
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from noid.cli.main import main
from noid.config import RESOLV_CONF, Config, upstream_resolvers
from noid.control import asked as asking
from noid.control.asked import Answering, answering
from noid.control.client import ask
from noid.errors import ConfigError, PlatformError
from noid.host.kept import SUFFIX, system_errors
from noid.host.resolvconf import asked, is_asked, is_on, resolvers_before, turn_off, turn_on
from tests.canned import serving
from tests.namespaces import in_network_namespace

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


def test_on_names_noid_first_and_keeps_the_rest(path: Path) -> None:
    assert turn_on(path, "::1")
    lines = path.read_text().splitlines()[1:]
    assert lines == [
        "nameserver ::1",
        "nameserver 192.0.2.53",
        "search example.org",
        "options timeout:1 attempts:5",
    ]
    assert is_on(path)


def test_no_query_passes_noid_by_and_a_silent_server_costs_one_second(path: Path) -> None:
    path.write_text(
        "nameserver 192.0.2.1\nnameserver ::1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
        "options rotate edns0\noptions trust-ad\n"
    )
    turn_on(path, "::1")
    assert path.read_text().splitlines()[1:] == [
        "nameserver ::1",
        "nameserver 192.0.2.1",
        "nameserver 192.0.2.2",
        "options edns0 trust-ad timeout:1 attempts:5",
    ]


def test_a_longer_timeout_of_the_file_does_not_apply_to_noid(path: Path) -> None:
    path.write_text("nameserver 192.0.2.1\noptions timeout:3 attempts:2 edns0\noptions timeout:4\n")
    before = state(path)
    turn_on(path, "::1")
    assert path.read_text().splitlines()[-1] == "options edns0 timeout:1 attempts:5"
    turn_off(path, "::1")
    assert state(path) == before


@pytest.mark.parametrize(
    ("options", "attempts"),
    [
        ("attempts:1", 5),
        ("timeout:5 attempts:1", 5),
        ("timeout:5 attempts:10", 10),
        ("timeout:1 attempts:1", 1),
        ("timeout:5 timeout:1 attempts:3 attempts:2", 2),
        ("timeout:1 attempts:", 5),
    ],
)
def test_a_server_that_took_longer_is_asked_more_often(
    path: Path, options: str, attempts: int
) -> None:
    path.write_text(f"nameserver 192.0.2.1\noptions {options}\n")
    turn_on(path, "::1")
    assert path.read_text().splitlines()[-1] == f"options timeout:1 attempts:{attempts}"


def test_off_restores_the_file_exactly(path: Path) -> None:
    before = state(path)
    turn_on(path, "::1")
    turn_off(path, "::1")
    assert state(path) == before


@pytest.mark.parametrize("target", ["real.conf", "not-there.conf"])
def test_a_symlink_comes_back_as_the_symlink_it_was(path: Path, target: str) -> None:
    os.rename(path, path.with_name("real.conf"))
    path.symlink_to(target)
    before = state(path)
    turn_on(path, "::1")
    assert not path.is_symlink()
    assert path.with_name("real.conf").read_text() == BEFORE
    turn_off(path, "::1")
    assert state(path) == before


def test_on_twice_and_off_twice_change_nothing(path: Path) -> None:
    before = state(path)
    turn_on(path, "::1")
    after = state(path)
    assert not turn_on(path, "::1")
    assert state(path) == after
    assert turn_off(path, "::1")
    assert not turn_off(path, "::1")
    assert state(path) == before


@pytest.mark.parametrize("in_place", [False, True])
def test_what_a_dhcp_client_wrote_goes_behind_noid_and_comes_back(
    path: Path, in_place: bool
) -> None:
    turn_on(path, "::1")
    if not in_place:
        path.unlink()
    path.write_text("nameserver 192.0.2.99\n")
    dhcp = state(path)[:2]
    assert resolvers_before(path) == path
    assert turn_on(path, "::1")
    assert asked(path) == ["::1", "192.0.2.99"]
    assert asked(resolvers_before(path)) == ["192.0.2.99"]
    turn_off(path, "::1")
    assert state(path)[:2] == dhcp
    assert sorted(os.listdir(path.parent)) == ["resolv.conf"]


def test_off_leaves_what_others_have_written_since(path: Path) -> None:
    turn_on(path, "::1")
    path.write_text("nameserver 192.0.2.99\n")
    assert turn_off(path, "::1")
    assert path.read_text() == "nameserver 192.0.2.99\n"
    assert os.listdir(path.parent) == ["resolv.conf"]


def test_a_file_that_was_deleted_comes_back(path: Path) -> None:
    before = state(path)
    turn_on(path, "::1")
    path.unlink()
    assert turn_on(path, "::1")
    assert asked(path) == ["::1", "192.0.2.53"]
    path.unlink()
    assert turn_off(path, "::1")
    assert state(path) == before


def test_the_target_of_a_symlink_may_change(path: Path) -> None:
    os.rename(path, path.with_name("real.conf"))
    path.symlink_to("real.conf")
    turn_on(path, "::1")
    path.with_name("real.conf").write_text("nameserver 192.0.2.77\n")
    assert turn_on(path, "::1")
    assert asked(path) == ["::1", "192.0.2.77"]


@pytest.mark.parametrize("again", [False, True])
def test_off_without_the_saved_file_keeps_the_other_resolvers(path: Path, again: bool) -> None:
    turn_on(path, "::1")
    path.with_name("resolv.conf.before-noid").unlink()
    if again:
        assert not turn_on(path, "::1")
    assert turn_off(path, "::1")
    assert asked(path) == ["192.0.2.53"]
    assert os.listdir(path.parent) == ["resolv.conf"]


def test_what_cannot_be_undone_is_not_done(path: Path) -> None:
    os.mkdir(path.with_name("directory"))
    with pytest.raises(PlatformError, match="no file"):
        turn_on(path.with_name("directory"), "::1")
    with pytest.raises(PlatformError, match="is not there"):
        turn_on(path.with_name("nothing"), "::1")
    assert path.read_text() == BEFORE


def test_a_file_without_a_resolver_means_the_local_one(path: Path) -> None:
    path.write_text("search example.org\n")  # man resolv.conf: the name server on the local machine
    assert turn_on(path, "::1")
    assert asked(path) == ["::1", "127.0.0.1"]
    assert not turn_on(path, "::1")
    assert turn_off(path, "::1")
    turn_on(path, "127.0.0.1")
    assert asked(path) == ["127.0.0.1"]


def test_root_is_not_told_to_be_root(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    for user, advice in ((0, "chattr -i"), (1000, "run as root")):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        with pytest.raises(PlatformError, match=advice), system_errors(path):
            raise denied


def test_off_keeps_its_record_while_another_file_is_mounted_over_the_file(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("nameserver 192.0.2.99\n")
    before = state(path)
    assert turn_on(path, "::1")
    command = 'mount --bind "$1" "$2" && exec "$3" -m noid resolver off --resolv-conf "$2"'
    words = ("unshare", "-m", "sh", "-c", command, "-", other, path, sys.executable)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, "is mounted" in done.stderr) == (1, True), done.stderr
    assert turn_off(path, "::1")
    assert state(path) == before


def test_a_fifo_is_not_waited_for(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.unlink()
    os.mkfifo(path)
    assert main(["resolver", "status", "--resolv-conf", str(path)]) == 1
    assert main(["resolver", "on", "--resolv-conf", str(path)]) == 1
    assert "is no file that can be replaced" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="names no other resolver"):
        upstream_resolvers(Config(), path)
    link = path.with_name("link")
    link.symlink_to(path)
    assert turn_on(link, "::1")
    assert turn_off(link, "::1")
    assert link.is_symlink()


def test_the_stub_is_named_once_however_its_address_was_written(path: Path) -> None:
    path.write_text("nameserver 0:0::1\nnameserver 192.0.2.53\n")
    assert is_asked(path, "::1")
    turn_on(path, "::1")
    assert asked(path) == ["::1", "192.0.2.53"]


def test_what_an_interrupted_run_left_does_not_matter(path: Path) -> None:
    os.link(path, path.with_name("resolv.conf.before-noid"))
    turn_on(path, "::1")
    turn_off(path, "::1")
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
    assert main(["resolver", "off", *option]) == 0
    assert path.read_text() == BEFORE
    assert '"on":true' in capsys.readouterr().out


@pytest.mark.parametrize("text", ["[host", '[dns]\nlisten = "::1"\nnobody = 1\n', None])
def test_off_works_with_a_configuration_that_is_refused(
    path: Path, tmp_path: Path, text: str | None
) -> None:
    config = tmp_path / "noid.toml"
    if text is not None:
        config.write_text(text)
    turn_on(path, "::1")
    option = ["--resolv-conf", str(path), "--config", str(config)]
    assert main(["resolver", "status", *option]) == 1
    assert is_on(path)
    assert main(["resolver", "off", *option]) == 0
    assert path.read_text() == BEFORE


def test_a_file_that_names_noid_by_itself_is_told_apart(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "noid.toml"
    config.write_text(f'[control]\nsocket = "{tmp_path}/sock"\n')
    words = ["resolver", "status", "--resolv-conf", str(path), "--config", str(config)]
    path.write_text("nameserver ::1\nnameserver 192.0.2.53\n")
    with serving(tmp_path / "sock", {"status": dict}):
        assert main(words) == 0
    assert "not written by noid resolver on" in capsys.readouterr().out
    path.write_text("nameserver 192.0.2.53\nnameserver ::1\n")
    assert main(words) == 1


@pytest.mark.lab
@pytest.mark.parametrize(
    ("is_open", "is_silent", "status", "text"),
    [
        (True, False, 1, "another program answers there"),
        (True, True, 0, "the port is open and nothing answers"),
        (False, True, 0, "nothing answers there"),
    ],
)
def test_a_file_that_names_the_address_of_another_program_is_reported(
    path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    is_open: bool,
    is_silent: bool,
    status: int,
    text: str,
) -> None:
    config = tmp_path / "noid.toml"
    config.write_text(f'[control]\nsocket = "{tmp_path}/sock"\n')
    option = ["--resolv-conf", str(path), "--config", str(config)]
    path.write_text("nameserver ::1\n")

    def play() -> int:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
            if is_open:
                other.bind(("::1", 53))
            if not is_silent:
                threading.Thread(target=echo, args=(other,), daemon=True).start()
            assert main(["resolver", "status", *option]) == 1
            return main(["resolver", "on", *option])

    assert in_network_namespace(play) == status
    said = capsys.readouterr().out
    assert "programs ask noid" not in said
    assert text in said
    assert path.read_text() == "nameserver ::1\n"


def echo(server: socket.socket) -> None:
    """Answers two queries."""
    for _ in range(2):
        server.sendto(*server.recvfrom(512))


def test_a_daemon_that_is_stuck_is_not_asked_for_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ask", partial(ask, timeout_s=0.1))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.bind(str(tmp_path / "sock"))
        control.listen()
        assert answering("no address", tmp_path / "sock") is Answering.UNKNOWN


def test_the_path_unit_starts_only_while_programs_are_to_ask_noid() -> None:
    units = Path(__file__).parents[2] / "contrib" / "systemd"
    assert "PathChanged=/etc/resolv.conf\n" in (units / "noid-resolver.path").read_text()
    condition = f"ConditionPathExists=|{RESOLV_CONF}{SUFFIX}\n"
    assert condition in (units / "noid-resolver.service").read_text()
