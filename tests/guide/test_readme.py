# SPDX-License-Identifier: MIT
"""The README, typed in order on a machine with two uplinks on which noid has never been.

``make demo`` fetches packages, so it is typed in the network of this machine, in a copy of this
tree. ``make test`` is what runs this test. There is no systemd: the service is started by the
command lines of its unit.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guide.blocks import blocks
from tests.guide.network import ENVIRONMENT, ROOT, Network
from tests.guide.typing_in import GUIDE
from tests.lab.conftest import lab_machine

__all__ = ["lab_machine"]
pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
]

BLOCK = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
SETTINGS = re.compile("PIP_|SSL_|REQUESTS_|[a-z]+_proxy$", re.IGNORECASE)
"""What the environment says about the way to packages."""
TREE = "root/noid"
PREFIX = "2001:db8:1:a:"
SUITE = "make test"
SERVICE = "systemctl enable --now noid"


def lines_of_the_readme() -> Iterator[str]:
    """Each line that a person types, without its comment."""
    for block in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")):
        for line in block.splitlines():
            yield line.partition(" # ")[0].strip()


def copy_the_tree(directory: Path) -> None:
    """What a clone would have, with changes that are not committed."""
    trusted = ["-c", "safe.directory=*"]  # the clone may be that of another user
    words = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    command = ["git", *trusted, "-C", str(ROOT), *words]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        path = Path(name)
        if (ROOT / path).exists() and path.parts[0] != "tests":
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, directory / path)


def type_make(network: Network, host: str, line: str) -> None:
    """Types a command that fetches packages, with the network and the settings of this machine."""
    machine = network.machines[host]
    words = machine.command("sh", "-ec", f"cd /{TREE} && {line}", online=True)
    settings = {name: text for name, text in os.environ.items() if SETTINGS.match(name)}
    environment = {**settings, **ENVIRONMENT}
    for name in ("PIP_NO_INDEX", "PIP_CONFIG_FILE"):
        environment.pop(name)
    resolvers = machine.path("etc/resolv.conf")
    before = resolvers.read_bytes()
    resolvers.write_bytes(Path("/etc/resolv.conf").read_bytes())
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=1800)
    resolvers.write_bytes(before)
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"


def test_every_command_of_the_readme_works(
    lab_machine: None, packages: Path, tmp_path: Path
) -> None:
    with Network(tmp_path, packages) as network:
        for block in blocks(GUIDE)[:2]:
            network.type(block)  # what a machine has: addresses and default routes
        machine = network.machines["a"]
        copy_the_tree(machine.path(TREE))
        service: subprocess.Popen[bytes] | None = None
        typed = []
        for line in lines_of_the_readme():
            typed.append(line)
            if line == SUITE:
                continue
            if line.startswith("make"):
                type_make(network, "a", line)
            elif line == SERVICE:
                service = machine.start()
            elif "/opt/noid" in line:  # the other way to install it
                assert network.run("b", line).returncode == 0, line
            else:
                if line.startswith("dpkg --purge"):
                    assert service is not None
                    machine.stop(service)  # as systemd does for dpkg
                done = network.run("a", line)
                assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
                if "noid setup --name" in line:
                    network.publish(
                        done.stdout.partition("# records for the DNS\n")[2].splitlines()
                    )
        assert {"make demo", SUITE, SERVICE, "noid doctor"} <= {*typed}
        left = network.run("a", "ip -6 rule; cat /etc/resolv.conf; ls /etc").stdout
        assert PREFIX not in left
        assert "noid" not in left
        with network.machines["b"].service():
            status = network.machines["b"].json("noid", "status", "--json")
            assert status["plane"]["kind"] == "bpf"
            assert status["state"]["trouble"] == []
