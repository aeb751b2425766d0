# SPDX-License-Identifier: MIT
"""Parts of the daemons that open something: checks, sessions, servers and the history."""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from typing import Final

from noid.border_config import ProviderTable
from noid.control.web.server import WebServer
from noid.control.web.watch import Watch
from noid.errors import PlatformError
from noid.locators import parse_locator
from noid.planes.bpf.pins import own_devices
from noid.roles.checking import Check, Target
from noid.roles.detecting import Detection
from noid.roles.gateway_search import GatewaySearch
from noid.roles.metrics import Facts, MetricsServer
from noid.state.files import prepare_directory
from noid.state.history import HistoryStore
from tests.lives.parts import Part, Place, Work
from tests.planes.keeping import AID, UPLINKS
from tests.roles.test_metrics import paths, status

OFTEN_S: Final = 0.02


def begin(stack: contextlib.AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    """Runs what never ends by itself; an error of it is raised when the stack is closed."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)


ROUTER: Final = ProviderTable(
    name="provider",
    uplink="up1",
    check="gateway",
    check_interval_s=OFTEN_S,
    bfd=True,
    bfd_interval_s=OFTEN_S,
)


def the_router() -> Target:
    return Target(parse_locator("fe80::1"), socket.if_nametoindex("up1"))


async def the_check_of_an_uplink(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    begin(stack, Check(ROUTER, the_router, lambda why: None).run())

    async def work(_: contextlib.AsyncExitStack) -> None:
        await asyncio.sleep(3 * OFTEN_S)

    return work


async def a_session_of_bfd(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    begin(stack, Detection(ROUTER, the_router, lambda why: None).run())

    async def work(_: contextlib.AsyncExitStack) -> None:
        await asyncio.sleep(3 * OFTEN_S)

    return work


async def the_search_for_gateways(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    counted = contextlib.suppress(PlatformError, OSError)
    search = GatewaySearch(lambda: counted, waits_s=(0.0, OFTEN_S))
    search.surveyed(place.network.survey(UPLINKS, excluded=own_devices("noid0")))
    begin(stack, search.watch())

    async def work(_: contextlib.AsyncExitStack) -> None:
        search.suspect([AID])
        await asyncio.sleep(3 * OFTEN_S)

    return work


async def the_history(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    directory = place.directory / "state"
    prepare_directory(directory)
    history = HistoryStore(directory)
    stack.callback(history.close)

    async def work(_: contextlib.AsyncExitStack) -> None:
        history.add([{"event": "one"}, {"event": "two"}])
        history.last(1)

    return work


async def the_metrics(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    server = MetricsServer("[::1]:9469", Facts(status, paths))
    await server.start()
    stack.push_async_callback(server.stop)

    async def work(inner: contextlib.AsyncExitStack) -> None:
        reader, writer = await asyncio.open_connection("::1", server.port)
        inner.callback(writer.close)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.read()

    return work


async def the_web_page(place: Place, stack: contextlib.AsyncExitStack) -> Work:
    try:
        server = WebServer("::1", 8469, Watch(place.directory / "none"))
    except OSError as error:  # files of noid itself
        raise PlatformError("the page", error.errno or 0, str(error.strerror)) from None
    await server.start()
    stack.push_async_callback(server.stop)

    async def work(inner: contextlib.AsyncExitStack) -> None:
        reader, writer = await asyncio.open_connection("::1", 8469)
        inner.callback(writer.close)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readline()

    return work


ROLE_PARTS: Final[dict[str, Part]] = {
    "check of an uplink": the_check_of_an_uplink,
    "session of BFD": a_session_of_bfd,
    "search for gateways": the_search_for_gateways,
    "history": the_history,
    "metrics": the_metrics,
    "web page": the_web_page,
}
