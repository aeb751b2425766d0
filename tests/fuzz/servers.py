# SPDX-License-Identifier: MIT
"""The rooms that listen: the DNS stub, the resolver client, the control socket.

Each input is one conversation over a real socket of loopback or of a temporary directory.
"""

import asyncio
import json
import socket
import tempfile
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode

from noid.constants import Codepoints
from noid.control.schema import ANSWER_OCTETS_MAX
from noid.control.server import ControlServer
from noid.dns.messages import MESSAGE_OCTETS_MAX
from noid.dns.records import Answer, Kind, Question, Status
from noid.dns.responses import TTL_MAX
from noid.lab.resolution import LOOPBACK
from noid.resolver.lookup import RECORDS_MAX
from noid.resolver.stub import Stub
from noid.resolver.upstream import Upstream
from tests.dns.conftest import M6_RECORD, NAME, TWO, answered
from tests.engine.network import established
from tests.fuzz.choices import Choices, altered
from tests.roles.test_preferring import Operated
from tests.roles.test_uplinks import watch_of

REVERSE = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
QUERIES = tuple(
    dns.message.make_query(NAME, kind, use_edns=edns).to_wire()
    for kind in ("AAAA", "TXT", "TYPE65286")
    for edns in (-1, 0)
)
ENOUGH_S = 2.0


def question(octets: bytes) -> None:
    """What a program may ask the stub, while no resolver answers."""
    choices = Choices(octets)
    asyncio.run(_ask(octets))
    asyncio.run(_ask(altered(choices, choices.pick(QUERIES))))


async def _ask(octets: bytes) -> None:
    upstream = Upstream((), Codepoints(), tuple, 0, total_s=ENOUGH_S)
    stub = Stub(LOOPBACK, 0, upstream, lambda *_: True, tuple)
    response = await stub.answer(octets)
    await upstream.close()
    if response is not None:
        assert response[:2] == octets[:2]
        assert response[2] & 0x80
        assert len(response) <= MESSAGE_OCTETS_MAX


def response(octets: bytes) -> None:
    """What a resolver may answer to a question of ours."""
    choices = Choices(octets)
    kind = choices.pick(tuple(Kind))
    name = REVERSE if kind is Kind.NAMES else NAME
    answer = asyncio.run(_answer(choices, Question(kind, name)))
    assert len(answer.locators) <= RECORDS_MAX
    assert len(answer.names) <= RECORDS_MAX
    assert all(len(one) == 16 for one in answer.locators)
    assert 0 <= answer.ttl_seconds <= TTL_MAX
    assert answer.status is Status.FOUND or not (answer.locators or answer.names)


async def _answer(choices: Choices, asked: Question) -> Answer:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listening:
        listening.setblocking(False)
        listening.bind((LOOPBACK, 0))
        server = LOOPBACK, int(listening.getsockname()[1])
        upstream = Upstream([server], Codepoints(), tuple, 0, total_s=ENOUGH_S)
        resolving = asyncio.create_task(_resolve(listening, choices))
        try:
            return await upstream.ask(asked)
        finally:
            resolving.cancel()
            await upstream.close()


async def _resolve(listening: socket.socket, choices: Choices) -> None:
    """Says to each query what an input makes of a right answer, and then refuses."""
    loop = asyncio.get_running_loop()
    while True:
        query, client = await loop.sock_recvfrom(listening, MESSAGE_OCTETS_MAX)
        right = answered(query, *choices.pick(((), (TWO,), (M6_RECORD,), (TWO, M6_RECORD))))
        changed = altered(choices, right)
        identified = query[:2] + changed[2:] if choices.number(8) else changed
        refusal = dns.message.make_response(dns.message.from_wire(query))
        refusal.set_rcode(dns.rcode.REFUSED)
        for one in (identified, refusal.to_wire()):
            await loop.sock_sendto(listening, one, client)


def control(octets: bytes) -> None:
    """What a client may say on the control socket, in any number of lines."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_converse(Path(directory) / "noid.sock", octets))


async def _converse(path: Path, octets: bytes) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    operated = Operated(path.parent)
    watch = watch_of(established().a.host, [], [])
    requests = {"ping": watch.ping, **operated.preferring.requests}
    server = ControlServer(path, {"status": lambda: {"version": "1"}}, requests)
    await server.start()
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(octets)
    writer.write_eof()
    said = await reader.read()
    writer.close()
    await server.stop()
    operated.preferring.close()
    while server.clients:
        await asyncio.sleep(0)
    answers = said.splitlines()
    for line in answers:
        assert isinstance(json.loads(line), dict)
        assert len(line) <= ANSWER_OCTETS_MAX
    assert len(answers) <= octets.count(b"\n") + 1
    assert not server.monitors
    assert not failures
