# SPDX-License-Identifier: MIT
"""Stable storage: the birthday counts up, the key stays, and a bad file is told [D35]."""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from noid.engine.secrets import KEY_OCTETS
from noid.errors import PlatformError
from noid.state.files import ASIDE_MAX, prepare_directory
from noid.state.identity import BIRTHDAYS, FILE_NAME, Birth, load_identity, take_back

NOBODY_UID: Final = 65534


def write(directory: Path, **fields: object) -> None:
    stored = {"birthday": 7, "reset_key": bytes(KEY_OCTETS).hex(), **fields}
    (directory / FILE_NAME).write_text(json.dumps(stored))
    (directory / FILE_NAME).chmod(0o600)


def test_the_first_birthday_is_at_random_and_so_is_the_key(tmp_path: Path) -> None:
    births = [load_identity(tmp_path / name) for name in ("one", "two")]
    assert births[0].birthday != births[1].birthday
    assert births[0].reset_key != births[1].reset_key
    for birth in births:
        assert 0 <= birth.birthday < BIRTHDAYS
        assert len(birth.reset_key) == KEY_OCTETS
        assert birth.warning == ""


def test_each_birthday_is_one_more_and_the_key_stays(tmp_path: Path) -> None:
    write(tmp_path, birthday=41)
    births = [load_identity(tmp_path) for _ in range(3)]
    assert [birth.birthday for birth in births] == [42, 43, 44]
    assert {birth.reset_key for birth in births} == {bytes(KEY_OCTETS)}
    assert {birth.warning for birth in births} == {""}


def test_a_birthday_that_is_taken_back_is_that_of_the_next_start(tmp_path: Path) -> None:
    write(tmp_path, birthday=41)
    take_back(tmp_path, load_identity(tmp_path))
    assert load_identity(tmp_path).birthday == 42


def test_only_what_was_counted_on_is_taken_back(tmp_path: Path) -> None:
    first = load_identity(tmp_path)
    take_back(tmp_path, first)
    second = load_identity(tmp_path, goes_on=True)
    take_back(tmp_path, second)
    assert first.birthday == second.birthday == load_identity(tmp_path, goes_on=True).birthday


def test_the_counter_begins_again_after_the_greatest(tmp_path: Path) -> None:
    write(tmp_path, birthday=BIRTHDAYS - 1)
    assert load_identity(tmp_path).birthday == 0
    assert load_identity(tmp_path).birthday == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\x00\x01\x02",
        '{"birthday": 7}',
        '{"birthday": 7.5, "reset_key": ""}',
        "[" * 4_000,
        '{"birthday": ' * 300,
        " " * 5_000,
        json.dumps({"birthday": 7, "reset_key": None}),
        json.dumps({"birthday": 10**40, "reset_key": "00" * KEY_OCTETS}),
        json.dumps({"birthday": -1, "reset_key": "00" * KEY_OCTETS}),
        json.dumps({"birthday": BIRTHDAYS, "reset_key": "00" * KEY_OCTETS}),
        json.dumps({"birthday": 7, "reset_key": "00" * (KEY_OCTETS - 1)}),
        json.dumps({"birthday": 7, "reset_key": "not hexadecimal"}),
    ],
)
def test_a_file_that_cannot_be_used_is_moved_aside_and_begun_afresh(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / FILE_NAME
    path.write_text(text)
    path.chmod(0o600)
    birth = load_identity(tmp_path)
    assert_fresh(path, birth)
    assert (tmp_path / f"{FILE_NAME}.damaged").read_text() == text


def assert_fresh(path: Path, birth: Birth) -> None:
    """Asserts that a start has begun afresh, and that the next one finds what it left."""
    assert str(path) in birth.warning
    assert f"moved to {FILE_NAME}.damaged" in birth.warning
    assert "fresh birthday and key" in birth.warning
    assert len(birth.reset_key) == KEY_OCTETS
    again = load_identity(path.parent)
    assert again.warning == ""
    assert again.birthday == (birth.birthday + 1) % BIRTHDAYS
    assert again.reset_key == birth.reset_key


def test_every_prefix_of_the_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    load_identity(tmp_path)
    whole = path.read_bytes()
    for octets in range(len(whole.rstrip())):
        path.write_bytes(whole[:octets])
        assert "fresh birthday and key" in load_identity(tmp_path).warning
        assert load_identity(tmp_path).warning == ""
    assert len(list(tmp_path.iterdir())) == 1 + ASIDE_MAX, "no more than so many are kept"


def make_directory(path: Path) -> None:
    (path / "full").mkdir(parents=True)


def make_link(path: Path) -> None:
    (path.parent / "other").write_text("{}")
    path.symlink_to("other")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize("make", [make_directory, make_link, make_socket, os.mkfifo])
def test_a_file_of_another_type_is_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / FILE_NAME
    make(path)
    assert_fresh(path, load_identity(tmp_path))
    assert path.is_file()
    assert not path.is_symlink()


@pytest.mark.parametrize("name", [FILE_NAME, f".{FILE_NAME}.new", "state.new"])
def test_a_symlink_in_the_directory_is_not_written_through(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("elsewhere")
    load_identity(tmp_path)
    assert not (tmp_path / "elsewhere").exists()
    assert load_identity(tmp_path).warning == ""


def test_a_directory_and_files_that_others_can_read_are_made_private(tmp_path: Path) -> None:
    write(tmp_path)
    tmp_path.chmod(0o755)
    (tmp_path / FILE_NAME).chmod(0o644)
    assert prepare_directory(tmp_path) == []
    assert load_identity(tmp_path).birthday == 8
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(PlatformError, match=f"mode {mode:04o}.*chmod 700") as caught:
        prepare_directory(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / FILE_NAME).chmod(0o666)
    with pytest.raises(PlatformError, match=r"mode 0666.*chmod 600"):
        load_identity(tmp_path)


@pytest.mark.lab
@pytest.mark.parametrize("name", ["", FILE_NAME])
def test_what_another_user_owns_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    os.chown(tmp_path / name, NOBODY_UID, -1)
    with pytest.raises(PlatformError, match=f"belongs to uid {NOBODY_UID}.*chown 0 ") as caught:
        load_identity(tmp_path)
    assert "\n" not in str(caught.value)


def test_half_a_file_beside_the_whole_one_does_no_harm(tmp_path: Path) -> None:
    write(tmp_path, birthday=1)
    (tmp_path / FILE_NAME).with_suffix(".new").write_text('{"birth')
    birth = load_identity(tmp_path)
    assert (birth.birthday, birth.warning) == (2, "")


def test_the_file_is_private_and_no_other_file_is_left(tmp_path: Path) -> None:
    directory = tmp_path / "var" / "lib"
    load_identity(directory)
    (path,) = directory.iterdir()
    assert path.name == FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) & 0o077 == 0


def test_a_directory_that_cannot_be_made_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for begin in (load_identity, prepare_directory):
        with pytest.raises(PlatformError, match=r"set state\.directory"):
            begin(tmp_path / "file" / "state")


@pytest.mark.lab
def test_on_a_full_disk_the_birthday_is_random_and_the_key_stays(tmp_path: Path) -> None:
    births = on_full_disk(
        tmp_path, "write(place, birthday=41)", "load_identity(place)", "load_identity(place)"
    )
    assert births[0]["birthday"] != births[1]["birthday"]
    for birth in births:
        assert birth["key"] == bytes(KEY_OCTETS).hex()
        assert "No space left on device; set state.directory" in birth["warning"]


@pytest.mark.lab
def test_on_a_full_disk_restored_contexts_keep_their_birthday(tmp_path: Path) -> None:
    birth, *_ = on_full_disk(
        tmp_path, "write(place, birthday=41)", "load_identity(place, goes_on=True)"
    )
    assert birth["birthday"] == 41


@pytest.mark.lab
def test_a_full_disk_without_a_file_does_not_prevent_the_start(tmp_path: Path) -> None:
    births = on_full_disk(tmp_path, "None", *["load_identity(place, goes_on=True)"] * 2)
    assert births[0]["birthday"] != births[1]["birthday"]


def on_full_disk(mount: Path, before: str, *calls: str) -> list[dict[str, Any]]:
    """What calls return on a file system without room; threads share their mounts, so elsewhere."""
    program = f"""
import json, errno, os
from pathlib import Path
from noid.state.identity import load_identity
from tests.state.test_identity import write
place = Path({str(mount)!r})
{before}
with open(place / "filler", "wb", buffering=0) as filler:
    try:
        while True:
            filler.write(bytes(4096))
    except OSError as error:
        assert error.errno == errno.ENOSPC
for birth in [{", ".join(calls)}]:
    print(json.dumps(dict(
        birthday=birth.birthday, key=birth.reset_key.hex(), warning=birth.warning
    )))
"""
    options = "mode=0700,size=64k"
    words = f'mount -t tmpfs -o {options} none {mount} && exec {sys.executable} -c "$0"'
    command = ["unshare", "--mount", "sh", "-c", words, program]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.lab
def test_a_read_only_disk_does_not_prevent_the_start(tmp_path: Path) -> None:
    """In a mount namespace of its own, as a program of its own: threads share their mounts."""
    program = (
        "from pathlib import Path; from noid.state.files import prepare_directory; "
        "from noid.state.identity import load_identity; "
        f"place = Path({str(tmp_path)!r}) / 'state'; prepare_directory(place); "
        "print(load_identity(place).warning)"
    )
    mount = f'mount -t tmpfs -o ro none {tmp_path} && exec {sys.executable} -c "$0"'
    command = ["unshare", "--mount", "sh", "-c", mount, program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Read-only file system; set state.directory" in done.stdout
