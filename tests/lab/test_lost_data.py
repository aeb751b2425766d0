# SPDX-License-Identifier: MIT
"""A network that loses data, and passes messages in its form, in one direction alone [D47]."""

from collections.abc import Iterator
from contextlib import contextmanager

from noid.engine.causes import Cause
from noid.lab.lab import Lab
from noid.lab.topology import locators
from tests.lab.conversations import establish_context, udp

A_1, _ = locators("a")
B_1, _ = locators("b")
DATA_ALONE = "{ 224-229, 231-237, 239 }"
"""The next headers of data; messages in its form have 230 and 238."""


@contextmanager
def data_lost(lab: Lab, source: str, destination: str) -> Iterator[None]:
    """Provider 1 drops data from one locator to another."""
    rules = [
        "add table ip6 lossy",
        "add chain ip6 lossy forward { type filter hook forward priority 0; }",
        f"add rule ip6 lossy forward ip6 saddr {source} ip6 daddr {destination}"
        f" ip6 nexthdr {DATA_ALONE} drop",
    ]
    try:
        for rule in rules:
            assert lab.run("isp1", ["nft", *rule.split()]).returncode == 0
        yield
    finally:
        lab.run("isp1", ["nft", "delete", "table", "ip6", "lossy"])


def test_only_the_host_whose_data_is_lost_leaves_its_pair(kernel_lab: Lab) -> None:
    """The plane of the other host says that data comes, so that host complains, and stays."""
    lab = kernel_lab
    establish_context(lab)
    with udp(lab, "a") as datagrams:
        datagrams.echoes_at_last()
        with data_lost(lab, B_1, A_1):
            datagrams.echoes_at_last()
            assert Cause.DATA_LOST in lab.log("b")
            assert Cause.DATA_LOST not in lab.log("a")
