"""Stable storage: the birthday counts up, the key stays, and a bad file is told [D35]."""

import json
import stat
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


def unwritable(directory: Path) -> Path:
    """Makes the file one that cannot be replaced, and says where it is."""
    (directory / FILE_NAME).with_suffix(".new").mkdir()
    return directory / FILE_NAME


def test_a_directory_that_cannot_be_made_is_told_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    births = [be_born(tmp_path / "file" / "state") for _ in range(2)]
    assert all("set state.directory" in birth.warning for birth in births)
    assert births[0].birthday != births[1].birthday
    assert births[0].reset_key != births[1].reset_key


def test_a_file_that_cannot_be_written_gives_a_random_birthday_and_its_key(tmp_path: Path) -> None:
    write(tmp_path, birthday=41)
    path = unwritable(tmp_path)
    births = [be_born(tmp_path) for _ in range(2)]
    assert all(f"state file {path}" in birth.warning for birth in births)
    assert births[0].birthday != births[1].birthday
    assert [birth.reset_key for birth in births] == [bytes(KEY_OCTETS)] * 2


def test_contexts_that_go_on_keep_a_birthday_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path, birthday=41)
    unwritable(tmp_path)
    assert be_born(tmp_path, goes_on=True).birthday == 41


def test_a_full_disk_does_not_prevent_the_start(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).with_suffix(".new").symlink_to("/dev/full")
    birth = be_born(tmp_path)
    assert "No space left on device" in birth.warning


def test_a_directory_that_cannot_be_prepared_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PlatformError, match=r"set state\.directory"):
        prepare_state(tmp_path / "file" / "state")
