# SPDX-License-Identifier: MIT
"""One conversation between the hosts of a lab, run by the two ends of ``traffic``."""

import math
import os
import sys
from pathlib import Path
from typing import Final, Literal, Self

from noid.bench.silence import Losses, count_losses, read_records
from noid.bench.stage import CLIENT, SERVER, Stage
from noid.bench.traffic import EVERY, RECORD
from noid.errors import PlatformError
from noid.lab import topology
from noid.lab.configuration import ZONE
from noid.lab.download import Arrival
from noid.lab.processes import Process

Direction = Literal["to_a", "from_a"]
ADDRESS: Final = topology.locators(SERVER)[0]
PORT_FIRST: Final = 20_000
PORTS: Final = 10_000
NICENESS: Final = "-5"
"""Of both ends: a busy machine must not look like a silence."""


class Conversation:
    """A client on a, a server on b, and what each has received, from its ``with`` on.

    Args:
        stage: the stage.
        kind: one of ``traffic.EVERY``.
        direction: of the data of a TCP connection; datagrams have both, unless only a sends.
        number: counts the conversations of a stage; each has its own port and files.
    """

    def __init__(self, stage: Stage, kind: str, direction: Direction, number: int) -> None:
        self.stage = stage
        self.kind = EVERY[kind]
        both = self.kind.datagrams and not self.kind.is_one_way
        self.directions: tuple[Direction, ...] = ("to_a", "from_a") if both else (direction,)
        self._directory = stage.lab.directory / "traffic"
        self._directory.mkdir(exist_ok=True)
        self.port = PORT_FIRST + number % PORTS
        self._ends = {
            SERVER: self._spawn(kind, "server", SERVER, "in" if direction == "from_a" else "out"),
            CLIENT: self._spawn(kind, "client", CLIENT, "in" if direction == "to_a" else "out"),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for path in self._directory.iterdir():
            path.unlink()

    def stop(self) -> None:
        """Ends both ends."""
        for end in self._ends.values():
            end.end()

    def await_start(self, timeout_s: float) -> None:
        """Waits until data arrives in every direction.

        Raises:
            PlatformError: an end has ended, or nothing arrives in time.
        """
        self.stage.lab.wait_for(
            f"{self.stage.way}: data arrives at both ends", self._has_started, timeout_s
        )

    def check(self) -> None:
        """Does nothing while both ends run.

        Raises:
            PlatformError: an end has ended, for the reason it gives itself.
        """
        for host, end in self._ends.items():
            if not end.running:
                words = end.output().splitlines() or ["it said nothing"]
                raise PlatformError(f"traffic on {host}", end.popen.returncode, words[-1])

    def arrivals(self) -> dict[Direction, list[Arrival]]:
        """What has arrived so far, by direction."""
        return {
            one: read_records(_octets(self._path("in", _receiver(one)))) for one in self.directions
        }

    def last_ns(self) -> int:
        """When data arrived last, in the direction that has been silent longest; 0 if never."""
        return min(_last_ns(self._path("in", _receiver(one))) for one in self.directions)

    def losses(self, fault_ns: int, end_ns: int) -> dict[str, Losses]:
        """What was lost and duplicated, by direction; nothing for TCP."""
        if not self.kind.datagrams:
            return {}
        return {
            one: count_losses(
                read_records(_octets(self._path("out", _sender(one)))), received, fault_ns, end_ns
            )
            for one, received in self.arrivals().items()
        }

    def connect_ms(self) -> float:
        """What a new connection takes; infinite if there is none in time."""
        words = ("-m", "noid.bench.traffic", "connect", "paced", "in", *self._place())
        done = self.stage.lab.run(CLIENT, self.stage.command(sys.executable, *words))
        return round(float(done.stdout), 1) if done.returncode == 0 else math.inf

    def _place(self) -> tuple[str, ...]:
        return ("--address", ADDRESS, "--port", str(self.port), "--name", f"{SERVER}.{ZONE}")

    def _has_started(self) -> bool:
        self.check()
        return self.last_ns() > 0

    def _spawn(self, kind: str, role: str, host: str, data: str) -> Process:
        words = [
            *("nice", "-n", NICENESS),
            *self.stage.command(sys.executable, "-m", "noid.bench.traffic", role, kind, data),
            *self._place(),
            *("--record", str(self._path("in", host)), "--sent", str(self._path("out", host))),
        ]
        return self.stage.lab.spawn(host, words)

    def _path(self, data: str, host: str) -> Path:
        return self._directory / f"{self.port}-{host}-{data}"


def _receiver(direction: Direction) -> str:
    return CLIENT if direction == "to_a" else SERVER


def _sender(direction: Direction) -> str:
    return SERVER if direction == "to_a" else CLIENT


def _octets(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _last_ns(path: Path) -> int:
    """The time of the last whole record of a file; 0 if there is none."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - size % RECORD.size - RECORD.size))
        record = file.read(RECORD.size)
    return int(RECORD.unpack(record)[0]) if len(record) == RECORD.size else 0
