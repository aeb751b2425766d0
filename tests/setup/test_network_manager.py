# SPDX-License-Identifier: MIT
"""Routing by source in the profiles of NetworkManager, which runs, and reads what is written.

scripts/install-debian-packages unpacks it beside the system: installed, it would take over the
network of this machine.
"""

import os
import re
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Network
from pathlib import Path
from typing import Final

import pytest

from noid.lab.waiting import wait_for
from noid.setup.detection import Uplink
from noid.setup.managers import Managers, files_for
from noid.setup.network_manager import profile_step
from noid.setup.plan import File
from tests.setup.host import LIMIT_S, PREFIXES, Host, fresh
from tests.setup.test_managers import NAMED, etc, has_routes, routed

UNPACKED: Final = Path("/var/lib/noid-tests/programs")
LIBRARIES: Final = f"LD_LIBRARY_PATH={UNPACKED}/usr/lib/{os.uname().machine}-linux-gnu"
NMCLI: Final = f'#!/bin/sh\nexec env {LIBRARIES} {UNPACKED}/usr/bin/nmcli "$@"\n'
BUS: Final = """\
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/>
  </policy>
</busconfig>
"""
CONFIG: Final = """\
[main]
plugins=keyfile
auth-polkit=root-only
dns=none
systemd-resolved=false
hostname-mode=none
no-auto-default=*
[keyfile]
path={profiles}
[connectivity]
enabled=false
"""
START: Final = """\
mount -o remount,ro,bind /sys
mkdir -p /run/programs /run/dbus
mount --bind {unpacked} /run/programs
mount -t tmpfs none /var/lib
mkdir -p /var/lib/NetworkManager {unpacked}
mount --move /run/programs {unpacked}
dbus-daemon --config-file={place}/bus.conf --nofork --nopidfile &
exec env {libraries} {unpacked}/usr/sbin/NetworkManager --no-daemon --config={place}/nm.conf
"""
"""A read-only /sys is a sign that there is no udev."""
UPLINK: Final = Uplink("eth0", "fe80::1", (IPv6Network("2001:db8::/64"),), ("2001:db8::a",))


def write_profiles(host: Host) -> Path:
    """The profiles of both uplinks, and what the programs need; the directory of the profiles."""
    profiles = host.directory / "etc/profiles"
    profiles.mkdir()
    for metric, (device, prefix) in enumerate(PREFIXES.items(), 1):
        path = profiles / f"{device}.nmconnection"
        path.write_text(
            f"[connection]\nid={device}\nuuid={uuid.uuid4()}\ntype=ethernet\n"
            f"interface-name={device}\n\n[ipv4]\nmethod=disabled\n\n[ipv6]\n"
            f"address1={prefix}::a/64,{prefix}::1\nmethod=manual\nroute-metric={metric}\n"
        )
        path.chmod(0o600)
    (host.programs / "nmcli").write_text(NMCLI)
    (host.programs / "nmcli").chmod(0o755)
    (host.directory / "bus.conf").write_text(BUS)
    (host.directory / "nm.conf").write_text(CONFIG.format(profiles=profiles))
    return profiles


@contextmanager
def network_manager(host: Host) -> Iterator[None]:
    """NetworkManager and the bus that it needs."""
    start = START.format(place=host.directory, unpacked=UNPACKED, libraries=LIBRARIES)
    log = (host.directory / "run/log").open("w")
    words = host.command("sh", "-euc", start)
    with log, subprocess.Popen(words, stdout=log, stderr=log, process_group=0) as process:
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with fresh(tmp_path) as one:
        yield one


@pytest.mark.lab
@pytest.mark.slow
def test_what_network_manager_reads_routes_after_a_boot_and_undo_restores_it(host: Host) -> None:
    profiles = write_profiles(host)
    before = etc(host)
    with network_manager(host):
        wait_for("addresses", lambda: has_routes(host), LIMIT_S)
        assert "route1_options=table=101,onlink=true" in host.setup(*NAMED).stdout
        wait_for("routes by source", lambda: routed(host), LIMIT_S)

    host.reboot()
    with network_manager(host):
        wait_for("routes by source after a boot", lambda: routed(host), LIMIT_S)
        assert "write" not in host.setup(*NAMED, "--dry-run").stdout
        assert f"nmcli connection load {profiles}/eth1.nmconnection" in host.setup("--undo").stdout
        assert etc(host) == before
        host.ip("link set eth1 down")
        host.ip("link set eth1 up")
        wait_for("both uplinks are up again", lambda: has_routes(host), LIMIT_S)
        wait_for("no rule is left", lambda: "2001:db8" not in host.ip("-6 rule"), LIMIT_S)
        routes = "-6 route show table all"
        wait_for("no route is left", lambda: "table 10" not in host.ip(routes), LIMIT_S)


@pytest.mark.lab
@pytest.mark.slow
def test_a_profile_that_lasts_until_the_next_boot_is_not_written(host: Host) -> None:
    profiles = write_profiles(host)
    (profiles / "eth1.nmconnection").unlink()
    with network_manager(host):
        wait_for("NetworkManager", lambda: answers(host), LIMIT_S)
        prefix = PREFIXES["eth1"]
        words = "nmcli connection add save no type ethernet ifname eth1 con-name eth1"
        addresses = ("ipv6.method", "manual", "ipv6.addresses", f"{prefix}::a/64")
        host.run(*words.split(), *addresses, "ipv6.gateway", f"{prefix}::1")
        wait_for("addresses", lambda: has_routes(host), LIMIT_S)
        said = host.setup(*NAMED).stdout
        assert [one.name for one in profiles.iterdir()] == ["eth0.nmconnection"]
        (remedy,) = re.findall("make it one: (nmcli .*); then run noid setup again", said)
        host.run("sh", "-euc", remedy)
        host.setup(*NAMED)
        assert "routing-rule2=" in (profiles / "eth1.nmconnection").read_text()


def answers(host: Host) -> bool:
    return host.run("nmcli", "general", good=False).returncode == 0


# --- without a host -------------------------------------------------------------------------------

HEAD: Final = "[connection]\nid=a\nuuid=7c1d6b9e-7a75-4c11-8a3b-5f0c6f3b1a11\ntype=ethernet\n"
OWN_ROUTE: Final = "route1=2001:db8:7::/48,fe80::7\nroute4=2001:db8:8::/48\n"


@pytest.mark.parametrize(
    ("rest", "routes"),
    [
        ("", 1),
        ("\n[ipv6]\nmethod=auto", 1),
        ("\n[ipv6]\nmethod=auto\n\n[proxy]\n", 1),
        (f"\n[ipv6]\n# mine\nmethod=auto\n{OWN_ROUTE}\n\n[proxy]\n", 3),
        ("\n[ipv6]\nmethod=auto\nrouting-rule1=priority 5 from ::/0 table 7\n", 1),
    ],
)
def test_a_profile_keeps_what_it_has_and_network_manager_reads_the_rest(
    rest: str, routes: int
) -> None:
    before = HEAD + rest
    step = profile_step("/etc/a", UPLINK, UPLINK.prefixes, 101, {"/etc/a": before}.get)
    kept = [line for line in step.after.splitlines() if line in before.splitlines()]
    assert kept == before.splitlines()
    words = ["nmcli", "--offline", "connection", "modify", "connection.id", "b"]
    read = subprocess.run(
        ["env", LIBRARIES, f"{UNPACKED}/usr/bin/{words[0]}", *words[1:]],
        input=step.after,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert len(re.findall(r"^route\d+=", read, re.MULTILINE)) == routes
    assert "=::/0,fe80::1\n" in read
    assert "_options=onlink=true,table=101\n" in read
    assert "=priority 31900 from 2001:db8::/64 suppress_prefixlength 0 table 254\n" in read
    assert "=priority 31901 from 2001:db8::/64 table 101\n" in read
    assert ("from ::/0" in read) == ("from ::/0" in before)


def planned(managers: Managers) -> tuple[list[File], list[str]]:
    return files_for(managers, [(UPLINK, UPLINK.prefixes, 101)], {"/etc/a": HEAD}.get)


def test_another_manager_of_the_device_comes_first() -> None:
    profiles = {"eth0": "/etc/a"}
    (file,), _ = planned(Managers(network_manager=profiles))
    assert (file.path, file.load) == ("/etc/a", ("nmcli", "connection", "load", "/etc/a"))
    files, _ = planned(Managers(frozenset({"eth0"}), {}, profiles))
    assert "/etc/a" not in {one.path for one in files}
    files, _ = planned(Managers(frozenset(), {"eth0": "/etc/b.network"}, profiles))
    assert "/etc/a" not in {one.path for one in files}


def test_a_profile_of_several_devices_is_not_added_to() -> None:
    files, (note,) = planned(Managers(network_manager={"eth0": "/etc/a", "eth1": "/etc/a"}))
    assert not files
    assert note.endswith("/etc/a configures eth0, eth1; give eth0 its own")
