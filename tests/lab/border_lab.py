# SPDX-License-Identifier: MIT
"""A lab with a border, and its daemon, for the tests of it."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

from noid.control.client import answers, ask
from noid.counters import BorderCounter
from noid.errors import PlatformError
from noid.lab.configuration import border_toml
from noid.lab.lab import Lab
from noid.lab.processes import Process
from noid.lab.sites import ROUTERS
from noid.lab.topology import BORDER
from tests.lab.conversations import (
    PATIENCE_S,
    assert_no_errors,
    establish_context,
    serve_echoes,
)

FIRST = "2001:db8:1:a::a"
NOID = (sys.executable, "-m", "noid", "border")


class BorderLab:
    """A lab with a border, and the border's daemon."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.config = lab.directory / f"{BORDER}.toml"
        self.socket = lab.directory / f"{BORDER}.sock"
        (router,) = ROUTERS["one"]
        self.config.write_text(border_toml(router, lab.directory), encoding="utf-8")
        self.process: Process

    def start(self) -> None:
        command = [*NOID, "run", "--config", str(self.config)]
        self.process = self.lab.spawn(BORDER, command, name=f"noid-{BORDER}")
        self.lab.wait_for(
            "the border answers",
            lambda: answers(self.socket) or not self.process.running,
            PATIENCE_S,
        )
        assert self.process.running, self.process.output()

    def run(self, *words: str) -> str:
        """What a command of noid border says on the router."""
        done = self.lab.run(BORDER, [*NOID, *words])
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = ask(self.socket, "status")
        return found

    def count(self, counter: BorderCounter) -> int:
        return int(self.status()["counters"][counter.identifier])

    def leaves_by(self) -> list[str]:
        return [row["leaves_by"] for row in self.status()["prefixes"]]

    def reload_keeps(self, *providers: str) -> None:
        """A reload, and the death of the daemon, change nothing of what packets leave by."""
        self.run("reload", "--socket", str(self.socket))
        self.lab.wait_for("another daemon answers", self._is_another, PATIENCE_S)
        assert self.leaves_by() == list(providers)
        self.process.popen.send_signal(signal.SIGKILL)
        self.process.popen.wait()
        self.start()
        assert self.leaves_by() == list(providers)

    def _is_another(self) -> bool:
        with contextlib.suppress(PlatformError):
            return bool(self.status()["switches"] == 0)
        return False

    def prefixes(self) -> list[str]:
        with contextlib.suppress(PlatformError):  # it reloads
            return [row["prefix"] for row in self.status()["prefixes"]]
        return []

    def wait_leaves_by(self, *providers: str) -> None:
        wanted = list(providers)
        self.lab.wait_for(f"leave by {wanted}", lambda: self.leaves_by() == wanted, PATIENCE_S)

    @contextlib.contextmanager
    def carrier_lost(self, number: int) -> Iterator[None]:
        """The end of the provider's line is dead while the block runs."""
        self.link(f"isp{number}", "custa", "down")
        try:
            yield
        finally:
            self.link(f"isp{number}", "custa", "up")
            # The kernel has deleted the routes of the provider by that interface.
            prefix = f"2001:db8:{number}"
            words = f"route replace {prefix}:a::/64 via {prefix}:fa::2".split()
            assert self.lab.run(f"isp{number}", ["ip", "-6", *words]).returncode == 0
            self.wait_leaves_by("isp1", "isp2")

    @contextlib.contextmanager
    def moved(self) -> Iterator[str]:
        """What a sends leaves by the provider that is not that of its source, whose name this is.

        The host may have changed its source itself, in an earlier failure.
        """
        # A prefix that an earlier test has taken away and given back is put into no packet yet.
        self.lab.wait_for("no prefix is new", self._is_settled, PATIENCE_S)
        (context, *_) = self.lab.contexts("a")
        name = "isp2" if context["local_locator"] == FIRST else "isp1"
        ask(self.socket, f"use {name}")
        try:
            # A prefix that came a moment ago is put into no packet yet.
            self.wait_leaves_by(name, name)
            yield name
        finally:
            ask(self.socket, "use auto")

    def _is_settled(self) -> bool:
        with contextlib.suppress(PlatformError):  # it reloads
            return not any(row["is_new"] for row in self.status()["prefixes"])
        return False

    def set_switch(self, node: str, name: str) -> None:
        command = f"echo 1 > /proc/sys/net/{name}"
        assert self.lab.run(node, ["sh", "-c", command]).returncode == 0

    def snmp(self, name: str) -> int:
        """A counter of the router's kernel."""
        lines = self.lab.run(BORDER, ["cat", "/proc/net/snmp6"]).stdout.splitlines()
        return next(int(line.split()[1]) for line in lines if line.split()[0] == name)

    def drops(self, counter: BorderCounter, node: str, source: str, to: str) -> None:
        """Waits until the border has dropped a ping from a source at a node, and counted it."""
        before = self.count(counter)

        def is_counted() -> bool:
            self.lab.run(node, ["ping", "-c1", "-W1", "-I", source, to])
            return self.count(counter) > before

        self.lab.wait_for("it is dropped", is_counted, PATIENCE_S)

    def link(self, node: str, interface: str, state: str) -> None:
        done = self.lab.run(node, ["ip", "link", "set", interface, state])
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def bordered() -> Iterator[BorderLab]:
    """A lab with a border that runs, and a context that it may move."""
    with Lab.create(plane="bpf", sites="one") as lab:
        serve_echoes(lab)
        lab.spawn("b", ["iperf3", "-s"])
        made = BorderLab(lab)
        for number in (1, 2):
            # Or a line that was dead would have lost its addresses with its carrier.
            made.set_switch(f"isp{number}", "ipv6/conf/custa/keep_addr_on_down")
        made.start()
        establish_context(lab)
        yield made
        assert_no_errors(lab)
        assert " ERROR " not in made.process.output()
