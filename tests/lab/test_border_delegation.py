# SPDX-License-Identifier: MIT
"""A provider delegates a prefix by DHCPv6, then another: the hook of dhcpcd tells the border."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from noid.errors import PlatformError
from noid.lab.borders import BorderDaemon, border_daemons
from noid.lab.lab import Lab
from noid.lab.processes import Process
from noid.lab.topology import BORDER, site
from tests.lab.test_border import TABLE

PROGRAMS = Path("/var/lib/noid-tests/programs/usr/sbin")
HOOK = Path(__file__).parents[2] / "contrib" / "border" / "dhcpcd-hook"
STATE = Path("/run/dhcpcd")
FIRST, OLD, NEW = site(1, "a"), site(2, "a"), "2001:db8:2:e::/64"
PATIENCE_S = 60
CLIENT = """\
ipv6only
noipv6rs
duid ll
allowinterfaces up2
script {hook}
env NOID_BORDER_PREFIXES={prefixes}
env NOID_BORDER_SOCKET={socket}
interface up2
  ia_pd 1 lan0/0/64
"""
SERVER = """\
default-lease-time 600;
subnet6 2001:db8:2:fa::/64 {{ prefix6 {first} {first} /64; }}
"""


class Delegation:
    """A border whose second provider delegates its prefix."""

    def __init__(self, lab: Lab, border: BorderDaemon) -> None:
        self.lab = lab
        self.border = border
        self.prefixes = lab.directory / "delegated"

    def serve(self, prefix: str) -> Process:
        """A server of the provider that delegates one prefix."""
        files = [self.lab.directory / f"dhcpd.{one}" for one in ("conf", "leases")]
        files[0].write_text(SERVER.format(first=prefix.removesuffix("/64")), encoding="utf-8")
        files[1].write_text("", encoding="utf-8")
        options = ["-cf", str(files[0]), "-lf", str(files[1]), "--no-pid"]
        run = [str(PROGRAMS / "dhcpd"), "-6", "-f", "-d", *options, "custa"]
        server = self.lab.spawn("isp2", run)
        self.lab.wait_for("it serves", lambda: "Server starting" in server.output(), PATIENCE_S)
        return server

    def ask(self) -> Process:
        """The client of the router, with no lease of before."""
        config = self.lab.directory / "dhcpcd.conf"
        text = CLIENT.format(hook=HOOK, prefixes=self.prefixes, socket=self.border.socket)
        config.write_text(text, encoding="utf-8")
        path = f"PATH={Path(sys.executable).parent}:{os.environ['PATH']}"
        program = shutil.copy(PROGRAMS / "dhcpcd", self.lab.directory / "client")
        run = f"mount -t tmpfs none /var/lib && exec {program} -B -f {config} up2"
        return self.lab.spawn(BORDER, ["env", path, "sh", "-c", run], name="dhcpcd")

    def has(self, *prefixes: str) -> bool:
        with contextlib.suppress(PlatformError):  # it reloads
            return [row["prefix"] for row in self.border.status()["prefixes"]] == list(prefixes)
        return False

    def routes(self, prefix: str) -> bool:
        """Whether the border has a route for sources of a prefix."""
        words = ["ip", "-6", "route", "show", "table", str(TABLE)]
        return f"default from {prefix} via" in self.lab.run(BORDER, words).stdout


@pytest.fixture
def delegation(lab_machine: None) -> Iterator[Delegation]:
    if not (PROGRAMS / "dhcpcd").exists() or not (PROGRAMS / "dhcpd").exists():
        pytest.skip("dhcpcd and dhcpd are not unpacked: scripts/install-debian-packages")
    was_there = STATE.exists()
    try:
        with Lab.create(plane="bpf", sites="one") as lab:
            (border,) = border_daemons(lab)
            made = Delegation(lab, border)
            text = border.config.read_text(encoding="utf-8")
            keys = f'prefixes_file = "{made.prefixes}/up2"'
            border.config.write_text(text.replace(f'prefixes = ["{OLD}"]', keys))
            border.start()
            yield made
    finally:
        if not was_there:
            shutil.rmtree(STATE, ignore_errors=True)


def test_a_delegated_prefix_comes_to_the_border_and_changes(delegation: Delegation) -> None:
    lab, border = delegation.lab, delegation.border
    assert delegation.has(FIRST)
    for prefix in (OLD, NEW):
        server, client = delegation.serve(prefix), delegation.ask()
        lab.wait_for(f"it has {prefix}", partial(delegation.has, FIRST, prefix), PATIENCE_S)
        border.await_leaves_by("isp1", "isp2")
        lab.wait_for("its route", partial(delegation.routes, prefix), PATIENCE_S)
        client.end()
        server.end()
    lab.wait_for("no route of the old one", lambda: not delegation.routes(OLD), PATIENCE_S)
    border.stop()
    border.start()
    assert delegation.has(FIRST, NEW)
