# SPDX-License-Identifier: MIT
"""``noid plain``: sockets that bypass the shim, with a real kernel."""

import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from noid.cli.main import main
from noid.cli.plain import NOT_FOUND, NOT_RUN
from noid.config import Config
from noid.planes.bpf import plain
from tests.lab.privilege import NOBODY

pytestmark = pytest.mark.alone  # the control groups of the machine are compared

MARKS = """\
import socket
kinds = [(socket.AF_INET6, socket.SOCK_STREAM), (socket.AF_INET6, socket.SOCK_DGRAM)]
print(*[socket.socket(*kind).getsockopt(socket.SOL_SOCKET, socket.SO_MARK) for kind in kinds])
"""
MARK = Config().plane.mark


def groups() -> list[str]:
    return sorted(one.name for one in plain._own_group().glob("noid-plain-*"))


@pytest.mark.parametrize("mark", [MARK, 0xFFFFFFFF])
def test_sockets_of_a_program_get_the_mark_of_noid(
    mark: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "noid.toml"
    path.write_text(f"[plane]\nmark = {mark}\n")
    before, here = groups(), Path("/proc/self/cgroup").read_text()
    assert main(["plain", "--config", str(path), sys.executable, "-c", MARKS]) == 0
    assert [int(one) & 0xFFFFFFFF for one in capfd.readouterr().out.split()] == [mark, mark]
    assert (groups(), Path("/proc/self/cgroup").read_text()) == (before, here)


def test_the_exit_status_is_that_of_the_program() -> None:
    assert main(["plain", "--", "sh", "-c", "exit 7"]) == 7
    assert main(["plain", "sh", "-c", "kill -TERM $$"]) == 128 + 15


def test_another_user_has_the_groups_and_the_home_of_that_user_alone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    user = pwd.getpwnam("nobody")
    show = "import os; print(os.getresuid(), os.getresgid(), os.getgroups(), os.environ['HOME'])"
    assert main(["plain", "--user", "nobody", "/usr/bin/python3", "-c", show]) == 0
    uids, gids = (user.pw_uid,) * 3, (user.pw_gid,) * 3
    assert capfd.readouterr().out == f"{uids} {gids} [{user.pw_gid}] {user.pw_dir}\n"


def test_what_cannot_be_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before, here = groups(), Path("/proc/self/cgroup").read_text()
    assert main(["plain"]) == 1
    assert main(["plain", "nothing-of-this-name"]) == NOT_FOUND
    assert main(["plain", "--user", "nobody-of-this-name", "true"]) == 1
    (tmp_path / "mounts").write_text("none /proc proc rw 0 0\n")
    monkeypatch.setattr(plain, "MOUNTS", tmp_path / "mounts")
    assert main(["plain", "true"]) == 1
    monkeypatch.undo()
    assert main(["plain", str(tmp_path / "mounts")]) == NOT_RUN
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[1] == "noid: nothing-of-this-name: No such file or directory"
    assert "cgroup2 is not available" in lines[3]
    assert lines[4].endswith("mounts: Permission denied")
    assert (groups(), Path("/proc/self/cgroup").read_text()) == (before, here)


def test_without_root_the_refusal_names_what_it_takes() -> None:
    words = [*NOBODY, sys.executable, "-m", "noid", "plain", "true"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "it takes root, or CAP_BPF" in done.stderr
    assert done.stderr.count("\n") == 1
