# SPDX-License-Identifier: MIT
"""The child of a daemon that removes the rule for new connections after a daemon was killed."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from noid.config import PlaneSection
from noid.host.netlink import HostNetwork
from noid.planes.rules import choosing
from tests.namespaces import in_network_namespace

DAEMON = """
import sys
from noid.config import Config, ControlSection
from noid.roles.guardian import stand_guard
dismiss = stand_guard(Config(control=ControlSection(socket=sys.argv[1])))
{last}
"""


@pytest.mark.slow
@pytest.mark.parametrize(("last", "stays"), [("", False), ("dismiss()", True)])
def test_the_rule_is_removed_unless_the_daemon_has_dismissed_the_guard(
    tmp_path: Path, last: str, stays: bool
) -> None:
    rule = choosing(PlaneSection())

    def scenario() -> bool:
        with contextlib.closing(HostNetwork()) as network:
            network.add_rules([rule])
            program = [sys.executable, "-c", DAEMON.format(last=last), str(tmp_path / "socket")]
            # The guard holds the pipe open until it ends.
            subprocess.run(program, check=True, capture_output=True, timeout=60)
            return rule in network.rules()

    assert in_network_namespace(scenario) == stays
