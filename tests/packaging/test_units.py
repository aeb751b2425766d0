# SPDX-License-Identifier: MIT
"""The units as systemd runs them: a daemon that hangs, a file that is refused, a border."""

import contextlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from noid.host.resolver_managers import RESOLVED
from noid.lab.borders import border_daemons
from noid.lab.lab import Lab
from noid.lab.sites import LAN_DEVICE
from noid.lab.topology import BORDER, NAME_SERVER, site
from tests.host.test_resolver_managers import LIBRARIES, UNPACKED
from tests.lab.conftest import lab_machine
from tests.packaging.booted import Booted, booted
from tests.packaging.test_deb import named_noid, use
from tests.packaging.upgrades import CONFIG

__all__ = ["lab_machine"]
pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

HERE = Path("/")
WATCHDOG = "[Service]\nWatchdogSec=2\nRestartSec=100ms\n"
STARTS_MAX = 5
"""That systemd allows a unit in 10 s, unless the unit says otherwise."""
REFUSED = "[host\n"
NEW_RESOLVERS = f"# of a DHCP client\nnameserver {NAME_SERVER}\n"
ASKS_AND_IS_REFUSED = """\
import socket
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET6, kind) as client:
        client.settimeout(30)
        try:
            client.connect(("::1", 53))
            client.send(bytes(12))
            client.recv(1)
        except ConnectionRefusedError:
            continue
        raise SystemExit("it is not refused")
"""
RESOLVED_UNIT = f"""\
[Service]
Environment=LD_LIBRARY_PATH={LIBRARIES}
ExecStartPre=/usr/bin/install -d -o systemd-resolve -g systemd-resolve /run/systemd/resolve
ExecStart={UNPACKED}/lib/systemd/systemd-resolved
"""
"""Debian's program, which scripts/install-debian-packages unpacks beside the system."""
CONTRIB = Path(__file__).parents[2] / "contrib" / "border"
RADVD = f"""\
interface {LAN_DEVICE} {{
  AdvSendAdvert on;
  prefix {site(1, "a")} {{ }};
  prefix {site(2, "a")} {{ }};
}};
"""
PINS = "sys/fs/bpf/noid-border"


def test_systemd_starts_a_daemon_again_that_hangs_or_is_killed(
    lab_machine: None, package: Path, tmp_path: Path
) -> None:
    with Lab.create(plane="bpf") as lab:
        lab.take_noid_down("a")
        with booted(lab, "a", tmp_path / "machine", HERE) as machine:
            rules, files = machine.run("ip", "-6", "rule"), named_noid(machine)
            machine.install(package)
            machine.path("etc/noid.toml").write_text(CONFIG)
            drop_in = machine.path("etc/systemd/system/noid.service.d/watchdog.conf")
            drop_in.parent.mkdir()
            drop_in.write_text(WATCHDOG)
            machine.run("systemctl", "daemon-reload")
            machine.run("systemctl", "enable", "--now", "noid", "noid-resolver.path")
            use(machine)
            pid = machine.value("noid", "MainPID")
            machine.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", "noid")
            machine.until(lambda: is_another(machine, pid))
            use(machine)
            assert machine.value("noid.socket", "ActiveState") == "active"
            check_port(machine)
            check_resolver(machine)
            check_resolved(machine)
            check_refused_file(machine)
            drop_in.unlink()
            drop_in.parent.rmdir()
            machine.run("dpkg", "--purge", "noid")
            assert machine.run("ip", "-6", "rule") == rules
            assert named_noid(machine) == files


def is_another(machine: Booted, pid: str) -> bool:
    """Whether the service runs as another process."""
    is_active = machine.value("noid", "ActiveState") == "active"
    return is_active and machine.value("noid", "MainPID") not in (pid, "0")


def check_port(machine: Booted) -> None:
    """A stop closes port 53, so that no query starts the daemon again; a restart opens it again."""
    machine.run("systemctl", "stop", "noid")
    machine.until(lambda: machine.value("noid.socket", "ActiveState") == "inactive")
    machine.run("python3", "-c", ASKS_AND_IS_REFUSED)
    assert machine.value("noid", "ActiveState") == "inactive"
    machine.run("systemctl", "start", "noid")
    use(machine)
    machine.run("systemctl", "restart", "noid")
    assert machine.value("noid.socket", "ActiveState") == "active"
    use(machine)


def check_resolver(machine: Booted) -> None:
    """A DHCP client replaces /etc/resolv.conf: noid-resolver.service names noid first again."""
    path = machine.path("etc/resolv.conf")
    path.write_text(f"nameserver {NAME_SERVER}\n")
    machine.run("noid", "resolver", "on")
    path.write_text(NEW_RESOLVERS)
    machine.until(lambda: "nameserver ::1\n" in path.read_text())
    machine.until(lambda: machine.value("noid-resolver", "ActiveState") == "inactive")
    assert machine.value("noid-resolver", "Result") == "success"
    machine.run("noid", "resolver", "off")
    assert path.read_text() == NEW_RESOLVERS


def check_resolved(machine: Booted) -> None:
    """A daemon that fails again and again does not end systemd-resolved; one that runs is asked."""
    unit = machine.path("etc/systemd/system/systemd-resolved.service")
    unit.write_text(RESOLVED_UNIT)
    machine.run("useradd", "--system", "systemd-resolve")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "systemd-resolved")
    path = machine.path(str(RESOLVED.drop_in).lstrip("/"))
    path.parent.mkdir(parents=True)
    path.write_text("[Resolve]\nDNS=::1\n")
    resolved = machine.value("systemd-resolved", "MainPID")
    for _ in range(STARTS_MAX + 1):
        pid = machine.value("noid", "MainPID")
        machine.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", "noid")
        machine.until(partial(is_another, machine, pid))
    assert machine.value("systemd-resolved", "ActiveState") == "active"
    machine.until(lambda: machine.value("systemd-resolved", "MainPID") not in (resolved, "0"))
    machine.until(lambda: machine.value("systemd-resolved", "ActiveState") == "active")
    machine.run("systemctl", "stop", "systemd-resolved")
    machine.run("userdel", "systemd-resolve")
    for one in (unit, path):
        one.unlink()
    path.parent.rmdir()


def check_refused_file(machine: Booted) -> None:
    """A reload leaves the daemon as it is; one that ends then is started again without end."""
    pid = machine.value("noid", "MainPID")
    machine.path("etc/noid.toml").write_text(REFUSED)
    machine.run("systemctl", "reload", "noid", status=1)
    assert machine.value("noid", "MainPID") == pid
    use(machine)
    machine.run("systemctl", "kill", "--signal=KILL", "noid")
    machine.until(lambda: int(machine.value("noid", "NRestarts")) > STARTS_MAX)
    machine.until(lambda: machine.value("noid.socket", "ActiveState") == "active")


def test_systemd_runs_a_border_whose_programs_outlive_it(
    lab_machine: None, package: Path, tmp_path: Path
) -> None:
    with Lab.create(plane="bpf", sites="one") as lab:
        (daemon,) = border_daemons(lab)
        lines = daemon.config.read_text(encoding="utf-8").splitlines()
        own = [line for line in lines if not line.startswith(("pins", "socket"))]
        with booted(lab, BORDER, tmp_path / "machine", HERE) as machine:
            rules = machine.run("ip", "-6", "rule")
            machine.install(package)
            config = machine.path("etc/noid-border.toml")
            config.write_text("\n".join(own) + "\n")
            machine.run("systemctl", "enable", "--now", "noid-border")
            machine.until(lambda: works(machine))
            assert status(machine)["troubles"] == []
            assert "-10" in machine.run("ps", "-o", "ni=", machine.value("noid-border", "MainPID"))
            pid = machine.value("noid-border", "MainPID")
            machine.run("systemctl", "reload", "noid-border")
            machine.until(lambda: works(machine))
            machine.run("systemctl", "kill", "--signal=KILL", "noid-border")
            machine.until(lambda: machine.value("noid-border", "MainPID") not in (pid, "0"))
            machine.until(lambda: works(machine))
            check_radvd(machine)
            machine.run("noid", "border", "use", "isp2")
            machine.run("systemctl", "stop", "noid-border")
            assert list(machine.path(PINS).iterdir())
            machine.run("noid", "border", "down", "--config", "/etc/noid-border.toml")
            assert not machine.path(PINS).exists()
            assert machine.run("ip", "-6", "rule") == rules
            config.write_text(REFUSED)
            machine.run("dpkg", "--purge", "noid")


def check_radvd(machine: Booted) -> None:
    """noid-radvd deprecates the prefix of a provider while its uplink is down."""
    program = machine.path("usr/local/sbin/noid-radvd")
    program.write_bytes((CONTRIB / "noid-radvd").read_bytes())
    program.chmod(0o755)
    unit = machine.path("etc/systemd/system/noid-radvd.service")
    unit.write_bytes((CONTRIB / "noid-radvd.service").read_bytes())
    path = machine.path("etc/radvd.conf")
    machine.path("etc/radvd.conf.in").write_text(RADVD)
    machine.run("systemctl", "start", "noid-radvd")
    machine.until(lambda: path.exists() and path.read_text() == RADVD)
    machine.run("ip", "link", "set", "up2", "down")
    machine.until(lambda: path.read_text().count("AdvPreferredLifetime 0;") == 1)
    machine.run("ip", "link", "set", "up2", "up")
    machine.run("systemctl", "stop", "noid-radvd")


def status(machine: Booted) -> dict[str, Any]:
    """What the border says."""
    found: dict[str, Any] = machine.json("noid", "border", "status", "--json")
    return found


def works(machine: Booted) -> bool:
    """Whether the border answers, and both uplinks work."""
    with contextlib.suppress(AssertionError, json.JSONDecodeError):  # it starts
        return all(one["works"] for one in status(machine)["providers"])
    return False
