# SPDX-License-Identifier: MIT
"""Subordinate user ids count as one user for each range of subuid(5)."""

import os
from pathlib import Path

import pytest

from noid.constants import NO_USER
from noid.host import subordinates
from noid.host.subordinates import accountable


@pytest.fixture
def subuid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "subuid"
    monkeypatch.setattr(subordinates, "SUBUID", path)
    return path


@pytest.mark.parametrize(
    ("user", "counts_as"),
    [
        (0, 0),
        (1_001, 1_001),
        (65_534, 65_534),
        (99_999, 99_999),
        (100_000, 100_000),
        (100_005, 100_000),
        (165_535, 100_000),
        (165_536, 165_536),
        (231_071, 165_536),
        (231_072, 231_072),
        (1_000_000_000, 1_000_000_000),
        (NO_USER, NO_USER),
    ],
)
def test_the_ids_of_a_range_count_as_one_user(subuid: Path, user: int, counts_as: int) -> None:
    subuid.write_text("bob:165536:65536\nalice:100000:65536\n")
    assert accountable(user) == counts_as


def test_ranges_that_overlap_are_one(subuid: Path) -> None:
    subuid.write_text("root:1000000:1000000\nalice:1500000:10\nroot:1999999:2\n")
    users = (1_000_000, 1_400_000, 1_500_005, 1_600_000, 2_000_000, 2_000_001)
    assert [accountable(one) for one in users] == [1_000_000] * 5 + [2_000_001]


def test_the_file_is_read_again_when_it_changes(subuid: Path) -> None:
    assert accountable(100_005) == 100_005
    subuid.write_text("alice:100000:65536\n")
    assert accountable(100_005) == 100_000
    subuid.unlink()
    assert accountable(100_005) == 100_005


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"alice:100000",
        b"alice:100000:65536:1",
        b"alice:-5:10",
        b"alice:100000:0",
        b"alice:x:y",
        b"\xff\xfe:100000:\xb9\xb2",
        b"alice:" + b"9" * 5_000 + b":1",
        b"everyone:1000:1000000",
    ],
)
def test_what_is_no_such_range_is_ignored(subuid: Path, text: bytes) -> None:
    subuid.write_bytes(text + b"\nbob:200000:65536")
    assert [accountable(one) for one in (1_001, 100_005, 200_005)] == [1_001, 100_005, 200_000]


def test_a_file_that_cannot_be_read_changes_nothing(subuid: Path) -> None:
    os.mkdir(subuid)
    assert accountable(100_005) == 100_005
