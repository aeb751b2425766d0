# SPDX-License-Identifier: MIT
"""``noid down`` leaves a host as it was; a host whose noid has ended reaches what it did [D49]."""

import functools
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyroute2.ethtool import Ethtool

from noid.errors import PlatformError
from noid.lab import configuration, inventory, namespaces
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.topology import HOSTS, PLAIN_ADDRESS, interfaces, locators
from noid.lab.waiting import wait_for
from noid.planes.bpf.pins import prepare_pins
from tests.lab.conversations import (
    PATIENCE_S,
    establish_context,
    restart_daemons,
    serve_echoes,
    tcp,
)
from tests.lab.vpn import (
    PRIORITIES,
    await_heeded,
    lead_into_vpn,
    lead_past_vpn,
    make_vpn,
    run,
)
from tests.planes.foreign import hanging

REACHED_WITHIN_S = 30.0
ATTEMPT_S = 3.0
ATTEMPTS = 3
FIRST_ROUTER = "2001:db8:1:a::1"
TARGETS = (*locators("b"), PLAIN_ADDRESS)
FAULTS = (Fault.ADMIN, Fault.CARRIER, Fault.SILENT, Fault.ROUTE, Fault.ADDRESS)
SHOWN = (
    "ip -6 rule",
    "ip -6 route show table all",
    "ip -6 addr",
    "ip -6 neigh show nud permanent",
    "ip -o -d link",
    "tc qdisc show",
    "nft list ruleset",
)
Snapshot = dict[str, object]


KEPT = {"state.json", "history.sqlite", "known_uplinks.json"}
"""What noid down leaves in the state directory, as docs/operating.md says."""


def snapshot(lab: Lab) -> Snapshot:
    """What there is on a, as far as noid could change it."""
    shown: Snapshot = {}
    for command in SHOWN:
        done = lab.run("a", command.split())
        assert done.returncode == 0, done.stderr
        shown[command] = sorted(done.stdout.splitlines())
    for interface in interfaces("a"):
        for side in ("egress", "ingress"):
            shown[f"{interface} {side}"] = inside(lab, functools.partial(hanging, interface, side))
    shown["features"] = inside(lab, features)
    shown["pins"] = files(lab.directory / inventory.PINS)
    shown["state"] = files(lab.directory / "a-state")
    shown["socket"] = lab.control_socket("a").exists()
    return shown


def assert_is_as(lab: Lab, wanted: Snapshot) -> None:
    """What there is on a is as wanted, once the kernel has noticed that a link works again."""
    try:
        wait_for("all is as before", lambda: snapshot(lab) == wanted, PATIENCE_S)
    except PlatformError:
        assert snapshot(lab) == wanted


def features() -> dict[str, list[str]]:
    with Ethtool() as ethtool:
        return {
            name: [
                one
                for one, feature in ethtool.get_features(name).features.items()
                if feature.enable
            ]
            for _, name in socket.if_nameindex()
        }


def inside(lab: Lab, function: Callable[[], object]) -> object:
    return namespaces.inside(namespaces.namespace(lab.name, "a"), function)


def files(directory: Path) -> list[str]:
    """What is in a directory, but the identity, which persists [D35]."""
    found = (str(path.relative_to(directory)) for path in directory.rglob("*"))
    return sorted(one for one in found if one not in KEPT and not one.startswith("b"))


def noid_down(lab: Lab) -> list[str]:
    """What ``noid down`` removes on a."""
    config = lab.directory / "a.toml"
    arguments = [sys.executable, "-m", "noid", "down", "--json", "--config", str(config)]
    done = lab.run("a", arguments)
    assert done.returncode == 0, done.stderr
    removed: list[str] = json.loads(done.stdout)["removed"]
    return removed


def connections(lab: Lab) -> str:
    """The TCP connections of a but for those that only wait."""
    states = ["exclude", "time-wait", "exclude", "listening", "exclude", "closed"]
    return lab.run("a", ["ss", "-6", "-H", "-n", "-t", "-a", "state", "connected", *states]).stdout


# --- noid down ------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["bpf", "tun"])
def fresh_lab(
    lab_machine: None, request: pytest.FixtureRequest
) -> Iterator[tuple[Lab, Snapshot, Snapshot]]:
    """A lab, and what there was before the first start, also with an uplink that is down."""
    with Lab.create(plane="none") as lab:
        serve_echoes(lab)
        prepare_pins(lab.directory / inventory.PINS)
        before = snapshot(lab)
        lab.cut(1, Fault.ADMIN)
        before_down = snapshot(lab)
        lab.heal(1)
        assert_is_as(lab, before)
        lab.plane = request.param
        for host in HOSTS:
            text = configuration.noid_toml(host, lab.directory, request.param)
            (lab.directory / f"{host}.toml").write_text(text, encoding="utf-8")
            etc = {"resolv.conf": configuration.resolv_conf("::1")}
            namespaces.write_etc(lab.name, host, etc)
        yield lab, before, before_down


def in_use(lab: Lab) -> None:
    """Starts noid where it does not run, and uses it."""
    restart_daemons(lab)
    establish_context(lab)
    with tcp(lab, "a") as conversation:
        conversation.echoes()


@pytest.mark.parametrize("end", [Lab.stop_daemon, Lab.kill_daemon], ids=["stop", "kill"])
def test_noid_down_leaves_nothing_after_use(
    fresh_lab: tuple[Lab, Snapshot, Snapshot], end: Callable[[Lab, str], None]
) -> None:
    lab, before, _ = fresh_lab
    in_use(lab)
    end(lab, "a")
    assert noid_down(lab) or lab.plane == "tun"
    assert snapshot(lab) == before
    assert noid_down(lab) == [], "it is down"
    assert snapshot(lab) == before


@pytest.mark.parametrize("end", [Lab.stop_daemon, Lab.kill_daemon], ids=["stop", "kill"])
def test_noid_down_leaves_nothing_while_a_provider_is_down(
    fresh_lab: tuple[Lab, Snapshot, Snapshot], end: Callable[[Lab, str], None]
) -> None:
    lab, before, _ = fresh_lab
    in_use(lab)
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        lab.cut(1)
        try:
            conversation.echoes()
            end(lab, "a")
            noid_down(lab)
            assert snapshot(lab) == before
        finally:
            lab.heal(1)


@pytest.mark.parametrize("end", [Lab.stop_daemon, Lab.kill_daemon], ids=["stop", "kill"])
@pytest.mark.parametrize("is_lost_after", [False, True], ids=["before", "after"])
def test_noid_down_leaves_nothing_while_an_uplink_is_down(
    fresh_lab: tuple[Lab, Snapshot, Snapshot],
    end: Callable[[Lab, str], None],
    is_lost_after: bool,
) -> None:
    lab, before, before_down = fresh_lab
    in_use(lab)
    if is_lost_after:
        end(lab, "a")
    with tcp(lab, "a", f"[{TARGETS[0]}]") as conversation:
        conversation.echoes()
        if not is_lost_after:
            lab.cut(1, Fault.ADMIN)
            conversation.echoes()
    # The kernel removes no device on whose address a connection has been received.
    lab.wait_for("the connection is closed", lambda: not connections(lab), PATIENCE_S)
    try:
        if is_lost_after:
            lab.cut(1, Fault.ADMIN)
        else:
            end(lab, "a")
        noid_down(lab)
        assert snapshot(lab) == before_down
    finally:
        lab.heal(1)
    assert_is_as(lab, before)


@pytest.mark.parametrize("end", [Lab.stop_daemon, Lab.kill_daemon], ids=["stop", "kill"])
@pytest.mark.parametrize("priority", list(PRIORITIES.values()), ids=list(PRIORITIES))
def test_noid_down_leaves_nothing_beside_a_vpn_of_everything(
    fresh_lab: tuple[Lab, Snapshot, Snapshot], end: Callable[[Lab, str], None], priority: int
) -> None:
    lab, before, _ = fresh_lab
    make_vpn(lab)
    try:
        lead_into_vpn(lab, priority)
        beside = snapshot(lab)
        lead_past_vpn(lab, priority)
        in_use(lab)
        lead_into_vpn(lab, priority)
        await_heeded(lab)
        end(lab, "a")
        noid_down(lab)
        assert snapshot(lab) == beside
        lead_past_vpn(lab, priority)
    finally:
        run(lab, "ip link del vpn0")
    assert_is_as(lab, before)


def test_noid_down_ends_the_connections_whose_address_it_takes_away(
    fresh_lab: tuple[Lab, Snapshot, Snapshot],
) -> None:
    """The kernel would wait for them, without a limit, before it removes the device."""
    lab, before, before_down = fresh_lab
    in_use(lab)
    with tcp(lab, "a", f"[{TARGETS[0]}]") as conversation:
        conversation.echoes()
        lab.cut(1, Fault.ADMIN)
        try:
            conversation.echoes()
            lab.stop_daemon("a")
            noid_down(lab)
            if lab.plane != "tun":  # the kernel removes a TUN device at once
                lab.wait_for("the connection is gone", lambda: not connections(lab), PATIENCE_S)
            assert snapshot(lab) == before_down
        finally:
            lab.heal(1)
    assert_is_as(lab, before)


# --- without a daemon -----------------------------------------------------------------------------


def connects(lab: Lab, target: str) -> bool:
    """Whether a new connection from a to an address is answered."""
    try:
        with tcp(lab, "a", f"[{target}]") as conversation:
            conversation.echoes(timeout_s=ATTEMPT_S)
    except (PlatformError, OSError):
        return False
    return True


def reaches(lab: Lab, target: str) -> bool:
    """Whether a new connection from a to an address is answered in time, at some attempt."""
    until_s = time.monotonic() + REACHED_WITHIN_S
    while time.monotonic() < until_s:
        if connects(lab, target):
            return True
        time.sleep(0.1)
    return False


def always_reaches(lab: Lab, target: str) -> bool:
    """Whether several new connections are answered.

    The kernel looks for the route of a connection again after any change of the routes, so that
    one of them may succeed by chance.
    """
    return all(connects(lab, target) for _ in range(ATTEMPTS))


def those(found: Callable[[Lab, str], bool], lab: Lab, targets: Sequence[str]) -> list[str]:
    """The targets for which a question is answered with yes, all of them asked at once."""
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(functools.partial(found, lab), targets))
    return [target for target, answer in zip(targets, answers, strict=True) if answer]


def leaves_by_the_first(lab: Lab) -> None:
    """Waits until new connections leave by the first provider, as before any fault.

    After a fault the kernel itself asks a router that did not answer once in 60 s.
    """

    def by_the_first() -> bool:
        lab.run("a", ["ping", "-c1", "-W1", FIRST_ROUTER])
        route = lab.run("a", ["ip", "-6", "route", "get", PLAIN_ADDRESS]).stdout
        return "dev up1 " in route and f"src {locators('a')[0]} " in route

    wait_for("packets leave by the first provider", by_the_first, PATIENCE_S)


@pytest.fixture(scope="module")
def reached(lab_machine: None) -> dict[Fault, list[str]]:
    """What a host without noid reaches, for each fault of its first provider."""
    found = {}
    with Lab.create(plane="none") as lab:
        serve_echoes(lab)
        for fault in FAULTS:
            leaves_by_the_first(lab)
            lab.cut(1, fault)
            found[fault] = those(always_reaches, lab, TARGETS)
            lab.heal(1)
    assert any(found.values())
    return found


ENDS = [(end, fault) for end in (Lab.stop_daemon, Lab.kill_daemon) for fault in FAULTS]


@pytest.mark.parametrize(("end", "fault"), ENDS)
def test_without_its_daemon_a_host_reaches_what_it_reaches_without_noid(
    kernel_lab: Lab,
    reached: dict[Fault, list[str]],
    fault: Fault,
    end: Callable[[Lab, str], None],
) -> None:
    lab = kernel_lab
    restart_daemons(lab)
    establish_context(lab)
    end(lab, "a")
    try:
        assert those(reaches, lab, TARGETS) == list(TARGETS)
        leaves_by_the_first(lab)
        lab.cut(1, fault)
        assert those(reaches, lab, reached[fault]) == reached[fault]
    finally:
        lab.heal(1)
