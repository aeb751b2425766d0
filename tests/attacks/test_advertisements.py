# SPDX-License-Identifier: MIT
"""Router advertisements that an attacker on the link of one uplink forges [RFC 4861 §4.2, D50].

Attacker: a host on the link of an uplink, which sends in the name of the router there. Guaranteed:
no second of a conversation is lost, as another uplink works. An attacker on a link can also make
that uplink fail, as without noid.
"""

import os
import struct
import time
from collections.abc import Iterator

import pytest

from noid.lab import advertisement, namespaces
from noid.lab.advertisement import INFINITE_S, LIFETIME_S
from noid.lab.lab import Lab
from noid.lab.topology import site
from tests.attacks.test_in_the_lab import ATTACK_S, LOST_MAX, RECOVERY_S, Stream
from tests.lab.conftest import lab_machine
from tests.lab.conversations import assert_no_errors, establish_context

__all__ = ["lab_machine"]
pytestmark = [pytest.mark.lab, pytest.mark.alone]  # it measures time

PERIOD_S = 0.05
USUAL_HOPS = 64
ROUTER, LINK = "isp1", "custa"
PREFIX = site(1, "a")
HOPS_AT, VALID_AT = 4, 20
"""Offsets of the hop limit, and of the two lifetimes of the prefix."""


def message(*, hops: int = USUAL_HOPS, router_s: int = LIFETIME_S, prefix_s: int) -> bytes:
    """An advertisement of the router of uplink 1.

    Args:
        hops: the hop limit that hosts are to use.
        router_s: how long it is a default router.
        prefix_s: how long addresses of its prefix are valid, and preferred.
    """
    made = bytearray(advertisement.advertisement(PREFIX, lifetime_s=router_s))
    made[HOPS_AT] = hops
    struct.pack_into("!II", made, VALID_AT, prefix_s, prefix_s)
    return bytes(made)


GENUINE = message(prefix_s=INFINITE_S)
ATTACKS = {
    "no-router": message(router_s=0, prefix_s=INFINITE_S),
    "no-prefix": message(prefix_s=0),
    "few-hops": message(hops=1, prefix_s=INFINITE_S),
}


@pytest.fixture(scope="module")
def lab(lab_machine: None) -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.skip("needs root: builds a lab")
    with Lab.create(plane="bpf", variant="ra") as made:
        yield made
        assert_no_errors(made)


def advertise(lab: Lab, octets: bytes) -> None:
    """Sends an advertisement on the link of uplink 1 of a."""
    router = namespaces.namespace(lab.name, ROUTER)
    namespaces.inside(router, lambda: advertisement.send(LINK, octets))


@pytest.mark.parametrize("name", ATTACKS)
def test_forged_advertisements_stop_no_conversation(lab: Lab, name: str) -> None:
    establish_context(lab)
    try:
        with Stream(lab) as stream:
            end_s = time.monotonic() + ATTACK_S
            while time.monotonic() < end_s:
                advertise(lab, ATTACKS[name])
                time.sleep(PERIOD_S)
            stream.goes_on(RECOVERY_S)
        assert stream.lost <= LOST_MAX
        assert not stream.forged
    finally:
        advertise(lab, GENUINE)
