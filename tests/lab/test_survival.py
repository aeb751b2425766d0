"""The data plane in the kernel goes on without its daemon, and the next one takes it up [D36]."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from noid.constants import MILLISECOND
from noid.lab import inventory
from noid.lab.download import Download, longest_silence_ns
from noid.lab.lab import Lab
from noid.lab.topology import HOSTS, locators
from tests.lab.conversations import (
    establish_context,
    established,
    restart_daemons,
    serve_echoes,
    tcp,
)

BEFORE_OCTETS = 4 * 2**20
AFTER_OCTETS = 4 * 2**20
GAP_MAX_MS = 1000


@pytest.fixture(scope="module")
def kernel_lab(lab_machine: None) -> Iterator[Lab]:
    with Lab.create(plane="bpf") as lab:
        serve_echoes(lab)
        yield lab


def _kill(lab: Lab, host: str) -> None:
    """Ends a daemon with no time to tidy up."""
    processes = inventory.survey(lab.name)["processes"]
    (pid,) = (one["pid"] for one in processes if one["name"] == f"noid-{host}" and one["running"])
    os.kill(pid, signal.SIGKILL)
    lab.stop_daemon(host)


def test_a_download_goes_on_while_its_daemons_are_killed_and_outlives_its_provider_after(
    kernel_lab: Lab,
) -> None:
    lab = kernel_lab
    restart_daemons(lab)
    with Download(lab, "a", "b.example") as download:
        lab.wait_for(
            "the context is up and some has come",
            lambda: download.octets >= BEFORE_OCTETS and all(established(lab, h) for h in HOSTS),
            10,
        )
        labels = {host: lab.contexts(host)[0]["local_label"] for host in HOSTS}
        birthday = lab.status("a")["birthday"]
        killed_ns = time.monotonic_ns()
        for host in HOSTS:
            _kill(lab, host)
        before = download.octets
        lab.wait_for("it goes on", lambda: download.octets >= before + AFTER_OCTETS, 10)
        for host in HOSTS:
            lab.start_daemon(host)
        gap_ms = longest_silence_ns(download.arrivals, killed_ns, time.monotonic_ns()) / MILLISECOND
        assert {host: lab.contexts(host)[0]["local_label"] for host in HOSTS} == labels
        assert {lab.contexts(host)[0]["state"] for host in HOSTS} <= {"established", "ur-sent"}
        assert lab.status("a")["birthday"] == birthday
        assert "took up 1 contexts" in lab.log("a")
        assert gap_ms < GAP_MAX_MS
        lab.cut_provider(1)
        try:
            before = download.octets
            lab.wait_for("it survives", lambda: download.octets >= before + AFTER_OCTETS, 10)
        finally:
            lab.heal_provider(1)


def test_what_was_taken_down_is_not_taken_up(kernel_lab: Lab) -> None:
    lab = kernel_lab
    restart_daemons(lab)
    establish_context(lab)
    birthday = lab.status("a")["birthday"]
    lab.take_noid_down("a")
    assert "noid0" not in lab.run("a", ["ip", "-o", "link"]).stdout
    assert "27958" not in lab.run("a", ["ip", "-6", "rule"]).stdout
    lab.start_daemon("a")
    assert lab.status("a")["birthday"] == birthday + 1
    assert lab.contexts("a") == []


def test_a_connection_goes_on_when_the_uplinks_stop_cutting_super_packets(kernel_lab: Lab) -> None:
    lab = kernel_lab
    restart_daemons(lab)
    features = ("tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-generic-segmentation")
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        establish_context(lab)
        for host in HOSTS:
            lab.set_features(host, features, on=False)
        lab.wait_for("the plane has noticed", lambda: _cuts(lab), 10)
        conversation.echoes(octets=60_000)
        conversation.echoes(octets=60_000)
        assert lab.status("a")["plane"]["counters"]["packets cut before the uplink"] > 0
        # Where segments are put together again, they are restored before that.
        for host in HOSTS:
            lab.set_features(host, ("rx-gro",), on=True)
        lab.wait_for("XDP is there", lambda: all("XDP" in mode for mode in _modes(lab)), 10)
        conversation.echoes(octets=60_000)
        conversation.echoes(octets=60_000)


def _cuts(lab: Lab) -> bool:
    return all("cut before" in mode for mode in _modes(lab))


def _modes(lab: Lab) -> list[str]:
    """How packets pass each uplink of both hosts."""
    return [mode for host in HOSTS for mode in lab.status(host)["plane"]["uplinks"].values()]


def test_a_peer_that_no_program_asked_the_resolver_for_gets_a_context(kernel_lab: Lab) -> None:
    lab = kernel_lab
    restart_daemons(lab)
    ping = lab.spawn("a", ["ping", "-n", "-i0.1", locators("b")[0]])
    try:
        lab.wait_for("the context is up", lambda: established(lab, "a"), 10)
    finally:
        ping.end()
