# SPDX-License-Identifier: MIT
"""A test's own network namespace."""

import ctypes
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pytest

from noid.lab.waiting import wait_for

Result = TypeVar("Result")

CARRIES_WITHIN_S = 60.0


def in_network_namespace(scenario: Callable[[], Result]) -> Result:
    """Runs a function in a thread that has a network of its own, with only a loopback in it.

    What the function raises is raised here.
    """
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")

    def run() -> Result:
        clone_new_network = 0x40000000
        assert ctypes.CDLL(None, use_errno=True).unshare(clone_new_network) == 0
        return scenario()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(run).result()


def ip(arguments: str) -> None:
    subprocess.run(["ip", "-6", *arguments.split()], check=True)


def wait_for_addresses() -> None:
    """Waits until programs can use all addresses: with `nodad`, too, this is soon, not at once."""
    wait_for("no address is tentative", lambda: not _addresses("tentative"), CARRIES_WITHIN_S)


def _addresses(*selectors: str) -> str:
    command = ["ip", "-6", "-oneline", "address", "show", *selectors]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait_for_links(*names: str) -> None:
    """Waits until the kernel has noticed that links carry; before, it drops what they send."""
    for name in names:
        wait_for(f"{name} carries", partial(_carries, name), CARRIES_WITHIN_S)


def _carries(name: str) -> bool:
    shown = subprocess.run(["ip", "link", "show", name], capture_output=True, check=True)
    return b"state UP" in shown.stdout
