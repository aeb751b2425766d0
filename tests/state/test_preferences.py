# SPDX-License-Identifier: MIT
"""What the operator wants of the uplinks outlives the daemon, and a damaged file does no harm."""

import json
from pathlib import Path

import pytest

from noid.errors import PlatformError
from noid.state.preferences import (
    AVOIDED_MAX,
    FILE_NAME,
    NAME_OCTETS_MAX,
    OCTETS_MAX,
    Preferences,
    keep_preferences,
    load_preferences,
)

WANTED = Preferences(use="up2", avoid={"up1": None, "up3": 1_800_000_000.5})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A state directory."""
    tmp_path.chmod(0o700)
    return tmp_path


def leave(directory: Path, content: bytes) -> None:
    path = directory / FILE_NAME
    path.write_bytes(content)
    path.chmod(0o600)


def test_what_was_kept_is_found_again(directory: Path) -> None:
    assert load_preferences(directory) == (Preferences(), "")
    keep_preferences(directory, WANTED)
    assert load_preferences(directory) == (WANTED, "")
    assert (directory / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_an_end_that_has_come_is_over() -> None:
    assert WANTED.at(1_800_000_000) == WANTED
    assert WANTED.at(1_800_000_001) == Preferences(use="up2", avoid={"up1": None})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"[" * 10_000,
        b'{"use": 1}',
        b'{"use": "up1", "other": 1}',
        b'{"avoid": {"up1": "soon"}}',
        b'{"avoid": {"up1": 1e999}}',
        json.dumps({"use": "x" * (NAME_OCTETS_MAX + 1)}).encode(),
        json.dumps({"avoid": dict.fromkeys(map(str, range(AVOIDED_MAX + 1)))}).encode(),
        b" " * (OCTETS_MAX + 1),
    ],
)
def test_a_damaged_file_is_moved_aside(directory: Path, content: bytes) -> None:
    leave(directory, content)
    found, trouble = load_preferences(directory)
    assert found == Preferences()
    assert "no uplink is avoided" in trouble
    assert (directory / f"{FILE_NAME}.damaged").read_bytes() == content
    keep_preferences(directory, WANTED)
    assert load_preferences(directory) == (WANTED, "")


def test_a_file_that_others_can_write_is_not_believed(directory: Path) -> None:
    leave(directory, b'{"use": "up1"}')
    (directory / FILE_NAME).chmod(0o666)
    found, trouble = load_preferences(directory)
    assert found == Preferences()
    assert "chmod 600" in trouble


def test_a_disk_that_takes_nothing_is_an_error_with_a_remedy(directory: Path) -> None:
    with pytest.raises(PlatformError, match=r"set state\.directory"):
        keep_preferences(directory / "missing", WANTED)


def test_as_many_as_may_be_avoided_fit_into_the_file(directory: Path) -> None:
    names = [f"{number:03}".ljust(NAME_OCTETS_MAX, "x") for number in range(AVOIDED_MAX)]
    wanted = Preferences(use=names[0], avoid=dict.fromkeys(names, 1_800_000_000.123456))
    keep_preferences(directory, wanted)
    assert load_preferences(directory) == (wanted, "")
