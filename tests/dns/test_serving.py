# SPDX-License-Identifier: MIT
"""The stub as a server: whatever arrives, how much at one time, starting and stopping."""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator

import dns.asyncquery
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noid.constants import Codepoints
from noid.counters import StubCounter
from noid.errors import PlatformError
from noid.lab.resolution import LOOPBACK, free_port
from noid.resolver.exchange import LENGTH
from noid.resolver.port import Server
from noid.resolver.stub import Stub
from noid.resolver.upstream import Upstream
from tests.dns.conftest import (
    M6_RECORD,
    NAME,
    NOBODY,
    QUICK,
    TWO,
    Pretend,
    Program,
    aaaa,
    answered,
    as_program,
    kind_of,
    silent,
)
from tests.waiting import until

# --- what is not a query ---


def answer_to(octets: bytes) -> bytes | None:
    return as_program(lambda program: program.stub.answer(octets), NOBODY)


def code_of(octets: bytes | None) -> dns.rcode.Rcode:
    assert octets is not None
    return dns.message.from_wire(octets).rcode()


@pytest.mark.parametrize("octets", [b"", b"\x12", b"\x12\x34\x01\x00\x00\x01"])
def test_less_than_a_header_is_dropped(octets: bytes) -> None:
    assert answer_to(octets) is None


def test_a_response_is_not_answered() -> None:
    query = aaaa("m6")
    query.flags |= dns.flags.QR
    assert answer_to(query.to_wire()) is None


def test_a_query_that_cannot_be_read_is_a_format_error_under_its_id() -> None:
    octets = answer_to(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xff")
    assert code_of(octets) == dns.rcode.FORMERR
    assert octets is not None
    assert octets[:2] == b"\x12\x34"


def test_two_questions_are_a_format_error() -> None:
    query = aaaa("m6")
    query.question.extend(aaaa("plain").question)
    assert code_of(answer_to(query.to_wire())) == dns.rcode.FORMERR


def test_no_question_is_a_format_error() -> None:
    query = dns.message.QueryMessage(1)
    assert code_of(answer_to(query.to_wire())) == dns.rcode.FORMERR


@pytest.mark.parametrize(
    "opcode", [dns.opcode.IQUERY, dns.opcode.STATUS, dns.opcode.NOTIFY, dns.opcode.UPDATE]
)
def test_what_is_not_a_lookup_is_not_implemented(opcode: dns.opcode.Opcode) -> None:
    octets = b"\x12\x34" + dns.opcode.to_flags(opcode).to_bytes(2, "big") + bytes(8)
    assert code_of(answer_to(octets)) == dns.rcode.NOTIMP


# --- whatever arrives ---


@pytest.fixture(scope="module")
def answer() -> Iterator[Callable[[bytes], bytes | None]]:
    """The query handler of a stub without a resolver; each call runs to its end."""
    with asyncio.Runner() as runner:

        async def make() -> Stub:
            upstream = Upstream([NOBODY], Codepoints(), tuple, 0)
            return Stub(LOOPBACK, 53, upstream, lambda *_: True, tuple)

        stub = runner.run(make())
        yield lambda octets: runner.run(stub.answer(octets))


def is_response_to(query: bytes | bytearray, response: bytes | None) -> bool:
    return response is None or (response[:2] == query[:2] and response[2] & 0x80 != 0)


@given(octets=st.binary(max_size=600))
def test_any_octets_are_answered_or_dropped(
    answer: Callable[[bytes], bytes | None], octets: bytes
) -> None:
    assert is_response_to(octets, answer(octets))


@given(
    header=st.tuples(*[st.sampled_from([0, 1, 2, 0xFFFF])] * 4),
    flags=st.integers(0, 0x7FFF),
    body=st.binary(max_size=120),
)
def test_any_octets_behind_a_header_are_answered(
    answer: Callable[[bytes], bytes | None],
    header: tuple[int, ...],
    flags: int,
    body: bytes,
) -> None:
    counts = b"".join(count.to_bytes(2, "big") for count in header)
    octets = b"\x12\x34" + flags.to_bytes(2, "big") + counts + body
    response = answer(octets)
    assert response is not None
    assert is_response_to(octets, response)


@pytest.mark.slow
@given(data=st.data())
def test_a_query_with_octets_changed_is_answered_or_dropped(
    answer: Callable[[bytes], bytes | None], data: st.DataObject
) -> None:
    octets = bytearray(dns.message.make_query(NAME, "AAAA", want_dnssec=True, id=7).to_wire())
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    assert is_response_to(octets, answer(bytes(octets)))


@pytest.mark.slow
@settings(max_examples=40)
@given(data=st.data())
def test_any_answer_of_a_resolver_reaches_the_program_or_is_servfail(data: st.DataObject) -> None:
    """Resolvers may say anything behind the question that was asked."""
    query = dns.message.make_query(NAME, "AAAA", id=7).to_wire()
    tail = answered(query, TWO)[len(query) :]
    altered = bytearray(tail)
    for _ in range(data.draw(st.integers(0, 6))):
        altered[data.draw(st.integers(0, len(tail) - 1))] = data.draw(st.integers(0, 255))
    counts = data.draw(st.sampled_from([b"\x00\x02", b"\x00\x03", b"\xff\xff"]))
    end = data.draw(st.sampled_from([b"", b"\x00", b"\xc0\x0c" * 9]))
    body = counts + bytes(4) + query[12:] + bytes(altered) + end

    async def scenario() -> bytes | None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as resolver:
            resolver.setblocking(False)
            resolver.bind((LOOPBACK, 0))
            server = LOOPBACK, resolver.getsockname()[1]

            async def serve() -> None:
                while True:
                    octets, client = await loop.sock_recvfrom(resolver, 600)
                    reply = answered(octets, M6_RECORD)
                    if kind_of(octets) == dns.rdatatype.AAAA:
                        reply = octets[:2] + b"\x81\x80\x00\x01" + body
                    await loop.sock_sendto(resolver, reply, client)

            serving = asyncio.create_task(serve())
            upstream = Upstream([server], Codepoints(), tuple, 0, total_s=0.5)
            stub = Stub(LOOPBACK, 53, upstream, lambda *_: True, tuple)
            response = await stub.answer(query)
            serving.cancel()
            await asyncio.wait({serving})
            await upstream.close()
            return response

    response = asyncio.run(scenario())
    assert response is not None
    assert is_response_to(query, response)


# --- limits ---


def test_one_query_more_than_at_once_ends_the_oldest(pretend: Pretend) -> None:
    async def scenario(program: Program) -> tuple[dns.rcode.Rcode, int]:
        first = asyncio.create_task(program.resolve(aaaa("m6")))
        await until(lambda: program.stub.counters[StubCounter.QUERIES] == 1)
        second = asyncio.create_task(program.resolve(aaaa("plain")))
        code = (await first).rcode()
        second.cancel()
        return code, program.stub.counters[StubCounter.OVERFLOW]

    code, overflow = as_program(
        scenario, pretend(silent), total_s=60, limits=QUICK._replace(answered=1)
    )
    assert code == dns.rcode.SERVFAIL
    assert overflow == 1


def test_a_connection_over_the_limit_is_closed_while_the_others_are_new(nsd: Server) -> None:
    limits = QUICK._replace(connections=1, kept_s=60.0)

    async def scenario(program: Program) -> tuple[bytes, int]:
        _, first = await program.connect()
        reader, second = await program.connect()
        rest = await reader.read()
        for writer in (first, second):
            writer.close()
        return rest, program.stub.counters[StubCounter.OVERFLOW]

    assert as_program(scenario, nsd, limits=limits) == (b"", 1)


def test_a_connection_over_the_limit_closes_the_oldest_of_its_client(nsd: Server) -> None:
    limits = QUICK._replace(connections=1, kept_s=0.0)

    async def scenario(program: Program) -> bytes:
        reader, first = await program.connect()
        answer = await program.resolve_tcp(aaaa("m6"))
        assert answer.rcode() == dns.rcode.NOERROR
        rest = await reader.read()
        first.close()
        return rest

    assert as_program(scenario, nsd, limits=limits) == b""


def test_a_client_that_leaves_makes_room_for_the_next(nsd: Server) -> None:
    async def scenario(program: Program) -> list[dns.rcode.Rcode]:
        codes = []
        for _ in range(3):
            reader, writer = await program.connect()
            query = aaaa("m6").to_wire()
            writer.write(LENGTH.pack(len(query)) + query)
            writer.write_eof()
            codes.append(dns.message.from_wire((await reader.read())[2:]).rcode())
            writer.close()
        return codes

    assert as_program(scenario, nsd) == [dns.rcode.NOERROR] * 3


def test_a_client_that_says_nothing_is_closed(nsd: Server) -> None:
    async def scenario(program: Program) -> bytes:
        reader, writer = await program.connect()
        writer.write(b"\x00\xff only a part")
        rest = await reader.read()
        writer.close()
        return rest

    assert as_program(scenario, nsd, limits=QUICK._replace(idle_s=0.05)) == b""


def test_a_client_that_reads_nothing_is_closed(pretend: Pretend) -> None:
    texts = ["x" * 250 + str(index) for index in range(200)]
    big = dns.rrset.from_text_list(f"{NAME}.", 60, "IN", "TXT", texts)

    query = dns.message.make_query(NAME, "TXT").to_wire()
    whole = answered(query, big)

    def handle(asked: bytes, stream: bool) -> bytes:
        return asked[:2] + whole[2:] if stream else answered(asked, flags=dns.flags.TC)

    async def scenario(program: Program) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(client, (LOOPBACK, program.stub.port))
            while True:
                await loop.sock_sendall(client, (LENGTH.pack(len(query)) + query) * 100)

    with pytest.raises(ConnectionError):
        as_program(scenario, pretend(handle), limits=QUICK._replace(idle_s=0.05))


def test_queries_on_one_connection_are_answered_in_their_order(nsd: Server) -> None:
    names = ["m6", "big", "plain", "nobody", "alias"]

    async def scenario(program: Program) -> list[int]:
        reader, writer = await program.connect()
        for identifier, name in enumerate(names):
            query = aaaa(name)
            query.id = identifier
            writer.write(LENGTH.pack(len(query.to_wire())) + query.to_wire())
        identifiers = []
        for _ in names:
            (octets,) = LENGTH.unpack(await reader.readexactly(2))
            identifiers.append(dns.message.from_wire(await reader.readexactly(octets)).id)
        writer.close()
        return identifiers

    assert as_program(scenario, nsd) == [0, 1, 2, 3, 4]


def test_what_is_no_query_ends_the_connection(nsd: Server) -> None:
    async def scenario(program: Program) -> bytes:
        reader, writer = await program.connect()
        writer.write(b"\x00\x03abc")
        rest = await reader.read()
        writer.close()
        return rest

    assert as_program(scenario, nsd) == b""


# --- starting and stopping ---


async def start_at(listen: str, port: int) -> None:
    upstream = Upstream([NOBODY], Codepoints(), tuple, 0)
    stub = Stub(listen, port, upstream, lambda *_: True, tuple)
    try:
        await stub.start()
    finally:
        await stub.stop()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_an_occupied_port_is_refused_with_advice(kind: socket.SocketKind) -> None:
    port = free_port()
    with socket.socket(socket.AF_INET6, kind) as occupant:
        occupant.bind((LOOPBACK, port))
        if kind == socket.SOCK_STREAM:
            occupant.listen()
        with pytest.raises(PlatformError, match=r"is in use; set dns\.port or stop what") as error:
            asyncio.run(start_at(LOOPBACK, port))
    assert error.value.errno == errno.EADDRINUSE


def test_an_address_of_another_host_is_refused_with_advice() -> None:
    with pytest.raises(PlatformError, match=r"no such address; set dns\.listen"):
        asyncio.run(start_at("2001:db8:ffff::1", free_port()))


def test_it_listens_on_ipv4_where_told(nsd: Server) -> None:
    asyncio.run(start_at("127.0.0.1", free_port()))


def test_stopping_ends_what_is_being_answered(pretend: Pretend) -> None:
    async def scenario(program: Program) -> bytes:
        asking = asyncio.create_task(program.resolve(aaaa("m6")))
        reader, writer = await program.connect()
        await asyncio.wait({asking}, timeout=0.02)
        await program.stub.stop()
        asking.cancel()
        rest = await reader.read()
        writer.close()
        return rest

    assert as_program(scenario, pretend(silent), total_s=30) == b""


def test_a_port_is_free_again_after_stopping(nsd: Server) -> None:
    port = free_port()
    asyncio.run(start_at(LOOPBACK, port))
    asyncio.run(start_at(LOOPBACK, port))
