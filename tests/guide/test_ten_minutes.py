# SPDX-License-Identifier: MIT
"""The ten-minute guide, typed as it stands on two machines on which nothing is configured."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.guide.blocks import blocks
from tests.guide.network import Network
from tests.guide.typing_in import CUT, GUIDE, type_in
from tests.lab.conftest import lab_machine
from tests.packaging.machine import LIMIT_S

__all__ = ["lab_machine"]
pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

BY_PROVIDER_2 = "2001:db8:2:a::a"


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
    lab_machine: None, packages: Path, tmp_path: Path
) -> None:
    sums: dict[str, str] = {}
    with Network(tmp_path, packages) as network:
        for block in blocks(GUIDE):
            if "noid down" in block.text:
                end_with_ctrl_c(network)
            said = type_in(network, block)
            if CUT in block.text:
                look_at_the_cut(network)
            if "sha256sum" in block.text:
                sums |= {host: text.split()[0] for host, text in said.items()}
        assert sums["a"] == sums["b"]
        for host in ("a", "b"):
            assert "noid" not in network.run(host, "ip link; cat /etc/resolv.conf").stdout
