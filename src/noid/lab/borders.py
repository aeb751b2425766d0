# SPDX-License-Identifier: MIT
"""The border of a lab of ``sites``: its daemon, and the first data of contexts on an uplink."""

import socket
import struct
import sys
import threading
import time
from typing import Any, Final, NamedTuple, Self

from noid.constants import SECOND, Codepoints
from noid.control.client import answers, ask
from noid.counters import BorderCounter
from noid.lab import namespaces
from noid.lab.lab import Lab
from noid.lab.processes import Process
from noid.lab.sites import border_toml
from noid.lab.starting import await_ready
from noid.lab.topology import BORDER

ETH_P_ALL: Final = 3
PACKET_OUTGOING: Final = 4
SO_TIMESTAMPNS: Final = 35
TIMESPEC: Final = struct.Struct("=qq")
HEADER_OCTETS: Final = 40
TCP_OF_CONTEXTS: Final = Codepoints().rewritable_first
"""The next header of TCP in a context, as the hosts of a lab have it."""
PATIENCE_S: Final = 0.1


class BorderDaemon:
    """The border's daemon: started, killed and asked.

    Args:
        lab: of ``site_plan``.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._config = lab.directory / f"{BORDER}.toml"
        self._socket = lab.directory / f"{BORDER}.sock"
        self._config.write_text(border_toml(lab.directory), encoding="utf-8")
        self._process: Process

    def start(self) -> None:
        """Starts it and waits until it answers.

        Raises:
            PlatformError: it cannot start, for the reason it gives itself.
        """
        run = [sys.executable, "-m", "noid", "border", "run", "--config", str(self._config)]
        self._process = self.lab.spawn(BORDER, run, name=f"noid-{BORDER}")
        await_ready(self._process, "the border answers", lambda: answers(self._socket))

    def kill(self) -> None:
        """Ends it without a moment to tidy up, as ``kill -9`` does."""
        self._process.popen.kill()
        self._process.popen.wait()

    def status(self) -> dict[str, Any]:
        """What it says of itself."""
        found: dict[str, Any] = ask(self._socket, "status")
        return found

    def use(self, name: str) -> None:
        """Lets rewritable packets leave by a provider, or by the daemon's own choice."""
        ask(self._socket, f"use {name}")

    def leaves_by(self) -> list[str]:
        """By which provider packets of each prefix leave."""
        return [row["leaves_by"] for row in self.status()["prefixes"]]

    def rewritten(self) -> int:
        """How many packets were rewritten since the programs were loaded."""
        return self._count(BorderCounter.PACKETS_REWRITTEN)

    def refused(self) -> int:
        """How many packets were refused, as no uplink works for them."""
        return self._count(BorderCounter.REFUSED_NO_UPLINK)

    def _count(self, counter: BorderCounter) -> int:
        return int(self.status()["counters"][counter.identifier])


class Seen(NamedTuple):
    """When the first TCP packet of a context passed each way, on the monotonic clock in ns."""

    out_ns: int | None
    in_ns: int | None


class FirstPackets:
    """Watches an uplink of the border for TCP packets of contexts, from its ``with`` on.

    The times are those of the kernel.

    Args:
        lab: where.
        interface: the uplink.
    """

    def __init__(self, lab: Lab, interface: str) -> None:
        self._socket = namespaces.inside(
            namespaces.namespace(lab.name, BORDER), lambda: _listener(interface)
        )
        self._seen: dict[bool, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    @property
    def seen(self) -> Seen:
        """What has passed so far."""
        return Seen(self._seen.get(True), self._seen.get(False))

    def _watch(self) -> None:
        while len(self._seen) < 2 and not self._over.is_set():
            try:
                packet, ancillary, _, address = self._socket.recvmsg(HEADER_OCTETS, 64)
            except TimeoutError:
                continue
            if len(packet) == HEADER_OCTETS and packet[6] == TCP_OF_CONTEXTS:
                self._seen.setdefault(address[2] == PACKET_OUTGOING, _moment_ns(ancillary))


def _listener(interface: str) -> socket.socket:
    # With a protocol it would hear every interface until it is bound.
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    made.settimeout(PATIENCE_S)
    made.bind((interface, ETH_P_ALL))
    return made


def _moment_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The kernel's time of a packet, on the monotonic clock."""
    behind_ns = time.time_ns() - time.monotonic_ns()
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, rest_ns = TIMESPEC.unpack(data[: TIMESPEC.size])
            return int(seconds * SECOND + rest_ns) - behind_ns
    return time.monotonic_ns()
