# SPDX-License-Identifier: MIT
"""A conversation over TCP: words, a few ms apart, that the other end sends back.

Both ends are socat, unmodified. Words are said also while none comes back, so that the silence
heard is that of the network; the times are those at which this program hears them.
"""

import contextlib
import itertools
import os
import subprocess
import threading
import time
from typing import IO, Final, NamedTuple, Self

from noid.constants import MILLISECOND, SECOND
from noid.lab.lab import Lab
from noid.lab.processes import GRACE_S

PORT: Final = 7002
PACE_NS: Final = 20 * MILLISECOND
WORD_OCTETS: Final = 16
READ_OCTETS: Final = 65536
START_TIMEOUT_S: Final = 60.0
"""A busy machine."""


class Heard(NamedTuple):
    """A word that came back, and when it was said and heard, on the monotonic clock in ns."""

    said_ns: int
    heard_ns: int


class Conversation:
    """A conversation from a host, until the block ends.

    Args:
        lab: where; ``serve`` has been called for the other end.
        host: who talks.
        to: with whom: a name or an address.
        device: the interface its socket is bound to; none if empty.
    """

    def __init__(self, lab: Lab, host: str, to: str, *, device: str = "") -> None:
        self.started_ns = time.monotonic_ns()
        self.heard: list[Heard] = []
        self.intact = True
        """Whether each word came back once, in order, as it was said."""
        self._said_ns: list[int] = []
        bound = f",so-bindtodevice={device}" if device else ""
        self._popen = subprocess.Popen(
            lab.command(host, ["socat", "-", f"TCP6:{to}:{PORT},nodelay{bound}"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._popen.stdin is not None, "we asked for a pipe"
        assert self._popen.stdout is not None, "we asked for a pipe"
        self._over = threading.Event()
        self._threads = (
            threading.Thread(target=self._say, args=(self._popen.stdin,), daemon=True),
            threading.Thread(target=self._hear, args=(self._popen.stdout,), daemon=True),
        )
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._popen.kill()
        for thread in self._threads:
            thread.join(GRACE_S)
        self._popen.communicate()

    @property
    def running(self) -> bool:
        """Whether the program still runs."""
        return self._popen.poll() is None

    def complaint(self) -> str:
        """Why it has ended: the last line of socat. Called once, when it is not running."""
        assert self._popen.stderr is not None, "we asked for a pipe"
        lines = self._popen.stderr.read().decode(errors="replace").splitlines()
        return lines[-1] if lines else "socat ended without a word"

    def heard_of(self, since_ns: int) -> bool:
        """Whether a word has come back that was said at a time or later."""
        return bool(self.heard) and self.heard[-1].said_ns >= since_ns

    def longest_silence_ns(self, since_ns: int, until_ns: int) -> int:
        """The longest time without a word within a span of time, in ns."""
        times = [heard.heard_ns for heard in tuple(self.heard)]
        inside = [at_ns for at_ns in times if since_ns <= at_ns <= until_ns]
        return max(b - a for a, b in itertools.pairwise((since_ns, *inside, until_ns)))

    def _say(self, pipe: IO[bytes]) -> None:
        due_ns = time.monotonic_ns()
        with contextlib.suppress(OSError, ValueError):
            while not self._over.is_set():
                self._said_ns.append(time.monotonic_ns())
                pipe.write(_word(len(self._said_ns) - 1))
                due_ns += PACE_NS
                self._over.wait(max(0, due_ns - time.monotonic_ns()) / SECOND)

    def _hear(self, pipe: IO[bytes]) -> None:
        rest = b""
        with contextlib.suppress(OSError, ValueError):
            while octets := os.read(pipe.fileno(), READ_OCTETS):
                now_ns = time.monotonic_ns()
                rest += octets
                while len(rest) >= WORD_OCTETS:
                    number = len(self.heard)
                    self.intact &= rest[:WORD_OCTETS] == _word(number)
                    rest = rest[WORD_OCTETS:]
                    said_ns = self._said_ns[min(number, len(self._said_ns) - 1)]
                    self.heard.append(Heard(said_ns, now_ns))


def serve(lab: Lab, host: str) -> None:
    """Starts the program on a host that sends words back; it ends with the lab.

    Raises:
        PlatformError: it does not start.
    """
    lab.spawn(host, ["socat", f"TCP6-LISTEN:{PORT},reuseaddr,fork", "PIPE"])

    def listens() -> bool:
        return bool(lab.run(host, ["ss", "-6Hnlt", f"sport = :{PORT}"]).stdout)

    lab.wait_for(f"socat listens on {host}", listens, START_TIMEOUT_S)


def _word(number: int) -> bytes:
    return f"{number:{WORD_OCTETS - 1}d}\n".encode()
