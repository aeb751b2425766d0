# SPDX-License-Identifier: MIT
"""A site with a router, two providers and two LANs, on which nothing is configured."""

import os
import re
import secrets
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from noid.control.client import answers, ask
from noid.counters import BorderCounter
from noid.errors import PlatformError
from noid.lab import advertisement, namespaces
from noid.lab.inventory import PINS
from noid.lab.passing import TCP_OF_CONTEXTS
from noid.lab.processes import Process, start
from noid.lab.topology import Link, Topology
from noid.lab.waiting import wait_for
from tests.guide.blocks import DOCS

Returned = TypeVar("Returned")
PATIENCE_S = 60.0
ROUTER, HOST, OTHER, OUTSIDE = "router", "host", "other", "outside"
PROVIDERS = ("isp1", "isp2")
TARGET = "2001:db8:ffff::1"
LINKS = (
    (ROUTER, "wan1", "isp1", "cust"),
    (ROUTER, "wan2", "isp2", "cust"),
    (ROUTER, "lan0", HOST, "eth0"),
    (ROUTER, "lan1", OTHER, "eth0"),
    ("isp1", "core", OUTSIDE, "eth1"),
    ("isp2", "core", OUTSIDE, "eth2"),
)
NETWORK = """
on isp{0} ip address replace 2001:db8:f00{0}::1/64 dev cust
on isp{0} ip address replace 2001:db8:e00{0}::1/64 dev core
on router ip address replace 2001:db8:f00{0}::2/64 dev wan{0}
on outside ip address replace 2001:db8:e00{0}::2/64 dev eth{0}
on isp{0} ip route replace 2001:db8:ffff::/48 via 2001:db8:e00{0}::2
on isp{0} ip route replace 2001:db8:{0}::/48 via 2001:db8:f00{0}::2
on outside ip route replace 2001:db8:{0}::/48 via 2001:db8:e00{0}::1
"""
SUBNETS = {HOST: 7, OTHER: 8}
LEARN = """
sysctl -qw net.ipv6.conf.eth0.forwarding=0
sysctl -qw net.ipv6.conf.eth0.accept_ra=1 net.ipv6.conf.eth0.autoconf=1
ip token set ::a dev eth0
"""


def typed(after: str) -> str:
    """The commands or the file that the guide has behind some words."""
    text = (DOCS / "border.md").read_text(encoding="utf-8").partition(after)[2]
    found = re.search(r"^ {6,}\S.*\n(?:(?: {6,}.*)?\n)*", text, re.M)
    assert found, after
    return textwrap.dedent(found[0]).strip() + "\n"


def address(number: int, host: str) -> str:
    """The address of a host below the prefix of a provider, from 1."""
    return f"2001:db8:{number}:{SUBNETS[host]}::a"


class Site:
    """A site of the guide, its providers and a host outside.

    Args:
        directory: for its files.
    """

    def __init__(self, directory: Path) -> None:
        self.name = f"guide-{os.getpid()}-{secrets.token_hex(3)}"
        self.directory = directory
        self.socket = directory / "border.sock"
        self.config = directory / "noid-border.toml"
        self.processes: list[Process] = []
        self.daemon: Process
        links = tuple(Link(left=(a, one), right=(b, other)) for a, one, b, other in LINKS)
        nodes = (ROUTER, HOST, OTHER, OUTSIDE, *PROVIDERS)
        self.plan = Topology(nodes=nodes, links=links, addresses=(), routes=(), rules=(), names=())

    def build(self) -> None:
        # A command has a mount namespace of its own: what the daemon mounts would end with it.
        (self.directory / PINS).mkdir()
        subprocess.run(["mount", "-t", "bpf", "bpf", self.directory / PINS], check=True)
        namespaces.create(self.name, self.plan)
        for node, interface in [end for a, one, b, two in LINKS for end in ((a, one), (b, two))]:
            self.type(node, f"ip link set {interface} up; ip link set lo up")
        for number in (1, 2):
            self.connect(number)
        self.type(OUTSIDE, f"ip address add {TARGET}/128 dev lo")

    def connect(self, number: int) -> None:
        """What a provider has configured; the kernel removes some of it with a carrier."""
        for line in NETWORK.format(number).strip().splitlines():
            _, node, words = line.split(maxsplit=2)
            self.type(node, words)

    def set_line(self, number: int, state: str) -> None:
        """Sets the provider's end of a line up, as it was before, or down."""
        self.type(f"isp{number}", f"ip link set cust {state}")
        if state == "up":
            self.connect(number)
            self.advertise(number)

    def close(self) -> None:
        for one in reversed(self.processes):
            if one.running:
                one.end()
        if self.config.exists():
            self.type(ROUTER, f"noid border down --config {self.config}")
        namespaces.remove(self.name, self.plan.nodes)
        subprocess.run(["umount", self.directory / PINS], check=True)

    def words(self, node: str, text: str) -> list[str]:
        """The command line that types commands on a node; the first that fails is the last."""
        noid = f'noid() {{ {sys.executable} -m noid "$@"; }}\n'
        shell = ["env", f"NOID_BORDER_SOCKET={self.socket}", "sh", "-ec", noid + text]
        return ["ip", "netns", "exec", namespaces.namespace(self.name, node), *shell]

    def run(self, node: str, text: str) -> "subprocess.CompletedProcess[str]":
        """Types commands, whether they fail or not."""
        words = self.words(node, text)
        return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)

    def type(self, node: str, text: str) -> str:
        """Types commands, none of which fails."""
        done = self.run(node, text)
        assert done.returncode == 0, f"on {node}: {text}{done.stdout}{done.stderr}"
        return done.stdout

    def stay(self, node: str, text: str) -> Process:
        """Types a command in a terminal of its own."""
        number = len(self.processes)
        made = start(
            self.words(node, f"exec {text}".replace("exec noid", f"exec {sys.executable} -m noid")),
            sequence=number,
            name=text.split()[0],
            node=node,
            log_path=self.directory / f"{number}.log",
        )
        self.processes.append(made)
        return made

    def inside(self, node: str, call: Callable[[], Returned]) -> Returned:
        """Calls a function on a node."""
        return namespaces.inside(namespaces.namespace(self.name, node), call)

    def wait(self, description: str, condition: Callable[[], bool]) -> None:
        wait_for(description, condition, PATIENCE_S)

    # --- what is in it --------------------------------------------------------------------------

    def advertise(self, number: int, lifetime_s: int = advertisement.LIFETIME_S) -> None:
        """The router of a provider says for how long it is one, until the border's router hears."""
        message = advertisement.advertisement(f"2001:db8:f00{number}::/64", lifetime_s=lifetime_s)
        has = f"ip -6 route show default dev wan{number} | grep -q ."

        def is_heard() -> bool:
            self.inside(f"isp{number}", lambda: advertisement.send("cust", message))
            return (self.run(ROUTER, has).returncode == 0) == (lifetime_s > 0)

        self.wait(f"router advertisements of provider {number}", is_heard)

    def has_learnt(self, node: str, own: str) -> bool:
        """Whether a host has an address."""
        shown = f"ip -6 address show dev eth0 to {own} | grep -q ."
        return self.run(node, shown).returncode == 0

    def start(self) -> None:
        """Types what starts the border."""
        command = typed("Start it, in the foreground").splitlines()[0]
        self.daemon = self.stay(ROUTER, command.replace("/etc/noid-border.toml", str(self.config)))
        self.wait("it answers", lambda: answers(self.socket) or not self.daemon.running)
        assert self.daemon.running, self.daemon.output()

    def reload(self, text: str) -> None:
        """Gives the border another configuration, and waits until it has that."""
        self.config.write_text(text, encoding="utf-8")
        before = self.daemon.output().count("ready: ")
        assert "reloaded" in self.type(ROUTER, "noid border reload")
        self.wait("it has reloaded", lambda: self.daemon.output().count("ready: ") > before)

    def status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = ask(self.socket, "status")
        except PlatformError:  # it reloads
            return {}
        return found

    def leaves_by(self, *providers: str) -> None:
        """Waits until rewritable packets of each prefix leave by these providers."""
        self.wait(
            f"they leave by {providers}",
            lambda: (
                [one["leaves_by"] for one in self.status().get("prefixes", ())] == list(providers)
            ),
        )

    def count(self, counter: BorderCounter) -> int:
        return int(self.status()["counters"][counter.identifier])

    def reaches(self, node: str, source: str, to: str = TARGET) -> bool:
        """Whether plain packets pass, both ways."""
        return self.run(node, f"ping -n -c1 -W5 -I {source} {to}").returncode == 0

    def source_outside(self, node: str, source: str) -> str:
        """The source with which a packet that says "rewrite ok" arrives outside."""
        with self.inside(OUTSIDE, partial(listening, TCP_OF_CONTEXTS)) as listener:
            self.inside(node, lambda: send_rewritable(source))
            _, came_from = listener.recvfrom(100)
            return str(came_from[0])


def listening(protocol: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6, socket.SOCK_RAW, protocol)
    made.settimeout(PATIENCE_S)
    return made


def send_rewritable(source: str, to: str = TARGET) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, TCP_OF_CONTEXTS) as sender:
        sender.bind((source, 0))
        sender.sendto(bytes(20), (to, 0))
