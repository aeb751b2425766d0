# SPDX-License-Identifier: MIT
"""Labs for tests: built once a module, skipped where they cannot be, failed where they must be."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from noid.config import Plane
from noid.errors import ShimError
from noid.lab import machine
from noid.lab.lab import Lab
from tests.lab.conversations import assert_no_errors, echoing_lab

PROGRAMS = ("ip", "nsd", "nginx", "curl", "dumpcap")
TUN_DEVICE = Path("/dev/net/tun")
PLANES = get_args(Plane)
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session")
def lab_machine() -> None:
    """A machine on which labs can be built."""
    try:
        machine.check_machine(*PROGRAMS)
    except ShimError as error:
        _cannot(str(error))


@pytest.fixture(scope="module")
def plain_lab(lab_machine: None) -> Iterator[Lab]:
    """A lab without noid."""
    with Lab.create(plane="none") as lab:
        yield lab


@pytest.fixture(scope="module", params=PLANES)
def lab(lab_machine: None, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab with noid on both hosts, on each data plane in turn."""
    if not TUN_DEVICE.exists():
        _cannot(f"{TUN_DEVICE} is not there: load the kernel module tun")
    with Lab.create(plane=request.param) as lab:
        yield lab
        assert_no_errors(lab)


@pytest.fixture(scope="module")
def kernel_lab(lab_machine: None) -> Iterator[Lab]:
    """A lab with noid in the kernel on both hosts, and with echo servers."""
    with echoing_lab() as lab:
        yield lab


def _cannot(reason: str) -> None:
    """Skips; but where everything is required, a skip would hide a fault."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
