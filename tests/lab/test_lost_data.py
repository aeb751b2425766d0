# SPDX-License-Identifier: MIT
"""A network that loses data, and passes messages in its form, in one direction alone [D47]."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from noid.lab.lab import Lab
from noid.lab.topology import locators
from noid.wire.control import Code, Flag
from tests.lab.captures import CONTROL_TYPE, read_capture
from tests.lab.conversations import establish_context, udp

A_1, _ = locators("a")
B_1, _ = locators("b")
FIELDS = "ipv6.src", "icmpv6.code", "icmpv6.data"
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


def test_only_the_host_whose_data_is_lost_leaves_its_pair(kernel_lab: Lab, tmp_path: Path) -> None:
    """The plane of the other host says that data comes, so that host complains, and stays."""
    lab, path = kernel_lab, tmp_path / "up1.pcapng"
    establish_context(lab)
    with udp(lab, "a") as datagrams:
        datagrams.echoes_at_last()
        with data_lost(lab, B_1, A_1), lab.capture("a", "up1", path):
            datagrams.echoes_at_last()
    said = {
        (Code(int(row["icmpv6.code"])), row["ipv6.src"])
        for row in read_capture(path, f"icmpv6.type == {CONTROL_TYPE}", *FIELDS)
        if int(row["icmpv6.data"][4:8], 16) & (Flag.DATA_ASKED | Flag.DATA_LOST)
    }
    assert said >= {(Code.UR, A_1), (Code.KEEPALIVE, B_1)}
