# SPDX-License-Identifier: MIT
"""Routing by source that outlives a boot: ``ifup`` and systemd-networkd read what is written."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Network
from pathlib import Path
from typing import Final

import pytest

from noid.lab.waiting import wait_for
from noid.setup.detection import Uplink
from noid.setup.managers import INTERFACES, STANZAS, Managers, files_for, stanzas
from noid.setup.plan import WRITTEN, File
from tests.setup.host import LIMIT_S, PREFIXES, Host, address, fresh

NAMED: Final = ("--name", "a.example")
SOURCE: Final = "source /etc/network/interfaces.d/*\n"
"""Debian has it at the beginning."""
NETWORKD: Final = "/lib/systemd/systemd-networkd"


def routed(host: Host) -> bool:
    """Whether the packets of each uplink leave by it; not while the host has no address yet."""
    answers = [
        host.run("ip", "-6", "route", "get", "2001:db8:ffff::1", "from", address(one), good=False)
        for one in PREFIXES
    ]
    return all(f" dev {one} " in two.stdout for one, two in zip(PREFIXES, answers, strict=True))


def has_routes(host: Host) -> bool:
    return host.ip("-6 route show default").count("default") == 2 and " tentative" not in host.ip(
        "-6 address show scope global"
    )


def write_interfaces(host: Host, end: str, start: str = "") -> None:
    text = f"{start}auto lo\niface lo inet loopback\n"
    for metric, (device, prefix) in enumerate(PREFIXES.items(), 1):
        text += f"\nauto {device}\niface {device} inet6 static\n    address {prefix}::a/64\n"
        text += f"    dad-attempts 0\n    gateway {prefix}::1\n    metric {metric}\n"
    (host.directory / "etc/network/interfaces").write_text(text + end)


def write_networks(host: Host) -> None:
    for metric, (device, prefix) in enumerate(PREFIXES.items(), 1):
        (host.directory / f"etc/networkd/10-{device}.network").write_text(
            f"[Match]\nName={device}\n[Network]\nIPv6AcceptRA=no\n"
            f"[Address]\nAddress={prefix}::a/64\nDuplicateAddressDetection=none\n"
            f"[Route]\nGateway={prefix}::1\nMetric={metric}\n"
        )


@contextmanager
def networkd(host: Host) -> Iterator[None]:
    """systemd-networkd, which takes a read-only /sys as a sign that there is no udev."""
    (host.directory / "run/systemd/netif").mkdir(parents=True, exist_ok=True)
    start = (
        "mount -o remount,ro,bind /sys; chown -R systemd-network: /run/systemd/netif;"
        f" exec {NETWORKD}"
    )
    log = (host.directory / "run/networkd.log").open("w")
    with log, subprocess.Popen(host.command("sh", "-euc", start), stderr=log) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with fresh(tmp_path) as one:
        yield one


def etc(host: Host) -> dict[str, bytes]:
    """The files under /etc, and those that noid setup may have made beside them."""
    files = [one for one in (host.directory / "etc").rglob("*") if one.is_file()]
    directories = {str(one): b"" for one in (host.directory / "etc").rglob("*") if one.is_dir()}
    return directories | {str(one): one.read_bytes() for one in files}


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "end"), [("", ""), (SOURCE, ""), ("", SOURCE), ("", "# no newline")]
)
def test_what_ifupdown_reads_routes_after_a_boot_and_undo_restores_it(
    host: Host, start: str, end: str
) -> None:
    write_interfaces(host, end, start)
    before = etc(host)
    host.run("ifup", "-a")
    wait_for("addresses", lambda: has_routes(host), LIMIT_S)
    host.setup(*NAMED)
    wait_for("routes by source", lambda: routed(host), LIMIT_S)

    host.reboot()
    host.run("ifup", "-a")
    wait_for("routes by source after a boot", lambda: routed(host), LIMIT_S)
    assert "write" not in host.setup(*NAMED, "--dry-run").stdout
    host.run("ifdown", "eth1")
    assert PREFIXES["eth1"] not in host.ip("-6 rule")
    host.run("ifup", "eth1")
    wait_for("routes by source of eth1", lambda: routed(host), LIMIT_S)

    host.setup("--undo")
    assert etc(host) == before
    assert "2001:db8" not in host.ip("-6 rule")


BRIDGE: Final = """
auto br1
iface br1 inet6 static
    pre-up ip link add br1 type bridge && ip link set eth1 master br1 up
    address 2001:db8:2:a::a/64
    dad-attempts 0
    gateway 2001:db8:2:a::1
    metric 2
    post-down ip link delete br1
"""


@pytest.mark.lab
@pytest.mark.slow
def test_a_bridge_that_ifupdown_makes_is_routed_by_source_after_a_boot(host: Host) -> None:
    path = host.directory / "etc/network/interfaces"
    write_interfaces(host, "", SOURCE)
    path.write_text(path.read_text().partition("\nauto eth1")[0] + BRIDGE)

    def leaves_by_it() -> bool:
        words = ("ip", "-6", "route", "get", "2001:db8:ffff::1", "from", address("eth1"))
        return " dev br1 " in host.run(*words, good=False).stdout

    host.run("ifup", "-a")
    wait_for("addresses", lambda: has_routes(host), LIMIT_S)
    host.setup(*NAMED)
    assert leaves_by_it()
    host.reboot()
    host.run("ifup", "-a")
    wait_for("the route by source after a boot", leaves_by_it, LIMIT_S)


@pytest.mark.lab
@pytest.mark.slow
def test_what_networkd_reads_routes_after_a_boot_and_undo_restores_it(host: Host) -> None:
    write_networks(host)
    before = etc(host)
    with networkd(host):
        wait_for("addresses", lambda: has_routes(host), LIMIT_S)
        host.setup(*NAMED)
        wait_for("routes by source", lambda: routed(host), LIMIT_S)

    host.reboot()
    with networkd(host):
        wait_for("routes by source after a boot", lambda: routed(host), LIMIT_S)
        assert "write" not in host.setup(*NAMED, "--dry-run").stdout
        assert "warning" not in (host.directory / "run/networkd.log").read_text().lower()
        host.setup("--undo")
    assert etc(host) == before
    assert "2001:db8" not in host.ip("-6 rule")


# --- without a host -------------------------------------------------------------------------------


def planned(managers: Managers, there: dict[str, str]) -> tuple[list[File], list[str]]:
    uplink = Uplink("eth0", "fe80::1", (IPv6Network("2001:db8::/64"),), ("2001:db8::a",))
    return files_for(managers, [(uplink, uplink.prefixes, 101)], there.get)


def test_the_stanzas_of_noid_come_after_those_of_the_operator() -> None:
    there = {INTERFACES: f"{SOURCE}iface eth0 inet6 auto\n"}
    files, notes = planned(Managers(frozenset({"eth0"})), there)
    assert [one.path for one in files] == [STANZAS, INTERFACES]
    assert not notes
    assert files[1].after == f"{there[INTERFACES]}source {STANZAS}\n"


def test_what_the_operator_has_in_a_file_of_that_name_stays() -> None:
    there = {"/etc/systemd/network/a.network.d/50-noid.conf": "[Link]\nMTUBytes=1400"}
    (file,), _ = planned(Managers(networkd={"eth0": "/usr/lib/systemd/network/a.network"}), there)
    assert file.path in there
    assert file.after.startswith(f"{there[file.path]}\n{WRITTEN}")


def test_a_network_file_of_several_devices_is_not_added_to() -> None:
    path = "/run/systemd/network/eth.network"
    files, notes = planned(Managers(networkd={"eth0": path, "eth1": path}), {})
    assert not files
    assert notes == [
        f"the routing of eth0 is lost at the next boot: {path} configures eth0, eth1;"
        " give eth0 its own"
    ]


def test_a_device_that_nothing_known_configures_is_said() -> None:
    files, notes = planned(Managers(), {})
    assert not files
    assert "neither ifupdown, systemd-networkd nor NetworkManager configures it" in notes[0]


def test_our_own_stanzas_do_not_make_a_device_one_of_ifupdown() -> None:
    text = "auto eth0\niface eth0 inet dhcp\n  iface eth1 inet6 manual\niface x can static\n"
    assert list(stanzas(text)) == ["eth0", "eth1"]
    assert list(stanzas(WRITTEN + text)) == []
