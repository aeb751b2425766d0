"""What a daemon leaves of its contexts, and what the next one finds."""

from pathlib import Path

import pytest

from noid.engine.events import Memory
from noid.locators import parse_locator
from noid.memories import FILE_NAME, Memories

A1, A2, B1, B2 = (
    parse_locator(f"2001:db8:{number}:{host}::{host}") for host in "ab" for number in (1, 2)
)


def memory(label: int) -> Memory:
    return Memory(
        local_aid=A1,
        peer_aid=B1,
        local_label=label,
        peer_label=7,
        agreed_key=bytes(32),
        peer_birthday=4,
        peer_reset_hash=bytes(16),
        local_locator=A2,
        peer_locator=B2,
        own_local=(A1, A2),
        own_remote=None,
        told_remote=(),
        peer_local=(B1, B2),
        peer_marks=((B2, 0x90),),
        aid_proven=True,
        name="b.example",
        remote=(B1, B2),
        proven=(B1, B2),
        update_nonce=5,
        peer_keepalive_nonce=0,
        peer_update_nonce=6,
        round_trip_ns=100,
    )


def everything(memories: Memories) -> list[tuple[int, Memory | None]]:
    return memories.page(0, 100)


def test_what_one_daemon_kept_the_next_one_finds(tmp_path: Path) -> None:
    first = Memories(tmp_path)
    first.keep([(1, memory(1)), (2, memory(2))])
    first.keep([(2, None)])
    # It is killed: nothing is closed.
    assert everything(Memories(tmp_path)) == [(1, memory(1))]


def test_what_an_earlier_boot_left_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Memories(tmp_path)
    before.keep([(1, memory(1))])
    before.close()
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("another\n")
    monkeypatch.setattr("noid.memories.BOOT_ID", boot_id)
    assert everything(Memories(tmp_path)) == []


def test_a_file_that_cannot_be_used_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 100)
    memories = Memories(tmp_path)
    memories.keep([(1, memory(1))])
    assert everything(memories) == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "contexts will not outlive the daemon" in caplog.text


def test_forgotten_is_forgotten(tmp_path: Path) -> None:
    memories = Memories(tmp_path)
    memories.keep([(1, memory(1))])
    memories.forget_all()
    assert everything(Memories(tmp_path)) == []
