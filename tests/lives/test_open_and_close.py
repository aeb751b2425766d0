# SPDX-License-Identifier: MIT
"""Whatever a part of noid opens on a host, its end leaves the host as it was before."""

import asyncio
import contextlib
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL

import pytest

from noid.config import PlaneSection
from noid.errors import ShimError
from noid.host.netlink import HostNetwork
from noid.host.resolvconf import is_on, turn_off
from noid.planes.bpf.pins import prepare_pins, take_down
from noid.planes.rows import CUTS_TCP
from tests.lives import parts
from tests.lives.failing import Call, Calls, watched
from tests.lives.host import Host, changes, host
from tests.lives.parts import Part, Place, Work
from tests.lives.role_parts import ROLE_PARTS
from tests.namespaces import in_network_namespace, ip
from tests.planes.keeping import UPLINKS, make_uplinks, set_features

PARTS = {**parts.PARTS, **ROLE_PARTS}
each_part = pytest.mark.parametrize("part", PARTS.values(), ids=list(PARTS))
SETTLING_S = 0.01
SETTLED_S = 10.0
"""Tasks and connections that have been told to end do so soon, on a busy machine a little later."""
ALIKE = {
    "plane in the kernel by clsact": "plane in the kernel",
    "plane in the kernel": "plane in user space",
    "watch": "plane in user space",
}
"""Parts that make the calls of others too, which need not fail twice."""
OF_OTHERS = {"trial of the firewall"}
"""Parts whose calls are those of another program, nft, and of the library that runs it."""
ENDS = "", "-wal", "-shm"
RESOLVERS = "nameserver 2001:db8::53\n"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory with what an operator has in it, and a BPF file system."""
    (tmp_path / "resolv.conf").write_text(RESOLVERS)
    (tmp_path / "control").mkdir()
    prepare_pins(tmp_path / "pins")
    yield tmp_path
    for _ in range(2):
        subprocess.run(["umount", tmp_path / "pins"], check=False, capture_output=True)


def on_a_host(directory: Path, scenario: Callable[[Place], Awaitable[None]]) -> None:
    """Runs a scenario on a host with two uplinks."""

    async def play() -> None:
        make_uplinks()
        for name in ("up1", "up2", "far1", "far2"):
            ip(f"addr flush dev {name} scope link")
        ip("route add default dev up1")
        # The second uplink gets a program by XDP.
        set_features("far2", {"rx-gro": True})
        set_features("up2", {"rx-gro": True, CUTS_TCP: False})
        network = HostNetwork()
        try:
            await scenario(Place(directory, network))
        finally:
            network.close()

    in_network_namespace(lambda: asyncio.run(play()))


class NotOpenedError(Exception):
    """A part could not be opened."""


async def live(part: Part, place: Place, calls: Calls | None = None) -> None:
    """Opens a part, uses it, and closes it.

    Args:
        part: what is opened.
        place: where.
        calls: what is watched; a part of which a call has failed is used again, and then the host
            must refuse nothing.

    Raises:
        NotOpenedError: something is refused before it is open; then nothing of it may stay.
        ShimError: something is refused.
    """
    async with contextlib.AsyncExitStack() as stack:
        # Threads of its own, since those of before are not watched.
        threads = stack.enter_context(ThreadPoolExecutor())
        asyncio.get_running_loop().set_default_executor(threads)
        try:
            network = HostNetwork()
            stack.callback(network.close)
            work = await part(Place(place.directory, network), stack)
        except ShimError as error:
            raise NotOpenedError from error
        refused = None
        try:
            refused = await used(work)
        except ShimError:
            if calls is None or not calls.failed:
                raise
        if calls is not None and calls.failed:
            try:
                again = await used(work)
            except ShimError as error:
                raise AssertionError("what has failed once fails again") from error
            assert refused is None or again == refused, "something is refused again"
    await asyncio.sleep(SETTLING_S)


async def used(work: Work) -> int:
    """Uses a part once; returns how often the host has refused it something so far."""
    async with contextlib.AsyncExitStack() as inner:
        return await work(inner) or 0


async def left_since(before: Host, place: Place) -> dict[str, tuple[object, object]]:
    """What is other than before, and stays so."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + SETTLED_S
    while (found := changes(before, host(place.directory))) and loop.time() < end_s:
        await asyncio.sleep(SETTLING_S)
    return found


def tidy(place: Place) -> None:
    """Puts back what a part leaves on purpose: the identity of the host, and no directory."""
    prepare_pins(place.pins)
    state = place.directory / "state"
    state.mkdir(exist_ok=True)
    databases = [f"{one}.sqlite{end}" for one in ("contexts", "history") for end in ENDS]
    for name in ("state.json", *databases):
        (state / name).unlink(missing_ok=True)


def recover(place: Place) -> None:
    """What an operator or the next daemon does where a removal has failed.

    A part that could not even be opened has nothing to remove.
    """
    list(take_down(PlaneSection(pins=str(place.pins)), place.network))
    for name in UPLINKS:
        subprocess.run(["tc", "qdisc", "del", "dev", name, "clsact"], check=False, stderr=DEVNULL)
    (place.directory / "control" / "socket").unlink(missing_ok=True)
    if is_on(place.directory / "resolv.conf"):
        turn_off(place.directory / "resolv.conf", "::1")
    tidy(place)


@each_part
def test_the_end_of_a_part_leaves_everything_as_it_was(part: Part, directory: Path) -> None:
    async def scenario(place: Place) -> None:
        tidy(place)
        before = host(place.directory)
        for life in range(2):
            await live(part, place)
            tidy(place)
            assert await left_since(before, place) == {}, life

    on_a_host(directory, scenario)


async def made(part: Part, place: Place, monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """The calls that a part makes."""
    tidy(place)
    calls = Calls()
    with watched(calls, monkeypatch):
        await live(part, place)
    tidy(place)
    return calls.made


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", sorted(PARTS.keys() - OF_OTHERS))
def test_each_call_into_the_system_may_fail(
    name: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = PARTS[name]

    async def scenario(place: Place) -> None:
        every = await made(part, place, monkeypatch)
        if name in ALIKE:
            others = await made(PARTS[ALIKE[name]], place, monkeypatch)
            every = [call for call in every if call not in others]
        assert every
        print(f"{len(every)} calls")
        before = host(place.directory)
        faults: dict[Call, object] = {}
        for call in every:
            calls = Calls(failing=call)
            put_back = recover
            try:
                with watched(calls, monkeypatch):
                    await live(part, place, calls)
            except NotOpenedError:
                put_back = tidy
            except ShimError:
                pass
            except Exception as error:
                faults[call] = repr(error)
            put_back(place)
            after = await left_since(before, place)
            if after:
                faults[call] = faults.get(call), after
                before = host(place.directory)
        assert not faults, "\n".join(f"{call}: {fault}" for call, fault in faults.items())

    on_a_host(directory, scenario)
