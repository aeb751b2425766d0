# SPDX-License-Identifier: MIT
"""A failure of the system that lasts for several attempts is over for every part once it is over.

``test_open_and_close`` lets each call fail once. Here the disk stays full, or no descriptor is
left, while a part tries again and again.
"""

import asyncio
import contextlib
import os
import resource
import socket
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from noid.config import HostSection
from noid.control import prompt
from noid.control.server import ControlServer
from noid.control.uplinks import Sighting, Uplinks
from noid.control.web.server import WebServer
from noid.control.web.watch import Watch
from noid.host.resolvconf import is_on, turn_on
from noid.identifiers import Label
from noid.resolver import service
from noid.resolver.stub import Stub
from noid.resolver.upstream import Upstream
from noid.roles import expecting, keeping, reporting, resolver_file
from noid.roles.expecting import Expecting
from noid.roles.keeping import KeptContexts
from noid.roles.reporting import Reporter
from noid.roles.resolver_file import ResolverFile
from noid.state.contexts import FILE_NAME as CONTEXTS_FILE
from noid.state.contexts import ContextStore
from noid.state.history import FILE_NAME as EVENTS_FILE
from noid.state.history import HistoryStore
from noid.state.known_uplinks import load_uplinks
from tests.control.test_web import CHANGE
from tests.engine.network import A1, CODEPOINTS
from tests.state.test_contexts import memory
from tests.waiting import until

ATTEMPTS: Final = 4
ROUNDS: Final = 2
"""A failure that came once may come again."""
SOON_S: Final = 0.01
RESTS_S: Final = 20 * SOON_S
LOOKS_MAX: Final = 50
LISTEN: Final = "::1"
LABELS: Final = range(1, 200)
"""Their records need more than the room that a file has left on a full disk."""


@dataclass(frozen=True)
class Use:
    """A part at work.

    Attributes:
        write: has it write something.
        is_done: whether that is on the disk.
    """

    write: Callable[[], object]
    is_done: Callable[[], object]


Writer = Callable[[Path], AbstractAsyncContextManager[Use]]


@contextlib.contextmanager
def counted(owner: object, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[None]]:
    """Notes each call of a function, or of a method of every object."""
    calls: list[None] = []
    real = getattr(owner, name)

    def call(*arguments: object, **options: object) -> object:
        calls.append(None)
        return real(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, call)
        yield calls


async def rests(calls: Sequence[object]) -> bool:
    """Whether there is a time, before long, in which nothing is called."""
    for _ in range(LOOKS_MAX):
        count = len(calls)
        await asyncio.sleep(RESTS_S)
        if len(calls) == count:
            return True
    return False


# --- the disk -------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a disk")
    place = tmp_path / "disk"
    place.mkdir()
    options = "size=1m,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


@contextlib.asynccontextmanager
async def contexts(disk: Path) -> AsyncIterator[Use]:
    with contextlib.closing(ContextStore(disk)) as store:
        labels = list(map(Label, LABELS))
        kept = KeptContexts(store, memory, lambda: labels, renewed_s=keeping.RENEWED_S)

        def change() -> None:
            for label in LABELS:
                kept.changed(Label(label))

        try:
            yield Use(change, lambda: store.count() == len(LABELS) and not store.trouble)
        finally:
            kept.close()


@contextlib.asynccontextmanager
async def events(disk: Path) -> AsyncIterator[Use]:
    reporter = Reporter(lambda event: None, disk / "events.d")
    reporter.open(disk)

    def change() -> None:
        for _ in LABELS:
            reporter.uplink_changed(CHANGE)

    def is_done() -> bool:
        assert reporter.store is not None
        with contextlib.closing(HistoryStore(disk)) as store:
            return len(store.last(len(LABELS))) == len(LABELS) and not reporter.store.trouble

    try:
        yield Use(change, is_done)
    finally:
        await reporter.close()


@contextlib.asynccontextmanager
async def known_uplinks(disk: Path) -> AsyncIterator[Use]:
    there = Uplinks()
    expected = Expecting(there, lambda: None, starting_s=0.0)
    expected.open(disk)
    task = asyncio.create_task(expected.watch(HostSection))
    one = Sighting("lo", is_up=True, carries=True, locators=(A1,))
    try:
        yield Use(lambda: there.see([one], 100.0), lambda: "lo" in load_uplinks(disk)[0])
    finally:
        task.cancel()
        await asyncio.wait([task])


@contextlib.asynccontextmanager
async def the_resolver(disk: Path) -> AsyncIterator[Use]:
    path = disk / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\n")
    turn_on(path, LISTEN)
    task = asyncio.create_task(ResolverFile(path, LISTEN, lambda: None).watch())
    by_others = disk / "others"
    by_others.write_text("nameserver 192.0.2.2\n")

    def write() -> None:
        """A DHCP client had its room before; it leaves none."""
        by_others.rename(path)
        fill(disk)

    try:
        yield Use(write, lambda: is_on(path))
    finally:
        task.cancel()
        await asyncio.wait([task])


WRITERS: Final[dict[str, tuple[Writer, tuple[object, str], tuple[object, str]]]] = {
    "contexts": (contexts, (ContextStore, "keep"), (keeping, "WRITE_AGAIN_S")),
    "events": (events, (HistoryStore, "add"), (reporting, "WRITE_AGAIN_S")),
    "known uplinks": (known_uplinks, (expecting, "keep_uplinks"), (expecting, "KEPT_APART_S")),
    "resolver": (the_resolver, (resolver_file, "turn_on"), (resolver_file, "LOOK_INTERVAL_S")),
}
"""What writes, what it calls each time, and how long it waits in between."""


@pytest.mark.slow
@pytest.mark.lab
@pytest.mark.parametrize("name", WRITERS)
def test_what_a_full_disk_has_not_taken_several_times_is_written_when_there_is_room(
    name: str, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, attempt, wait = WRITERS[name]
    monkeypatch.setattr(*wait, SOON_S)

    async def play() -> None:
        async with writer(disk) as use:
            await asyncio.sleep(0)
            fill(disk)
            with counted(*attempt, monkeypatch) as calls:
                use.write()
                await until(lambda: len(calls) >= ATTEMPTS)
                assert not use.is_done(), "the disk is not full"
                os.truncate(disk / "filler", 0)
                await until(use.is_done)
                assert await rests(calls), "it goes on to write"

    asyncio.run(play())


def lose_tables(path: Path) -> None:
    """Damages a file of SQLite as another program might, while noid has it open."""
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        for (name,) in other.execute("SELECT name FROM sqlite_master").fetchall():
            other.execute(f"DROP TABLE {name}")


def overwrite(path: Path) -> None:
    path.write_bytes(b"no database" * (path.stat().st_size // 11))


DAMAGED: Final[dict[str, tuple[tuple[object, str], Callable[[Path], None], str]]] = {
    "contexts": ((keeping, "RENEWED_S"), lose_tables, CONTEXTS_FILE),
    "events": ((reporting, "WRITE_DELAY_S"), overwrite, EVENTS_FILE),
}
"""Writers whose file is found to be damaged as they write: their wait, the damage, the file."""


@pytest.mark.parametrize("name", DAMAGED)
def test_what_was_damaged_is_written_again_and_then_nothing_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait, damage, file = DAMAGED[name]
    writer, attempt, _ = WRITERS[name]
    monkeypatch.setattr(*wait, SOON_S)
    tmp_path.chmod(0o700)

    async def play() -> None:
        async with writer(tmp_path) as use:
            for _ in range(ROUNDS):
                use.write()
                await until(use.is_done)
            damage(tmp_path / file)
            with counted(*attempt, monkeypatch) as calls:
                use.write()
                await until(use.is_done)
                assert await rests(calls), "it goes on to write"
        assert any(one.name.endswith(".damaged") for one in tmp_path.iterdir())

    asyncio.run(play())


# --- descriptors ----------------------------------------------------------------------------------

CLIENTS: Final = 3
"""So many are answered, one after the other, once there are descriptors."""
Served = AbstractAsyncContextManager[tuple[str | tuple[str, int], bytes]]
"""A server: where it listens, and a request."""


@contextlib.asynccontextmanager
async def the_control_socket(directory: Path) -> AsyncIterator[tuple[str, bytes]]:
    server = ControlServer(directory / "socket", {"status": lambda: {"version": "1"}})
    await server.start()
    try:
        yield str(server.path), b'{"command":"status"}\n'
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def the_page(directory: Path) -> AsyncIterator[tuple[tuple[str, int], bytes]]:
    page = WebServer(LISTEN, 0, Watch(directory / "none"))
    await page.start()
    port = int(page.url.rstrip("/").rpartition(":")[2])
    try:
        yield (LISTEN, port), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    finally:
        await page.stop()


@contextlib.asynccontextmanager
async def the_stub(_: Path) -> AsyncIterator[tuple[tuple[str, int], bytes]]:
    upstream = Upstream([(LISTEN, 9)], CODEPOINTS, lambda: (A1,), 0)
    stub = Stub(LISTEN, 0, upstream, lambda *_: True, tuple)
    kinds = socket.SOCK_DGRAM, socket.SOCK_STREAM
    datagrams, stream = (
        socket.socket(socket.AF_INET6, one | socket.SOCK_NONBLOCK) for one in kinds
    )
    for one in (datagrams, stream):
        one.bind((LISTEN, 0))
    await stub.start((datagrams, stream))
    # A query of another kind, which it refuses by itself.
    status = bytes.fromhex("0001 1000 0001 0000 0000 0000") + b"\x00\x00\x1c\x00\x01"
    try:
        yield (LISTEN, stream.getsockname()[1]), len(status).to_bytes(2, "big") + status
    finally:
        await stub.stop()
        await upstream.close()


SERVERS: Final[dict[str, Callable[[Path], Served]]] = {
    "control socket": the_control_socket,
    "web page": the_page,
    "stub": the_stub,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_had_no_descriptor_several_times_answers_when_there_is_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt, "ACCEPT_AGAIN_S", SOON_S)
    monkeypatch.setattr(service, "REST_S", SOON_S)
    monkeypatch.setattr("asyncio.constants.ACCEPT_RETRY_DELAY", SOON_S)

    async def play() -> None:
        loop = asyncio.get_running_loop()
        async with SERVERS[name](tmp_path) as (place, request):
            for _ in range(ROUNDS):
                with a_client(place) as client:
                    with counted(socket.socket, "accept", monkeypatch) as calls, no_descriptor():
                        await loop.sock_connect(client, place)
                        await loop.sock_sendall(client, request)
                        await until(lambda: len(calls) >= ATTEMPTS)
                    async with asyncio.timeout(60):
                        assert await loop.sock_recv(client, 100)
                for number in range(CLIENTS):
                    with a_client(place) as client:
                        await loop.sock_connect(client, place)
                        await loop.sock_sendall(client, request)
                        async with asyncio.timeout(60):
                            assert await loop.sock_recv(client, 100), number

    asyncio.run(play())


def a_client(place: str | tuple[str, int]) -> socket.socket:
    """A socket that can connect to a place."""
    family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET6
    client = socket.socket(family, socket.SOCK_STREAM)
    client.setblocking(False)
    return client


@contextlib.contextmanager
def no_descriptor() -> Iterator[None]:
    """This process cannot open anything while the block runs."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
