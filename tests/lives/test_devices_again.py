# SPDX-License-Identifier: MIT
"""What works by a device goes on when that is removed and another has its name, as with PPPoE."""

import asyncio
import itertools
import socket
from collections.abc import Callable, Coroutine
from typing import Final

import pytest

from noid.border_config import ProviderTable
from noid.locators import Locator, parse_locator
from noid.roles import detecting
from noid.roles.checking import Check, Target
from noid.roles.detecting import Detection
from tests.namespaces import in_network_namespace, ip, wait_for_links
from tests.waiting import until

DEVICES: Final = 3
"""One after the other."""
HERE, ROUTER = parse_locator("fe80::2"), parse_locator("fe80::1")
OFTEN_S: Final = 0.05

Told = Callable[[str], None]
"""Takes what is wrong."""
Work = Coroutine[None, None, None]


def where(device: str, address: Locator) -> Target:
    """As for a router that is configured: it is known with and without a device."""
    try:
        return Target(address, socket.if_nametoindex(device))
    except OSError:
        return Target(address, 0)


def to_the_router() -> Target:
    return where("up1", ROUTER)


def from_the_router() -> Target:
    return where("far1", HERE)


def a_check(told: Told) -> Work:
    """The kernel answers for the router."""
    table = ProviderTable(name="p", uplink="up1", check="gateway", check_interval_s=OFTEN_S)
    return Check(table, to_the_router, told, failed=True).run()


def no_more() -> list[Work]:
    return []


def session(device: str, target: Callable[[], Target], told: Told, *, is_beyond: bool) -> Work:
    table = ProviderTable(
        name="p",
        uplink=device,
        bfd=True,
        bfd_peer="2001:db8::1" if is_beyond else "",
        bfd_interval_s=OFTEN_S,
    )
    return Detection(table, target, told, failed=True).run()


def of_bfd(*, is_beyond: bool) -> tuple[Callable[[Told], Work], Callable[[], list[Work]]]:
    """A session of BFD, and its other end."""
    return (
        lambda told: session("up1", to_the_router, told, is_beyond=is_beyond),
        lambda: [session("far1", from_the_router, lambda why: None, is_beyond=is_beyond)],
    )


KINDS: Final[dict[str, tuple[Callable[[Told], Work], Callable[[], list[Work]]]]] = {
    "check": (a_check, no_more),
    "BFD with the gateway": of_bfd(is_beyond=False),
    "BFD beyond it": of_bfd(is_beyond=True),
}
"""What works by the device, and what else the other end needs, besides its address."""


def make_device() -> None:
    ip("link add up1 type veth peer name far1")
    for name in ("up1", "far1"):
        ip(f"link set {name} addrgenmode none")
        ip(f"link set {name} up")
    ip("addr add fe80::2/64 dev up1 nodad")
    wait_for_links("up1", "far1")


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_each_device_of_the_name_is_used(
    kind: str, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detecting, "RETRY_S", OFTEN_S)
    begin, others = KINDS[kind]
    said = ["nothing yet"]

    async def play() -> None:
        make_device()
        tasks = [asyncio.create_task(begin(said.append))]
        for number in itertools.count(1):
            ip("addr add fe80::1/64 dev far1 nodad")
            router = [asyncio.create_task(one) for one in others()]
            await until(lambda: not said[-1])
            for one in router:
                one.cancel()
            if number == DEVICES:
                break
            ip("link del up1")
            if not at_once:
                await asyncio.sleep(2 * OFTEN_S)
            make_device()
            await until(lambda: said[-1])
        tasks[0].cancel()
        await asyncio.wait([*tasks, *router])

    in_network_namespace(lambda: asyncio.run(play()))
