# SPDX-License-Identifier: MIT
"""The borders of a lab with ``sites``: their daemons."""

import sys
from collections.abc import Callable
from typing import Any, Final

from noid.control.client import answers, ask
from noid.counters import BorderCounter
from noid.errors import UsageError
from noid.lab.configuration import border_toml
from noid.lab.lab import Lab
from noid.lab.processes import Process
from noid.lab.sites import ROUTERS, Router
from noid.lab.starting import await_ready

SWITCHED_S: Final = 60.0
"""A busy machine."""


class BorderDaemon:
    """The daemon of a border.

    Args:
        lab: the lab.
        router: which border of it.
    """

    def __init__(self, lab: Lab, router: Router) -> None:
        self.lab = lab
        self.router = router
        self.config = lab.directory / f"{router.node}.toml"
        self.socket = lab.control_socket(router.node)
        self.config.write_text(border_toml(router, lab.directory), encoding="utf-8")
        self.process: Process

    def start(self) -> None:
        """Starts it and waits until it answers.

        Raises:
            PlatformError: it cannot start, for the reason it gives itself.
        """
        run = [sys.executable, "-m", "noid", "border", "run", "--config", str(self.config)]
        self.process = self.lab.spawn(self.router.node, run, name=f"noid-{self.router.node}")
        await_ready(self.process, "the border answers", lambda: answers(self.socket))

    def kill(self) -> None:
        """Kills it, as ``kill -9`` does."""
        self.process.popen.kill()
        self.process.popen.wait()

    def stop(self) -> None:
        """Ends it, as an upgrade of its package does."""
        self.process.end()

    def reload(self, text: str) -> None:
        """Gives it another configuration, and waits until that is in force.

        Raises:
            PlatformError: the border refuses the configuration.
        """
        self.config.write_text(text, encoding="utf-8")
        ask(self.socket, "reload")
        self.lab.wait_for("the border answers", lambda: answers(self.socket), SWITCHED_S)

    def status(self) -> dict[str, Any]:
        """The answer to ``noid border status``."""
        found: dict[str, Any] = ask(self.socket, "status")
        return found

    def use(self, name: str) -> None:
        """Sends rewritable packets through a provider; "auto" leaves the choice to the daemon."""
        ask(self.socket, f"use {name}")

    def leaves_by(self) -> list[str]:
        """The provider by which packets of each prefix leave."""
        return [row["leaves_by"] for row in self.status()["prefixes"]]

    def is_settled(self) -> bool:
        """Whether no prefix is too new to be put into packets."""
        return not any(row["is_new"] for row in self.status()["prefixes"])

    def await_leaves_by(self, *providers: str) -> None:
        """Waits until packets of each prefix leave by these providers.

        Raises:
            PlatformError: they do not.
        """
        wanted = list(providers)
        node = self.router.node
        self.lab.wait_for(f"{node}: {wanted}", lambda: self.leaves_by() == wanted, SWITCHED_S)

    def count(self, counter: BorderCounter) -> int:
        """A counter of its programs since they were loaded."""
        return int(self.status()["counters"][counter.identifier])

    def counts(self, *counters: BorderCounter) -> Callable[[], bool]:
        """A condition: each of these counters is above 0."""
        return lambda: all(self.count(one) > 0 for one in counters)


def border_daemons(lab: Lab) -> list[BorderDaemon]:
    """The daemons of the borders of a lab, not started.

    Raises:
        UsageError: the lab has no borders.
    """
    if lab.description.sites is None:
        raise UsageError(f"lab {lab.name} has no borders; build one with: noid lab up --sites")
    return [BorderDaemon(lab, one) for one in ROUTERS[lab.description.sites]]


def start_borders(lab: Lab) -> list[BorderDaemon]:
    """Starts noid on every border of a lab.

    Raises:
        ShimError: the lab has none, or a daemon cannot start.
    """
    daemons = border_daemons(lab)
    for one in daemons:
        one.start()
    for one in daemons:
        # A border in whose LAN the other one is knows of its uplink by a check.
        own = [f"isp{number}" for number in (1, 2)]
        one.await_leaves_by(*own)
    return daemons
