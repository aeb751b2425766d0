# SPDX-License-Identifier: MIT
"""An uplink is taken out of use for maintenance and put back, and no packet is lost."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noid.bench.silence import read_records
from noid.constants import SECOND
from noid.control.client import ask
from noid.lab.download import Arrival, Download
from noid.lab.lab import Lab
from noid.lab.processes import Process
from noid.lab.topology import HOSTS, locators
from tests.lab.conversations import establish_context, restart_daemons

UDP_PORT = 7100
WITHIN_S = 60.0
"""A busy machine."""
DATAGRAMS = 50
"""That are let pass in each direction before and after each command."""
IN_FLIGHT_NS = 2 * SECOND
SOME_OCTETS = 2**22


class Call:
    """A UDP call of 50 packets/s in both directions; each end records what it sends and hears.

    Args:
        lab: the lab.
        directory: for the records.
    """

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.directory = directory
        self.ends = [self._spawn(lab, "b", "server"), self._spawn(lab, "a", "client")]

    def _spawn(self, lab: Lab, host: str, role: str) -> Process:
        words = [sys.executable, "-m", "noid.bench.traffic", role, "udp", "in"]
        words += ["--address", locators("b")[0], "--port", str(UDP_PORT)]
        words += ["--name", "b.example"]
        words += ["--record", str(self.directory / f"{host}-in")]
        return lab.spawn(host, [*words, "--sent", str(self.directory / f"{host}-out")])

    def of(self, host: str, data: str) -> list[Arrival]:
        path = self.directory / f"{host}-{data}"
        return read_records(path.read_bytes() if path.exists() else b"")

    def goes_on(self, lab: Lab) -> None:
        """Waits until so many more datagrams have come in each direction."""
        enough = {host: len(self.of(host, "in")) + DATAGRAMS for host in HOSTS}
        lab.wait_for(
            "the call goes on",
            lambda: all(len(self.of(host, "in")) >= enough[host] for host in HOSTS),
            WITHIN_S,
        )

    def losses(self, from_host: str, to_host: str) -> tuple[set[int], set[int]]:
        """The numbers of what was lost and what came twice, but for what may be under way."""
        received = self.of(to_host, "in")
        first, last_ns = received[0].octets, received[-1].at_ns
        sent = {
            one.octets
            for one in self.of(from_host, "out")
            if one.octets >= first and one.at_ns < last_ns - IN_FLIGHT_NS
        }
        times = Counter(one.octets for one in received)
        assert len(sent) > 3 * DATAGRAMS
        return sent - times.keys(), {number for number, count in times.items() if count > 1}


@pytest.fixture
def lab(kernel_lab: Lab) -> Iterator[Lab]:
    """The lab, whose operator wants nothing in the end."""
    yield kernel_lab
    ask(kernel_lab.control_socket("a"), "auto")
    kernel_lab.wait_for("no uplink is avoided", lambda: not avoided(kernel_lab), WITHIN_S)


def noid(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    socket = str(lab.control_socket("a"))
    return lab.run("a", [sys.executable, "-m", "noid", *words, "--socket", socket])


def said(lab: Lab, *words: str) -> dict[str, Any]:
    """What a command answers in JSON."""
    done = noid(lab, *words, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def uplinks(lab: Lab) -> dict[str, dict[str, Any]]:
    return {one["uplink"]: one for one in ask(lab.control_socket("a"), "paths")["uplinks"]}


def avoided(lab: Lab) -> list[str]:
    """The uplinks of a that are not used as others are."""
    return [name for name, one in uplinks(lab).items() if one["deprecated"] or one["backup"]]


def number_in_use(lab: Lab) -> set[int]:
    """The providers of a whose locators the contexts of either end use."""
    used = {str(one["local_locator"]) for one in lab.contexts("a")}
    used |= {str(one["peer_locator"]) for one in lab.contexts("b")}
    return {number for number, one in enumerate(locators("a"), start=1) if one in used}


@pytest.mark.alone  # each loss is counted
def test_an_uplink_is_avoided_and_used_again_without_losing_a_packet(
    lab: Lab, tmp_path: Path
) -> None:
    establish_context(lab)
    name = lab.plan.uplink("a", 1)
    assert number_in_use(lab) == {1}
    call = Call(lab, tmp_path)
    with Download(lab, "a", "b.example") as download:
        call.goes_on(lab)
        lab.wait_for("some has come", lambda: download.octets >= SOME_OCTETS, WITHIN_S)
        assert said(lab, "avoid", name, "--for", "2h")["warnings"] == []
        lab.wait_for("both ends have left it", lambda: number_in_use(lab) == {2}, WITHIN_S)
        assert uplinks(lab)[name]["deprecated"]
        assert uplinks(lab)[name]["contexts"] == 0
        call.goes_on(lab)
        before = download.octets
        lab.wait_for("it goes on", lambda: download.octets > before, WITHIN_S)
        said(lab, "auto")
        lab.wait_for("both ends have come back", lambda: number_in_use(lab) == {1}, WITHIN_S)
        call.goes_on(lab)
        lab.wait_for("the download ends", lambda: not download.running, WITHIN_S)
        assert download.sha256 == lab.description.content_sha256
    for end in call.ends:
        end.end()
    assert call.losses("a", "b") == (set(), set())
    assert call.losses("b", "a") == (set(), set())


def test_an_uplink_is_used_before_all_others_until_told(lab: Lab) -> None:
    establish_context(lab)
    name = lab.plan.uplink("a", 2)
    assert said(lab, "use", name)["use"] == name
    lab.wait_for("both ends use it", lambda: number_in_use(lab) == {2}, WITHIN_S)
    shown = noid(lab, "paths").stdout
    assert "used before all others" in shown
    assert uplinks(lab)[name]["backup"] is False
    assert uplinks(lab)[lab.plan.uplink("a", 1)]["backup"] is True
    said(lab, "auto")
    lab.wait_for("both ends have come back", lambda: number_in_use(lab) == {1}, WITHIN_S)


def test_a_new_connection_does_not_begin_at_an_avoided_uplink(lab: Lab) -> None:
    name = lab.plan.uplink("a", 1)
    said(lab, "avoid", name)
    restart_daemons(lab)
    lab.wait_for("it is marked", lambda: uplinks(lab)[name]["deprecated"], WITHIN_S)
    establish_context(lab)
    assert [one["local_aid"] for one in lab.contexts("a")] == [locators("a")[1]]


def test_what_is_avoided_stays_so_over_a_restart(lab: Lab) -> None:
    name = lab.plan.uplink("a", 1)
    said(lab, "avoid", name)
    lab.stop_daemon("a")
    lab.start_daemon("a")
    assert lab.status("a")["preferences"] == {
        "use": "",
        "avoid": [{"uplink": name, "until": None}],
        "configured": [],
    }
    lab.wait_for("it is marked", lambda: uplinks(lab)[name]["deprecated"], WITHIN_S)
    establish_context(lab)
    lab.wait_for("the other is used", lambda: number_in_use(lab) == {2}, WITHIN_S)
    assert f"{name}" in noid(lab, "paths").stdout
    assert "avoided until noid auto" in noid(lab, "paths").stdout


def test_what_cannot_be_is_refused_in_one_line(lab: Lab) -> None:
    one, two = (lab.plan.uplink("a", number) for number in (1, 2))
    done = noid(lab, "avoid", "up9")
    assert done.returncode != 0
    assert f"no uplink is called 'up9'; there are: {one}, {two}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    said(lab, "avoid", one)
    done = noid(lab, "avoid", two)
    assert done.returncode != 0
    assert f"no uplink besides {two} would be left to use; first: noid auto" in done.stderr
