# SPDX-License-Identifier: MIT
"""A download by curl, observed: when application bytes arrive, and which.

The curl is unmodified and writes to a pipe; every read from it is stamped and hashed. The rate is
limited by how fast we read: nginx limits in whole seconds and curl 7.88 in bursts half a second
apart (measured), either of which would drown the silence that is to be measured. A slow reader
keeps the pipe and the receive buffer full, which go on feeding it when nothing arrives any more;
both are therefore small (see RECEIVE_BUFFER in ``namespaces``): 15 ms of this rate together.
"""

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import IO, Final, NamedTuple, Self

from noid.constants import MILLISECOND, SECOND
from noid.lab.lab import Lab
from noid.lab.processes import GRACE_S
from noid.lab.servers import CONTENT_NAME

RATE_OCTETS_PER_SECOND: Final = 20 * 2**20
READ_OCTETS: Final = 2**15
CATCH_UP_NS: Final = 20 * MILLISECOND
"""A read that is late by less than this is made up for; after a longer silence the rate stays."""


class Arrival(NamedTuple):
    """Bytes the application received: when, on the monotonic clock, and how many."""

    at_ns: int
    octets: int


class Download:
    """One download on a host, read by its own thread until it ends.

    Args:
        lab: the lab.
        host: which host downloads.
        url_host: the name or the bracketed address it downloads from.
    """

    def __init__(self, lab: Lab, host: str, url_host: str) -> None:
        lab.serve_content()
        self.arrivals: list[Arrival] = []
        self.octets = 0
        self.started_ns = time.monotonic_ns()
        self._digest = hashlib.sha256()
        self._popen = subprocess.Popen(
            lab.command(host, _curl(f"http://{url_host}/{CONTENT_NAME}")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._popen.stdout is not None, "we asked for a pipe"
        self._reader = threading.Thread(
            target=self._read, args=(self._popen.stdout,), name="download", daemon=True
        )
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the program still runs."""
        return self._reader.is_alive()

    @property
    def threads(self) -> tuple[int, ...]:
        """The numbers of the threads of curl and of its reader."""
        return (self._popen.pid, self._reader.native_id or 0)

    @property
    def last_ns(self) -> int:
        """The time of the last bytes, or of the start of the download."""
        return self.arrivals[-1].at_ns if self.arrivals else self.started_ns

    @property
    def sha256(self) -> str:
        """The hash of the bytes so far, in hexadecimal; of all of them once it has stopped."""
        return self._digest.hexdigest()

    def stop(self) -> str:
        """Ends curl if it has not ended, and returns its error messages."""
        if self.running:
            self._popen.terminate()
        try:
            self._popen.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        self._reader.join()
        _, complaint = self._popen.communicate()
        return complaint.decode(errors="replace").strip()

    def _read(self, pipe: IO[bytes]) -> None:
        due_ns = self.started_ns
        while chunk := os.read(pipe.fileno(), READ_OCTETS):
            now_ns = time.monotonic_ns()
            self.arrivals.append(Arrival(now_ns, len(chunk)))
            self.octets += len(chunk)
            self._digest.update(chunk)
            due_ns = max(due_ns, now_ns - CATCH_UP_NS)
            due_ns += len(chunk) * SECOND // RATE_OCTETS_PER_SECOND
            time.sleep(max(0, due_ns - time.monotonic_ns()) / SECOND)


def longest_silence_ns(arrivals: Sequence[Arrival], since_ns: int, until_ns: int) -> int:
    """The longest time without a byte within a span of time, in ns."""
    longest, last_ns = 0, since_ns
    for arrival in arrivals:
        if since_ns <= arrival.at_ns <= until_ns:
            longest = max(longest, arrival.at_ns - last_ns)
            last_ns = arrival.at_ns
    return max(longest, until_ns - last_ns)


def _curl(url: str) -> list[str]:
    """The usual command line, but without the configuration and proxies of the machine."""
    options = ["--silent", "--show-error", "--no-buffer", "--noproxy", "*"]
    return ["curl", "--disable", *options, url]
