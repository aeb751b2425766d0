# SPDX-License-Identifier: MIT
"""The Debian package: built, checked by lintian, installed, started, upgraded, removed, purged."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from noid.lab.lab import Lab
from noid.lab.topology import locators
from tests.guide.blocks import blocks
from tests.guide.network import Network
from tests.guide.typing_in import GUIDE
from tests.lab.conftest import lab_machine
from tests.packaging.booted import Booted, booted
from tests.packaging.machine import LIMIT_S, Machine
from tests.packaging.upgrades import CONFIG, newer, said, upgrade_during_a_download

__all__ = ["lab_machine"]
pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

EXPOSURES_MAX = {"noid": 3.0, "noid-border": 3.0, "noid-resolver": 3.0, "noid-pins": 4.0}
"""The last one may have no mounts of its own."""
DEBIAN_13 = Path("/var/lib/noid-tests/debian-13")
"""Unpacked by scripts/make-debian-13."""


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("unpacked")
    said("dpkg-deb", "--extract", str(package), str(directory))
    return directory


@pytest.fixture
def machine(lab_machine: None, tmp_path: Path) -> Iterator[Machine[Lab]]:
    """On node a of a lab whose other host runs noid."""
    with Lab.create(plane="bpf") as lab:
        lab.take_noid_down("a")
        one = Machine(lab, "a", tmp_path)
        try:
            yield one
        finally:
            one.close()


def test_lintian_finds_no_errors(package: Path) -> None:
    said("lintian", "--allow-root", "--fail-on", "error", str(package))


def test_what_a_border_uses_with_other_programs_is_among_the_examples(unpacked: Path) -> None:
    examples = unpacked / "usr/share/doc/noid/examples/border"
    assert {path.name: bool(path.stat().st_mode & 0o111) for path in examples.iterdir()} == {
        "dhcpcd-hook": True,
        "noid-radvd": True,
        "noid-radvd.service": False,
    }
    guide = (unpacked / "usr/share/doc/noid/border.md").read_text(encoding="utf-8")
    named = re.findall(r"cp /usr/share/doc/noid/examples/border/(\S+)", guide)
    assert sorted(named) == sorted(path.name for path in examples.iterdir())


@pytest.mark.parametrize(("name", "most"), EXPOSURES_MAX.items())
def test_a_unit_exposes_little(name: str, most: float, unpacked: Path) -> None:
    unit = unpacked / "lib" / "systemd" / "system" / f"{name}.service"
    lines = said("systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit))
    (exposure,) = re.findall(rf"Overall exposure level for {name}\.service: ([\d.]+)", lines)
    assert float(exposure) < most


def test_every_service_of_the_package_is_examined(unpacked: Path) -> None:
    units = (unpacked / "lib" / "systemd" / "system").glob("*.service")
    assert {one.stem for one in units} == EXPOSURES_MAX.keys()


def test_an_upgrade_restarts_the_service_and_a_removal_stops_it(
    package: Path, tmp_path: Path
) -> None:
    """What systemd would be told; the machines of the other tests have none."""
    said("dpkg-deb", "--control", str(package), str(tmp_path))
    units = " ".join(
        f"'{one}'"
        for one in (
            "noid-border.service",
            "noid-pins.service",
            "noid-resolver.path",
            "noid-resolver.service",
            "noid.service",
            "noid.socket",
        )
    )
    upgraded, removed = ((tmp_path / name).read_text() for name in ("postinst", "prerm"))
    assert f"deb-systemd-invoke $_dh_action {units}" in upgraded
    assert "_dh_action=restart" in upgraded
    assert (
        0 < removed.index(f"deb-systemd-invoke stop {units}") < removed.index("noid down --config")
    )
    before = tmp_path / "preinst"
    assert not before.exists() or "stop" not in before.read_text()


def test_a_library_in_c_is_there_for_every_python(unpacked: Path) -> None:
    packages = unpacked / "usr/lib/noid/lib/python3/site-packages"
    for version in ("311", "312", "313"):
        for name in ("_cffi_backend", "msgspec/_core"):
            assert list(packages.glob(f"{name}.cpython-{version}-*.so"))
    for version in ("3.11", "3.12", "3.13"):
        assert (unpacked / f"usr/lib/noid/lib/python{version}/site-packages/noid").is_dir()


def test_the_package_is_installed_started_upgraded_removed_and_purged(
    machine: Machine[Lab], package: Path, tmp_path: Path
) -> None:
    before, rules = machine.changed(), machine.run("ip", "-6", "rule")
    machine.install(package)
    assert machine.run("noid", "--version").startswith("noid ")
    machine.path("etc/noid.toml").write_text(CONFIG)
    process = machine.start()
    try:
        assert locators("b")[0] in machine.run("ping", "-n", "-c1", "-w30", "b.example")
        status = machine.json("noid", "status", "--json")
        assert status["plane"]["kind"] == "bpf"
        assert status["state"]["trouble"] == []
        process = upgrade_during_a_download(machine, process, package, tmp_path)
    finally:
        process.kill()
    process.wait(LIMIT_S)
    machine.run("rm", "-rf", "/run/noid")
    assert machine.run("ip", "-6", "rule") != rules, "rules of noid outlive the daemon"
    machine.run("dpkg", "--purge", "noid")
    assert machine.run("ip", "-6", "rule") == rules
    assert machine.changed() == before


@pytest.mark.parametrize("text", ["[host\n", None])
def test_a_purge_does_not_need_a_valid_configuration(
    text: str | None, machine: Machine[Lab], package: Path
) -> None:
    before, rules = machine.changed(), machine.run("ip", "-6", "rule")
    machine.install(package)
    config, border = machine.path("etc/noid.toml"), machine.path("etc/noid-border.toml")
    config.write_text(CONFIG)
    process = machine.start()
    process.kill()
    process.wait(LIMIT_S)
    machine.run("noid", "resolver", "on")
    machine.run("rm", "-rf", "/run/noid")
    if text is None:
        config.unlink()
    else:
        config.write_text(text)
        border.write_text(text)
    assert machine.run("ip", "-6", "rule") != rules
    said = machine.run("dpkg", "--purge", "noid")
    assert ("what the border has in the kernel stays" in said) == (text is not None)
    border.unlink(missing_ok=True)
    assert machine.run("ip", "-6", "rule") == rules
    assert machine.changed() == before


@pytest.mark.parametrize("below", [Path("/"), DEBIAN_13], ids=["here", "Debian 13"])
def test_systemd_starts_reloads_upgrades_and_removes_the_service(
    below: Path, lab_machine: None, package: Path, tmp_path: Path
) -> None:
    with Lab.create(plane="bpf") as lab:
        lab.take_noid_down("a")
        with booted(lab, "a", tmp_path / "machine", below) as machine:
            rules, files = machine.run("ip", "-6", "rule"), named_noid(machine)
            machine.install(package)
            assert machine.says("systemctl", "is-active", "noid") == "inactive"
            machine.path("etc/noid.toml").write_text(CONFIG)
            machine.run("systemctl", "enable", "--now", "noid", "noid-resolver.path")
            use(machine)
            machine.run("systemctl", "reload", "noid")
            machine.run("noid", "resolver", "on")
            pid = machine.value("noid", "MainPID")
            machine.install(newer(package, tmp_path, 1))
            machine.until(lambda: machine.value("noid", "ActiveState") == "active")
            assert machine.value("noid", "MainPID") != pid
            use(machine)
            machine.run("dpkg", "--purge", "noid")
            assert machine.run("ip", "-6", "rule") == rules
            assert named_noid(machine) == files


def named_noid(machine: Booted) -> set[str]:
    """The new files of a machine that have the name of noid."""
    return {name for name in machine.changed() if "noid" in name}


def use(machine: Machine[Lab]) -> None:
    """Reaches a host by its name, in a context."""
    assert locators("b")[0] in machine.run("ping", "-n", "-c1", "-w30", "b.example")
    status = machine.json("noid", "status", "--json")
    assert status["plane"]["kind"] == "bpf", status["plane"]["why"]
    assert status["state"]["trouble"] == []
    assert len(machine.json("noid", "contexts", "--json")) == 1


INTERFACES = """\
iface eth0 inet6 manual
iface eth1 inet6 manual
"""
SET_UP = """\
noid setup --name a.example --no-doctor
systemctl enable noid noid-border noid-resolver.path
"""
ENABLED = ("noid.service", "noid-border.service", "noid-resolver.path")
CHANGED = "echo '# mine' >>/etc/noid.toml"


@pytest.mark.parametrize("removal", ["--purge", "--remove", CHANGED])
def test_a_purge_leaves_nothing_of_a_host_that_was_set_up(
    removal: str, lab_machine: None, package: Path, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with Network(tmp_path, wheels) as network:
        for block in blocks(GUIDE)[:2]:
            network.type(block)
        machine = network.machines["a"]
        machine.path("etc/network/interfaces").write_text(INTERFACES)
        before, routing = machine.changed(), routing_of(machine)
        machine.install(package)
        machine.run("sh", "-ec", SET_UP)
        assert routing_of(machine) != routing
        written = {"etc/network/interfaces.noid", "var/lib/noid-setup/journal.json"}
        enabled = "etc/systemd/system/multi-user.target.wants"
        written |= {f"{enabled}/{one}" for one in ENABLED}
        assert written <= machine.changed().keys()
        if removal == CHANGED:
            machine.run("sh", "-ec", CHANGED)
        elif removal == "--remove":
            machine.run("dpkg", "--remove", "noid")
            assert routing_of(machine) == routing
        machine.run("dpkg", "--purge", "noid")
        assert routing_of(machine) == routing
        assert machine.changed() == before


def routing_of(machine: "Machine[Network]") -> str:
    """Rules and routes, without those that the kernel adds by itself."""
    routes = machine.run("ip", "-6", "route", "show", "table", "all").splitlines()
    return machine.run("ip", "-6", "rule") + "\n".join(
        line for line in routes if "proto kernel" not in line
    )
