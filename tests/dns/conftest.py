# SPDX-License-Identifier: MIT
"""Real servers for the DNS tests: NSD with a zone of ours, and servers that misbehave on order."""

import asyncio
import contextlib
import socket
import socketserver
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import dns.asyncquery
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from noid.constants import Codepoints
from noid.counters import UpstreamCounter
from noid.dns.messages import MESSAGE_OCTETS_MAX
from noid.dns.queries import read_query
from noid.dns.records import Answer, Kind, Question
from noid.lab.resolution import LOOPBACK, free_port, knowing
from noid.locators import Locator, parse_locator
from noid.resolver import turns
from noid.resolver.port import Server
from noid.resolver.service import Limits
from noid.resolver.stub import Stub
from noid.resolver.upstream import ANSWERS_MAX, Upstream
from tests.namespaces import ip, wait_for_addresses

Handle = Callable[[bytes, bool], bytes | list[bytes] | None]
"""Takes a query and whether it came over TCP; gives what to send back, several messages even."""
Pretend = Callable[[Handle], Server]

Result = TypeVar("Result")

NAME = "host.example.test"
RESOLVER = "2001:db8:9::53"
DEAD, ALIVE = "2001:db8:1::1", "2001:db8:2::1"
MARK = 0x6D36
NOBODY: Server = (LOOPBACK, 9)
"""A port where nothing listens: the network says so at once."""
QUICK = Limits(idle_s=2.0)

ZONE = r"""
$TTL 300
@ SOA ns admin 1 3600 600 86400 120
@ NS ns
ns AAAA 2001:db8::53
m6 AAAA 2001:db8:1::1
m6 AAAA 2001:db8:2::1
m6 TYPE65286 \# 0
plain AAAA 2001:db8:1::2
plain AAAA 2001:db8:2::2
alias 60 CNAME m6
text AAAA 2001:db8:1::3
text AAAA 2001:db8:2::3
_m6.text TXT "v=m6"
textalias CNAME text
othertext AAAA 2001:db8:1::4
_m6.othertext TXT "v=spf1 -all"
linklocal AAAA 2001:db8:1::5
linklocal AAAA fe80::5
linklocal TYPE65286 \# 0
"""
MANY = "".join(
    [*(f"many AAAA 2001:db8:1::{index:x}\n" for index in range(256, 276)), "many TYPE65286 \\# 0\n"]
)
BIG = "".join(f'big TXT "{index:03}{"x" * 200}"\n' for index in range(20))

REVERSE_ZONE = r"""
$TTL 300
@ SOA ns.example.test. admin.example.test. 1 3600 600 86400 120
@ NS ns.example.test.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0 PTR M6.Example.Test.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0 PTR www.example.test.
"""


@pytest.fixture(scope="session")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An authoritative server with the zones above."""
    zones = {"example.test": ZONE + MANY + BIG, "8.b.d.0.1.0.0.2.ip6.arpa": REVERSE_ZONE}
    with knowing(tmp_path_factory.mktemp("nsd"), zones) as place:
        yield place


class _Faulty(socketserver.BaseServer):
    """A server that keeps what its threads raise, but for clients that go away."""

    handle_query: Handle
    faults: list[BaseException]

    def handle_error(self, request: object, client_address: object) -> None:
        fault = sys.exc_info()[1]
        if fault is not None and not isinstance(fault, OSError):
            self.faults.append(fault)


class _Datagrams(_Faulty, socketserver.ThreadingUDPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


class _Stream(_Faulty, socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    allow_reuse_address = True


class _DatagramHandler(socketserver.DatagramRequestHandler):
    def handle(self) -> None:
        query, answering = self.request
        assert isinstance(self.server, _Datagrams)
        for response in _messages(self.server.handle_query(query, False)):
            answering.sendto(response, self.client_address)


class _StreamHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        octets = int.from_bytes(self.rfile.read(2), "big")
        assert isinstance(self.server, _Stream)
        query = self.rfile.read(octets)
        if not query:
            return  # the client has gone before it asked
        for response in _messages(self.server.handle_query(query, True)):
            self.wfile.write(len(response).to_bytes(2, "big") + response)


def _messages(answer: bytes | list[bytes] | None) -> list[bytes]:
    if answer is None:
        return []
    return [answer] if isinstance(answer, bytes) else answer


@pytest.fixture
def pretend() -> Iterator[Pretend]:
    """Starts servers, each answering as its function says; what one raises fails the test."""
    faults: list[BaseException] = []
    with contextlib.ExitStack() as stack:

        def start(handle: Handle) -> Server:
            port = free_port()
            for server in (
                stack.enter_context(_Datagrams((LOOPBACK, port), _DatagramHandler)),
                stack.enter_context(_Stream((LOOPBACK, port), _StreamHandler)),
            ):
                server.handle_query, server.faults = handle, faults
                thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
                thread.start()
                stack.callback(thread.join)
                stack.callback(server.shutdown)
            return LOOPBACK, port

        yield start
    for fault in faults:
        raise fault


# --- the resolver client and the stub at work ---


def locators(*texts: str) -> tuple[Locator, ...]:
    return tuple(parse_locator(text) for text in texts)


def with_upstream(
    scenario: Callable[[Upstream], Awaitable[Result]],
    *servers: Server,
    sources: Sequence[Locator] = (),
    total_s: float = 30.0,
    hedge_s: float = 0.02,
    repeat_s: float = 30.0,
    answers_max: int = ANSWERS_MAX,
    programs: turns.Limits = turns.PROGRAMS,
    own: turns.Limits = turns.OWN,
) -> Result:
    """Runs a scenario with a client of these servers, which is closed at the end.

    A busy machine answers late: what is counted is not asked again because of that.
    """

    async def run() -> Result:
        client = Upstream(
            servers,
            Codepoints(),
            lambda: sources,
            0,
            hedge_s=hedge_s,
            repeat_s=repeat_s,
            total_s=total_s,
            answers_max=answers_max,
            programs=programs,
            own=own,
        )
        try:
            return await scenario(client)
        finally:
            await client.close()

    return asyncio.run(run())


def response(
    query: bytes,
    *records: str,
    code: dns.rcode.Rcode = dns.rcode.NOERROR,
    flags: int = 0,
) -> bytes:
    """A response to a query; a record is ``NAME TTL IN TYPE RDATA``."""
    message = dns.message.make_response(dns.message.from_wire(query))
    message.flags |= flags
    message.set_rcode(code)
    for record in records:
        name, ttl, record_class, record_type, rdata = record.split(maxsplit=4)
        rrset = dns.rrset.from_text(name, 0, record_class, record_type, rdata)
        found = message.find_rrset(
            message.answer, rrset.name, rrset.rdclass, rrset.rdtype, create=True
        )
        found.add(rrset[0])
        found.ttl = int(ttl)
    return message.to_wire(max_size=MESSAGE_OCTETS_MAX, want_shuffle=False)


def answering(*records: str) -> Handle:
    return lambda query, _: response(query, *records)


def refusing(code: dns.rcode.Rcode = dns.rcode.SERVFAIL) -> Handle:
    return lambda query, _: response(query, code=code)


def silent(_query: bytes, _stream: bool) -> None:
    return None


def wrong_id(query: bytes) -> bytes:
    return bytes([query[0] ^ 0xFF]) + response(query, f"{NAME}. 60 IN AAAA 2001:db8::bad")[1:]


def wrong_question(query: bytes) -> bytes:
    other = dns.message.make_query(
        "other.example.test", "AAAA", id=int.from_bytes(query[:2], "big")
    )
    return response(other.to_wire(), "other.example.test. 60 IN AAAA 2001:db8::bad")


def no_question(query: bytes) -> bytes:
    return query[:2] + b"\x80\x00" + bytes(8)


def not_a_response(query: bytes) -> bytes:
    return query


def garbage(query: bytes) -> bytes:
    return query[:2] + b"\xff" * 40


STRAYS = [wrong_id, wrong_question, no_question, not_a_response, garbage, lambda _: b""]


class Peer(NamedTuple):
    """One call of ``on_peer``."""

    name: str
    aid: Locator
    locators: tuple[Locator, ...]


class Program:
    """A program of the host, and the events that the stub gave to the shim."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.peers: list[Peer] = []
        self.clients: list[Hashable] = []
        self.believes = True

    def take_peer(
        self, name: str, aid: Locator, locators: tuple[Locator, ...], client: Hashable
    ) -> bool:
        self.peers.append(Peer(name, aid, locators))
        self.clients.append(client)
        return self.believes

    async def resolve(self, query: dns.message.Message) -> dns.message.Message:
        return await dns.asyncquery.udp(query, LOOPBACK, port=self.stub.port, timeout=30)

    async def resolve_tcp(self, query: dns.message.Message) -> dns.message.Message:
        return await dns.asyncquery.tcp(query, LOOPBACK, port=self.stub.port, timeout=30)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(LOOPBACK, self.stub.port)


def as_program(
    scenario: Callable[[Program], Awaitable[Result]],
    server: Server,
    *,
    own: Sequence[str] = (),
    total_s: float = 30.0,
    grace_s: float = 30.0,
    limits: Limits = QUICK,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Result:
    """Runs a scenario beside a stub that asks one server."""

    async def run() -> Result:
        upstream = Upstream([server], Codepoints(), tuple, 0, repeat_s=0.3, total_s=total_s)
        own_locators = {parse_locator(text) for text in own}
        told: list[Program] = []
        stub = Stub(
            LOOPBACK,
            free_port(),
            upstream,
            lambda *peer: told[0].take_peer(*peer),
            lambda: own_locators,
            grace_s=grace_s,
            limits=limits,
        )
        told.append(Program(stub))
        await stub.start()
        try:
            return await scenario(told[0])
        finally:
            await stub.stop()
            await upstream.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(run())


def resolved(
    query: dns.message.Message, server: Server, *, own: Sequence[str] = ()
) -> tuple[dns.message.Message, list[Peer]]:
    async def scenario(program: Program) -> tuple[dns.message.Message, list[Peer]]:
        return await program.resolve(query), program.peers

    return as_program(scenario, server, own=own)


def aaaa(name: str, *, want_dnssec: bool = False) -> dns.message.QueryMessage:
    return dns.message.make_query(f"{name}.example.test", "AAAA", want_dnssec=want_dnssec)


class ShiftedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be put forward."""

    shift_s = 0.0

    def time(self) -> float:
        return super().time() + self.shift_s


def addresses(message: dns.message.Message) -> list[str]:
    return [
        record.to_text()
        for rrset in message.answer
        if rrset.rdtype == dns.rdatatype.AAAA
        for record in rrset
    ]


def answered(query: bytes, *rrsets: dns.rrset.RRset, flags: int = 0) -> bytes:
    message = dns.message.make_response(dns.message.from_wire(query))
    message.flags |= flags
    message.answer.extend(rrsets)
    return message.to_wire(max_size=MESSAGE_OCTETS_MAX, want_shuffle=False)


def kind_of(query: bytes) -> dns.rdatatype.RdataType:
    return dns.message.from_wire(query).question[0].rdtype


M6_RECORD = dns.rrset.from_text(f"{NAME}.", 60, "IN", "TYPE65286", r"\# 0")
TWO = dns.rrset.from_text(f"{NAME}.", 77, "IN", "AAAA", "2001:db8:1::1", "2001:db8:2::1")


def m6_host(*rrsets: dns.rrset.RRset, flags: int = 0) -> Handle:
    """A server that has these for AAAA, and the M6 record at the same name."""
    aliases = [rrset for rrset in rrsets if rrset.rdtype == dns.rdatatype.CNAME]

    def handle(query: bytes, _: bool) -> bytes:
        if kind_of(query) == dns.rdatatype.AAAA:
            return answered(query, *rrsets, flags=flags)
        if kind_of(query) == dns.rdatatype.TXT:
            return answered(query)
        return answered(query, *aliases, M6_RECORD)

    return handle


async def answer_only(listening: socket.socket, source: str, sources: list[str]) -> None:
    """Answers AAAA to one address, as if what comes from any other were lost on the way."""
    loop = asyncio.get_running_loop()
    while True:
        query, client = await loop.sock_recvfrom(listening, 512)
        sources.append(client[0])
        if client[0] == source:
            answer = response(query, f"{NAME}. 60 IN AAAA 2001:db8::1")
            await loop.sock_sendto(listening, answer, client)


def prepare_loopback() -> None:
    ip("link set lo up")
    for address in (RESOLVER, DEAD, ALIVE):
        ip(f"address add {address}/128 dev lo nodad")
    wait_for_addresses()


# --- the resolver client at work ---

HOST = Question(Kind.LOCATORS, NAME)
SILENCE_S = 0.15
"""All the time a query has where nothing answers."""


def asked(question: Question, *servers: Server, repeat_s: float = 30.0) -> Answer:
    return with_upstream(lambda client: client.ask(question), *servers, repeat_s=repeat_s)


def asked_and_counted(
    question: Question, *servers: Server, total_s: float = 30.0, hedge_s: float = 0.02
) -> tuple[Answer, Counter[UpstreamCounter]]:
    async def scenario(client: Upstream) -> tuple[Answer, Counter[UpstreamCounter]]:
        return await client.ask(question), client.counters

    return with_upstream(scenario, *servers, total_s=total_s, hedge_s=hedge_s)


async def forwarded(client: Upstream, octets: bytes) -> bytes | None:
    """What a program gets that sends these octets."""
    query = read_query(octets)
    assert query is not None
    response = await client.forward(query)
    return None if response is None else response.answer(query, response.received_s)
