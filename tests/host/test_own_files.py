# SPDX-License-Identifier: MIT
"""What a command of root writes reaches no file that another user has prepared."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from noid.host.own_files import MODE, open_own

NOBODY = 65_534
BEFORE = b"before"


def symbolic_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def dangling_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("absent"))


def hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def of_another_user(path: Path, _: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a file of another user needs root")
    path.write_bytes(BEFORE)
    os.chown(path, NOBODY, NOBODY)


def pipe_of_another_user(path: Path, _: Path) -> None:
    os.mkfifo(path)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


@pytest.mark.parametrize(
    "prepare", [symbolic_link, dangling_link, hard_link, of_another_user, pipe_of_another_user]
)
def test_what_another_user_has_prepared_is_refused(
    tmp_path: Path, prepare: Callable[[Path, Path], None]
) -> None:
    victim, path = tmp_path / "victim", tmp_path / "noid.pcapng"
    victim.write_bytes(BEFORE)
    prepare(path, victim)
    refusals = r"symbolic link|hard links|user 65534 owns it|no program reads"
    with pytest.raises(OSError, match=refusals):
        open_own(path)
    assert victim.read_bytes() == BEFORE
    assert not victim.with_name("absent").exists()


def test_a_file_of_ones_own_is_replaced_and_a_new_one_is_private(tmp_path: Path) -> None:
    path = tmp_path / "noid.pcapng"
    for text in (b"a long text", b"short"):
        with open_own(path) as file:
            file.write(text)
        assert path.read_bytes() == text
    assert path.stat().st_mode & 0o777 == MODE


def test_a_device_is_written(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("devices belong to root")
    with open_own(Path(os.devnull)) as file:
        file.write(b"anything")


def test_a_pipe_of_ones_own_that_is_read_gets_all_although_its_reader_is_slow(
    tmp_path: Path,
) -> None:
    path, text = tmp_path / "pipe", bytes(1 << 20)
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    with ThreadPoolExecutor() as pool, os.fdopen(reader, "rb") as end:
        with open_own(path) as file:
            read = pool.submit(end.read)
            file.write(text)
        assert read.result() == text
