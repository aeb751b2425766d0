# SPDX-License-Identifier: MIT
"""The birthday counter and the key of the reset tokens outlive the host [draft §7.14, D35]."""

from pathlib import Path

import pytest

from noid.engine.secrets import KEY_OCTETS
from noid.errors import PlatformError
from noid.state.identity import BIRTHDAYS, FILE_NAME, load_identity


def test_the_first_birthday_is_random(tmp_path: Path) -> None:
    births = [load_identity(tmp_path / str(number)) for number in range(4)]
    assert len({birth.birthday for birth in births}) > 1
    assert all(0 <= birth.birthday < BIRTHDAYS for birth in births)
    assert all(len(birth.reset_key) == KEY_OCTETS for birth in births)


def test_every_start_counts_one_more_and_keeps_the_key(tmp_path: Path) -> None:
    first = load_identity(tmp_path)
    second = load_identity(tmp_path)
    third = load_identity(tmp_path)
    assert second.birthday == (first.birthday + 1) % BIRTHDAYS
    assert third.birthday == (first.birthday + 2) % BIRTHDAYS
    assert first.reset_key == second.reset_key == third.reset_key
    assert not second.warning


def test_the_counter_begins_again_after_its_last(tmp_path: Path) -> None:
    key = bytes(KEY_OCTETS).hex()
    (tmp_path / FILE_NAME).write_text(f'{{"birthday":{BIRTHDAYS - 1},"reset_key":"{key}"}}')
    assert load_identity(tmp_path).birthday == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"birthday":1}',
        '{"birthday":-1,"reset_key":"00"}',
        '{"birthday":4294967296,"reset_key":"' + "00" * KEY_OCTETS + '"}',
        '{"birthday":1,"reset_key":"00"}',
        '{"birthday":1,"reset_key":"not hexadecimal"}',
    ],
)
def test_a_file_that_cannot_be_used_is_told_and_begun_afresh(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    birth = load_identity(tmp_path)
    assert FILE_NAME in birth.warning
    again = load_identity(tmp_path)
    assert not again.warning
    assert again.birthday == (birth.birthday + 1) % BIRTHDAYS


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    load_identity(tmp_path)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    load_identity(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match="state file"):
        load_identity(tmp_path / "file" / "directory")
