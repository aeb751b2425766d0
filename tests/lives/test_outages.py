# SPDX-License-Identifier: MIT
"""The second outage of anything is treated as its first: its waits and its patience begin anew."""

import asyncio
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from typing import Final

import pytest

from noid.constants import MILLISECOND, SECOND
from noid.flows.liveness import Liveness
from noid.flows.probing import Probing
from noid.host.netlink import HostNetwork
from noid.host.survey import Survey
from noid.locators import Locator
from noid.resolver.budget import SILENCE_MAX_S, Silence
from noid.roles.former import LAST_WAIT_S, FormerAddresses
from noid.roles.gateway_search import GatewaySearch
from tests.border.test_bfd import Link
from tests.namespaces import in_network_namespace
from tests.planes.keeping import AID, make_uplinks
from tests.waiting import until

OUTAGES: Final = 3
"""The second and the third are to be as the first."""
WAITS: Final = 5
NOTHING: Final = Survey(devices=(), locators=(), addresses=frozenset(), rules=(), mtu=1500, ours={})
SEARCHED_S: Final = (0.001, 0.002, 0.004)
LOOK_S: Final = 0.5


# --- what has no clock ----------------------------------------------------------------------------

Turns = Iterator[list[object]]
"""What is seen of each outage, and of the time after it."""


def a_check() -> Turns:
    """A target of a border is silent for some intervals, and answers again."""
    probing = Probing(3, 2)
    for _ in range(OUTAGES):
        seen: list[object] = []
        for answered in (*[False] * 6, *[True] * 6):
            sequence = probing.begin()
            if answered:
                probing.heard(sequence)
            seen.append(probing.works)
        yield seen


def an_uplink_of_a_border() -> Turns:
    """Two signs of it are bad, one after the other, and good again."""
    liveness, now_ns = Liveness(3 * SECOND), 0
    for _ in range(OUTAGES):
        seen: list[object] = []
        for signs in ({"a": "x"}, {"b": "y"}, {"a": ""}, {"b": ""}, *[{"a": ""}] * 5):
            for sign, why in signs.items():
                liveness.take(sign, why, now_ns)
            seen.append((liveness.works(now_ns), liveness.why(now_ns)))
            now_ns += SECOND
        yield seen


def a_silent_zone() -> Turns:
    """Its servers answer nothing for minutes: when questions about it may be asked."""
    silence, now_s = Silence(), 0.0
    for _ in range(OUTAGES):
        seen: list[object] = []
        began_s = now_s
        while now_s < began_s + 4 * SILENCE_MAX_S:
            if silence.may_ask("example", now_s):
                seen.append(now_s - began_s)
                silence.note("example", now_s, answered=False)
            now_s += 0.5
        silence.note("example", now_s, answered=True)
        yield seen


def a_session_of_bfd() -> Turns:
    """A router is not heard for a while."""
    link = Link()
    for _ in range(OUTAGES):
        link.cut = [False, False]
        link.run(4 * SECOND)
        began_ns, seen = link.now_ns, list[object]()
        link.sent.clear()
        for is_cut in (True, False):
            link.cut = [is_cut, is_cut]
            for _ in range(40):
                link.run(100 * MILLISECOND)
                seen.append(link.states())
        flags = {(one.flags, one.state) for at_ns, _, one in link.sent if at_ns > began_ns}
        yield [*seen, flags]


KINDS: Final[dict[str, Callable[[], Turns]]] = {
    "check": a_check,
    "uplink of a border": an_uplink_of_a_border,
    "zone": a_silent_zone,
    "session of BFD": a_session_of_bfd,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_outage_looks_like_the_first(kind: str) -> None:
    first, *others = KINDS[kind]()
    assert len({repr(one) for one in first}) > 1, "something is seen of it"
    assert others == [first] * (OUTAGES - 1)


# --- what waits -----------------------------------------------------------------------------------


def test_gateways_are_asked_for_as_often_in_each_outage() -> None:
    asked: list[Collection[Locator]] = []

    def ask(sources: Collection[Locator], links: Mapping[int, bytes], user: int) -> None:
        asked.append(sources)

    async def play() -> None:
        search = GatewaySearch(nullcontext, ask=ask, waits_s=SEARCHED_S)
        search.surveyed(NOTHING)
        task = asyncio.create_task(search.watch())
        for _ in range(OUTAGES):
            asked.clear()
            search.suspect([AID])
            await until(lambda: len(asked) == len(SEARCHED_S) + 1)
            await asyncio.sleep(4 * sum(SEARCHED_S))
            assert len(asked) == len(SEARCHED_S) + 1, "then it rests"
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(play())


def test_a_link_is_asked_as_soon_for_an_address_that_has_left_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times: list[float] = []

    async def look_on(network: HostNetwork) -> list[list[float]]:
        former, now_s, outages = FormerAddresses(network), 0.0, list[list[float]]()
        link = socket.if_nametoindex("up1")
        former.note({link: [AID]}, [AID])
        real = network.answered_for

        def noting(addresses: Mapping[Locator, int]) -> frozenset[Locator]:
            times.append(now_s - began_s)
            return real(addresses)

        monkeypatch.setattr(network, "answered_for", noting)
        for _ in range(OUTAGES):
            began_s = now_s
            while now_s < began_s + 4 * LAST_WAIT_S:
                await former.look([AID], [link], now_s)
                now_s += LOOK_S
            await former.look([], [link], now_s)  # it is back
            now_s += LOOK_S
            outages.append(times.copy())
            times.clear()
        return outages

    def scenario() -> list[list[float]]:
        make_uplinks()
        network = HostNetwork()
        try:
            return asyncio.run(look_on(network))
        finally:
            network.close()

    first, *others = in_network_namespace(scenario)
    assert len(first) >= WAITS
    assert others == [first] * (OUTAGES - 1)
