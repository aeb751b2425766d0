# SPDX-License-Identifier: MIT
"""Upgrades of the Debian package during a download, and the gaps in it.

    .venv/bin/python -m tests.packaging.upgrades [COUNT [PACKAGE]]

builds the package if none is named, installs it on host a of a lab, upgrades it COUNT times (10),
and prints a line of JSON for each: the longest gap before the upgrade, while dpkg runs, while the
daemon stops, while the next one starts, and over all three, in ms. ``waited_ms`` is for how long a
process that only sleeps waited for a processor at most, before and during the upgrade.

Then it upgrades as often with the programs of the download scheduled first (SCHED_RR): gaps in
which they only wait for a processor are not there. Of the gaps of a busy machine these are nearly
all: curl is ready to run, and its small receive buffer is full.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from noid.constants import MILLISECOND
from noid.lab import namespaces
from noid.lab.download import Arrival, Download, longest_silence_ns
from noid.lab.lab import Lab
from noid.lab.servers import CONTENT_NAME
from noid.lab.topology import NAME_SERVER
from tests.packaging.machine import LIMIT_S, Machine

ROOT = Path(__file__).parent.parent.parent
GAP_MAX_MS = 50.0
UPGRADES_MAX = 6
"""What the kernel does in interrupts waits for a processor, too."""
DOWNLOAD_OCTETS = 8 * 2**30
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
SLEEPER = """\
import time
last = time.monotonic_ns()
while True:
    time.sleep(0.001)
    now = time.monotonic_ns()
    if now - last > 3_000_000:
        print(now, now - last, flush=True)
    last = now
"""


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade did to the download.

    Attributes:
        before_ms: the longest gap just before it.
        dpkg_ms: while dpkg installed the package.
        stop_ms: while the daemon stopped.
        start_ms: until the next one was ready, and some octets had arrived after that.
        gap_ms: over all three.
        waited_ms: the longest that a process waited for a processor, before and during it.
    """

    before_ms: float
    dpkg_ms: float
    stop_ms: float
    start_ms: float
    gap_ms: float
    waited_ms: tuple[float, float]


def said(*words: str) -> str:
    """The output of a program that must not fail."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def make_package(directory: Path) -> Path:
    """Builds the package."""
    said(sys.executable, str(ROOT / "scripts" / "make-deb"), str(directory))
    (path,) = directory.glob("*.deb")
    return path


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


def upgrade_during_a_download(
    machine: Machine[Lab], process: "subprocess.Popen[bytes]", package: Path, directory: Path
) -> "subprocess.Popen[bytes]":
    """Installs later versions until the gap is short, and returns the service that runs then."""
    done: list[Upgrade] = []
    with download(machine) as (curl, waits):
        put_first(machine.lab, curl)
        labels = [one["local_label"] for one in machine.json("noid", "contexts", "--json")]
        assert len(labels) == 1
        for number in range(UPGRADES_MAX):
            later = newer(package, directory, number)
            one, process = upgrade(machine, process, later, curl, waits)
            done.append(one)
            if one.gap_ms < GAP_MAX_MS:
                break
        print("upgrades:", done)
        assert curl.running, curl.stop()
        assert done[-1].gap_ms < GAP_MAX_MS, done
        again = [one["local_label"] for one in machine.json("noid", "contexts", "--json")]
        assert again == labels
    return process


@contextmanager
def download(machine: Machine[Lab]) -> Iterator[tuple[Download, Path]]:
    """A long download of host a, and the file of the waits for a processor."""
    machine.lab.serve_content()
    os.truncate(machine.lab.directory / "web" / "content" / CONTENT_NAME, DOWNLOAD_OCTETS)
    with tempfile.NamedTemporaryFile() as waits, Download(machine.lab, "a", "b.example") as curl:
        sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=waits)
        try:
            machine.until(lambda: curl.octets >= SOME_OCTETS)
            yield curl, Path(waits.name)
        finally:
            sleeper.kill()
            sleeper.wait(LIMIT_S)


def put_first(lab: Lab, curl: Download) -> None:
    """Schedules the programs of a download before others."""
    pids = map(int, said("ip", "netns", "pids", namespaces.namespace(lab.name, "b")).split())
    servers = [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == "nginx"]
    assert servers
    for one in (*servers, *curl.threads):
        os.sched_setscheduler(one, os.SCHED_RR, os.sched_param(1))


def upgrade(
    machine: Machine[Lab],
    process: "subprocess.Popen[bytes]",
    later: Path,
    curl: Download,
    waits: Path,
) -> "tuple[Upgrade, subprocess.Popen[bytes]]":
    """Upgrades to a package; returns what that did, and the service that runs then."""
    times = [time.monotonic_ns()]

    def more() -> None:
        wanted = curl.octets + SOME_OCTETS
        machine.until(lambda: curl.octets >= wanted or not curl.running)

    def start() -> None:
        nonlocal process
        process = machine.start()
        more()

    steps: tuple[Callable[[], object], ...] = (
        more,
        lambda: machine.install(later),
        lambda: machine.stop(process),
        start,
    )
    for step in steps:
        step()
        times.append(time.monotonic_ns())
    arrivals = list(curl.arrivals)
    before, dpkg, stop, begin = (gap_ms(arrivals, *span) for span in pairwise(times))
    idle, busy = ((times[0], times[1]), (times[1], times[-1]))
    waited = (waited_ms(waits, *idle), waited_ms(waits, *busy))
    return Upgrade(before, dpkg, stop, begin, gap_ms(arrivals, *busy), waited), process


def gap_ms(arrivals: list[Arrival], since_ns: int, until_ns: int) -> float:
    """The longest gap within a span of time."""
    return round(longest_silence_ns(arrivals, since_ns, until_ns) / MILLISECOND, 1)


def waited_ms(waits: Path, since_ns: int, until_ns: int) -> float:
    """The longest wait for a processor within a span of time."""
    lines = (line.split() for line in waits.read_text().splitlines())
    found = [int(wait) for at, wait in lines if since_ns <= int(at) <= until_ns]
    return round(max(found, default=0) / MILLISECOND, 1)


def main(count: int, built: str = "") -> None:
    """Prints what each of many upgrades does."""
    with tempfile.TemporaryDirectory() as place, Lab.create(plane="bpf") as lab:
        directory = Path(place)
        package = Path(built).absolute() if built else make_package(directory / "package")
        packages = [newer(package, directory, number) for number in range(2 * count)]
        lab.take_noid_down("a")
        (directory / "machine").mkdir()
        machine = Machine(lab, "a", directory / "machine")
        try:
            machine.install(package)
            machine.path("etc/noid.toml").write_text(CONFIG)
            process = machine.start()
            done: dict[bool, list[float]] = {False: [], True: []}
            with download(machine) as (curl, waits):
                for later, is_first in zip(packages, sorted([False, True] * count), strict=True):
                    if is_first:
                        put_first(lab, curl)
                    one, process = upgrade(machine, process, later, curl, waits)
                    done[is_first].append(one.gap_ms)
                    print(json.dumps({"first": is_first, **asdict(one)}), flush=True)
            process.kill()
            process.wait(LIMIT_S)
            for is_first, gaps in done.items():
                found = {"median": statistics.median(gaps), "max": max(gaps), "count": count}
                print(json.dumps({"first": is_first, "gap_ms": found}))
        finally:
            machine.close()


if __name__ == "__main__":
    words = dict(enumerate(sys.argv))
    main(int(words.get(1, "10")), words.get(2, ""))
