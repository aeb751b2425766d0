# SPDX-License-Identifier: MIT
"""Hosts of a site learn both prefixes by radvd; doctor looks at them and at their border."""

import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noid.host.programs import find_program
from noid.lab import namespaces
from noid.lab.borders import BorderDaemon, start_borders
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.processes import Process
from noid.lab.topology import BORDER, NAME_SERVER, PLAIN_ADDRESS, locators, site
from tests.lab.conversations import assert_no_errors, establish_context, serve_echoes, tcp

FIRST, SECOND = locators("a")
LEARN = f"""
sysctl -qw net.ipv6.conf.up0.autoconf=1 net.ipv6.conf.up0.accept_ra=1
ip token set ::a dev up0
ip addr del {FIRST}/64 dev up0
ip addr del {SECOND}/64 dev up0
"""
PATIENCE_S = 60
TEMPLATE = "radvd.conf.in"
NOID_RADVD = Path(__file__).parents[2] / "contrib" / "border" / "noid-radvd"


class Site:
    """A lab with a border whose hosts learn from radvd."""

    def __init__(self, lab: Lab, border: BorderDaemon) -> None:
        self.lab = lab
        self.border = border
        self.config = lab.directory / "radvd.conf"
        self.pid = lab.directory / "radvd.pid"

    def written(self, *preferred: int, every: bool = False) -> str:
        """A configuration of radvd with the preferred lifetimes of both prefixes, in seconds.

        Or, with ``every``, of those that the interface has.
        """
        names = ("::/64",) if every else (site(1, "a"), site(2, "a"))
        prefixes = "".join(
            f"prefix {name} {{ AdvPreferredLifetime {seconds}; AdvValidLifetime 7200; }};\n"
            for name, seconds in zip(names, preferred, strict=True)
        )
        intervals = "MinRtrAdvInterval 3; MaxRtrAdvInterval 4;"
        return f"interface lan0 {{ AdvSendAdvert on; {intervals}\n{prefixes}}};\n"

    def announce(self, *preferred: int) -> None:
        """Announces both prefixes with these lifetimes."""
        self.config.write_text(self.written(*preferred), encoding="utf-8")
        if self.pid.exists():
            os.kill(int(self.pid.read_text(encoding="ascii")), signal.SIGHUP)
            return
        files = ["-C", str(self.config), "-p", str(self.pid), "-m", "stderr", "-n"]
        self.lab.spawn(BORDER, [find_program("radvd"), *files], name="radvd")

    def run(self, node: str, script: str) -> None:
        done = self.lab.run(node, ["sh", "-e", "-c", script])
        assert done.returncode == 0, done.stderr

    def doctor(self, node: str, *words: str) -> dict[str, dict[str, Any]]:
        """What noid doctor finds on a node, by what it looked at."""
        variables = [f"{name}={value}" for name, value in self.lab.environment(node).items()]
        noid = [sys.executable, "-m", "noid", "doctor", "--json", *words]
        done = self.lab.run(node, ["env", *variables, *noid], timeout_s=PATIENCE_S)
        assert done.stdout, done.stderr
        return {row["check"]: row for row in json.loads(done.stdout)}

    def source(self) -> str:
        """The source that a new connection of a to a host without noid gets."""

        def ask() -> str:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
                one.connect((PLAIN_ADDRESS, 9))
                name: str = one.getsockname()[0]
                return name

        return namespaces.inside(namespaces.namespace(self.lab.name, "a"), ask)

    def locators(self) -> list[str]:
        return sorted(self.lab.status("a")["locators"])


@pytest.fixture(scope="module")
def learning(lab_machine: None) -> Iterator[Site]:
    with Lab.create(plane="bpf", sites="one") as lab:
        serve_echoes(lab)
        (border,) = start_borders(lab)
        made = Site(lab, border)
        made.run("a", LEARN)
        lab.wait_for("no address is left", lambda: made.locators() == [], PATIENCE_S)
        made.announce(3600, 3600)
        lab.wait_for("both addresses", lambda: made.locators() == [FIRST, SECOND], PATIENCE_S)
        establish_context(lab)
        yield made
        assert_no_errors(lab)


def test_doctor_finds_nothing_wrong_with_a_host_behind_the_border(learning: Site) -> None:
    found = learning.doctor("a", "--resolver", NAME_SERVER)
    assert found["interface identifier"]["health"] == "ok"
    for locator in (FIRST, SECOND):
        assert found[f"forward {locator}"]["health"] == "ok", found
        assert found[f"reverse {locator}"]["health"] == "ok", found


def test_doctor_says_that_identifiers_differ(learning: Site) -> None:
    other = "2001:db8:2:a::77"
    learning.run("a", f"ip addr add {other}/64 dev up0 nodad")
    try:
        found = learning.doctor("a", "--resolver", NAME_SERVER)
    finally:
        learning.run("a", f"ip addr del {other}/64 dev up0")
    assert found["interface identifier"]["health"] != "ok"
    assert found[f"forward {other}"]["health"] == "wrong"


def test_doctor_finds_what_is_wrong_with_a_border(learning: Site) -> None:
    config = str(learning.border.config)

    def wrong() -> dict[str, str]:
        found = learning.doctor(BORDER, "--border", config)
        assert "uplink up1" in found
        return {name: row["text"] for name, row in found.items() if row["health"] != "ok"}

    assert wrong() == {}
    second = "2001:db8:2:a::1/64"
    learning.run(BORDER, f"ip addr del {second} dev lan0")
    assert wrong() == {"LAN lan0": "has no address of 2001:db8:2:a::/64"}
    learning.run(BORDER, f"ip addr add {second} dev lan0 nodad")
    learning.run(BORDER, "sysctl -qw net.ipv6.conf.lan0.accept_ra=2")
    assert "hears router advertisements" in wrong()["LAN lan0"]
    learning.run(BORDER, "sysctl -qw net.ipv6.conf.lan0.accept_ra=0")
    inside = "2001:db8:1:a::99/128"
    learning.run(BORDER, f"ip addr add {inside} dev up1 nodad")
    assert "has a prefix of the site" in wrong()["uplink up1"]
    learning.run(BORDER, f"ip addr del {inside} dev up1")
    learning.lab.cut(1, Fault.CARRIER)
    learning.border.await_leaves_by("isp2", "isp2")
    found = wrong()
    assert found.keys() == {"uplink up1", "provider isp1"}
    assert found["uplink up1"] == "has no carrier"
    assert "no carrier" in found["provider isp1"]
    learning.lab.heal(1)
    learning.border.await_leaves_by("isp1", "isp2")


def test_new_connections_do_not_use_a_prefix_that_radvd_deprecates(learning: Site) -> None:
    """As RFC 8475 has it, while the border has moved the old ones already."""
    lab = learning.lab
    lab.wait_for("the first prefix", lambda: learning.source() == FIRST, PATIENCE_S)
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        lab.cut(1, Fault.CARRIER)
        conversation.echoes()
        learning.announce(0, 3600)
        lab.wait_for("the other prefix", lambda: learning.source() == SECOND, PATIENCE_S)
        conversation.echoes()
        with tcp(lab, "a") as new:
            new.echoes()
        lab.heal(1)
        learning.announce(3600, 3600)
        lab.wait_for("the first again", lambda: learning.source() == FIRST, PATIENCE_S)
        conversation.echoes()


@contextlib.contextmanager
def noid_radvd(site: Site, text: str) -> Iterator[Process]:
    """What the guide lets the router run."""
    template = site.lab.directory / TEMPLATE
    template.write_text(text, encoding="utf-8")
    programs = [str(Path(one).parent) for one in (sys.executable, find_program("radvd"))]
    variables = {
        **site.lab.environment(BORDER),
        "PATH": ":".join([*programs, os.environ["PATH"]]),
    }
    settings = [f"{name}={value}" for name, value in variables.items()]
    reload = ["sh", "-c", f"kill -HUP $(cat {site.pid})"]
    run = ["env", *settings, str(NOID_RADVD), str(template), str(site.config), *reload]
    follower = site.lab.spawn(BORDER, run)
    try:
        yield follower
    finally:
        follower.end()


def test_radvd_deprecates_the_prefix_of_a_provider_while_that_is_dead(learning: Site) -> None:
    lab = learning.lab
    lab.wait_for("the first prefix", lambda: learning.source() == FIRST, PATIENCE_S)
    with noid_radvd(learning, learning.written(3600, 3600)) as follower:
        template = learning.lab.directory / TEMPLATE
        text = template.read_text(encoding="utf-8")
        template.write_text(text + "interface", encoding="utf-8")
        lab.cut(1, Fault.CARRIER)
        lab.wait_for("it says so", lambda: "radvd refuses" in follower.output(), PATIENCE_S)
        assert learning.config.read_text(encoding="utf-8") == text
        template.write_text(text, encoding="utf-8")
        lab.heal(1)
        learning.border.await_leaves_by("isp1", "isp2")
        lab.cut(1, Fault.CARRIER)
        lab.wait_for("the other prefix", lambda: learning.source() == SECOND, PATIENCE_S)
        lab.heal(1)
        lab.wait_for("the first again", lambda: learning.source() == FIRST, PATIENCE_S)


def test_a_prefix_that_radvd_finds_itself_is_deprecated_too(learning: Site) -> None:
    """As of delegated prefixes, which no file names."""
    lab = learning.lab
    lab.wait_for("the first prefix", lambda: learning.source() == FIRST, PATIENCE_S)
    with noid_radvd(learning, learning.written(3600, every=True)):
        lab.wait_for("it is in use", lambda: "::/64" in _announced(learning), PATIENCE_S)
        lab.cut(1, Fault.CARRIER)
        lab.wait_for("the other prefix", lambda: learning.source() == SECOND, PATIENCE_S)
        assert _announced(learning) == {site(1, "a"), site(2, "a")}
        lab.heal(1)
        lab.wait_for("the first again", lambda: learning.source() == FIRST, PATIENCE_S)
        assert _announced(learning) == {"::/64"}
    learning.announce(3600, 3600)


def _announced(learning: Site) -> set[str]:
    """The prefixes in the configuration of radvd."""
    return set(re.findall(r"prefix (\S+)", learning.config.read_text(encoding="utf-8")))
