# SPDX-License-Identifier: MIT
"""The content of the page: a snapshot of the daemon, made again when something happens.

One task asks the daemon while at least one page is open; more pages cause no more questions.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from noid.control.client import ask, ask_rows
from noid.control.schema import ANSWER_OCTETS_MAX
from noid.control.uplink_reports import reason_text
from noid.control.web.border import border_facts, is_border
from noid.control.web.timeline import grouped
from noid.errors import ShimError
from noid.text import json_line, printable

REFRESH_S: Final = 1.0
"""Between two snapshots when nothing happens."""
REFRESH_MIN_S: Final = 0.1
"""Between two snapshots, at the least."""
REST: Final = 4
"""The pause after a snapshot is this many times its duration, because a daemon with many events or
contexts is busy."""
REST_MAX_S: Final = 5.0
AGAIN_S: Final = 1.0
"""The wait until the events are requested again after the connection has ended."""
CONTEXTS_SHOWN_MAX: Final = 50
EVENTS_SHOWN_MAX: Final = 50
EVENTS_ASKED: Final = 600
"""More than the daemon stores of switches for one reason, so that the reason is included."""
UPLINKS_SHOWN_MAX: Final = 64
TEXT_MAX: Final = 300
"""Characters of one text in a snapshot; DNS names have at most 255."""
NEWS: Final = frozenset({"uplink_changed", "switched", "provider_changed", "border_switched"})
"""Events after which a snapshot is made without waiting for the usual time."""
URGENT: Final = frozenset({"uplink_changed", "provider_changed"})
"""Those of them that are few, so that they do not wait for the end of a pause either."""
CONTEXT_KEYS: Final = ("peer_name", "peer_aid", "state", "local_locator", "peer_locator")
LEFT_OUT: Final = "last_switches"
"""The key of an uplink that is not shown."""


def rest_s(took_s: float) -> float:
    """The pause after a snapshot that took so long."""
    return min(REST * took_s, REST_MAX_S)


class Watch:
    """The last snapshot, and an event for the next.

    Args:
        socket: the socket of the daemon.
        refresh_s: between two snapshots when nothing happens.
        refresh_min_s: between two snapshots, at the least.
        pause_s: the pause after a snapshot, by the seconds that it took.
    """

    def __init__(
        self,
        socket: Path,
        *,
        refresh_s: float = REFRESH_S,
        refresh_min_s: float = REFRESH_MIN_S,
        pause_s: Callable[[float], float] = rest_s,
    ) -> None:
        self.socket = socket
        self.refresh_s = refresh_s
        self.refresh_min_s = refresh_min_s
        self.pause_s = pause_s
        self.latest = b""
        self.changed = asyncio.Event()
        self.news, self.urgent = asyncio.Event(), asyncio.Event()
        self.pages = 0
        self._tasks: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Keeps the snapshot up to date during the block."""
        self.pages += 1
        if self.pages == 1:
            self._tasks = [
                asyncio.create_task(self._refresh()),
                asyncio.create_task(self._listen()),
            ]
        try:
            yield
        finally:
            self.pages -= 1
            if not self.pages:
                self.latest = b""
                for task in self._tasks:
                    task.cancel()

    async def _refresh(self) -> None:
        while True:
            self.news.clear()
            self.urgent.clear()
            began_s = time.monotonic()
            self.latest = await asyncio.to_thread(snapshot, self.socket)
            before, self.changed = self.changed, asyncio.Event()
            before.set()
            pause_s = self.pause_s(time.monotonic() - began_s)
            await asyncio.sleep(self.refresh_min_s)
            await _within(pause_s - self.refresh_min_s, self.urgent)
            await _within(self.refresh_s - self.refresh_min_s, self.news)

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(OSError, ValueError):
                await self._read_events()
            await asyncio.sleep(AGAIN_S)

    async def _read_events(self) -> None:
        reader, writer = await asyncio.open_unix_connection(
            str(self.socket), limit=ANSWER_OCTETS_MAX
        )
        try:
            writer.write(b'{"command":"monitor"}\n')
            while line := await reader.readline():
                event = msgspec.json.decode(line, type=dict[str, Any]).get("event")
                if event in NEWS:
                    self.news.set()
                if event in URGENT:
                    self.urgent.set()
        finally:
            writer.close()


async def _within(wait_s: float, event: asyncio.Event) -> None:
    """Waits for an event, at most for so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, wait_s)):
            await event.wait()


def snapshot(socket: Path) -> bytes:
    """The present snapshot as one line of JSON; only ``trouble`` if the daemon does not answer."""
    try:
        return json_line(_clean(_facts(socket))).encode()
    except (ShimError, OSError) as error:
        trouble = str(error)
    except (KeyError, TypeError, AttributeError, ValueError, msgspec.MsgspecError):
        trouble = (
            "the daemon's answer is not understood: it is of another version; restart noid web"
        )
    return json_line({"trouble": _clean(trouble)}).encode()


def _facts(socket: Path) -> dict[str, Any]:
    status = ask(socket, "status")
    if is_border(status):
        history = ask(socket, "history", {"count": EVENTS_SHOWN_MAX})
        return border_facts(status, history["events"])
    paths = ask(socket, "paths")
    history = ask(socket, "history", {"count": EVENTS_ASKED})
    with contextlib.closing(ask_rows(socket, "contexts")) as rows:
        contexts = list(itertools.islice(rows, CONTEXTS_SHOWN_MAX))
    return {
        "now": paths["now"],
        "host": status["name"],
        "uplinks": [_uplink(one) for one in paths["uplinks"][:UPLINKS_SHOWN_MAX]],
        "events": [_explained(one) for one in grouped(history["events"], EVENTS_SHOWN_MAX)],
        "contexts_count": sum(status["contexts"].values()),
        "contexts": [{key: one.get(key) for key in CONTEXT_KEYS} for one in contexts],
    }


def _uplink(uplink: Mapping[str, Any]) -> dict[str, Any]:
    return _explained({key: value for key, value in uplink.items() if key != LEFT_OUT})


def _explained(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the description of the reason."""
    return {**facts, "reason_text": reason_text(str(facts.get("reason", "")))}


def _clean(value: Any) -> Any:
    """Makes each text printable and limits its length, because names come from the network."""
    match value:
        case str():
            return printable(value[:TEXT_MAX])
        case dict():
            return {key: _clean(one) for key, one in value.items()}
        case list():
            return [_clean(one) for one in value]
        case _:
            return value
