# SPDX-License-Identifier: MIT
"""A provider that goes down and comes back is reported, in every way and once."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from noid.config import load_config
from noid.control.client import ask
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.topology import HOSTS
from noid.roles.expecting import BOOTING_S
from noid.roles.uplinks import RECENT_NS
from noid.state import known_uplinks
from tests.lab.conversations import establish_context, restart_daemons, tcp
from tests.test_json import SCHEMAS, check

SINK_PORT = 7002
WITHIN_S = 60.0
"""A busy machine; docs/monitoring.md says how long it takes on one that is not."""


@pytest.fixture
def lab(kernel_lab: Lab) -> Lab:
    """The lab, both daemons fresh."""
    restart_daemons(kernel_lab)
    return kernel_lab


def uplinks(lab: Lab, host: str = "a") -> dict[str, dict[str, Any]]:
    return {one["uplink"]: one for one in ask(lab.control_socket(host), "paths")["uplinks"]}


def noid(lab: Lab, *words: str) -> str:
    """What a command prints about the daemon on a."""
    socket = str(lab.control_socket("a"))
    done = lab.run("a", [sys.executable, "-m", "noid", *words, "--socket", socket])
    assert done.returncode == 0, done.stderr
    return done.stdout


def script_that_keeps_events(lab: Lab) -> Path:
    """Puts a script into events.d of a, and returns the file that it writes."""
    directory = lab.directory / "a-events.d"
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    events = lab.directory / "events"
    events.unlink(missing_ok=True)
    script = directory / "keep"
    script.write_text(f"#!/bin/sh\ncat >> {events}\n", encoding="utf-8")
    script.chmod(0o755)
    return events


def kept(events: Path, uplink: str = "") -> list[str]:
    """The states that events led to, of one uplink or of all."""
    if not events.exists():
        return []
    found = map(json.loads, events.read_text(encoding="utf-8").splitlines())
    return [one["new"] for one in found if uplink in ("", one["uplink"])]


def metrics(lab: Lab) -> str:
    return lab.run("a", ["curl", "-s", "http://[::1]:9469/metrics"]).stdout


@pytest.fixture(params=[Fault.SILENT, Fault.CARRIER, Fault.ADDRESS], ids=lambda one: one.value)
def fault(request: pytest.FixtureRequest) -> Iterator[Fault]:
    """What happens to the first provider."""
    return request.param  # type: ignore[no-any-return] # one of the above


REASONS = {
    Fault.SILENT: "silent",
    Fault.CARRIER: "no_carrier",
    Fault.ADDRESS: "no_address",
}


def test_a_provider_that_fails_and_recovers_is_reported_once(lab: Lab, fault: Fault) -> None:
    establish_context(lab)
    name = lab.plan.uplink("a", 1)
    events = script_that_keeps_events(lab)
    known = len(lab.log("a"))

    def is_now(state: str, reason: str = "") -> bool:
        conversation.echoes()
        shown = uplinks(lab)[name]
        return bool(shown["state"] == state and shown["reason"] == reason)

    with tcp(lab, "a") as conversation:
        conversation.echoes()
        lab.cut(1, fault)
        try:
            lab.wait_for("the uplink is down", lambda: is_now("down", REASONS[fault]), WITHIN_S)
            assert lab.status("a")["uplinks_down"] == [name]
            assert f'noid_uplink_state{{state="down",uplink="{name}"}} 1.0' in metrics(lab)
            lab.wait_for("the script has the event", lambda: kept(events) == ["down"], WITHIN_S)
            assert noid(lab, "paths").splitlines()[1].split()[:2] == [name, "down"]
        finally:
            lab.heal(1)
        lab.wait_for("the uplink is up", lambda: is_now("up"), WITHIN_S)
        lab.wait_for("so has the script", lambda: kept(events) == ["down", "up"], WITHIN_S)
        peer = str(lab.contexts("a")[0]["peer_aid"])
        pairs = json.loads(noid(lab, "ping", peer, "--count", "1", "--json"))
        assert len(pairs) == 4
        assert any(one["in_use"] and one["received"] for one in pairs)
        shown = noid(lab, "history").splitlines()
        assert any(f"uplink {name}" in line and "down -> up" in line for line in shown)
    lines = [line for line in lab.log("a")[known:].splitlines() if "uplink " in line]
    down, up = (line.partition("uplink ")[2] for line in lines)
    assert down.startswith(f"{name} is down: ")
    assert up.startswith(f"{name} is up: it was down for ")
    assert json.loads(noid(lab, "paths", "--json"))["uplinks"]


@pytest.mark.parametrize("is_remembered", [True, False], ids=["remembered", "named"])
def test_a_provider_that_is_down_at_the_start_is_reported_once(
    lab: Lab, is_remembered: bool
) -> None:
    name = lab.plan.uplink("a", 1)
    config = Path(lab.environment("a")["NOID_CONFIG"])
    before = config.read_text(encoding="utf-8")
    known = lab.directory / "a-state" / known_uplinks.FILE_NAME
    assert known.parent == Path(load_config(config).state.directory)
    if is_remembered:
        lab.wait_for("the uplinks are stored", known.exists, BOOTING_S + WITHIN_S)
        assert name in known.read_text(encoding="utf-8")
    events = script_that_keeps_events(lab)

    def are_kept() -> list[str]:
        """A busy machine may also be slow to answer: that is no change of these."""
        return [one for one in kept(events, name) if one != "degraded"]

    lab.stop_daemon("a")
    logged = len(lab.log("a"))
    lab.cut(1, Fault.ADMIN)
    try:
        if not is_remembered:
            known.unlink(missing_ok=True)
            named = ", ".join(f'"{lab.plan.uplink("a", number)}"' for number in (1, 2))
            assert '["up*"]' in before
            config.write_text(before.replace('["up*"]', f"[{named}]"), encoding="utf-8")
        lab.start_daemon("a")
        lab.wait_for(
            "the uplink is down",
            lambda: name in lab.status("a")["uplinks_down"],
            BOOTING_S + WITHIN_S,
        )
        assert uplinks(lab)[name]["reason"] == "interface_down"
        assert f'noid_uplink_state{{state="down",uplink="{name}"}} 1.0' in metrics(lab)
        lab.wait_for("the script has the event", lambda: are_kept() == ["down"], WITHIN_S)
    finally:
        lab.heal(1)
        config.write_text(before, encoding="utf-8")
    lab.wait_for("so has the script", lambda: are_kept()[:2] == ["down", "up"], WITHIN_S)
    found = [line.partition("uplink ")[2] for line in lab.log("a")[logged:].splitlines()]
    lines = [one for one in found if one.startswith(f"{name} is ") and "degraded" not in one]
    assert lines[0] == f"{name} is down: the interface is down or gone"
    assert lines[1].startswith(f"{name} is up: it was down for ")


@contextlib.contextmanager
def one_way(lab: Lab) -> Iterator[None]:
    """Datagrams from a to b, and none back."""
    sink = lab.spawn("b", ["socat", "-u", f"UDP6-RECV:{SINK_PORT}", "OPEN:/dev/null"])
    words = "while sleep 0.02; do echo word; done"
    source = lab.spawn("a", ["socat", "-u", f"SYSTEM:{words}", f"UDP6:b.example:{SINK_PORT}"])
    try:
        yield
    finally:
        source.end()
        sink.end()


def await_shown(lab: Lab, number: int, *state: str) -> None:
    """Waits until both hosts show the state and the reason of their uplink to a provider."""

    def shows(host: str) -> bool:
        one = uplinks(lab, host)[lab.plan.uplink(host, number)]
        return (one["state"], one["reason"]) == state

    for host in HOSTS:
        lab.wait_for(f"{host} shows {' '.join(state)}", partial(shows, host), WITHIN_S)


def test_an_idle_provider_that_falls_silent_is_shown_at_both_ends_of_one_way_data(lab: Lab) -> None:
    establish_context(lab)
    began_ns = time.monotonic_ns()
    with one_way(lab):
        # Only then does what came before not count any more.
        lab.wait_for("it is old", lambda: time.monotonic_ns() > began_ns + RECENT_NS, WITHIN_S)
        used = lab.contexts("a")[0]["local_locator"]
        number = next(
            number
            for number in (1, 2)
            if used not in uplinks(lab)[lab.plan.uplink("a", number)]["locators"]
        )
        try:
            lab.cut(number, Fault.SILENT)
            await_shown(lab, number, "down", "silent")
        finally:
            lab.heal(number)
        await_shown(lab, number, "up", "")


def test_status_and_contexts_are_as_the_page_says(lab: Lab) -> None:
    establish_context(lab)
    status = lab.status("a")
    check("status", status)
    for name in ("plane", "dns", "spread"):
        check(name, status[name])
    assert status["preferences"].keys() == SCHEMAS["preferences"].keys() - {"warnings"}
    contexts = lab.contexts("a")
    assert contexts
    for one in contexts:
        check("context", one)
