# SPDX-License-Identifier: MIT
"""What `noid doctor` says of the plane a host would get."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from noid.config import PlaneSection
from noid.constants import Codepoints
from noid.host.survey import Device
from noid.planes.bpf.attachments import GATHERS, takes_early
from noid.planes.bpf.prospects import Prospect, prospects
from noid.planes.rows import CUTS_TCP, CUTS_UDP, SUMMING

WHOLE = (CUTS_TCP, CUTS_UDP, SUMMING)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads programs")


def uplink(*features: str) -> Device:
    return Device(
        index=socket.if_nametoindex("lo"),
        name="up1",
        mtu=1500,
        has_ethernet=True,
        addresses=frozenset(),
        features=frozenset(features),
    )


def found(section: PlaneSection, directory: Path, *devices: Device) -> list[Prospect]:
    return list(prospects(section, Codepoints(), devices, directory))


def test_in_user_space_nothing_is_asked(tmp_path: Path) -> None:
    section = PlaneSection(kind="tun")
    assert found(section, tmp_path, uplink()) == [
        Prospect("plane", True, 'in user space: plane.kind is "tun"')
    ]


@as_root
@pytest.mark.parametrize(
    ("features", "way"),
    [
        (WHOLE, f"super-packets whole: {CUTS_TCP} is on"),
        ((SUMMING,), f"super-packets cut before: {CUTS_TCP} is off"),
        (
            (SUMMING, GATHERS),
            f"super-packets cut before: {CUTS_TCP} is off, restored by XDP if its driver can",
        ),
        (
            (CUTS_TCP, "tx-checksum-ipv6"),
            "packets summed up before: it does that only for protocols it knows",
        ),
    ],
)
def test_an_uplink_is_served_by_what_it_can(
    tmp_path: Path, features: tuple[str, ...], way: str
) -> None:
    plane, one = found(PlaneSection(kind="bpf"), tmp_path, uplink(*features))
    assert plane.good
    assert (one.what, one.good) == ("uplink up1", True)
    assert one.text.partition(", ")[2] == way
    assert one.text.partition(", ")[0] in ("tcx", "clsact")


def test_an_uplink_below_vlans_gets_no_program_for_xdp() -> None:
    """Where the tag has been taken off, the program would restore what is for another device."""
    device = uplink(SUMMING, GATHERS)
    assert takes_early(device)
    assert not takes_early(replace(device, has_vlans=True))


@as_root
def test_the_hook_is_the_one_that_is_wanted(tmp_path: Path) -> None:
    plane, one = found(PlaneSection(hook="clsact"), tmp_path, uplink(*WHOLE))
    assert plane.text == "in the kernel, by clsact: the kernel accepts the programs"
    assert one.text.startswith("clsact, ")


@as_root
def test_without_uplinks_there_is_nothing_to_say_of_them(tmp_path: Path) -> None:
    (plane,) = found(PlaneSection(), tmp_path)
    assert plane.good
