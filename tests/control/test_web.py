# SPDX-License-Identifier: MIT
"""The HTTP of ``noid web``, before a daemon's canned answers."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from noid.cli.main import main
from noid.cli.web import listen
from noid.control.server import ControlServer
from noid.control.uplink_reports import change_event, uplink_report
from noid.control.uplinks import Change, Health, Reason, Sighting, Uplinks
from noid.control.web import server as web
from noid.control.web import watch
from noid.control.web.server import WebServer, is_ours, serve
from noid.control.web.timeline import TOGETHER_S, grouped
from noid.control.web.watch import Watch
from noid.roles.reporting import SWITCHES_WRITTEN_MAX
from tests.engine.network import A1

CHANGE = Change(101.0, "up1", Health.UP, Health.DOWN, Reason.SILENT, 60.0)
CONTEXT = {
    "peer_aid": "2001:db8:1::b",
    "peer_name": "<b>\u202e.example",
    "state": "established",
    "local_locator": "2001:db8:2::a",
    "peer_locator": "2001:db8:2::b",
}
CONTEXTS = 100_000
NAMESPACE = '"http://www.w3.org/2000/svg"'
"""A name that is never loaded."""
HOST = b"Host: localhost:9470\r\n"


class Daemon:
    """A control socket with canned answers, whose uplink may go down."""

    def __init__(self, path: Path) -> None:
        self.uplinks = Uplinks()
        self.uplinks.see([Sighting("up1", is_up=True, carries=True, locators=(A1,))], 1.0)
        commands: dict[str, Callable[[], Any]] = {
            "status": lambda: {"name": "a.example", "contexts": {"established": CONTEXTS}},
            "paths": self.paths,
            "contexts": self.contexts,
        }
        self.rows = 0
        self.control = ControlServer(path, commands, {"history": self.history})

    def paths(self) -> dict[str, Any]:
        return {"now": 110.0, "uplinks": [uplink_report(self.uplinks.by_name["up1"], {}, {})]}

    def contexts(self) -> Iterator[dict[str, Any]]:
        for _ in range(CONTEXTS):
            self.rows += 1
            yield {**CONTEXT}

    async def history(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"now": 110.0, "events": [change_event(CHANGE)] * request["count"]}


@contextlib.asynccontextmanager
async def served(
    directory: Path, make_page: Callable[[Path], WebServer]
) -> AsyncIterator[tuple[Daemon, WebServer]]:
    """A daemon and its page."""
    daemon = Daemon(directory / "noid.sock")
    await daemon.control.start()
    page = make_page(daemon.control.path)
    await page.start()
    try:
        yield daemon, page
    finally:
        await page.stop()
        await daemon.control.stop()
        await asyncio.sleep(0)


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(page: WebServer, request: bytes = b"") -> Connection:
    port = int(page.url.rstrip("/").rpartition(":")[2])
    reader, writer = await asyncio.open_connection("::1", port)
    writer.write(request)
    return reader, writer


async def answer(page: WebServer, request: bytes) -> str:
    """All that is answered to one request."""
    reader, writer = await connect(page, request)
    octets = await reader.read()
    writer.close()
    return octets.decode()


async def snapshot(stream: Connection) -> dict[str, Any]:
    """The next snapshot of a stream."""
    while line := await stream[0].readline():
        if line.startswith(b"data: "):
            return dict(json.loads(line[6:]))
    raise AssertionError("the stream has ended")


def usual_page(socket: Path) -> WebServer:
    return WebServer("::1", 0, Watch(socket))


def play(
    directory: Path,
    scene: Callable[[Daemon, WebServer], Coroutine[Any, Any, None]],
    make_page: Callable[[Path], WebServer] = usual_page,
) -> None:
    async def run() -> None:
        async with served(directory, make_page) as (daemon, page):
            await scene(daemon, page)

    asyncio.run(run())


STREAM = b"GET /events HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.mark.parametrize("path", web.FILES)
def test_each_file_comes_with_a_strict_policy(tmp_path: Path, path: str) -> None:
    async def scene(_daemon: Daemon, page: WebServer) -> None:
        said = await answer(page, f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"\r\n")
        head, _, body = said.partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert "Content-Security-Policy: default-src 'none'; script-src 'self'" in head
        assert f"Content-Length: {len(body.encode())}" in head
        assert "Access-Control" not in head
        assert "http://" not in body.replace(NAMESPACE, "")
        assert "https://" not in body

    play(tmp_path, scene)


def test_every_file_of_the_pages_is_served() -> None:
    files = [one for one in Path(web.__file__).parent.iterdir() if one.is_file()]
    assert {one.name for one in files if one.suffix != ".py"} == {
        name for name, _ in web.FILES.values()
    }


def test_the_page_sets_texts_and_no_markup() -> None:
    page = (Path(web.__file__).parent / "page.js").read_text(encoding="utf-8")
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in page


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"POST / HTTP/1.1\r\n", 405),
        (b"HEAD / HTTP/1.1\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\n", 405),
        (b"GET /../server.py HTTP/1.1\r\n", 404),
        (b"GET /watch.py HTTP/1.1\r\n", 404),
        (b"GET http://localhost/ HTTP/1.1\r\n", 404),
        (b"GET /\r\n", 400),
        (b"GET / HTTP/2\r\n", 400),
        (b"\xff\xfe\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: ::1\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * web.REQUEST_OCTETS_MAX + b"\r\n", 431),
        (b"GET /events HTTP/1.1\r\nSec-Fetch-Site: cross-site\r\n", 403),
    ],
)
def test_what_is_no_request_for_the_page_is_refused(
    tmp_path: Path, request_line: bytes, status: int
) -> None:
    async def scene(_daemon: Daemon, page: WebServer) -> None:
        said = await answer(page, request_line + HOST + b"\r\n")
        assert said.startswith(f"HTTP/1.1 {status} ")

    play(tmp_path, scene)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:9470", "[::1]", "[::1]:9470", "192.0.2.1"]
)
def test_a_host_that_is_an_address_or_localhost_is_ours(host: str) -> None:
    assert is_ours(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "::1", "[::1"),
        *("localhost:x", "localhost:", "[::1]x", "[::1]:٣", "[127.0.0.1]", "user@localhost"),
    ],
)
def test_a_name_of_the_dns_is_not_ours(tmp_path: Path, host: str) -> None:
    assert not is_ours(host)

    async def scene(_daemon: Daemon, page: WebServer) -> None:
        said = await answer(page, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert said.startswith("HTTP/1.1 403 ")
        assert "localhost" in said

    play(tmp_path, scene)


def test_a_stream_shows_bounded_clean_facts_and_each_change_at_once(tmp_path: Path) -> None:
    async def scene(daemon: Daemon, page: WebServer) -> None:
        stream = await connect(page, STREAM)
        facts = await snapshot(stream)
        assert [one["state"] for one in facts["uplinks"]] == ["up"]
        assert facts["host"] == "a.example"
        assert facts["contexts_count"] == CONTEXTS
        assert len(facts["contexts"]) == watch.CONTEXTS_SHOWN_MAX
        assert daemon.rows < CONTEXTS / 10  # the rest is not even made
        assert len(facts["events"]) == watch.EVENTS_SHOWN_MAX
        assert facts["contexts"][0]["peer_name"] == r"<b>\u202e.example"
        daemon.uplinks.lose("up1", is_up=True, now_s=100.0)
        daemon.control.publish(change_event(CHANGE))
        while facts["uplinks"][0]["state"] == "up":
            facts = await snapshot(stream)
        assert facts["uplinks"][0]["reason_text"] == "the link has no carrier"
        stream[1].close()

    play(tmp_path, scene)


@pytest.mark.parametrize(
    "settings",
    [{"refresh_s": 1e6}, {"pause_s": lambda _: 1e6}],
    ids=["before the usual time", "although the daemon answers slowly"],
)
def test_an_event_of_an_uplink_is_shown_at_once(tmp_path: Path, settings: dict[str, Any]) -> None:
    async def scene(daemon: Daemon, page: WebServer) -> None:
        stream = await connect(page, STREAM)
        assert (await snapshot(stream))["uplinks"][0]["state"] == "up"
        while not daemon.control.monitors:
            await asyncio.sleep(0.01)
        daemon.uplinks.lose("up1", is_up=True, now_s=100.0)
        daemon.control.publish(change_event(CHANGE))
        assert (await snapshot(stream))["uplinks"][0]["state"] == "down"
        stream[1].close()

    play(tmp_path, scene, lambda socket: WebServer("::1", 0, Watch(socket, **settings)))


@pytest.mark.slow
def test_a_daemon_that_stops_and_starts_again_is_shown(tmp_path: Path) -> None:
    async def scene(daemon: Daemon, page: WebServer) -> None:
        stream = await connect(page, STREAM)
        await snapshot(stream)
        await daemon.control.stop()
        while "trouble" not in (facts := await snapshot(stream)):
            pass
        assert "noid run" in facts["trouble"]
        await daemon.control.start()
        while "trouble" in await snapshot(stream):
            pass
        stream[1].close()

    play(tmp_path, scene, lambda socket: WebServer("::1", 0, Watch(socket, refresh_s=0.2)))


def switch(at_s: float, *, peer: str = "b", why: str = "nothing heard") -> dict[str, Any]:
    found = dict.fromkeys(("old_local_locator", "new_local_locator"), "a")
    return {**found, "event": "switched", "at": at_s, "peer_aid": peer, "why": why}


def test_many_switches_with_one_reason_are_one_line_with_the_reason() -> None:
    change = change_event(CHANGE)
    many = [switch(110.0, peer=str(number)) for number in range(SWITCHES_WRITTEN_MAX)]
    assert len(many) + 2 <= watch.EVENTS_ASKED
    omitted = {"event": "omitted", "at": 110.0, "switches": 7}
    switches, rest, reason = grouped([*many, omitted, change], watch.EVENTS_SHOWN_MAX)
    assert (switches["event"], switches["count"]) == ("switches", SWITCHES_WRITTEN_MAX)
    assert "peer_aid" not in switches
    assert (rest, reason) == (omitted, change)


@pytest.mark.parametrize(
    "events",
    [
        [switch(110.0)],
        [switch(110.0), switch(110.0 - TOGETHER_S - 1)],
        [switch(110.0), switch(110.0, why="a better pair")],
        [change_event(CHANGE), change_event(CHANGE)],
    ],
)
def test_other_events_keep_their_lines(events: list[dict[str, Any]]) -> None:
    assert grouped(events, watch.EVENTS_SHOWN_MAX) == events


def test_a_daemon_that_answers_slowly_is_asked_seldom() -> None:
    assert watch.rest_s(0.2) == 0.2 * watch.REST
    assert watch.rest_s(60.0) == watch.REST_MAX_S


def test_a_daemon_whose_answers_are_others_is_shown_as_trouble(tmp_path: Path) -> None:
    async def scene(daemon: Daemon, page: WebServer) -> None:
        daemon.control.commands["paths"] = lambda: {"ways": []}
        stream = await connect(page, STREAM)
        assert "another version" in (await snapshot(stream))["trouble"]
        stream[1].close()

    play(tmp_path, scene)


@pytest.mark.slow
def test_the_number_of_open_pages_is_limited(tmp_path: Path) -> None:
    async def scene(daemon: Daemon, page: WebServer) -> None:
        streams = [await connect(page, STREAM) for _ in range(web.PAGES_MAX)]
        for one in streams:
            await snapshot(one)
        assert len(daemon.control.monitors) <= 1  # the daemon is asked once for all
        assert (await answer(page, STREAM)).startswith("HTTP/1.1 503 ")
        for one in streams:
            one[1].close()
        while page.watch.pages or page.connections:
            await asyncio.sleep(0.01)
        while daemon.control.clients:
            await asyncio.sleep(0.01)  # without a page the daemon is not asked
        again = await connect(page, STREAM)
        await snapshot(again)
        again[1].close()

    play(tmp_path, scene)


def test_of_more_connections_than_there_is_room_for_the_last_are_closed(tmp_path: Path) -> None:
    async def scene(_daemon: Daemon, page: WebServer) -> None:
        held = [await connect(page) for _ in range(web.CONNECTIONS_MAX)]
        while len(page.connections) < web.CONNECTIONS_MAX:
            await asyncio.sleep(0.01)
        reader, writer = await connect(page)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        for one in held:
            one[1].close()

    play(tmp_path, scene)


@pytest.mark.slow
def test_a_client_that_does_not_send_or_read_is_disconnected(tmp_path: Path) -> None:
    def impatient(socket: Path) -> WebServer:
        watch = Watch(socket, refresh_s=0.01, refresh_min_s=0.0)
        return WebServer("::1", 0, watch, wait_s=0.1)

    async def scene(daemon: Daemon, page: WebServer) -> None:
        assert await answer_or_nothing(page) == b""
        long = dict.fromkeys(CONTEXT, "a" * watch.TEXT_MAX)
        daemon.control.commands["contexts"] = lambda: iter([long] * watch.CONTEXTS_SHOWN_MAX)
        _reader, writer = await connect(page, STREAM)
        writer.transport.pause_reading()  # type: ignore[attr-defined] # of a socket it has it
        while not page.connections:
            await asyncio.sleep(0.01)
        while page.connections:
            await asyncio.sleep(0.01)
        writer.close()

    play(tmp_path, scene, impatient)


async def answer_or_nothing(page: WebServer) -> bytes:
    reader, writer = await connect(page, b"GET / HT")
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


# --- the command ----------------------------------------------------------------------------------


def test_an_address_and_a_port_are_understood() -> None:
    assert listen("[::1]:80") == ("::1", 80)
    assert listen("127.0.0.1:0") == ("127.0.0.1", 0)


@pytest.mark.parametrize("text", ["9470", "::1:9470", "localhost:80", "[127.0.0.1]:80", "[::1]:x"])
def test_what_is_no_address_and_port_is_refused(text: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["web", "--listen", text])
    assert ended.value.code == 2


def test_without_a_daemon_the_command_says_how_to_start_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["web", "--socket", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.endswith("no noid answers there; start one with: noid run\n")


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    async def scene(_daemon: Daemon, page: WebServer) -> None:
        port = int(page.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(Exception, match="--listen"):
            await serve("::1", port, tmp_path)

    play(tmp_path, scene)
