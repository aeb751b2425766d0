# SPDX-License-Identifier: MIT
"""The labs of ``noid bench failover``: one for each way to survive a fault.

Every run starts from the same state: the network is whole, the daemons are new and remember
nothing, and TCP remembers no round-trip time of an earlier run.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, get_args

from noid.errors import PlatformError, ShimError
from noid.host.programs import find_program
from noid.lab import topology
from noid.lab.inventory import Plane
from noid.lab.lab import Lab

Way = Literal["none", "mptcp", "tun", "bpf"]
WAYS: Final[tuple[Way, ...]] = get_args(Way)
CLIENT, SERVER = "a", "b"
READY_TIMEOUT_S: Final = 60.0
"""A busy machine."""
SUBFLOWS: Final = 4
"""Of a full mesh."""
MPTCP_LIMIT: Final = "8"
"""Additional subflows, and addresses of the peer: more than a full mesh of two by two needs."""


class Stage:
    """A lab, and the steps that restore the state in which a run starts.

    Args:
        way: how connections are to survive.
        lab: the lab.
    """

    def __init__(self, way: Way, lab: Lab) -> None:
        self.way = way
        self.lab = lab
        self._fresh = True

    @classmethod
    @contextlib.contextmanager
    def create(cls, way: Way) -> Iterator["Stage"]:
        """A stage for the time of a ``with``.

        Raises:
            ShimError: the lab cannot be built, or the kernel has no MPTCP.
        """
        plane: Plane = "none" if way == "mptcp" else way
        if way == "mptcp":
            find_program("mptcpize")
        with Lab.create(plane=plane) as lab:
            stage = cls(way, lab)
            if way == "mptcp":
                stage._set_up_mptcp()
            yield stage

    def command(self, *words: str) -> list[str]:
        """A command line, run by mptcpize where MPTCP is measured."""
        return ["mptcpize", "run", *words] if self.way == "mptcp" else list(words)

    def reset(self) -> None:
        """Restores the first state; all faults are undone already.

        Raises:
            PlatformError: the network is not whole, or a daemon does not come up.
        """
        if not self._fresh:
            if self.lab.plane != "none":
                self._on_both(self.lab.take_noid_down)
            self.lab.wait_for("both uplinks work again", self._is_whole, READY_TIMEOUT_S)
            if self.lab.plane != "none":
                for host in reversed(topology.HOSTS):
                    self._start_new(host)
        for host in topology.HOSTS:
            self._must(host, "ip", "tcp_metrics", "flush")
        self._fresh = False

    def is_ready(self, port: int) -> bool:
        """Whether a conversation has its full protection, and uses its AIDs.

        Args:
            port: of its server.
        """
        if self.way == "none":
            return True
        if self.way == "mptcp":
            return self._count_subflows(port) == SUBFLOWS
        first = {host: topology.locators(host)[0] for host in topology.HOSTS}
        for host, peer in ((CLIENT, SERVER), (SERVER, CLIENT)):
            contexts = self.lab.contexts(host)
            pairs = [(one["local_locator"], one["peer_locator"]) for one in contexts]
            if pairs != [(first[host], first[peer])]:
                return False
            if len(contexts[0]["lsv_peer"]) < 2 or contexts[0]["state"] != "established":
                return False
        return True

    def _count_subflows(self, port: int) -> int:
        """How many TCP connections a has to a port of b, once MPTCP has made them."""
        words = ["ss", "-6", "-t", "-n", "-H", "state", "established", "dport", "=", f":{port}"]
        return len(self.lab.run(CLIENT, words).stdout.splitlines())

    def _set_up_mptcp(self) -> None:
        """Subflows between each address of a and each of b, by the kernel's path manager."""
        for host in topology.HOSTS:
            flags = ("subflow", "fullmesh") if host == CLIENT else ("signal",)
            self._must(
                host,
                *("ip", "mptcp", "limits", "set"),
                *("subflows", MPTCP_LIMIT, "add_addr_accepted", MPTCP_LIMIT),
            )
            for number, address in enumerate(topology.locators(host), start=1):
                self._must(
                    host, "ip", "mptcp", "endpoint", "add", address, "dev", f"up{number}", *flags
                )

    def _start_new(self, host: str) -> None:
        shutil.rmtree(self.lab.directory / f"{host}-state", ignore_errors=True)
        self.lab.start_daemon(host)

    def _is_whole(self) -> bool:
        """Whether each address of a reaches that of b with the same provider."""
        pairs = zip(topology.locators(CLIENT), topology.locators(SERVER), strict=True)
        return all(
            self.lab.run(CLIENT, ["ping", "-n", "-c1", "-W1", "-I", *pair]).returncode == 0
            for pair in pairs
        )

    def _must(self, host: str, *words: str) -> None:
        done = self.lab.run(host, words)
        if done.returncode != 0:
            raise PlatformError(" ".join(words), done.returncode, done.stderr.strip())

    def _on_both(self, function: Callable[[str], object]) -> None:
        with ThreadPoolExecutor(max_workers=len(topology.HOSTS)) as pool:
            list(pool.map(function, topology.HOSTS))


def available(ways: tuple[Way, ...], stack: contextlib.ExitStack) -> tuple[list[Stage], str]:
    """The available stages, and the reason if there is none for MPTCP.

    Raises:
        ShimError: another stage is not available.
    """
    stages, missing = [], ""
    for way in ways:
        try:
            stages.append(stack.enter_context(Stage.create(way)))
        except ShimError as error:
            if way != "mptcp":
                raise
            missing = str(error)
    return stages, missing
