# SPDX-License-Identifier: MIT
"""Files that a process which was killed has left of its replacements."""

from pathlib import Path

from noid.host.replacement import made_beside, remove_unfinished


def test_unfinished_replacements_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in ("state.json", ".hidden", "a.damaged", ".state.json.new")]
    for path in kept:
        path.write_bytes(b"content")
    with made_beside(kept[0], b"new", mode=0o600) as unfinished:
        assert unfinished.exists()
        remove_unfinished(tmp_path)
        assert not unfinished.exists()
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_directory_that_is_not_there_has_none(tmp_path: Path) -> None:
    remove_unfinished(tmp_path / "missing")
