# SPDX-License-Identifier: MIT
"""A device has the programs of its present role at a border, and none of its former roles."""

import random
from ipaddress import IPv6Network
from pathlib import Path
from typing import Final

import pytest

from noid.constants import Codepoints
from noid.host import gateways
from noid.host.netlink import HostNetwork
from noid.planes.bpf.border import BorderPlane, take_down
from noid.roles.border_placed import Place
from tests.namespaces import in_network_namespace, ip
from tests.planes.foreign import hanging
from tests.planes.keeping import elsewhere

DEVICES: Final = ("one", "two", "three")
SIDES: Final = ("ingress", "egress")
ROLES: Final = {"lan": (1, 0), "uplink": (1, 1), "none": (0, 0)}
"""How many programs are on each side."""
SEEDS: Final = range(3)
STEPS: Final = 12


def a_plane(network: HostNetwork, pins: Path, hook: str) -> BorderPlane:
    plane = BorderPlane(
        network,
        pins,
        directory=pins.parent,
        hook=hook,
        codepoints=Codepoints(),
        mark=1,
        inside=[IPv6Network("2001:db8:ff::/48")],
    )
    plane.open()
    return plane


def add(device: str) -> None:
    ip(f"link add {device} type veth peer name far{device}")
    ip(f"link set {device} up")


def drawn(chance: random.Random) -> dict[str, str]:
    """What each device is in a configuration."""
    return {one: chance.choice(list(ROLES)) for one in DEVICES}


def place_of(pins: Path, roles: dict[str, str]) -> Place:
    """Where a border with these devices has what it needs."""
    devices = tuple(one for one in DEVICES if roles[one] != "none")
    return Place(100, 4711, str(pins), str(pins.parent / "socket"), devices)


def programs_on(device: str) -> tuple[int, int]:
    ingress, egress = (sum(hanging(device, side)) for side in SIDES)
    return ingress, egress


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hook", ["auto", "clsact"])
def test_a_device_has_the_programs_of_its_present_role_after_any_others(
    pins: Path, hook: str, seed: int
) -> None:
    chance = random.Random(seed)

    def scenario() -> None:
        for device in DEVICES:
            add(device)
        network = HostNetwork()
        plane, roles = a_plane(network, pins, hook), drawn(chance)
        try:
            for _ in range(STEPS):
                former = roles
                if chance.random() < 0.5:  # another configuration
                    plane.close()
                    plane, roles = a_plane(network, pins, hook), drawn(chance)
                elif chance.random() < 0.5:
                    device = chance.choice(DEVICES)
                    ip(f"link del {device}")
                    add(device)
                links = gateways.links()
                lans, uplinks = (
                    [links[one] for one in DEVICES if roles[one] == role]
                    for role in ("lan", "uplink")
                )
                plane.attach(lans, uplinks)
                place_of(pins, former).take_down(network, place_of(pins, roles))
                found = elsewhere(lambda: {one: programs_on(one) for one in DEVICES})
                assert found == {one: ROLES[role] for one, role in roles.items()}
        finally:
            plane.close()
            list(take_down(pins, DEVICES, network))
            network.close()
        assert elsewhere(lambda: {programs_on(one) for one in DEVICES}) == {(0, 0)}

    in_network_namespace(scenario)
