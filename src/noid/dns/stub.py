"""The resolver of the host's programs, and how the shim learns of a peer [draft §3.1; D24].

Every query goes to the upstream resolvers and comes back as it is. One kind is looked at: AAAA. Of
a name that speaks M6 the program gets a single address, the AID it will use, and the shim is told
of all of them first, so that the first packet already finds the peer known.

**A host is never worse off than without noid**: whatever cannot be read, is slow or looks odd goes
to the program as it came, and a program that checks signatures (DO) or sets checking aside (CD)
gets the whole set. Nothing that arrives raises, hangs or grows: each wait and number has its limit.
"""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.IN.AAAA
import dns.rrset

from noid.constants import LOCATORS_MAX
from noid.dns.records import Answer, Kind, Question, Status, canonical_name
from noid.dns.upstream import (
    EDNS_OCTETS,
    HEADER_OCTETS,
    LENGTH,
    MESSAGE_OCTETS_MAX,
    TTL_MAX,
    Upstream,
    follow_aliases,
    read_message,
    response_code,
    response_flags,
)
from noid.errors import PlatformError
from noid.locators import Locator, is_global_unicast, parse_locator

CAPABILITY_GRACE_S: Final = 1.0
"""How much longer than AAAA the question whether the name speaks M6 may take."""
DATAGRAMS_AT_ONCE_MAX: Final = 512
"""UDP queries being answered at one time; one more gets SERVFAIL."""
CLIENTS_MAX: Final = 64
"""TCP connections at one time; one more is closed."""
CLIENT_IDLE_S: Final = 10.0
"""A TCP client that sends no whole query, or reads no answer, for so long is closed."""
BACKLOG_MAX: Final = 64
"""TCP connections not yet accepted."""
DATAGRAM_OCTETS_MIN: Final = 512
"""A UDP response that every client can take [RFC 1035 §4.2.1]."""

COUNTED: Final = {
    "queries": "queries that came in and could be read",
    "peers": "AAAA answers reduced to an AID, the shim having been told",
    "capability_unknown": "AAAA answers given whole because the M6 question had no answer in time",
    "failed": "queries answered SERVFAIL because no resolver answered",
    "truncated": "UDP responses cut because the client takes no more",
    "malformed": "messages that were not a query, or not one that can be answered",
    "overflow": "queries and clients turned away because there were too many",
}
"""The counters, for ``noid status``."""

OnPeer = Callable[[str, Locator, tuple[Locator, ...], int], bool]
"""Takes a peer's name, its AID, its locators (the AID among them) and their TTL in seconds; says
whether they are the peer's, as far as is known: the AID may be another name's [D33]."""


class _Peer(NamedTuple):
    """An AAAA answer that can be reduced to one address, should the name speak M6."""

    message: dns.message.QueryMessage
    rrset: dns.rrset.RRset
    locators: tuple[Locator, ...]


class Stub:
    """Answers DNS queries on UDP and TCP.

    Args:
        listen: address to listen on.
        port: port, for both.
        upstream: where answers come from.
        on_peer: told of a peer before the program is.
        own_locators: the host's own locators of this moment.
        grace_s: how much longer than AAAA the M6 question may take.
        idle_s: how long a TCP client may do nothing.
    """

    def __init__(
        self,
        listen: str,
        port: int,
        upstream: Upstream,
        on_peer: OnPeer,
        own_locators: Callable[[], Collection[Locator]],
        *,
        grace_s: float = CAPABILITY_GRACE_S,
        idle_s: float = CLIENT_IDLE_S,
    ) -> None:
        self.listen = listen
        self.port = port
        self.upstream = upstream
        self.on_peer = on_peer
        self.own_locators = own_locators
        self.grace_s = grace_s
        self.idle_s = idle_s
        self.counters = dict.fromkeys(COUNTED, 0)
        self._datagrams: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            PlatformError: the address or the port cannot be had.
        """
        version = ipaddress.ip_address(self.listen).version
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        stream = socket.socket(family, socket.SOCK_STREAM)
        try:
            # On TCP this takes over from connections that are closing; on UDP it would let two
            # resolvers share the port and each get some of the queries.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for listener in (datagrams, stream):
                listener.setblocking(False)
                listener.bind((self.listen, self.port))
            self._server = await asyncio.start_server(
                self._accept, sock=stream, backlog=BACKLOG_MAX
            )
        except OSError as error:
            datagrams.close()
            stream.close()
            raise self._refusal(error) from None
        self._datagrams = datagrams
        asyncio.get_running_loop().add_reader(datagrams, self._receive, datagrams)

    async def stop(self) -> None:
        """Stops listening and drops who is being served."""
        if self._datagrams is not None:
            asyncio.get_running_loop().remove_reader(self._datagrams)
            self._datagrams.close()
            self._datagrams = None
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = [*self._answering, *self._clients]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def answer(
        self, octets: bytes, *, response_octets_max: int | None = None
    ) -> bytes | None:
        """The response to one message, whatever it is.

        Args:
            octets: the message.
            response_octets_max: size the response may have; None for what the query itself says.

        Returns:
            A response with the query's id; None for what deserves none: less than a header, or a
            response (to answer those is to play ping-pong with another server).
        """
        if len(octets) < HEADER_OCTETS or response_flags(octets) & dns.flags.QR:
            self.counters["malformed"] += 1
            return None
        if dns.opcode.from_flags(response_flags(octets)) != dns.opcode.QUERY:
            self.counters["malformed"] += 1
            return bare_response(octets, dns.rcode.NOTIMP)
        query = read_message(octets)
        if query is None or len(query.question) != 1:
            self.counters["malformed"] += 1
            return bare_response(octets, dns.rcode.FORMERR)
        self.counters["queries"] += 1
        if _is_for_locators(query):
            response = await self._locators(octets, query)
        else:
            response = await self.upstream.forward(octets)
        if response is None:
            self.counters["failed"] += 1
            return _skeleton(query, dns.rcode.SERVFAIL).to_wire()
        if response_octets_max is None:
            response_octets_max = max(query.payload, DATAGRAM_OCTETS_MIN)
        if len(response) > response_octets_max:
            self.counters["truncated"] += 1
            return _truncated(query, response)
        return response

    # --- AAAA ---

    async def _locators(self, octets: bytes, query: dns.message.QueryMessage) -> bytes | None:
        """The answer to AAAA: one address if the name speaks M6, else what upstream says."""
        name = canonical_name(query.question[0].name.to_text())
        capability = asyncio.create_task(self.upstream.ask(Question(Kind.CAPABILITY, name)))
        try:
            response = await self.upstream.forward(octets)
            peer = None if response is None else self._peer(response)
            if peer is None or not await self._speaks_m6(capability):
                return response
        finally:
            capability.cancel()
        reduced = _reduced(peer)
        if reduced is None:
            return response
        name = canonical_name(peer.rrset.name.to_text())
        ttl_seconds = min(peer.rrset.ttl, TTL_MAX)
        if not self.on_peer(name, peer.locators[0], peer.locators, ttl_seconds):
            return response
        self.counters["peers"] += 1
        return reduced

    async def _speaks_m6(self, capability: asyncio.Task[Answer]) -> bool:
        """Waits for the M6 answer as long as a program can be kept waiting for it."""
        try:
            async with asyncio.timeout(self.grace_s):
                status = (await capability).status
        except TimeoutError:
            status = Status.UNREACHABLE
        if status is Status.UNREACHABLE:
            self.counters["capability_unknown"] += 1
        return status is Status.FOUND

    def _peer(self, response: bytes) -> _Peer | None:
        """The locators in a response, or None where it must not be touched."""
        message = read_message(response)
        if message is None or message.rcode() != dns.rcode.NOERROR or message.had_tsig:
            return None
        if message.flags & dns.flags.TC:
            return None
        result = follow_aliases(message)
        if result is None or result.answer is None:
            return None
        locators = tuple(
            parse_locator(record.address)
            for record in result.answer
            if isinstance(record, dns.rdtypes.IN.AAAA.AAAA)
        )
        if not all(is_global_unicast(locator) for locator in locators):
            return None
        if not set(self.own_locators()).isdisjoint(locators):
            return None  # the host talks to itself
        return _Peer(message, result.answer, locators[:LOCATORS_MAX])

    # --- UDP ---

    def _receive(self, datagrams: socket.socket) -> None:
        """Takes one datagram and answers it in a task of its own."""
        try:
            octets, client = datagrams.recvfrom(MESSAGE_OCTETS_MAX)
        except OSError:
            return  # nothing there after all, or an error of an earlier response
        if len(self._answering) >= DATAGRAMS_AT_ONCE_MAX:
            self.counters["overflow"] += 1
            if len(octets) >= HEADER_OCTETS and not response_flags(octets) & dns.flags.QR:
                _send(datagrams, bare_response(octets, dns.rcode.SERVFAIL), client)
            return
        task = asyncio.create_task(self._serve_datagram(datagrams, octets, client))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _serve_datagram(
        self, datagrams: socket.socket, octets: bytes, client: tuple[str | int, ...]
    ) -> None:
        response = await self.answer(octets)
        if response is not None:
            _send(datagrams, response, client)

    # --- TCP ---

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes one connection and serves it in a task of its own."""
        if len(self._clients) >= CLIENTS_MAX:
            self.counters["overflow"] += 1
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve_client(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        # With this drain() returns when the kernel has everything, and abort() loses nothing.
        writer.transport.set_write_buffer_limits(high=0)
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away, or was idle for too long
        finally:
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the queries of one client in the order they came [RFC 7766 §6.2.1].

        Raises:
            OSError: the client is gone, or did nothing for too long.
            asyncio.IncompleteReadError: it ended.
        """
        while True:
            async with asyncio.timeout(self.idle_s):
                (octets,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                query = await reader.readexactly(octets)
            response = await self.answer(query, response_octets_max=MESSAGE_OCTETS_MAX)
            if response is None:
                return
            writer.write(LENGTH.pack(len(response)) + response)
            async with asyncio.timeout(self.idle_s):
                await writer.drain()

    def _refusal(self, error: OSError) -> PlatformError:
        """Why we cannot listen, with what the operator can do about it."""
        advice = {
            errno.EADDRINUSE: "is in use; set dns.port or stop what listens there",
            errno.EACCES: "permission denied; run as root or set dns.port above 1023",
            errno.EADDRNOTAVAIL: "this host has no such address; set dns.listen",
        }.get(error.errno or 0, f"{error.strerror}; set dns.listen and dns.port")
        return PlatformError(f"DNS on {self.listen} port {self.port}", error.errno or 0, advice)


# --- responses ---


def bare_response(octets: bytes, code: dns.rcode.Rcode) -> bytes:
    """A response of a header alone, to a message of which no more than that was read."""
    asked = response_flags(octets)
    opcode_and_recursion = asked & (0x7800 | dns.flags.RD)
    flags = dns.flags.QR | opcode_and_recursion | dns.flags.RA | code
    return octets[:2] + int(flags).to_bytes(2, "big") + bytes(HEADER_OCTETS - 4)


def _is_for_locators(query: dns.message.QueryMessage) -> bool:
    """Whether a program asks for addresses that it will take as they are.

    One that sets DO checks the signature over the whole set; one that sets CD does not trust the
    resolver's own check. Neither is served by a part of the set.
    """
    question = query.question[0]
    return (
        question.rdtype == dns.rdatatype.AAAA
        and question.rdclass == dns.rdataclass.IN
        and not query.flags & dns.flags.CD
        and not query.ednsflags & dns.flags.DO
    )


def _skeleton(query: dns.message.QueryMessage, code: dns.rcode.Rcode) -> dns.message.QueryMessage:
    """A response of ours that has the question and no answer."""
    response = dns.message.QueryMessage(query.id)
    kept = query.flags & (dns.flags.RD | dns.flags.CD)
    response.flags = dns.flags.QR | dns.flags.RA | kept
    response.question = list(query.question)
    if query.edns >= 0:
        response.use_edns(0, payload=EDNS_OCTETS)
    response.set_rcode(code)
    return response


def _truncated(query: dns.message.QueryMessage, response: bytes) -> bytes:
    """What a client gets that has to come again over TCP: no part of an answer to misunderstand."""
    short = _skeleton(query, response_code(response))
    short.flags |= dns.flags.TC
    return short.to_wire()


def _reduced(peer: _Peer) -> bytes | None:
    """The response with one address of the final name; None if it cannot be written again.

    The chain of CNAMEs stays, and so does the TTL. A signature over the whole set would be wrong
    and goes, and with it the claim that the data are authentic (AD).
    """
    message, whole = peer.message, peer.rrset
    one = dns.rrset.from_rdata(whole.name, whole.ttl, whole[0])
    answer: list[dns.rrset.RRset] = []
    for rrset in message.answer:
        if rrset is whole:
            answer.append(one)
        elif not (
            rrset.rdtype == dns.rdatatype.RRSIG
            and rrset.covers == dns.rdatatype.AAAA
            and rrset.name == whole.name
        ):
            answer.append(rrset)
    message.answer = answer
    message.flags &= ~dns.flags.AD
    try:
        return message.to_wire(max_size=MESSAGE_OCTETS_MAX, want_shuffle=False)
    except dns.exception.DNSException:
        return None


def _send(datagrams: socket.socket, response: bytes, client: tuple[str | int, ...]) -> None:
    """Sends a response, or drops it where the system takes no more; the client asks again."""
    try:
        datagrams.sendto(response, client)
    except OSError:
        return
