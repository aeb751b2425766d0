# SPDX-License-Identifier: MIT
"""Pins of another user are neither adopted nor removed [D36]."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from noid.config import PlaneSection
from noid.errors import PlatformError
from noid.host.netlink import HostNetwork
from noid.planes.bpf import libbpf
from noid.planes.bpf.carried import TABLES, Carried, pin_of
from noid.planes.bpf.pins import prepare_pins, take_down
from tests.planes.loading import load

pytestmark = pytest.mark.lab

OTHER = 65534


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    """Tables as an earlier daemon leaves them."""
    path = tmp_path / "pins"
    prepare_pins(path)
    programs = load(tmp_path)
    for name in TABLES:
        libbpf.pin(programs.maps[name], pin_of(path, name))
    programs.close()
    yield path
    subprocess.run(["umount", path], check=True)


def assert_refused(pins: Path, path: Path, why: str) -> None:
    """Asserts that starting and taking down are refused in one line and change nothing."""
    before = sorted(pins.iterdir())
    for begin in (prepare_pins, take_all_down):
        with pytest.raises(PlatformError, match=f"{re.escape(str(path))}: {why}") as caught:
            begin(pins)
        assert "\n" not in str(caught.value)
    assert sorted(pins.iterdir()) == before


def take_all_down(pins: Path) -> None:
    network = HostNetwork()
    try:
        list(take_down(PlaneSection(pins=str(pins), device="none0"), network))
    finally:
        network.close()


def are_adopted(pins: Path) -> bool:
    """Whether the tables there would be taken up."""
    carried = Carried(pins)
    try:
        return carried.are_there
    finally:
        carried.close()


@contextmanager
def belonging_to_another(path: Path) -> Iterator[None]:
    os.chown(path, OTHER, -1)
    yield
    os.chown(path, 0, -1)


def test_a_directory_of_another_user_is_refused(pins: Path) -> None:
    assert are_adopted(pins)
    with belonging_to_another(pins):
        assert not are_adopted(pins)
        assert_refused(pins, pins, f"belongs to uid {OTHER}, noid runs as uid 0; remove it")
    prepare_pins(pins)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_another_user_is_refused(pins: Path, name: str) -> None:
    path = pin_of(pins, name)
    with belonging_to_another(path):
        assert libbpf.pinned(path) is None
        assert_refused(pins, path, f"belongs to uid {OTHER}")
    prepare_pins(pins)


def test_a_link_to_what_others_have_pinned_is_refused(pins: Path) -> None:
    link = pins / "link-7-egress"
    link.symlink_to(pin_of(pins, "inbound").name)
    assert libbpf.pinned(link) is None
    assert_refused(pins, link, "is a link")
    link.unlink()
    prepare_pins(pins)


def test_a_link_in_the_place_of_the_directory_is_refused(pins: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(pins)
    with pytest.raises(PlatformError, match="is a link"):
        prepare_pins(link)
    assert not are_adopted(link)
