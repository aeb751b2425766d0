# SPDX-License-Identifier: MIT
"""The Debian package: built, checked by lintian, installed, started, upgraded, removed, purged."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from noid.constants import MILLISECOND
from noid.lab.download import Download, longest_silence_ns
from noid.lab.lab import Lab
from noid.lab.servers import CONTENT_NAME
from noid.lab.topology import NAME_SERVER, locators
from tests.lab.conftest import lab_machine
from tests.packaging.machine import LIMIT_S, Machine

__all__ = ["lab_machine"]
pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.alone,  # over an overlay of this machine, below which nothing may change
    pytest.mark.timeout(900),
]

ROOT = Path(__file__).parent.parent.parent
EXPOSURE_MAX = 3.0
GAP_MAX_MS = 50.0
UPGRADES_MAX = 4
"""On a busy machine a process may wait for longer than the gap may last."""
GAP_FACTOR = 2.0
"""A gap may also be so many times as long as one just before, while a package was built."""
DOWNLOAD_OCTETS = 2 * 2**30
"""Longer than the upgrades take."""
SOME_OCTETS = 4 * 2**20
CONFIG = f"""\
[host]
interfaces = ["up*"]
[dns]
upstream = ["{NAME_SERVER}"]
[plane]
kind = "bpf"
pins = "/run/noid-pins"
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("deb")
    said(sys.executable, str(ROOT / "scripts" / "make-deb"), str(directory))
    (path,) = directory.glob("*.deb")
    return path


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


def said(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def reached(download: Download, octets: int) -> bool:
    return download.octets >= octets


def newer(package: Path, directory: Path, number: int) -> Path:
    """The package as a later version."""
    tree = directory / f"tree{number}"
    said("dpkg-deb", "--raw-extract", str(package), str(tree))
    control = tree / "DEBIAN" / "control"
    text = re.sub(r"^Version: (.*)$", rf"Version: \1+{number}", control.read_text(), flags=re.M)
    control.write_text(text)
    path = directory / f"noid-{number}.deb"
    said("dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", str(tree), str(path))
    shutil.rmtree(tree)
    return path


def test_lintian_finds_no_errors(package: Path) -> None:
    said("lintian", "--allow-root", "--fail-on", "error", str(package))


def test_the_unit_exposes_little(unpacked: Path) -> None:
    unit = unpacked / "lib" / "systemd" / "system" / "noid.service"
    lines = said("systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit))
    (exposure,) = re.findall(r"Overall exposure level for noid\.service: ([\d.]+)", lines)
    assert float(exposure) < EXPOSURE_MAX


def test_a_library_in_c_is_there_for_every_python(unpacked: Path) -> None:
    packages = unpacked / "usr/lib/noid/lib/python3/site-packages"
    for version in ("311", "312", "313"):
        for name in ("_cffi_backend", "msgspec/_core"):
            assert list(packages.glob(f"{name}.cpython-{version}-*.so"))
    for version in ("3.11", "3.12", "3.13"):
        assert (unpacked / f"usr/lib/noid/lib/python{version}/site-packages/noid").is_dir()


def test_the_package_is_installed_started_upgraded_removed_and_purged(
    machine: Machine[Lab], package: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before, rules = machine.changed(), machine.run("ip", "-6", "rule")
    machine.run("dpkg", "--install", str(package))
    assert machine.run("noid", "--version").startswith("noid ")
    machine.path("etc/noid.toml").write_text(CONFIG)
    process = machine.start()
    try:
        assert locators("b")[0] in machine.run("ping", "-n", "-c1", "-W9", "b.example")
        status = machine.json("noid", "status", "--json")
        assert status["plane"]["kind"] == "bpf"
        assert status["state"]["trouble"] == []
        process = upgrade_during_a_download(machine, process, package, tmp_path_factory)
    finally:
        process.kill()
    process.wait(LIMIT_S)
    machine.run("rm", "-rf", "/run/noid")
    assert machine.run("ip", "-6", "rule") != rules, "rules of noid outlive the daemon"
    machine.run("dpkg", "--purge", "noid")
    assert machine.run("ip", "-6", "rule") == rules
    assert machine.changed() == before


def test_a_purge_leaves_no_file_behind(machine: Machine[Lab], package: Path) -> None:
    before = machine.changed()
    machine.run("dpkg", "--install", str(package))
    assert machine.path("etc/noid.toml").exists()
    machine.run("dpkg", "--purge", "noid")
    assert machine.changed() == before


def upgrade_during_a_download(
    machine: Machine[Lab],
    process: "subprocess.Popen[bytes]",
    package: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> "subprocess.Popen[bytes]":
    """Installs later versions until the gap is short, and returns the service that runs then."""
    os.truncate(machine.lab.directory / "web" / "content" / CONTENT_NAME, DOWNLOAD_OCTETS)
    gaps_ms: list[tuple[float, float]] = []
    with Download(machine.lab, "a", "b.example") as download:
        machine.until(lambda: download.octets >= SOME_OCTETS)
        labels = [one["local_label"] for one in machine.json("noid", "contexts", "--json")]
        assert len(labels) == 1
        for number in range(UPGRADES_MAX):
            idle_ns = time.monotonic_ns()
            later = newer(package, tmp_path_factory.mktemp("newer"), number)
            began_ns = time.monotonic_ns()
            machine.run("dpkg", "--install", str(later))
            machine.stop(process)
            process = machine.start()
            more = download.octets + SOME_OCTETS
            machine.until(partial(reached, download, more))
            ended_ns = time.monotonic_ns()
            spans = ((idle_ns, began_ns), (began_ns, ended_ns))
            before_ms, gap_ms = (
                longest_silence_ns(download.arrivals, *span) / MILLISECOND for span in spans
            )
            gaps_ms.append((before_ms, gap_ms))
            if is_short := gap_ms < max(GAP_MAX_MS, GAP_FACTOR * before_ms):
                break
        print("longest gaps in ms, before and during each upgrade:", gaps_ms)
        assert download.running, download.stop()
        assert is_short, gaps_ms
        again = [one["local_label"] for one in machine.json("noid", "contexts", "--json")]
        assert again == labels
    return process
