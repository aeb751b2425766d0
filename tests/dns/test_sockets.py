# SPDX-License-Identifier: MIT
"""Questions to resolvers have a share of the descriptors, and work at its end [D46]."""

import asyncio
import socket

import dns.flags
import dns.message

from noid.constants import Codepoints
from noid.dns.records import Answer, Kind, Question, Status
from noid.resolver import port as room
from noid.resolver.resolvers import TOTAL_S
from noid.resolver.upstream import Upstream
from tests.dns.conftest import Handle, Pretend, locators, response

SOCKETS = 8
QUESTIONS = 64
PATIENCE_S = 60.0
"""A busy machine."""


def ask_at_once(
    handle: Handle, pretend: Pretend, total_s: float = TOTAL_S
) -> tuple[list[Answer], dict[int, int]]:
    """Asks many questions with few sockets: the answers, and how many were left at the least."""
    server = pretend(handle)

    async def run() -> tuple[list[Answer], dict[int, int]]:
        upstream = Upstream([server], Codepoints(), tuple, 0, sockets_max=SOCKETS, total_s=total_s)
        left = upstream.resolvers.ports.left
        least = dict(left)
        tasks = [
            asyncio.create_task(upstream.ask(Question(Kind.LOCATORS, f"n{number}.example.test")))
            for number in range(QUESTIONS)
        ]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            least = {kind: min(count, left[kind]) for kind, count in least.items()}
        answers = [task.result() for task in tasks]
        await upstream.close()
        assert sum(left.values()) == SOCKETS, "every socket was given back"
        return answers, {int(kind): count for kind, count in least.items()}

    return asyncio.run(run())


def test_at_the_limit_questions_share_ports(pretend: Pretend) -> None:
    answers, least = ask_at_once(
        lambda query, _: response(query, f"{named(query)} 60 IN AAAA 2001:db8::1"),
        pretend,
        PATIENCE_S,
    )
    assert {answer.locators for answer in answers} == {locators("2001:db8::1")}
    assert least[socket.SOCK_DGRAM] == 0, "the limit is reached, and not passed"


def test_connections_that_hang_leave_the_ports_to_others(pretend: Pretend) -> None:
    """All but one answer are cut short, and their connections get nothing."""

    def handle(query: bytes, stream: bool) -> bytes | None:
        if stream:
            return None
        name = named(query)
        if name.startswith("n7."):
            return response(query, f"{name} 60 IN AAAA 2001:db8::7")
        return response(query, flags=dns.flags.TC)

    answers, least = ask_at_once(handle, pretend)
    assert answers[7].locators == locators("2001:db8::7")
    assert {one.status for one in answers if one is not answers[7]} == {Status.UNREACHABLE}
    assert least[socket.SOCK_STREAM] == 0


def named(query: bytes) -> str:
    """The name that a query asks for."""
    (question,) = dns.message.from_wire(query).question
    return question.name.to_text().lower()


assert SOCKETS // room.STREAMS_SHARE < QUESTIONS
