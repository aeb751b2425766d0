# SPDX-License-Identifier: MIT
"""Each fault does what it says, and is undone without a trace, on hosts without noid."""

import contextlib
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from noid.errors import PlatformError, Unsupported, UsageError
from noid.lab import changes, inventory, namespaces, nft, scenarios
from noid.lab.faults import FAULT_TEXTS, Fault
from noid.lab.lab import Lab
from noid.lab.router_scenarios import ROUTER_SCENARIOS
from noid.lab.scenarios import SCENARIOS
from noid.lab.topology import locators
from noid.lab.variants import VARIANTS, Variant
from tests.lab.conversations import PATIENCE_S

A1, A2 = locators("a")
B1, B2 = locators("b")
ROUTER_OF_A, ROUTER_OF_B = "2001:db8:1:a::1", "2001:db8:1:b::1"
STATIC = [fault for fault in Fault if fault is not Fault.RA]
"""The faults of a host whose addresses are static."""
ROUTER_ANSWERS = {Fault.SILENT, Fault.ONE_WAY, Fault.ONE_WAY_UP, Fault.ROUTER_REPLACED, Fault.ROUTE}
"""The faults that leave the router a neighbour."""
WITHOUT_CARRIER = {Fault.CARRIER, Fault.ADMIN}
HOST_FAULTS = [Fault.ADMIN, Fault.ADDRESS, Fault.ROUTE, Fault.CARRIER, Fault.ACCESS, Fault.ROUTER]
BUILDABLE = [variant for variant in VARIANTS if variant != "vlan"]
STALL_S = 2.0
State = dict[tuple[str, str], list[str]]


@pytest.fixture
def healed(plain_lab: Lab) -> Iterator[Lab]:
    """A lab without noid, which is whole before the test and again after it."""
    _await_pings(plain_lab)
    yield plain_lab
    for host in ("a", "b"):
        for number in (1, 2):
            plain_lab.heal(number, host)


@pytest.fixture(scope="module")
def learning(lab_machine: None) -> Iterator[Lab]:
    """A lab whose host a learns address and default route of uplink 1."""
    with Lab.create(variant="ra") as lab:
        yield lab


@pytest.mark.parametrize("fault", STATIC)
def test_a_fault_stops_what_it_says_and_heal_restores_everything(healed: Lab, fault: Fault) -> None:
    _await_pings(healed)
    before = _state(healed)
    healed.cut(1, fault)
    if fault is not Fault.ROUTER_REPLACED:
        assert _is_silent(healed, A1, B1)
    assert _pings(healed, A2, B2)
    healed.heal(1)
    _await_pings(healed)
    _assert_is_as(healed, before)


@pytest.mark.parametrize("fault", STATIC)
def test_neighbour_discovery_fails_where_it_fails_in_reality(healed: Lab, fault: Fault) -> None:
    if fault is Fault.ADDRESS:
        healed.run("a", ["ip", "addr", "add", "2001:db8:1:a::f/64", "dev", "up1", "nodad"])
    healed.cut(1, fault)
    healed.run("a", ["ip", "neigh", "flush", "dev", "up1"])
    answers = fault in ROUTER_ANSWERS | {Fault.ADDRESS}
    assert _pings(healed, "up1", ROUTER_OF_A, within_s=20 if answers else 1) == answers
    found = healed.run("a", ["ip", "neigh", "show", ROUTER_OF_A, "dev", "up1"]).stdout
    if fault is Fault.ADDRESS:
        healed.run("a", ["ip", "addr", "del", "2001:db8:1:a::f/64", "dev", "up1"])
    assert ("lladdr" in found) == answers, found


@pytest.mark.parametrize("fault", STATIC)
def test_a_link_loses_its_carrier_by_those_faults_alone(healed: Lab, fault: Fault) -> None:
    healed.cut(1, fault)
    flags = healed.run("a", ["ip", "-o", "link", "show", "up1"]).stdout
    assert ("LOWER_UP" in flags) == (fault not in WITHOUT_CARRIER), flags
    assert ("<NO-CARRIER" in flags) == (fault is Fault.CARRIER), flags


@pytest.mark.parametrize("fault", STATIC)
def test_addresses_and_routes_go_by_those_faults_alone(healed: Lab, fault: Fault) -> None:
    healed.cut(1, fault)
    addresses = healed.run("a", ["ip", "-6", "addr", "show", "dev", "up1"]).stdout
    routes = healed.run("a", ["ip", "-6", "route", "show", "default", "table", "all"]).stdout
    assert (A1 in addresses) == (fault not in (Fault.ADMIN, Fault.ADDRESS))
    assert (ROUTER_OF_A in routes) == (fault not in (Fault.ADMIN, Fault.ROUTE))


def test_one_direction_of_a_one_way_fault_works(healed: Lab) -> None:
    for fault, passes in ((Fault.ONE_WAY, True), (Fault.ONE_WAY_UP, False)):
        healed.cut(1, fault)
        octets = healed.delivered_octets(1, "b")
        assert _is_silent(healed, A1, B1, size=1000)
        assert (healed.delivered_octets(1, "b") - octets > 1000) == passes, fault
        healed.heal(1)


@pytest.mark.parametrize("fault", [Fault.ACCESS, Fault.ROUTER])
def test_a_dead_router_hits_both_hosts_and_a_dead_access_line_one(
    healed: Lab, fault: Fault
) -> None:
    healed.cut(1, fault)
    assert _is_silent(healed, A1, ROUTER_OF_A)
    reaches = _pings if fault is Fault.ACCESS else _is_silent
    assert reaches(healed, B1, ROUTER_OF_B, host="b")


def test_a_replaced_router_keeps_its_old_link_address_until_it_is_resolved(
    healed: Lab,
) -> None:
    assert _pings(healed, A1, ROUTER_OF_A)
    known = _neighbour(healed)
    healed.cut(1, Fault.ROUTER_REPLACED)
    assert _is_silent(healed, A1, ROUTER_OF_A)
    healed.run("a", ["ip", "neigh", "flush", "dev", "up1"])
    assert _pings(healed, A1, ROUTER_OF_A)
    assert _neighbour(healed) != known
    healed.cut(1, Fault.ROUTER_REPLACED)
    healed.heal(1)
    assert _pings(healed, A1, ROUTER_OF_A)
    assert _neighbour(healed) == known


def test_a_router_can_die_before_it_is_replaced(healed: Lab) -> None:
    healed.cut(1, Fault.ROUTER)
    healed.cut(1, Fault.ROUTER_REPLACED)
    healed.heal(1, how=Fault.ROUTER)
    healed.run("a", ["ip", "neigh", "flush", "dev", "up1"])
    assert _pings(healed, A1, ROUTER_OF_A)
    assert [fault for fault, *_ in _in_force(healed)] == [Fault.ROUTER_REPLACED]


def test_heal_undoes_the_faults_of_one_provider_and_one_host(healed: Lab) -> None:
    healed.cut(1, Fault.SILENT)
    healed.cut(1, Fault.ROUTE, "a")
    healed.cut(1, Fault.ACCESS, "b")
    healed.cut(2, Fault.SILENT)
    Lab.attach(healed.name).heal(1, "a")
    left = {(Fault.ACCESS, 1, "b"), (Fault.SILENT, 2, changes.EVERY_HOST)}
    assert set(_in_force(healed)) == left
    healed.heal(2)
    assert _pings(healed, A1, ROUTER_OF_A)
    assert _is_silent(healed, B1, ROUTER_OF_B, host="b")


def test_faults_of_one_uplink_are_reverted_together_in_any_order(healed: Lab) -> None:
    before = _state(healed)
    for faults in (HOST_FAULTS, reversed(HOST_FAULTS)):
        for fault in faults:
            healed.cut(1, fault)
        healed.heal(1)
        _await_pings(healed)
        _assert_is_as(healed, before)


def test_heal_without_a_fault_changes_nothing(healed: Lab) -> None:
    before = _state(healed)
    healed.heal(1)
    assert _state(healed) == before


def test_the_commands_name_the_fault_and_undo_it_on_both_hosts(healed: Lab) -> None:
    named = ("--name", healed.name)
    done = _noid_lab("cut", *named, "1", "--how", "carrier", "--host", "b")
    undo = f"noid lab heal --name {healed.name} 1"
    assert done.stdout == f"provider 1: {FAULT_TEXTS[Fault.CARRIER]}; undo: {undo}\n"
    assert _in_force(healed) == [(Fault.CARRIER, 1, "b")]
    _noid_lab("heal", *named, "1", "--how", "silent")
    assert _in_force(healed) == [(Fault.CARRIER, 1, "b")]
    _noid_lab("heal", *named, "1")
    assert _in_force(healed) == []


def test_a_fault_that_a_network_cannot_have_is_refused(healed: Lab) -> None:
    done = _noid_lab("cut", "--name", healed.name, "1", "--how", "ra")
    assert done.returncode == 1
    assert "--variant ra" in done.stderr
    with pytest.raises(UsageError, match="no host 'c'"):
        healed.cut(1, Fault.ACCESS, "c")
    with pytest.raises(UsageError, match="no provider 3"):
        healed.heal(3)
    assert _in_force(healed) == []


def test_rules_that_are_wrong_are_refused_in_one_line(healed: Lab) -> None:
    def load() -> None:
        nft.run("add table netdev there\nadd nonsense")

    with pytest.raises(PlatformError, match="syntax error") as refused:
        namespaces.inside(namespaces.namespace(healed.name, "a"), load)
    assert "\n" not in str(refused.value)
    assert healed.run("a", ["nft", "list", "ruleset"]).stdout == ""


def test_a_router_withdraws_itself_and_advertises_itself_again(learning: Lab) -> None:
    _await_pings(learning)
    learning.cut(1, Fault.RA)
    learning.wait_for("the route is gone", lambda: not _learnt_route(learning), PATIENCE_S)
    assert A1 in learning.run("a", ["ip", "-6", "addr", "show", "dev", "up1"]).stdout
    assert _pings(learning, A1, ROUTER_OF_A)
    assert _is_silent(learning, A1, B1)
    learning.heal(1)
    _await_pings(learning)


@pytest.mark.parametrize("fault", [Fault.ADMIN, Fault.CARRIER, Fault.ADDRESS, Fault.ROUTE])
def test_what_was_learnt_is_learnt_again(learning: Lab, fault: Fault) -> None:
    _await_pings(learning)
    learning.cut(1, fault)
    assert _is_silent(learning, A1, B1)
    learning.heal(1)
    _await_pings(learning)
    assert _learnt_route(learning)


@pytest.mark.parametrize("variant", BUILDABLE)
def test_a_variant_carries_packets_by_every_pair_and_a_fault_of_it_is_undone(
    lab_machine: None, variant: Variant
) -> None:
    with Lab.create(variant=variant) as lab:
        _await_pings(lab)
        assert _pings(lab, A2, B1)
        assert lab.run("a", ["ping", "-c1", "-W20", "b.example"]).returncode == 0, "by name"
        before = _state(lab)
        lab.cut(1, Fault.ACCESS)
        assert _is_silent(lab, A1, B1)
        lab.heal(1)
        _await_pings(lab)
        _assert_is_as(lab, before)
        name = lab.name
    assert name not in inventory.names()
    assert not namespaces.present(name, lab.plan.nodes)


def test_vlan_devices_carry_packets_or_the_kernel_is_named_as_the_reason(lab_machine: None) -> None:
    name, refusal = f"vlan-{os.getpid()}", ""
    with contextlib.ExitStack() as stack:
        try:
            lab = stack.enter_context(Lab.create(variant="vlan", name=name))
        except Unsupported as error:
            refusal = str(error)
        else:
            _await_pings(lab)
            assert "vlan" in lab.run("a", ["ip", "-d", "link", "show", "up1"]).stdout
    assert not refusal or refusal.endswith("it needs a kernel with CONFIG_VLAN_8021Q")
    assert name not in inventory.names()


def test_faults_that_would_hit_more_than_they_say_are_refused(lab_machine: None) -> None:
    with (
        Lab.create(variant="one-lan") as lab,
        pytest.raises(UsageError, match="one card for both providers"),
    ):
        lab.cut(1, Fault.CARRIER)
    with (
        Lab.create(variant="l3") as lab,
        pytest.raises(UsageError, match="neither carrier nor link-layer address"),
    ):
        lab.cut(1, Fault.ROUTER_REPLACED)


def test_a_scenario_tells_that_a_plain_conversation_dies(healed: Lab) -> None:
    outcome = scenarios.play(healed, SCENARIOS["access"], stall_after_s=STALL_S)
    assert not outcome.survived
    assert outcome.intact
    assert outcome.new_connection_ms is None
    assert outcome.gap_ms >= STALL_S * 1000
    assert (outcome.scenario, outcome.plane, outcome.fault) == ("access", "none", "access")
    assert _in_force(healed) == []


@pytest.mark.slow
def test_a_scenario_tells_that_a_plain_conversation_goes_on(healed: Lab) -> None:
    """The kernel asks for the replaced router again, here within a second and not after many."""
    _set_neighbour_times(healed, reachable_ms=500, retrans_ms=100, delay_s=0)
    try:
        outcome = scenarios.play(healed, SCENARIOS["router-replaced"], stall_after_s=60)
    finally:
        _set_neighbour_times(healed, reachable_ms=30_000, retrans_ms=1000, delay_s=5)
    assert outcome.good
    assert outcome.gap_ms > 0
    assert "longest silence" in outcome.figures


def test_the_command_lists_every_scenario() -> None:
    listed = [line.split()[0] for line in _noid_lab("run", "--list").stdout.splitlines()]
    assert set(listed) == {"blackhole", "restart", *ROUTER_SCENARIOS, *SCENARIOS}
    assert {row.fault for row in SCENARIOS.values()} == set(Fault)
    assert {row.variant for row in SCENARIOS.values()} == set(VARIANTS)


def _set_neighbour_times(lab: Lab, *, reachable_ms: int, retrans_ms: int, delay_s: int) -> None:
    """How long a believes in a neighbour, how often it then asks, and after which wait.

    A neighbour that is known keeps the timer that it has: it is forgotten.
    """
    switches = "net.ipv6.neigh.up1"
    reachable = f"{switches}.base_reachable_time_ms={reachable_ms}"
    delay = f"{switches}.delay_first_probe_time={delay_s}"
    retrans = f"{switches}.retrans_time_ms={retrans_ms}"
    for words in (
        ["sysctl", "-w", reachable, retrans, delay],
        ["ip", "neigh", "flush", "dev", "up1"],
    ):
        done = lab.run("a", words)
        assert done.returncode == 0, done.stderr


def _noid_lab(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "noid", "lab", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# --- looking --------------------------------------------------------------------------------------


def _pings(
    lab: Lab, source: str, to: str, *, host: str = "a", size: int = 56, within_s: int = 20
) -> bool:
    words = ["ping", "-c1", f"-W{within_s}", "-s", str(size), "-I", source, to]
    return lab.run(host, words).returncode == 0


def _is_silent(lab: Lab, source: str, to: str, *, host: str = "a", size: int = 56) -> bool:
    return not _pings(lab, source, to, host=host, size=size, within_s=1)


def _await_pings(lab: Lab) -> None:
    """Waits until both providers carry packets; a neighbour may have to be asked for first."""
    for source, to in ((A1, B1), (A2, B2)):
        reaches = functools.partial(_pings, lab, source, to, within_s=1)
        lab.wait_for(f"{source} reaches {to}", reaches, PATIENCE_S)


def _neighbour(lab: Lab) -> str:
    """The link-layer address by which a knows router 1."""
    found = lab.run("a", ["ip", "neigh", "show", ROUTER_OF_A, "dev", "up1"]).stdout
    return found.split("lladdr ")[1].split()[0]


def _learnt_route(lab: Lab) -> bool:
    return "proto ra" in lab.run("a", ["ip", "-6", "route", "show", "default"]).stdout


def _in_force(lab: Lab) -> list[tuple[Fault, int, str]]:
    return changes.in_force(lab.directory / "faults")


def _state(lab: Lab) -> State:
    """What is configured on the hosts and the router of provider 1, in no order."""
    commands = (
        "ip -6 addr",
        "ip -6 route show table all",
        "ip -6 rule",
        "ip -o link",
        "nft list ruleset",
        "tc qdisc",
    )
    return {
        (node, command): sorted(map(_lasting, lab.run(node, command.split()).stdout.splitlines()))
        for node in ("a", "b", "isp1")
        for command in commands
    }


def _assert_is_as(lab: Lab, wanted: State) -> None:
    """What is configured is as wanted, once the kernel has noticed that a link works again."""
    try:
        lab.wait_for("all is as before", lambda: _state(lab) == wanted, PATIENCE_S)
    except PlatformError:
        assert _state(lab) == wanted


def _lasting(line: str) -> str:
    """A line without what counts up or down."""
    return re.sub(r"expires \d+sec|packets \d+ bytes \d+", "", line)
