# SPDX-License-Identifier: MIT
"""The resolver of the host's programs, and how the shim learns of a peer [draft §3.1; D24].

Every query is forwarded to the upstream resolvers, and the response is returned unchanged. Only
AAAA is examined: the shim is told all addresses of a name that speaks M6 before the program gets
the answer, which may be reduced to a single address, the AID.

**A host is never worse off than without noid**: responses that cannot be parsed, are late or
unusual are returned unchanged, and a program that checks signatures (DO) or disables checking (CD)
gets the whole set. No input raises, blocks, or lets a table grow: every wait and table is limited.
"""

import asyncio
import functools
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable
from typing import Final, Literal
from weakref import WeakKeyDictionary

import dns.rcode
import dns.rdataclass
import dns.rdatatype

from noid.counters import StubCounter
from noid.dns.addresses import Peer, read_peer, with_one
from noid.dns.messages import (
    CD,
    HEADER_OCTETS,
    OPCODE_MASK,
    QR,
    TC,
    message_flags,
    response_code,
)
from noid.dns.names import text_of
from noid.dns.queries import Query, bare_response, brief_response, read_query
from noid.dns.records import Answer, Kind, Question, Status
from noid.dns.responses import Response
from noid.locators import Locator
from noid.resolver.service import LIMITS, Limits, Pair, Service
from noid.resolver.upstream import Upstream

AAAA: Final = int(dns.rdatatype.AAAA)
CAPABILITY_GRACE_S: Final = 1.0
"""How long after AAAA the question whether the name speaks M6 may be answered."""
NAMES_MAX: Final = 4_096
"""Peers whose selected AID is stored; the oldest is removed first."""

OnPeer = Callable[[str, Locator, tuple[Locator, ...], Hashable], bool]
"""Takes a peer's name, its AID, its locators (including the AID) and the client that asked;
returns False if the AID is known to belong to another name [D33]."""


Policy = Literal["first", "rotate"]
"""Which locator of a peer becomes the AID: the first of the answer, or each in rotation [D24]."""


class Stub:
    """Answers DNS queries on UDP and TCP.

    Args:
        listen: address to listen on.
        port: port, for both.
        upstream: where answers come from.
        on_peer: called with a peer before the program gets the answer.
        own_locators: returns the present addresses of the host; a name with one is no peer.
        policy: which locator of a peer becomes the AID.
        working: selects the locators of a peer that may work, each as often as its weight; the
            policy "rotate" chooses from these.
        answering: selects the locators of a peer at which it is known to answer by M6; an answer is
            reduced only if there is one.
        probe: whether the shim probes names without M6 record by an INIT [draft §15.1].
        grace_s: how long after AAAA the M6 question may be answered.
        limits: how much is served at one time.
    """

    def __init__(
        self,
        listen: str,
        port: int,
        upstream: Upstream,
        on_peer: OnPeer,
        own_locators: Callable[[], Collection[Locator]],
        *,
        policy: Policy = "first",
        working: Callable[[tuple[Locator, ...]], tuple[Locator, ...]] = tuple,
        answering: Callable[[tuple[Locator, ...]], tuple[Locator, ...]] = tuple,
        probe: bool = False,
        grace_s: float = CAPABILITY_GRACE_S,
        limits: Limits = LIMITS,
    ) -> None:
        self.port = port
        self.upstream = upstream
        self.on_peer = on_peer
        self.own_locators = own_locators
        self.policy = policy
        self.working = working
        self.answering = answering
        self.probe = probe
        self.grace_s = grace_s
        self.counters = Counter[StubCounter]()
        self.service = Service(listen, port, self, self.counters, limits)
        self._peers: WeakKeyDictionary[Response, Peer | None] = WeakKeyDictionary()
        self._turns: OrderedDict[str, int] = OrderedDict()
        self._chosen: OrderedDict[str, Locator] = OrderedDict()

    async def start(self, passed: Pair | None = None) -> None:
        """Begins to listen.

        Args:
            passed: sockets for UDP and TCP that a service manager has opened.

        Raises:
            PlatformError: the address or the port is not available.
        """
        await self.service.start(passed)

    async def stop(self) -> None:
        """Stops listening and drops what is being answered."""
        await self.service.stop()

    async def answer(
        self, octets: bytes, client: Hashable = None, *, response_octets_max: int | None = None
    ) -> bytes | None:
        """The response to one message, which may be malformed.

        Args:
            octets: the message.
            client: who sent it.
            response_octets_max: size the response may have; None for what the query itself says.

        Returns:
            A response with the id of the query; None for less than a header, and for a response,
            which must not be answered, or two servers could answer each other without end.
        """
        query = self.read(octets)
        if not isinstance(query, Query):
            return query
        octets_max = response_octets_max or query.response_octets_max
        response = self._from_memory(query, client) or await self._ask(query, client)
        return self._fitting(query, response, octets_max)

    def at_once(self, query: Query, client: Hashable) -> bytes | None:
        """The UDP response to a query that needs no resolver; None for others."""
        response = self._from_memory(query, client)
        if response is None:
            return None
        return self._fitting(query, response, query.response_octets_max)

    async def later(self, query: Query, client: Hashable) -> bytes:
        """The UDP response to any other query, from the resolvers."""
        response = await self._ask(query, client)
        return self._fitting(query, response, query.response_octets_max)

    def read(self, octets: bytes) -> Query | bytes | None:
        """The query in a message, or the refusal of one that is none; None for neither."""
        if len(octets) < HEADER_OCTETS or message_flags(octets) & QR:
            self.counters[StubCounter.MALFORMED] += 1
            return None
        if message_flags(octets) & OPCODE_MASK:  # not a QUERY
            self.counters[StubCounter.MALFORMED] += 1
            return bare_response(octets, dns.rcode.NOTIMP)
        query = read_query(octets)
        if query is None:
            self.counters[StubCounter.MALFORMED] += 1
            return bare_response(octets, dns.rcode.FORMERR)
        self.counters[StubCounter.QUERIES] += 1
        return query

    def _from_memory(self, query: Query, client: Hashable) -> bytes | None:
        """The response, if it needs no resolver."""
        response = self.upstream.kept(query)
        if response is None:
            return None
        if not response.found or not _is_for_locators(query):
            return response.answer(query, self._now_s())
        capability = self.upstream.remembered(_capability_of(query.name.lower()))
        if capability is None:
            return None
        if not self._is_capable(capability):
            return self._whole(query, response, client)
        peer = self._peer(query, response)
        if peer is None:
            return response.answer(query, self._now_s())
        if self.upstream.trusted is not None:
            return None  # another question is needed
        return self._reduced(query, response, peer, client)

    async def _ask(self, query: Query, client: Hashable) -> bytes:
        """The response, from the resolvers."""
        if _is_for_locators(query):
            octets = await self._locators(query, client)
        else:
            response = await self.upstream.forward(query, client)
            octets = None if response is None else response.answer(query, self._now_s())
        if octets is None:
            self.counters[StubCounter.FAILED] += 1
            return brief_response(query, dns.rcode.SERVFAIL)
        return octets

    def _fitting(self, query: Query, response: bytes, octets_max: int) -> bytes:
        """The response; if it is too large, an empty truncated one."""
        if len(response) <= octets_max:
            return response
        self.counters[StubCounter.TRUNCATED] += 1
        return brief_response(query, response_code(response), flags=TC)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    # --- AAAA ---

    async def _locators(self, query: Query, client: Hashable) -> bytes | None:
        """The answer to AAAA: one address if the name speaks M6, else the response of upstream."""
        capability = None if self.upstream.is_silent(query) else self._ask_capability(query, client)
        try:
            response = await self.upstream.forward(query, client)
            if response is None:
                return None
            if capability is None and response.found:
                capability = self._ask_capability(query, client)
            speaks_m6 = False
            if capability is not None and response.found:
                speaks_m6 = await self._speaks_m6(capability)
        finally:
            if capability is not None:
                capability.cancel()
        if not speaks_m6:
            return self._whole(query, response, client)
        peer = self._peer(query, response)
        if peer is None:
            return response.answer(query, self._now_s())
        if self.upstream.trusted is not None and not await self._is_authentic(peer, client):
            self.counters[StubCounter.UNAUTHENTIC] += 1
            return response.answer(query, self._now_s())
        return self._reduced(query, response, peer, client)

    def _ask_capability(self, query: Query, client: Hashable) -> asyncio.Task[Answer]:
        question = _capability_of(query.name.lower())
        return asyncio.create_task(self.upstream.ask(question, client))

    async def _speaks_m6(self, capability: asyncio.Task[Answer]) -> bool:
        """Waits for the M6 answer, as long as a program may be delayed."""
        try:
            async with asyncio.timeout(self.grace_s):
                return self._is_capable(await capability)
        except TimeoutError:
            self.counters[StubCounter.CAPABILITY_UNKNOWN] += 1
            return False

    def _is_capable(self, capability: Answer) -> bool:
        if capability.status is Status.UNREACHABLE:
            self.counters[StubCounter.CAPABILITY_UNKNOWN] += 1
        return capability.status is Status.FOUND

    def _peer(self, query: Query, response: Response) -> Peer | None:
        """The locators in a response; None if it must not be changed."""
        if response not in self._peers:
            self._peers[response] = read_peer(query, response.octets)
        peer = self._peers[response]
        if peer is not None and not set(self.own_locators()).isdisjoint(peer.locators):
            return None  # a name of this host
        return peer

    def _whole(self, query: Query, response: Response, client: Hashable) -> bytes:
        """The unchanged response for a name without M6 record, which may be probed.

        If only signed data is used, the shim is told nothing, because no signature proves M6.
        """
        probed = self.probe and self.upstream.trusted is None and response.found
        peer = self._peer(query, response) if probed else None
        if peer is not None:
            self._tell(peer, client)
        return response.answer(query, self._now_s())

    def _tell(self, peer: Peer, client: Hashable) -> None:
        """Tells the shim about a peer of which the program may use any address as the AID."""
        for aid in peer.locators:
            self.on_peer(peer.name, aid, peer.locators, client)

    def _choose(self, peer: Peer, answering: tuple[Locator, ...]) -> Locator:
        """The locator that becomes the AID [D24].

        With "first", all programs get the same one as long as it is in the answer, because
        resolvers shuffle the locators. It may have failed: its context serves new connections too.
        """
        if self.policy == "first":
            aid = self._chosen.pop(peer.name, answering[0])
            aid = aid if aid in answering else answering[0]
            self._chosen[peer.name] = aid
            if len(self._chosen) > NAMES_MAX:
                self._chosen.popitem(last=False)
            return aid
        locators = sorted(self.working(peer.locators))  # resolvers shuffle them
        turn = self._turns.pop(peer.name, 0)
        self._turns[peer.name] = turn + 1
        if len(self._turns) > NAMES_MAX:
            self._turns.popitem(last=False)
        return locators[turn % len(locators)]

    async def _is_authentic(self, peer: Peer, client: Hashable) -> bool:
        """Whether the locators are signed, if only signed data is used [D32]."""
        answer = await self.upstream.ask(Question(Kind.LOCATORS, peer.name), client)
        return set(peer.locators) <= set(answer.locators)

    def _reduced(self, query: Query, response: Response, peer: Peer, client: Hashable) -> bytes:
        """The response with the AID alone, after the shim has accepted the peer.

        A peer that is not known to answer by M6 may have stopped noid, and one of its addresses
        may be dead. Then the program gets every address, as without noid, and uses one that works;
        the shim is told that each may be an AID [D49].
        """
        now_s = self._now_s()
        answering = self.answering(peer.locators)
        if not answering:
            self.counters[StubCounter.UNTRIED] += 1
            self._tell(peer, client)
            return response.answer(query, now_s)
        aid = self._choose(peer, answering)
        if aid not in peer.reduced:
            octets = with_one(query, response.octets, aid)
            if octets is None:
                return response.answer(query, now_s)
            peer.reduced[aid] = Response(query, octets, response.received_s)
        if not self.on_peer(peer.name, aid, peer.locators, client):
            return response.answer(query, now_s)
        self.counters[StubCounter.PEERS] += 1
        return peer.reduced[aid].answer(query, now_s)


# --- queries and responses ---


def _is_for_locators(query: Query) -> bool:
    """Whether a response may be reduced for the program that asks.

    A program that sets DO checks the signature over the whole set; one that sets CD does not trust
    the check of the resolver. Both need the whole set.
    """
    return (
        query.kind == AAAA
        and query.record_class == dns.rdataclass.IN
        and not query.flags & CD
        and not query.dnssec_ok
    )


@functools.lru_cache(maxsize=NAMES_MAX)
def _capability_of(name: bytes) -> Question:
    """The question whether a name, in wire form and lower case, speaks M6."""
    return Question(Kind.CAPABILITY, text_of(name))
