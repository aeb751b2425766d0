"""Stable storage: the birthday counts up, the key stays, and a bad file is told [D35]."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from noid.engine.secrets import KEY_OCTETS
from noid.errors import PlatformError
from noid.storage import BIRTHDAYS, FILE_NAME, be_born, prepare_state


def write(directory: Path, **fields: object) -> None:
    stored = {"birthday": 7, "reset_key": bytes(KEY_OCTETS).hex(), **fields}
    (directory / FILE_NAME).write_text(json.dumps(stored))


def test_the_first_birthday_is_at_random_and_so_is_the_key(tmp_path: Path) -> None:
    births = [be_born(tmp_path / name) for name in ("one", "two")]
    assert births[0].birthday != births[1].birthday
    assert births[0].reset_key != births[1].reset_key
    for birth in births:
        assert 0 <= birth.birthday < BIRTHDAYS
        assert len(birth.reset_key) == KEY_OCTETS
        assert birth.warning == ""


def test_each_birthday_is_one_more_and_the_key_stays(tmp_path: Path) -> None:
    write(tmp_path, birthday=41)
    births = [be_born(tmp_path) for _ in range(3)]
    assert [birth.birthday for birth in births] == [42, 43, 44]
    assert {birth.reset_key for birth in births} == {bytes(KEY_OCTETS)}
    assert {birth.warning for birth in births} == {""}


def test_the_counter_begins_again_after_the_greatest(tmp_path: Path) -> None:
    write(tmp_path, birthday=BIRTHDAYS - 1)
    assert be_born(tmp_path).birthday == 0
    assert be_born(tmp_path).birthday == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\x00\x01\x02",
        '{"birthday": 7}',
        '{"birthday": 7.5, "reset_key": ""}',
        json.dumps({"birthday": -1, "reset_key": "00" * KEY_OCTETS}),
        json.dumps({"birthday": BIRTHDAYS, "reset_key": "00" * KEY_OCTETS}),
        json.dumps({"birthday": 7, "reset_key": "00" * (KEY_OCTETS - 1)}),
        json.dumps({"birthday": 7, "reset_key": "not hexadecimal"}),
    ],
)
def test_a_file_that_cannot_be_used_is_told_and_begun_afresh(tmp_path: Path, text: str) -> None:
    path = tmp_path / FILE_NAME
    path.write_text(text)
    birth = be_born(tmp_path)
    assert str(path) in birth.warning
    assert "fresh birthday and key" in birth.warning
    assert len(birth.reset_key) == KEY_OCTETS
    again = be_born(tmp_path)
    assert again.warning == ""
    assert again.birthday == (birth.birthday + 1) % BIRTHDAYS
    assert again.reset_key == birth.reset_key


def test_half_a_file_beside_the_whole_one_does_no_harm(tmp_path: Path) -> None:
    write(tmp_path, birthday=1)
    (tmp_path / FILE_NAME).with_suffix(".new").write_text('{"birth')
    birth = be_born(tmp_path)
    assert (birth.birthday, birth.warning) == (2, "")


def test_the_file_is_its_owners_alone_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    directory = tmp_path / "var" / "lib"
    be_born(directory)
    (path,) = directory.iterdir()
    assert path.name == FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) & 0o077 == 0


def test_a_directory_that_cannot_be_made_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for begin in (be_born, prepare_state):
        with pytest.raises(PlatformError, match=r"set state\.directory"):
            begin(tmp_path / "file" / "state")


def test_a_file_that_cannot_be_replaced_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME / "full").mkdir(parents=True)
    with pytest.raises(PlatformError, match="state file") as caught:
        be_born(tmp_path)
    assert caught.value.errno != 0


def fill(directory: Path) -> None:
    """Lets the file of a directory meet a full disk."""
    (directory / FILE_NAME).with_suffix(".new").symlink_to("/dev/full")


def test_on_a_full_disk_the_birthday_is_random_and_the_key_stays(tmp_path: Path) -> None:
    write(tmp_path, birthday=41)
    births = []
    for _ in range(2):
        fill(tmp_path)
        births.append(be_born(tmp_path))
    assert births[0].birthday != births[1].birthday
    assert [birth.reset_key for birth in births] == [bytes(KEY_OCTETS)] * 2
    for birth in births:
        assert "No space left on device; set state.directory" in birth.warning


def test_on_a_full_disk_contexts_that_go_on_keep_their_birthday(tmp_path: Path) -> None:
    write(tmp_path, birthday=41)
    fill(tmp_path)
    assert be_born(tmp_path, goes_on=True).birthday == 41


def test_a_full_disk_without_a_file_does_not_prevent_the_start(tmp_path: Path) -> None:
    births = []
    for _ in range(2):
        fill(tmp_path)
        births.append(be_born(tmp_path, goes_on=True))
    assert births[0].birthday != births[1].birthday


@pytest.mark.lab
def test_a_read_only_disk_does_not_prevent_the_start(tmp_path: Path) -> None:
    """In a mount namespace of its own, as a program of its own: threads share their mounts."""
    program = (
        "from pathlib import Path; from noid.storage import be_born, prepare_state; "
        f"place = Path({str(tmp_path)!r}) / 'state'; prepare_state(place); "
        "print(be_born(place).warning)"
    )
    mount = f'mount -t tmpfs -o ro none {tmp_path} && exec {sys.executable} -c "$0"'
    command = ["unshare", "--mount", "sh", "-c", mount, program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Read-only file system; set state.directory" in done.stdout
