# SPDX-License-Identifier: MIT
"""What programs send each other is carried by a context, and goes on when a provider dies."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from noid.config import PlaneSection
from noid.lab import namespaces
from noid.lab.lab import Lab
from noid.lab.topology import HOSTS, locators
from tests.lab.captures import M6_ESCAPE, M6_FRAGMENT, Row, read_capture
from tests.lab.conversations import (
    PATIENCE_S,
    PEERS,
    Pinging,
    await_carried,
    carried_by_context,
    establish_context,
    restart_daemons,
    serve_echoes,
    tcp,
    udp,
)

A_1, A_2 = locators("a")
B_1, B_2 = locators("b")
LONG_OCTETS = 3000
FRAGMENTS = 3
WITHOUT_M6 = {str(socket.IPPROTO_UDP), str(socket.IPPROTO_FRAGMENT)}
"""The next headers that a fragmented datagram has without a context."""
WITHOUT_SLOT = 253
"""A protocol number for experiments (RFC 3692), which has no slot of its own."""
SOCKET_TIMEOUT_S = 60.0
SSH_PORT = 2222

both_roles = pytest.mark.parametrize("client", HOSTS)


@pytest.fixture(scope="module")
def echoing(lab: Lab) -> Lab:
    """The lab, with echo servers on both hosts."""
    serve_echoes(lab)
    return lab


@pytest.fixture
def shimmed(echoing: Lab) -> Lab:
    """The echoing lab with an established context."""
    establish_context(echoing)
    return echoing


@pytest.fixture
def forgetful(echoing: Lab) -> Iterator[Lab]:
    """The echoing lab, both daemons fresh; its providers are well again afterwards."""
    restart_daemons(echoing)
    yield echoing
    for number in (1, 2):
        echoing.heal_provider(number)


# --- every kind of packet -------------------------------------------------------------------------


@both_roles
def test_a_ping_goes_by_the_context(shimmed: Lab, client: str) -> None:
    with carried_by_context(shimmed, packets=3):
        done = shimmed.run(client, ["ping", "-c3", "-i0.1", "-w20", f"{PEERS[client]}.example"])
    assert "3 received" in done.stdout, done.stdout + done.stderr


@both_roles
def test_a_ping_in_fragments_goes_by_the_context(shimmed: Lab, client: str) -> None:
    ping = ["ping", "-c2", "-i0.1", "-w20", "-s", str(LONG_OCTETS), f"{PEERS[client]}.example"]
    with carried_by_context(shimmed, packets=2 * FRAGMENTS):
        done = shimmed.run(client, ping)
    assert " 0% packet loss" in done.stdout, done.stdout + done.stderr


@both_roles
def test_a_tcp_connection_goes_by_the_context(shimmed: Lab, client: str) -> None:
    with carried_by_context(shimmed, packets=4), tcp(shimmed, client) as conversation:
        conversation.echoes()
        conversation.echoes(octets=LONG_OCTETS)


@both_roles
def test_a_udp_datagram_goes_by_the_context(shimmed: Lab, client: str) -> None:
    with carried_by_context(shimmed, packets=1), udp(shimmed, client) as conversation:
        conversation.echoes()


def test_a_udp_datagram_goes_in_fragments_both_ways(shimmed: Lab, tmp_path: Path) -> None:
    path = tmp_path / "isp1.pcapng"
    with (
        carried_by_context(shimmed, packets=FRAGMENTS),
        shimmed.capture("isp1", "custa", path),
        udp(shimmed, "a") as conversation,
    ):
        conversation.echoes(octets=LONG_OCTETS)
    for source, destination in ((A_1, B_1), (B_1, A_1)):
        between = f"ipv6.src == {source} && ipv6.dst == {destination}"
        found = read_capture(path, between, "ipv6.nxt", "ipv6.plen", "ipv6.flow")
        fragments = [row for row in found if row["ipv6.nxt"] == str(M6_FRAGMENT)]
        # 8 octets of fragment header each, and 8 of the datagram's own header once.
        assert _payload_octets(fragments) == LONG_OCTETS + 8 + FRAGMENTS * 8
        assert all(int(row["ipv6.flow"], 16) for row in fragments)
        assert len(fragments) == FRAGMENTS
        # Control messages and the end of an earlier connection may travel at the same time.
        assert not {row["ipv6.nxt"] for row in found} & WITHOUT_M6


def test_a_protocol_without_a_slot_goes_by_the_escape_slot(shimmed: Lab, tmp_path: Path) -> None:
    path = tmp_path / "isp1.pcapng"
    question, answer = b"how far?" * 100, b"this far"
    with (
        _raw_socket(shimmed, "a", A_1) as asking,
        _raw_socket(shimmed, "b", B_1) as answering,
        carried_by_context(shimmed, packets=1),
        shimmed.capture("isp1", "custa", path),
    ):
        asking.sendto(question, (B_1, 0))
        assert answering.recvfrom(2048) == (question, (A_1, 0, 0, 0))
        answering.sendto(answer, (A_1, 0))
        assert asking.recvfrom(2048) == (answer, (B_1, 0, 0, 0))
    found = read_capture(path, f"ipv6.nxt == {M6_ESCAPE}", "ipv6.nxt", "ipv6.plen")
    assert [int(row["ipv6.plen"]) for row in found] == [8 + len(question), 8 + len(answer)]
    assert not read_capture(path, f"ipv6.nxt == {WITHOUT_SLOT}", "ipv6.nxt")


def test_a_long_packet_without_a_slot_makes_room_for_the_escape_header(shimmed: Lab) -> None:
    question = bytes(range(256)) * 7
    with _raw_socket(shimmed, "a", A_1) as asking, _raw_socket(shimmed, "b", B_1) as answering:
        asking.sendto(question, (B_1, 0))
        assert answering.recvfrom(2048) == (question, (A_1, 0, 0, 0))


@pytest.fixture
def ssh(shimmed: Lab, tmp_path: Path) -> list[str]:
    """The command line of ssh on a, for a server on b that knows its key."""
    for name in ("host", "user"):
        path = str(tmp_path / f"{name}_key")
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path]
        subprocess.run(words, check=True, timeout=60)
    public = (tmp_path / "host_key.pub").read_text()
    (tmp_path / "known_hosts").write_text(f"[b.example]:{SSH_PORT} {public}")
    (tmp_path / "sshd_config").write_text(
        f"Port {SSH_PORT}\n"
        "ListenAddress ::\n"
        f"HostKey {tmp_path}/host_key\n"
        f"AuthorizedKeysFile {tmp_path}/user_key.pub\n"
        f"PidFile {tmp_path}/sshd.pid\n"
        "StrictModes no\n"
        "UsePAM no\n"
        "PermitRootLogin prohibit-password\n"
    )
    # sshd wants a directory there; this one is seen by the processes on the node alone.
    serve = f"mount -t tmpfs run /run && mkdir /run/sshd && exec $0 -D -e -f {tmp_path}/sshd_config"
    shimmed.spawn("b", ["sh", "-c", serve, "/usr/sbin/sshd"], name="sshd")
    listening = ["ss", "-H", "-n", "-l", "-t", "sport", "=", f":{SSH_PORT}"]
    shimmed.wait_for("sshd listens", lambda: shimmed.run("b", listening).stdout, PATIENCE_S)
    options = (f"UserKnownHostsFile={tmp_path}/known_hosts", "StrictHostKeyChecking=yes")
    words = ["ssh", "-F", "none", "-i", f"{tmp_path}/user_key", "-p", str(SSH_PORT)]
    words += [word for option in (*options, "BatchMode=yes") for word in ("-o", option)]
    return [*words, "root@b.example"]


def test_an_ssh_session_goes_by_the_context(shimmed: Lab, ssh: list[str]) -> None:
    with carried_by_context(shimmed, packets=10):
        done = shimmed.run("a", [*ssh, "echo $SSH_CONNECTION"])
    assert done.returncode == 0, done.stderr
    source, _, destination, port = done.stdout.split()
    assert (source, destination, port) == (A_1, B_1, str(SSH_PORT))


# --- a provider dies ------------------------------------------------------------------------------


@both_roles
def test_a_tcp_connection_outlives_its_provider(forgetful: Lab, client: str) -> None:
    establish_context(forgetful, client)
    with tcp(forgetful, client) as conversation:
        conversation.echoes()
        assert _pair(forgetful, client) == (locators(client)[0], locators(PEERS[client])[0])
        forgetful.cut_provider(1)
        conversation.echoes()
        with carried_by_context(forgetful, packets=2):
            conversation.echoes()
            conversation.echoes(octets=LONG_OCTETS)
        assert _pair(forgetful, client) == (locators(client)[1], locators(PEERS[client])[1])


@both_roles
def test_a_tcp_connection_outlives_the_address_it_was_made_with(
    forgetful: Lab, client: str
) -> None:
    address = [f"{locators(client)[0]}/64", "dev", "up1"]
    establish_context(forgetful, client)
    with tcp(forgetful, client) as conversation:
        conversation.echoes()
        forgetful.run(client, ["ip", "addr", "del", *address])
        try:
            await_carried(forgetful, conversation)
            with carried_by_context(forgetful, packets=2):
                conversation.echoes(octets=LONG_OCTETS)
            assert _pair(forgetful, client)[0] == locators(client)[1]
        finally:
            forgetful.run(client, ["ip", "addr", "add", *address, "nodad"])


@both_roles
def test_a_connection_returns_to_the_context_when_its_route_is_restored(
    forgetful: Lab, client: str
) -> None:
    establish_context(forgetful, client)
    with tcp(forgetful, client) as conversation:
        conversation.echoes()
        pid = int(forgetful.status(client)["pid"])
        os.kill(pid, signal.SIGSTOP)
        try:
            for row in range(3):  # the peers that have no source yet, and those of each uplink
                table = str(PlaneSection().table + row)
                forgetful.run(client, ["ip", "-6", "route", "flush", "table", table])
            conversation.say()  # its connection remembers the route of the host
        finally:
            os.kill(pid, signal.SIGCONT)
        await_carried(forgetful, conversation)


@both_roles
def test_a_locator_whose_route_is_deleted_is_replaced_before_a_packet_is_sent(
    forgetful: Lab, client: str
) -> None:
    gateway = f"2001:db8:1:{client}::1"
    routes = [["default", "via", gateway, "dev", "up1", "table", "101"]]
    routes.append(["default", "via", gateway, "dev", "up1", "metric", "100"])
    establish_context(forgetful, client)
    peer = PEERS[client]
    with tcp(forgetful, client) as conversation:
        conversation.echoes()
        assert _pair(forgetful, client)[0] == locators(client)[0]
        for route in routes:
            forgetful.run(client, ["ip", "-6", "route", "del", *route])
        try:
            forgetful.wait_for(
                "it is left", lambda: _pair(forgetful, client)[0] == locators(client)[1], PATIENCE_S
            )
            forgetful.wait_for(
                "the peer follows",
                lambda: _pair(forgetful, peer)[1] == locators(client)[1],
                PATIENCE_S,
            )
            conversation.echoes(octets=LONG_OCTETS)
        finally:
            for route in routes:
                forgetful.run(client, ["ip", "-6", "route", "add", *route])
        conversation.echoes()


@both_roles
def test_a_ping_outlives_its_provider(forgetful: Lab, client: str) -> None:
    establish_context(forgetful, client)
    with Pinging(forgetful, client) as ping:
        ping.goes_on()
        forgetful.cut_provider(1)
        ping.goes_on()
        with carried_by_context(forgetful, packets=5):
            ping.goes_on(answers=6)


@both_roles
def test_a_udp_flow_outlives_its_provider(forgetful: Lab, client: str) -> None:
    establish_context(forgetful, client)
    with udp(forgetful, client) as conversation:
        conversation.echoes()
        forgetful.cut_provider(1)
        conversation.echoes_at_last()
        with carried_by_context(forgetful, packets=2):
            conversation.echoes()
            conversation.echoes(octets=1000)


def test_a_datagram_in_fragments_goes_by_the_other_provider(forgetful: Lab) -> None:
    establish_context(forgetful)
    with udp(forgetful, "a") as conversation:
        conversation.echoes(octets=LONG_OCTETS)
        forgetful.cut_provider(1)
        conversation.echoes_at_last()
        conversation.echoes(octets=LONG_OCTETS)


@both_roles
def test_a_connection_survives_when_its_provider_recovers_and_the_other_fails(
    forgetful: Lab, client: str
) -> None:
    establish_context(forgetful, client)
    with tcp(forgetful, client) as conversation, Pinging(forgetful, client) as ping:
        for dead, alive in ((1, 2), (2, 1), (1, 2)):
            forgetful.cut_provider(dead)
            conversation.echoes()
            ping.goes_on()
            forgetful.heal_provider(dead)
            conversation.echoes()
            ping.goes_on()
            assert forgetful.contexts(client)[0]["local_locator"] == locators(client)[alive - 1]


def test_a_new_connection_is_made_while_the_provider_of_its_addresses_is_dead(
    forgetful: Lab,
) -> None:
    establish_context(forgetful)
    with tcp(forgetful, "a") as old:
        forgetful.cut_provider(1)
        old.echoes()
        with tcp(forgetful, "a") as new, tcp(forgetful, "b") as opposite:
            new.echoes()
            opposite.echoes()


# --- connections older than their context ---------------------------------------------------------


@both_roles
@pytest.mark.parametrize("initiator", HOSTS)
def test_a_connection_older_than_its_context_is_carried_by_it(
    forgetful: Lab, client: str, initiator: str
) -> None:
    with tcp(forgetful, client, f"[{locators(PEERS[client])[0]}]") as conversation:
        conversation.echoes()
        # The plane in the kernel finds out about strangers by itself [D34].
        if forgetful.plane == "tun":
            assert forgetful.contexts("a") == forgetful.contexts("b") == []
        establish_context(forgetful, initiator)
        await_carried(forgetful, conversation)
        with carried_by_context(forgetful, packets=2):
            conversation.echoes()
            conversation.echoes()
        forgetful.cut_provider(1)
        conversation.echoes()


# --- what the tests above stand on ----------------------------------------------------------------


def _pair(lab: Lab, host: str) -> tuple[str, str]:
    """The locators a host's one context uses."""
    (context,) = lab.contexts(host)
    return context["local_locator"], context["peer_locator"]


def _payload_octets(rows: list[Row]) -> int:
    return sum(int(row["ipv6.plen"]) for row in rows)


def _raw_socket(lab: Lab, host: str, address: str) -> socket.socket:
    """A raw socket on a host for the protocol without a slot."""

    def make() -> socket.socket:
        one = socket.socket(socket.AF_INET6, socket.SOCK_RAW, WITHOUT_SLOT)
        one.bind((address, 0))
        one.settimeout(SOCKET_TIMEOUT_S)
        return one

    return namespaces.inside(namespaces.namespace(lab.name, host), make)
