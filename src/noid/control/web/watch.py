# SPDX-License-Identifier: MIT
"""What the page shows: one snapshot of the daemon, made anew when something happens.

The daemon is asked while at least one page is open, and then by one task, however many are.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from noid.control.client import ask, ask_rows
from noid.control.schema import ANSWER_OCTETS_MAX
from noid.control.uplinks import reason_text
from noid.control.web.timeline import grouped
from noid.errors import ShimError
from noid.text import json_line, printable

REFRESH_S: Final = 1.0
"""Between two snapshots when nothing happens."""
REFRESH_MIN_S: Final = 0.1
"""Between two snapshots, whatever happens."""
REST: Final = 4
"""A snapshot that took long is followed by a rest so many times as long: the daemon has more to do
when much happens, and with many contexts."""
REST_MAX_S: Final = 5.0
AGAIN_S: Final = 1.0
"""After which the daemon's events are asked for again, when they have ended."""
CONTEXTS_SHOWN_MAX: Final = 50
EVENTS_SHOWN_MAX: Final = 50
EVENTS_ASKED: Final = 600
"""More than the daemon keeps of the switches for one reason, so that the reason is among them."""
UPLINKS_SHOWN_MAX: Final = 64
TEXT_MAX: Final = 300
"""Characters of one text in a snapshot; DNS names have at most 255."""
NEWS: Final = frozenset({"uplink_changed", "switched"})
"""Events after which a snapshot is made at once."""
CONTEXT_KEYS: Final = ("peer_name", "peer_aid", "state", "local_locator", "peer_locator")
LEFT_OUT: Final = "last_switches"
"""What of an uplink is not shown."""


class Watch:
    """The last snapshot, and who waits for the next.

    Args:
        socket: of the daemon.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.latest = b""
        self.changed = asyncio.Event()
        self.news = asyncio.Event()
        self.pages = 0
        self._tasks: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Keeps the snapshot up to date for as long as the block lasts."""
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
            began_s = time.monotonic()
            self.latest = await asyncio.to_thread(snapshot, self.socket)
            before, self.changed = self.changed, asyncio.Event()
            before.set()
            await asyncio.sleep(rest_s(time.monotonic() - began_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S - REFRESH_MIN_S):
                    await self.news.wait()

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
                if msgspec.json.decode(line, type=dict[str, Any]).get("event") in NEWS:
                    self.news.set()
        finally:
            writer.close()


def rest_s(took_s: float) -> float:
    """How long the daemon is not asked after a snapshot that took so long."""
    return min(max(REFRESH_MIN_S, REST * took_s), REST_MAX_S)


def snapshot(socket: Path) -> bytes:
    """What the page shows now, as one line of JSON; ``trouble`` alone if the daemon is silent."""
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
    """The same, its reason for people beside it."""
    return {**facts, "reason_text": reason_text(str(facts.get("reason", "")))}


def _clean(value: Any) -> Any:
    """The same, each text printable and of a bounded length: names come from the network."""
    match value:
        case str():
            return printable(value[:TEXT_MAX])
        case dict():
            return {key: _clean(one) for key, one in value.items()}
        case list():
            return [_clean(one) for one in value]
        case _:
            return value
