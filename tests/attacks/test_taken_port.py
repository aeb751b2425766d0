# SPDX-License-Identifier: MIT
"""The port of the stub, which another user takes before noid starts or while it is stopped.

Attacker: a local user, where the kernel permits every user port 53, as in some containers.
Guaranteed: noid does not share the port, and says who has it.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from noid.config import Config, ControlSection
from noid.constants import Codepoints
from noid.doctor.findings import Finding, Health
from noid.doctor.programs import resolver_finding
from noid.errors import PlatformError
from noid.host.resolvconf import turn_on
from noid.lab.resolution import LOOPBACK
from noid.resolver.stub import Stub
from noid.resolver.upstream import Upstream
from tests.attacks.test_local_users import NOBODY, as_user
from tests.namespaces import in_network_namespace, ip

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="sockets of other users need root"),
]

PORT = 53
EVERY_PORT = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def attacked(scenario: Callable[[socket.socket], None], *, are_permitted: bool = True) -> None:
    """Plays beside a socket of the attacker, in a network in which users may have its port."""

    def play() -> None:
        ip("link set lo up")
        if are_permitted:
            EVERY_PORT.write_text("0")
        with as_user(NOBODY):
            taken = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        with taken:
            scenario(taken)

    in_network_namespace(play)


def take(one: socket.socket) -> None:
    with as_user(NOBODY):
        one.bind((LOOPBACK, PORT))


def test_the_kernel_refuses_the_port_to_users_by_default() -> None:
    def scenario(one: socket.socket) -> None:
        with pytest.raises(PermissionError):
            take(one)

    attacked(scenario, are_permitted=False)


async def start_and_stop() -> None:
    upstream = Upstream((), Codepoints(), tuple, 0)
    stub = Stub(LOOPBACK, PORT, upstream, lambda *_: True, tuple)
    try:
        await stub.start()
    finally:
        await stub.stop()
        await upstream.close()


def test_the_stub_does_not_share_its_port() -> None:
    def scenario(one: socket.socket) -> None:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        take(one)
        with pytest.raises(PlatformError, match="is in use"):
            asyncio.run(start_and_stop())

    attacked(scenario)


def test_the_doctor_says_that_another_program_answers_in_the_place_of_noid(tmp_path: Path) -> None:
    """`noid resolver on` is in force, so that programs ask the owner of the port."""
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.53\n")
    turn_on(path, LOOPBACK)
    config = Config(control=ControlSection(socket=str(tmp_path / "noid.sock")))

    def examined() -> Finding:
        return resolver_finding(path, config, "", runs=False)

    def scenario(one: socket.socket) -> None:
        assert examined().health is Health.OK
        take(one)
        threading.Thread(target=lambda: one.sendto(*one.recvfrom(512)), daemon=True).start()
        found = examined()
        assert found.health is Health.WRONG
        assert "another program answers" in found.text

    attacked(scenario)
