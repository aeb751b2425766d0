# SPDX-License-Identifier: MIT
"""Strangers and local users who try to use up the descriptors of the daemon [D46]."""

import os
import resource
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from noid.constants import Codepoints
from noid.counters import PlaneCounter
from noid.engine.events import LocatorsChanged, PeerResolved, SendControl
from noid.engine.host import Host
from noid.engine.options import HostOptions
from noid.flows.events import UlpPacketSeen
from noid.lab import namespaces
from noid.lab.lab import Lab
from noid.lab.topology import locators
from noid.lab.waiting import wait_for
from noid.locators import Locator, format_locator, parse_locator
from noid.planes.senders import SENDERS_MAX
from noid.wire import ipv6
from tests.lab.conftest import PLANES, lab_machine
from tests.lab.conversations import assert_no_errors
from tests.lab.privilege import NOBODY

STAYED = PlaneCounter.PACKETS_ON_LINK.identifier

__all__ = ["lab_machine"]
pytestmark = [pytest.mark.lab, pytest.mark.alone]  # a flood fills the queues of the processors

LIMIT = 1_024
STRANGERS = 1_200
STRANGERS_PREFIX = "2001:db8:4000::/36"
ANSWERED_WITHIN_S = 60.0
DATAGRAMS = 1_100
SPRAY = f"""
import socket
one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
one.bind(("{locators("a")[0]}", 0))
one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("noid0"))
refused = 0
for number in range({DATAGRAMS}):
    try:
        one.sendto(b"x", (f"ff15::{{number:x}}", 9))
    except OSError:
        refused += 1
print(refused)
"""


@pytest.fixture(scope="module", params=PLANES)
def limited(lab_machine: None, request: pytest.FixtureRequest) -> Iterator[tuple[Lab, int]]:
    """A lab, and the process of a daemon on a that may have few descriptors."""
    with Lab.create(plane=request.param) as lab:
        lab.stop_daemon("a")
        process = lab.start_daemon("a")
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        yield lab, process.pid
        assert_no_errors(lab)


def descriptors(process: int) -> int:
    """How many descriptors a process has."""
    return len(os.listdir(f"/proc/{process}/fd"))


def first_init(stranger: Locator, host: Locator) -> bytes:
    """The packet by which a stranger begins an exchange with a host."""
    options = HostOptions(codepoints=Codepoints(), birthday=1, reset_key=bytes(32))
    engine = Host(options, secrets.token_bytes)
    packet = ipv6.plain_header(stranger, host, ipv6.NO_NEXT_HEADER, 0)
    outputs = [
        output
        for event in (
            LocatorsChanged((stranger,)),
            PeerResolved("a.example", host, (host,)),
            UlpPacketSeen(packet),
        )
        for output in engine.handle(event, 1)
    ]
    (init,) = (output.packet for output in outputs if isinstance(output, SendControl))
    return init


def flood(host: Locator) -> int:
    """Sends INITs, each from another /48; returns how many answers came."""
    answers = 0
    kind = Codepoints().icmpv6_type
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender,
        socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as listener,
    ):
        listener.settimeout(ANSWERED_WITHIN_S)
        to = format_locator(host), 0
        for number in range(STRANGERS):
            stranger = parse_locator(f"2001:db8:{0x4000 + number:x}::1")
            sender.sendto(first_init(stranger, host), to)
            while answers <= number:
                answers += listener.recv(2048)[0] == kind
    return answers


def assert_serves(lab: Lab) -> None:
    """Asserts that the stub answers, over TCP too, and the control socket."""
    for options in ([], ["+tcp"]):
        words = ["dig", "+short", "+tries=1", "+time=30", *options, "@::1", "AAAA", "b.example"]
        done = lab.run("a", words)
        assert locators("b")[0] in done.stdout, done.stdout
    assert lab.status("a")["name"] == "a.example"


def test_strangers_use_up_no_descriptors(limited: tuple[Lab, int]) -> None:
    lab, process = limited
    assert lab.run("core", ["ip", "-6", "route", "add", "local", STRANGERS_PREFIX, "dev", "lo"])
    before = descriptors(process)
    host = parse_locator(locators("a")[0])
    answers = namespaces.inside(namespaces.namespace(lab.name, "core"), partial(flood, host))
    assert answers == STRANGERS
    assert descriptors(process) <= before + SENDERS_MAX
    assert_serves(lab)


def test_a_local_user_can_send_no_multicast_by_our_device(limited: tuple[Lab, int]) -> None:
    lab, _ = limited
    done = lab.run("a", [*NOBODY, sys.executable, "-c", SPRAY])
    assert (done.stdout, done.stderr) == (f"{DATAGRAMS}\n", "")
    assert_serves(lab)


def test_multicast_that_reaches_our_device_goes_no_further(limited: tuple[Lab, int]) -> None:
    lab, process = limited
    before = descriptors(process)
    words = "ip -6 route add multicast ff15::/16 dev noid0 table local"
    assert lab.run("a", words.split()).returncode == 0
    counted = lab.status("a")["plane"]["counters"][STAYED]
    assert lab.run("a", [*NOBODY, sys.executable, "-c", SPRAY]).stdout == "0\n"

    def all_are_dropped() -> bool:
        counters = lab.status("a")["plane"]["counters"]
        return bool(counters[STAYED] >= counted + DATAGRAMS // 4)

    wait_for("the plane drops them", all_are_dropped, ANSWERED_WITHIN_S)
    # The daemon may hold those of the last questions for its status for a moment.
    wait_for("no more descriptors", lambda: descriptors(process) <= before + 1, ANSWERED_WITHIN_S)
    assert_serves(lab)


def test_the_limit_is_raised_as_far_as_the_system_allows() -> None:
    program = (
        "from noid.host.descriptors import raise_limit; print(raise_limit(), raise_limit(300))"
    )
    words = ["prlimit", f"--nofile=256:{LIMIT}", sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(LIMIT), str(LIMIT)]
