"""The plane in the kernel on a host of its own: what it keeps is bounded."""

import asyncio
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noid.config import PlaneSection
from noid.constants import Codepoints
from noid.locators import Locator, format_locator
from noid.netlink import HostNetwork
from noid.plane.bpf import NO_ROOM, BpfPlane, take_down
from noid.plane.slow import Surroundings
from tests.dns.conftest import in_network_namespace, ip
from tests.plane.test_bpf import random_flow

LOCATORS = [Locator(bytes.fromhex("20010db8") + bytes(11) + bytes([one])) for one in range(1, 40)]
CONTEXTS = 16


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    """Where the plane pins; it mounts the file system itself."""
    path = tmp_path / "pins"
    yield path
    subprocess.run(["umount", path], check=True)


def with_plane(pins: Path, scenario: Callable[[BpfPlane], None]) -> None:
    """Runs a scenario on a host with a plane and an uplink, from which nothing is left."""

    async def play() -> None:
        ip("link add up1 type veth peer name far1")
        for device in ("up1", "far1", "lo"):
            ip(f"link set {device} up")
        section = PlaneSection(kind="bpf", pins=str(pins), contexts=CONTEXTS)
        network = HostNetwork()
        plane = BpfPlane(
            Surroundings(
                section=section,
                codepoints=Codepoints(),
                network=network,
                mtu=1500,
                notify=lambda event: None,
                locators=tuple,
            ),
            interfaces=["up*"],
            directory=pins.parent,
            referrals=False,
        )
        plane.open()
        try:
            plane.start()
            scenario(plane)
        finally:
            plane.close()
            assert list(take_down(section, network))
            network.close()

    in_network_namespace(lambda: asyncio.run(play()))


def of_ours(plane: BpfPlane) -> set[bytes]:
    """The addresses whose uplink the plane remembers, but for link-local ones."""
    return set(plane.ways) & set(LOCATORS)


def test_of_addresses_that_came_and_went_those_in_use_alone_are_remembered(pins: Path) -> None:
    def scenario(plane: BpfPlane) -> None:
        flow = random_flow(random.Random(1))
        flow.local_locator = LOCATORS[0]
        flow.local_locators |= {LOCATORS[0]}
        for number, locator in enumerate(LOCATORS):
            ip(f"addr add {format_locator(locator)}/64 dev up1 nodad")
            plane.links_changed()
            if number == 0:
                plane.install(flow)
            else:
                ip(f"addr del {format_locator(locator)}/64 dev up1")
                plane.links_changed()
        assert of_ours(plane) == {LOCATORS[0]}
        ip(f"addr del {format_locator(LOCATORS[0])}/64 dev up1")
        plane.links_changed()
        assert of_ours(plane) == {LOCATORS[0]}, "packets of the flow still leave by that uplink"
        plane.remove(flow.local_label)
        plane.links_changed()
        assert of_ours(plane) == set()

    with_plane(pins, scenario)


def test_a_flow_too_many_is_counted(pins: Path) -> None:
    def scenario(plane: BpfPlane) -> None:
        chance = random.Random(2)
        for _ in range(CONTEXTS):
            plane.install(random_flow(chance))
        assert NO_ROOM not in plane.counters()
        plane.install(random_flow(chance))
        assert plane.counters()[NO_ROOM] == 1

    with_plane(pins, scenario)
