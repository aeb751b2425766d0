# SPDX-License-Identifier: MIT
"""The HTTP server of ``noid web``: the files of the page, and the stream of snapshots.

Only GET, four paths, one request per connection. A request must name the host by an address or as
``localhost``; other names are refused, because an attacker can let a DNS name point to this host.
"""

import asyncio
import contextlib
import ipaddress
from importlib import resources
from pathlib import Path
from typing import Any, Final

from noid.control.admission import Admission
from noid.control.web.watch import Watch
from noid.errors import PlatformError

REQUEST_OCTETS_MAX: Final = 8_192
REQUEST_WAIT_S: Final = 5.0
"""The timeout of a request, and of each part of its answer."""
CONNECTIONS_MAX: Final = 64
PAGES_MAX: Final = 16
"""The maximum of open pages, each with one stream. Clients share both numbers."""
WRITE_BUFFER_MAX: Final = 65_536
"""The maximum of octets that wait for a client that does not read."""
STREAM: Final = "/events"
FILES: Final = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
}
HEADERS: Final = (
    "Cache-Control: no-store\r\n"
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Connection: close\r\n"
)
OUR_SITE: Final = frozenset({"", "same-origin", "none"})
"""Accepted values of Sec-Fetch-Site for the stream; others come from pages of other sites."""


class Refused(Exception):
    """A request that is refused.

    Args:
        status: the HTTP status.
        why: the reason.
    """

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class WebServer:
    """Serves the page.

    Args:
        address: the address on which it listens.
        port: the port; 0 for a free one.
        watch: the snapshots.
        wait_s: the timeout of a request, and of each part of its answer.
    """

    def __init__(
        self, address: str, port: int, watch: Watch, *, wait_s: float = REQUEST_WAIT_S
    ) -> None:
        self.address = address
        self.listen_port = port
        self.watch = watch
        self.wait_s = wait_s
        self.connections: dict[asyncio.StreamWriter, asyncio.Task[Any] | None] = {}
        self.clients = Admission(CONNECTIONS_MAX)
        self.pages = Admission(PAGES_MAX)
        self.files = {
            path: ((resources.files(__package__) / name).read_bytes(), kind)
            for path, (name, kind) in FILES.items()
        }
        self.server: asyncio.Server | None = None

    async def start(self) -> None:
        """Opens the port.

        Raises:
            PlatformError: it cannot be opened.
        """
        try:
            self.server = await asyncio.start_server(
                self._serve, self.address, self.listen_port, limit=REQUEST_OCTETS_MAX
            )
        except OSError as error:
            raise PlatformError(
                f"web page on {host_port(self.address, self.listen_port)}",
                error.errno or 0,
                f"{error.strerror}; choose a free address and port with --listen",
            ) from None

    @property
    def url(self) -> str:
        """The address of the page."""
        assert self.server is not None
        address, port = self.server.sockets[0].getsockname()[:2]
        return f"http://{host_port(address, port)}/"

    async def stop(self) -> None:
        """Closes the port and every connection."""
        if self.server is not None:
            self.server.close()
            for writer in self.connections:
                writer.transport.abort()
            await asyncio.gather(*filter(None, self.connections.values()))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.clients.enter(writer):
            writer.transport.abort()
            return
        self.connections[writer] = asyncio.current_task()
        writer.transport.set_write_buffer_limits(high=WRITE_BUFFER_MAX)
        try:
            await self._answer(reader, writer)
        except Refused as refused:
            body = refused.why.encode() + b"\n"
            with contextlib.suppress(OSError):
                await self._send(writer, _response(refused.status, body, "text/plain"))
        except (OSError, EOFError):
            writer.transport.abort()  # the client has closed, or does not read
        finally:
            self.connections.pop(writer, None)
            self.clients.leave(writer)
            self.pages.leave(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self.wait_s):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise Refused("431 Request Header Fields Too Large", "too long") from None
        path, fields = request(head)
        if path in self.files:
            await self._send(writer, _response("200 OK", *self.files[path]))
        elif path != STREAM:
            raise Refused("404 Not Found", "see /")
        elif fields.get("sec-fetch-site", "") not in OUR_SITE:
            raise Refused("403 Forbidden", "another site asks")
        elif not self.pages.enter(writer):
            raise Refused("503 Service Unavailable", f"{PAGES_MAX} pages are open; close one")
        else:
            await self._stream(reader, writer)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Sends each snapshot until the client closes; a slow client misses some."""
        async with self.watch.watched():
            departure = asyncio.create_task(_await_departure(reader))
            sending = asyncio.create_task(self._send_snapshots(writer))
            try:
                await asyncio.wait({departure, sending}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    sending.result()
            finally:
                departure.cancel()
                sending.cancel()
                writer.transport.abort()

    async def _send_snapshots(self, writer: asyncio.StreamWriter) -> None:
        head = _head("200 OK", "text/event-stream")
        await self._send(writer, head + b"\r\nretry: 1000\n\n")
        while True:
            changed = self.watch.changed
            if self.watch.latest:
                await self._send(writer, b"data: " + self.watch.latest + b"\n\n")
            await changed.wait()

    async def _send(self, writer: asyncio.StreamWriter, octets: bytes) -> None:
        writer.write(octets)
        async with asyncio.timeout(self.wait_s):
            await writer.drain()


async def _await_departure(reader: asyncio.StreamReader) -> None:
    """Waits until a client closes; ignores what it sends."""
    with contextlib.suppress(OSError):
        while await reader.read(REQUEST_OCTETS_MAX):
            pass


def request(head: bytes) -> tuple[str, dict[str, str]]:
    """The path of a request, and its header fields with names in lower case.

    Raises:
        Refused: it is not a GET for this server.
    """
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, _, rest = first.partition(" ")
    target, _, version = rest.partition(" ")
    if not version.startswith("HTTP/1."):
        raise Refused("400 Bad Request", "no HTTP/1")
    if method != "GET":
        raise Refused("405 Method Not Allowed", "GET alone")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or (name.lower() == "host" and "host" in fields):
            raise Refused("400 Bad Request", "a header field is malformed")
        fields[name.lower()] = value.strip()
    if not is_ours(fields.get("host", "")):
        raise Refused("403 Forbidden", "name this host by its address, or as localhost")
    return target.partition("?")[0], fields


def is_ours(host: str) -> bool:
    """Whether a Host field names this host by an address or as localhost."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, "0"
    if not (port.isascii() and port.isdecimal()):
        return False
    if name.lower() == "localhost":
        return True
    is_bracketed = name.startswith("[") and name.endswith("]")
    try:
        address = ipaddress.ip_address(name[1:-1] if is_bracketed else name)
    except ValueError:
        return False
    return is_bracketed == (address.version == 6)


def host_port(address: str, port: int) -> str:
    """Address and port as in a URL."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _response(status: str, body: bytes, kind: str) -> bytes:
    allow = b"Allow: GET\r\n" if status.startswith("405") else b""
    length = f"Content-Length: {len(body)}\r\n\r\n".encode()
    return _head(status, kind) + allow + length + body


def _head(status: str, kind: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\n{HEADERS}".encode()


async def serve(address: str, port: int, socket: Path) -> WebServer:
    """Starts a server; see ``WebServer`` and ``Watch``."""
    server = WebServer(address, port, Watch(socket))
    await server.start()
    return server
