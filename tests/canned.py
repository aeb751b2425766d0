# SPDX-License-Identifier: MIT
"""A real control socket whose commands have canned answers, served by a thread of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from noid.control.schema import Handler
from noid.control.server import ControlServer


class Canned:
    """The server, and its loop for callers in other threads."""

    def __init__(self, server: ControlServer, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self.loop = loop

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Calls on the server's own thread, and waits until that is done."""
        done = threading.Event()

        def run() -> None:
            function(*arguments)
            done.set()

        self.loop.call_soon_threadsafe(run)
        assert done.wait(5)

    def stop(self) -> None:
        """Stops the server, as a daemon does that ends."""
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(5)


@contextlib.contextmanager
def serving(path: Path, commands: dict[str, Handler]) -> Iterator[Canned]:
    """A control socket at ``path`` for as long as the block lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    canned = Canned(ControlServer(path, commands), loop)
    try:
        asyncio.run_coroutine_threadsafe(canned.server.start(), loop).result(5)
        yield canned
        canned.stop()
    finally:
        asyncio.run_coroutine_threadsafe(_finish(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _finish() -> None:
    """Ends the conversations that clients left open, as the end of a daemon does."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
