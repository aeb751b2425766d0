# SPDX-License-Identifier: MIT
"""The ten-minute guide, typed as it stands on two machines on which nothing is configured."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.guide.blocks import Block, blocks
from tests.guide.network import Network, make_wheels
from tests.lab.conftest import lab_machine
from tests.packaging.machine import LIMIT_S

__all__ = ["lab_machine"]
pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]

SOME_OCTETS = 4_000_000
BY_PROVIDER_2 = "2001:db8:2:a::a"


def settle(network: Network, block: Block) -> None:
    """Waits for what a person sees in a terminal before typing in the next one."""
    if "noid run" in block.text:
        for host in block.machines:
            network.wait(host, "noid status")
    elif "http.server" in block.text:
        network.wait("b", "curl -s -o /dev/null http://[::1]/")
    elif "curl" in block.text:
        network.wait("a", f"test $(stat -c %s /tmp/big) -gt {SOME_OCTETS}")


def end_with_ctrl_c(network: Network) -> None:
    for process in network.started("noid run"):
        os.killpg(process.pid, signal.SIGINT)
        process.wait(LIMIT_S)


def look_at_the_cut(network: Network) -> None:
    """The download goes on by the other provider."""
    (download,) = network.started("curl")
    assert download.poll() is None, "it had ended before the cut"
    (context,) = json.loads(network.run("a", "noid contexts --json").stdout)
    assert context["local_aid"] == "2001:db8:1:a::a"
    assert context["local_locator"] == BY_PROVIDER_2
    assert download.wait(LIMIT_S) == 0


def test_a_download_survives_a_cut_on_two_machines_built_by_the_guide(
    lab_machine: None, tmp_path: Path
) -> None:
    packages = make_wheels(tmp_path / "wheels")
    sums: dict[str, str] = {}
    with Network(tmp_path, packages) as network:
        for block in blocks("ten-minutes.md"):
            if "noid down" in block.text:
                end_with_ctrl_c(network)
            said = network.type(block)
            settle(network, block)
            if "noid zone" in block.text:
                network.publish([line for text in said.values() for line in text.splitlines()])
            if "link set eth0 down" in block.text:
                look_at_the_cut(network)
            if "sha256sum" in block.text:
                sums |= {host: text.split()[0] for host, text in said.items()}
        assert sums["a"] == sums["b"]
        for host in ("a", "b"):
            assert "noid" not in network.run(host, "ip link; cat /etc/resolv.conf").stdout
