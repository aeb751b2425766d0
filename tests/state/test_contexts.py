# SPDX-License-Identifier: MIT
"""What a daemon leaves of its contexts, and what the next one finds."""

import contextlib
import itertools
import os
import random
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from noid.constants import LOST_PAIRS_KEPT_MAX
from noid.engine.records import ContextRecord, LostData
from noid.errors import PlatformError
from noid.identifiers import NO_LABEL, NO_NONCE, Label, Nonce
from noid.locators import Locator, parse_locator
from noid.state.contexts import (
    FILE_NAME,
    MEMORY_OCTETS_MAX,
    OCTETS_MAX,
    ContextStore,
    decoded,
    files_of,
)

A1, A2, B1, B2 = (
    parse_locator(f"2001:db8:{number}:{host}::{host}") for host in "ab" for number in (1, 2)
)


TREE_HEADER_OCTETS: Final = 8
"""Of a leaf of a tree in a file of SQLite; then follows where each record is, 2 octets each."""


def memory(label: Label) -> ContextRecord:
    return ContextRecord(
        local_aid=A1,
        peer_aid=B1,
        local_label=label,
        peer_label=Label(7),
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
        update_nonce=Nonce(5),
        peer_keepalive_nonce=NO_NONCE,
        peer_update_nonce=Nonce(6),
        round_trip_ns=100,
        lost=(LostData((A1, B1), 2, 3, Nonce(4)),),
    )


def row(number: int) -> tuple[Label, ContextRecord]:
    """The row of a context in the store."""
    return Label(number), memory(Label(number))


def everything(memories: ContextStore) -> list[tuple[Label, ContextRecord | None]]:
    return memories.page(NO_LABEL, 100)


def test_what_one_daemon_kept_the_next_one_finds(tmp_path: Path) -> None:
    first = ContextStore(tmp_path)
    first.keep([row(1), row(2)])
    first.keep([(Label(2), None)])
    # It is killed: nothing is closed.
    assert everything(ContextStore(tmp_path)) == [(1, memory(Label(1)))]


def test_what_an_earlier_boot_left_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ContextStore(tmp_path)
    before.keep([row(1)])
    before.close()
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("another\n")
    monkeypatch.setattr("noid.state.system_start.BOOT_ID", boot_id)
    assert everything(ContextStore(tmp_path)) == []


def assert_replaced(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Asserts that a damaged file is reported once, moved aside, and replaced."""
    caplog.clear()
    memories = ContextStore(directory)
    assert memories.count() in (0, 1, 2)
    everything(memories)
    memories.keep([row(3)])
    memories.keep([row(3)])
    assert (3, memory(Label(3))) in everything(memories)
    memories.close()
    assert [record.getMessage() for record in caplog.records] == memories.troubles
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"moved to {FILE_NAME}" in caplog.text
    assert any(path.name.endswith(".damaged") for path in directory.iterdir())
    caplog.clear()
    again = ContextStore(directory)
    assert (3, memory(Label(3))) in everything(again)
    again.close()
    assert caplog.records == []


def lose_table(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("DROP TABLE contexts")


def lose_columns(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("ALTER TABLE contexts DROP COLUMN memory")


@pytest.mark.parametrize("damage", [lose_table, lose_columns])
@pytest.mark.parametrize("before", [0, 1, 5])
def test_no_change_is_lost_although_the_file_is_damaged_as_it_is_written(
    tmp_path: Path, damage: Callable[[Path], None], before: int
) -> None:
    with contextlib.closing(ContextStore(tmp_path)) as memories:
        memories.keep(row(number) for number in range(1, before + 1))
        damage(memories.path)
        memories.keep([row(20), row(21)])
        memories.keep([row(22)])
    with contextlib.closing(ContextStore(tmp_path)) as again:
        assert [label for label, _ in everything(again)] == [20, 21, 22]


@pytest.mark.parametrize("octets", [b"no database" * 100, b"SQLite format 3\0" + bytes(4096)])
def test_a_file_that_is_no_database_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, octets: bytes
) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(octets)
    path.chmod(0o600)
    assert_replaced(tmp_path, caplog)


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_file_of_another_type_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, end: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / f"{FILE_NAME}{end}")
    assert_replaced(tmp_path, caplog)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE contexts (label TEXT, memory INTEGER)",
        "CREATE VIEW contexts AS SELECT 1 AS label, 2 AS memory",
        "CREATE TABLE other (one INTEGER)",
        "CREATE VIEW contexts AS WITH RECURSIVE n(label) AS "
        "(SELECT 1 UNION ALL SELECT label + 1 FROM n) SELECT label, label AS memory FROM n",
    ],
)
def test_a_database_with_other_tables_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, statement: str
) -> None:
    in_database(tmp_path, statement)
    assert_replaced(tmp_path, caplog)


def in_database(directory: Path, statement: str, *values: object) -> None:
    """Does something in the file, as another program would."""
    with contextlib.closing(sqlite3.connect(directory / FILE_NAME)) as database, database:
        database.execute(statement, values)
    (directory / FILE_NAME).chmod(0o600)


def test_a_file_that_is_too_long_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ContextStore(tmp_path).close()
    os.truncate(tmp_path / FILE_NAME, OCTETS_MAX + 1)
    assert_replaced(tmp_path, caplog)


def test_records_that_are_out_of_order_are_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next page begins after the last label of a page, which may be an earlier one then."""
    first = ContextStore(tmp_path)
    first.keep(row(label) for label in (1, 2))
    first.close()
    path = tmp_path / FILE_NAME
    with contextlib.closing(sqlite3.connect(path)) as database:
        root = "SELECT rootpage FROM sqlite_master WHERE name = 'contexts'"
        ((page,),) = database.execute(root)
        ((size,),) = database.execute("PRAGMA page_size")
    octets = bytearray(path.read_bytes())
    at = (page - 1) * size + TREE_HEADER_OCTETS
    octets[at : at + 4] = octets[at + 2 : at + 4] + octets[at : at + 2]
    path.write_bytes(octets)
    assert_replaced(tmp_path, caplog)


def test_every_part_of_a_file_can_be_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "whole").mkdir()
    first = ContextStore(tmp_path / "whole")
    first.keep(row(label) for label in range(1, 40))
    whole = {path.name: path.read_bytes() for path in files_of(tmp_path / "whole")}
    first.close()
    merged = (tmp_path / "whole" / FILE_NAME).read_bytes()
    lengths = {0, 1, 15, 16, 99, 100, 101, *range(512, len(merged), 512), len(merged) - 1}
    lengths |= {32, 33, 56, *range(1024, len(whole[f"{FILE_NAME}-wal"]), 1024)}
    for number, (octets, name) in enumerate(itertools.product(sorted(lengths), [*whole, "merged"])):
        directory = tmp_path / str(number)
        directory.mkdir()
        files = {FILE_NAME: merged} if name == "merged" else dict(whole)
        cut = FILE_NAME if name == "merged" else name
        files[cut] = files[cut][:octets]
        for each, content in files.items():
            (directory / each).write_bytes(content)
            (directory / each).chmod(0o600)
        caplog.clear()
        with contextlib.closing(ContextStore(directory)) as memories:
            found = everything(memories)
            assert all(one is None or one == memory(Label(label)) for label, one in found)
            memories.keep([row(77)])
            assert (77, memory(Label(77))) in everything(memories)
        assert len(caplog.records) <= 1, caplog.text
        with contextlib.closing(ContextStore(directory)) as memories:
            assert (77, memory(Label(77))) in everything(memories)
        assert len(caplog.records) <= 1, caplog.text


ODD: tuple[object, ...] = (
    None, 7, 1.5, "text", b"", b"\xc1", b"\x91" * 16_000, bytes(MEMORY_OCTETS_MAX + 1),
)  # fmt: skip


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:20])
def test_an_odd_row_is_none(tmp_path: Path, value: object) -> None:
    memories = ContextStore(tmp_path)
    memories.keep([row(1), row(3)])
    in_database(tmp_path, "INSERT INTO contexts VALUES (2, ?)", value)
    in_database(tmp_path, "INSERT INTO contexts VALUES (-5, ?)", value)
    in_database(tmp_path, "INSERT INTO contexts VALUES (?, ?)", 1 << 62, value)
    assert everything(memories) == [(1, memory(Label(1))), (2, None), (3, memory(Label(3)))]


@pytest.mark.parametrize(
    "changes",
    [
        {"local_label": 2},
        {"peer_label": 0},
        {"peer_label": 1 << 20},
        {"local_aid": b"short"},
        {"peer_locator": bytes(17)},
        {"peer_aid": A1},
        {"peer_aid": bytes(16)},
        {"local_aid": b""},
        {"local_aid": b"\xfe"},
        {"local_locator": b"\xff" + bytes(15)},
        {"local_locator": b"\xfe\x80" + bytes(14)},
        {"remote": tuple(bytes((32, number, *bytes(14))) for number in range(16))},
        {"peer_update_nonce": -1},
        {"update_nonce": (1 << 64) - 1},
        {"round_trip_ns": 1 << 62},
        {"peer_birthday": 1 << 32},
        {"name": "n" * 256},
        {"peer_reset_hash": bytes(65)},
        {"agreed_key": b""},
        {"own_local": (A1,) * 17},
        {"peer_local": (B1,) * 18},
        {"proven": (b"",)},
        {"peer_marks": ((B2, 256),)},
        {"peer_marks": ((b"2", 1),)},
        {"plain_until_ns": -1},
        {"lost": (LostData((A1, Locator(b"2")), 1, 0, NO_NONCE),)},
        {"lost": (LostData((A1, B1), 0, 0, NO_NONCE),)},
        {"lost": (LostData((A1, B1), 1, -1, NO_NONCE),)},
        {"lost": (LostData((A1, B1), 1, 0, Nonce(1 << 63)),)},
        {"lost": (LostData((A1, B1), 1, 0, NO_NONCE),) * (LOST_PAIRS_KEPT_MAX + 1)},
    ],
    ids=str,
)
def test_a_memory_that_the_engine_cannot_have_left_is_none(changes: dict[str, Any]) -> None:
    assert decoded(Label(1), msgspec.msgpack.encode(replace(memory(Label(1)), **changes))) is None


def test_any_octets_are_a_memory_or_none() -> None:
    whole = msgspec.msgpack.encode(memory(Label(1)))
    assert decoded(Label(1), whole) == memory(Label(1))
    chance = random.Random(1)
    for octets in range(len(whole)):
        assert decoded(Label(1), whole[:octets]) is None
    for _ in range(2_000):
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] = chance.randrange(256)
        decoded(Label(1), bytes(changed))


def test_the_files_are_their_owners_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    before = os.umask(0o022)
    try:
        memories = ContextStore(tmp_path)
        memories.keep([row(1)])
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files_of(tmp_path)} == {0o600}


def test_a_file_that_others_can_read_is_made_private(tmp_path: Path) -> None:
    ContextStore(tmp_path).close()
    (tmp_path / FILE_NAME).chmod(0o644)
    ContextStore(tmp_path).close()
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, end: str) -> None:
    path = tmp_path / f"{FILE_NAME}{end}"
    path.touch()
    path.chmod(0o666)
    with pytest.raises(PlatformError, match=r"mode 0666.*chmod 600"):
        ContextStore(tmp_path)


FULL_DISK: Final = """
import logging, os
from pathlib import Path
from noid.state.contexts import ContextStore
from tests.state.test_contexts import row
place = Path({mount!r})
lines = []
logging.getLogger("noid").addHandler(handler := logging.Handler())
handler.emit = lambda record: lines.append(record.getMessage())
memories = ContextStore(place)
memories.keep([row(1)])
filler = open(place / "filler", "wb", buffering=0)
try:
    while True:
        filler.write(bytes(4096))
except OSError:
    pass
for label in range(2, 200):
    memories.keep([row(label)])
assert memories.owes and "full" in memories.trouble, memories.trouble
assert len(lines) == 1 and "wait in memory" in lines[0], lines[:3]
assert not ContextStore(Path({other!r})).owes
os.truncate(place / "filler", 0)
memories.keep([])
assert not memories.owes and not memories.trouble
assert [label for label, _ in memories.page(0, 500)] == list(range(1, 200))
"""


@pytest.mark.lab
def test_on_a_full_disk_changes_wait_and_are_written_later(tmp_path: Path) -> None:
    mount, other = tmp_path / "mount", tmp_path / "other"
    for directory in (mount, other):
        directory.mkdir()
    program = FULL_DISK.format(mount=str(mount), other=str(other))
    words = f'mount -t tmpfs -o size=1m none {mount} && exec {sys.executable} -c "$0"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", words, program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert done.returncode == 0, done.stderr


def test_forgotten_is_forgotten(tmp_path: Path) -> None:
    memories = ContextStore(tmp_path)
    memories.keep([row(1)])
    memories.forget_all()
    assert everything(ContextStore(tmp_path)) == []
