# SPDX-License-Identifier: MIT
"""Programs on one host whose words come back from the other, for as long as a test wants."""

import contextlib
import itertools
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Self

from noid.config import Config, load_config
from noid.counters import PlaneCounter, counters_of
from noid.errors import PlatformError
from noid.host.netlink import HostNetwork
from noid.lab import namespaces
from noid.lab.inventory import Plane
from noid.lab.lab import Lab
from noid.lab.processes import Process
from noid.lab.topology import HOSTS
from noid.lab.waiting import wait_for
from noid.planes.bpf.pins import take_down
from noid.state.contexts import files_of

TCP_PORT: Final = 7000
UDP_PORT: Final = 7001
PATIENCE_S: Final = 60.0
"""A busy machine."""
ECHO_TIMEOUT_S: Final = 40.0
AGAIN_TIMEOUT_S: Final = 0.3
READ_OCTETS: Final = 65536
PEERS: Final = {"a": "b", "b": "a"}


class Conversation:
    """A program whose standard input goes to the other end and whose standard output comes back.

    Args:
        lab: the lab.
        host: on which host.
        words: the command line.
    """

    _numbers = itertools.count(1)

    def __init__(self, lab: Lab, host: str, words: Sequence[str]) -> None:
        self.host = host
        self.heard = b""
        self._unsaid = b""
        self._popen = subprocess.Popen(
            lab.command(host, words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe is not None, "we asked for a pipe"
            os.set_blocking(pipe.fileno(), False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.kill()
        self._popen.communicate()

    def echoes(self, *, octets: int = 0, timeout_s: float = ECHO_TIMEOUT_S) -> None:
        """Says a line that was never said and waits until it comes back.

        Raises:
            PlatformError: it does not come back in time.
        """
        self.hears(self.say(octets), timeout_s=timeout_s)

    def hears(self, line: bytes, *, timeout_s: float = ECHO_TIMEOUT_S) -> None:
        """Waits until a line that was said comes back.

        Raises:
            PlatformError: it does not come back in time.
        """
        wait_for(f"{self.host} hears its own words again", lambda: self._hears(line), timeout_s)

    def echoes_at_last(self, *, timeout_s: float = ECHO_TIMEOUT_S) -> None:
        """Says line after line, as one whose datagrams may be lost, until one comes back.

        Raises:
            PlatformError: none comes back in time.
        """

        def one_comes_back() -> bool:
            with contextlib.suppress(PlatformError):
                self.echoes(timeout_s=AGAIN_TIMEOUT_S)
                return True
            return False

        wait_for(f"{self.host} hears its own words again", one_comes_back, timeout_s)

    def say(self, octets: int = 0) -> bytes:
        """Says a line that was never said, and returns it.

        What comes back in the meantime is read: while its output is full, a program reads nothing.

        Raises:
            PlatformError: the program does not take it in time.
        """
        line = f"word {next(self._numbers)} of {self.host} ".encode()
        self._unsaid = line = line.ljust(octets - 1, b".") + b"\n"
        wait_for(f"a program on {self.host} takes the words", self._says, ECHO_TIMEOUT_S)
        return line

    def _says(self) -> bool:
        assert self._popen.stdin is not None, "we asked for a pipe"
        with contextlib.suppress(BlockingIOError):
            self._unsaid = self._unsaid[os.write(self._popen.stdin.fileno(), self._unsaid) :]
        if not self._unsaid:
            return True
        self._hears(self._unsaid)
        return False

    def _hears(self, line: bytes) -> bool:
        assert self._popen.stdout is not None, "we asked for a pipe"
        with contextlib.suppress(BlockingIOError):
            self.heard += os.read(self._popen.stdout.fileno(), READ_OCTETS)
        return line in self.heard


@contextlib.contextmanager
def echoing_lab(plane: Plane = "bpf") -> Iterator[Lab]:
    """A lab with noid in the kernel, or another plane, on both hosts, and with echo servers."""
    with Lab.create(plane=plane) as lab:
        serve_echoes(lab)
        yield lab
        assert_no_errors(lab)


def assert_no_errors(lab: Lab) -> None:
    """Asserts that neither daemon has reported an error."""
    for host in HOSTS:
        log = lab.log(host)
        assert " ERROR " not in log, log
        assert "Traceback" not in log, log


def serve_echoes(lab: Lab) -> None:
    """Starts a TCP and a UDP echo server on both hosts; they end with the lab."""
    for host in HOSTS:
        lab.spawn(host, ["socat", f"TCP6-LISTEN:{TCP_PORT},reuseaddr,fork", "PIPE"])
        lab.spawn(host, ["socat", f"UDP6-LISTEN:{UDP_PORT},reuseaddr,fork", "PIPE"])
    wait_for("socat listens", lambda: all(_listens(lab, host) for host in HOSTS), PATIENCE_S)


def tcp(lab: Lab, host: str, to: str = "") -> Conversation:
    """A TCP connection from a host to the echo server of the other, or of a name or address."""
    return Conversation(lab, host, ["socat", "-", f"TCP6:{to or _peer_name(host)}:{TCP_PORT}"])


def udp(lab: Lab, host: str) -> Conversation:
    """A UDP conversation from a host with the echo server of the other."""
    return Conversation(lab, host, ["socat", "-", f"UDP6:{_peer_name(host)}:{UDP_PORT}"])


class Pinging:
    """A ping that goes on and on.

    Args:
        lab: the lab.
        host: from which host, to the other.
    """

    def __init__(self, lab: Lab, host: str) -> None:
        self._process: Process = lab.spawn(host, ["ping", "-n", "-i0.1", _peer_name(host)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.end()

    def goes_on(self, *, answers: int = 5, timeout_s: float = ECHO_TIMEOUT_S) -> None:
        """Waits for that many more answers.

        Raises:
            PlatformError: they do not come in time.
        """
        enough = self._answers() + answers
        wait_for("the ping is answered", lambda: self._answers() >= enough, timeout_s)

    def _answers(self) -> int:
        return len(re.findall(r"bytes from .* icmp_seq=", self._process.output()))


# --- contexts -------------------------------------------------------------------------------------


def restart_daemons(lab: Lab) -> None:
    """Ends noid on both hosts and starts it again: no contexts, no peers known."""
    lab.stop_daemon(*HOSTS)
    for host in HOSTS:
        _lose_plane(lab, host)
    lab.start_daemon(*HOSTS)


def reboot_without_noid(lab: Lab, host: str) -> None:
    """What a reboot takes: the daemon at once, its plane and its contexts; only the disk is left.

    Then the kernel answers alone, until noid starts.
    """
    lab.kill_daemon(host)
    _lose_plane(lab, host)


def _lose_plane(lab: Lab, host: str) -> None:
    if lab.plane == "bpf":
        config = load_config(Path(lab.environment(host)["NOID_CONFIG"]))
        namespaces.inside(namespaces.namespace(lab.name, host), partial(_down, config))


def _down(config: Config) -> None:
    """What ``noid down`` does, without another process of Python."""
    network = HostNetwork()
    try:
        list(take_down(config.plane, network))
    finally:
        network.close()
    for path in files_of(Path(config.state.directory)):
        path.unlink(missing_ok=True)


def established(lab: Lab, host: str) -> bool:
    """Whether a host has an established context, all of its peer's locators verified."""
    return any(
        context["state"] == "established" and len(context["lsv_peer"]) == 2
        for context in lab.contexts(host)
    )


def establish_context(lab: Lab, host: str = "a") -> None:
    """Lets a host speak to the other and waits for the context on both, all locators verified.

    Raises:
        PlatformError: it is not there in time.
    """
    ping = ["ping", "-c1", "-i0.2", "-w20", _peer_name(host)]
    # A resolver that answers after more than 4 s, on a busy machine, has answered too late.
    wait_for("the peer answers", lambda: lab.run(host, ping).returncode == 0, PATIENCE_S)
    wait_for("the context is up", lambda: all(established(lab, one) for one in HOSTS), PATIENCE_S)


def counters(lab: Lab, host: str) -> Counter[PlaneCounter]:
    """The counters of a host's data plane."""
    return counters_of(PlaneCounter, lab.status(host)["plane"]["counters"])


@contextlib.contextmanager
def carried_by_context(lab: Lab, *, packets: int) -> Iterator[None]:
    """Asserts that each host sends and receives so many packets by contexts, and none without."""
    before = {host: counters(lab, host) for host in HOSTS}
    yield
    for host in HOSTS:
        after = counters(lab, host)
        for name in (PlaneCounter.PACKETS_SENT, PlaneCounter.PACKETS_RECEIVED):
            assert after[name] - before[host][name] >= packets, (host, name, before[host], after)
        assert (
            after[PlaneCounter.PACKETS_SENT_PLAINLY]
            == before[host][PlaneCounter.PACKETS_SENT_PLAINLY]
        ), host


def is_carried(lab: Lab, conversation: Conversation) -> bool:
    """Whether both ends say the next words by the context."""
    before = {host: counters(lab, host)[PlaneCounter.PACKETS_SENT] for host in HOSTS}
    conversation.echoes()
    return all(counters(lab, host)[PlaneCounter.PACKETS_SENT] > before[host] for host in HOSTS)


def await_carried(lab: Lab, conversation: Conversation) -> None:
    """Waits until what both ends say goes by the context.

    The kernel forgets the route that a connection had a moment after the context is there.
    """
    wait_for("the context carries it", lambda: is_carried(lab, conversation), PATIENCE_S)


def _peer_name(host: str) -> str:
    return f"{PEERS[host]}.example"


def _listens(lab: Lab, host: str) -> bool:
    found = lab.run(host, ["ss", "-6", "-H", "-n", "-l", "-t", "-u"]).stdout
    return all(re.search(rf":{port}\s", found) for port in (TCP_PORT, UDP_PORT))
