# SPDX-License-Identifier: MIT
import contextlib
import ipaddress
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rdatatype
import dns.reversename
import pytest

from noid.errors import PlatformError, Unsupported, UsageError
from noid.host import programs
from noid.lab import configuration, inventory, namespaces, processes, topology
from noid.lab.download import Arrival, longest_silence_ns
from noid.lab.faults import FAULT_TEXTS, Fault
from noid.lab.lab import Lab
from noid.lab.transfer import STALL_AFTER_S
from noid.lab.waiting import wait_for
from tests.lab.conversations import PATIENCE_S
from tests.lab.privilege import NOBODY

PLAN = topology.topology()
NOID = (sys.executable, "-m", "noid")

# --- the plan, without root -----------------------------------------------------------------------


def test_both_ends_of_every_link_share_a_prefix() -> None:
    for link in PLAN.links:
        assert _prefixes(*link.left) & _prefixes(*link.right), link


def test_no_address_stands_twice() -> None:
    addresses = [address.text for address in PLAN.addresses]
    assert len(addresses) == len(set(addresses))


def test_every_gateway_is_a_neighbour() -> None:
    for route in PLAN.routes:
        neighbours = set[ipaddress.IPv6Network]()
        for interface in topology.interfaces(route.node):
            neighbours |= _prefixes(route.node, interface)
        gateway = ipaddress.IPv6Address(route.gateway)
        assert any(gateway in prefix for prefix in neighbours), route


def test_a_cut_covers_every_interface_of_the_provider_and_no_other() -> None:
    cut = topology.provider_cut(2)
    assert {(rule.node, rule.incoming) for rule in cut} == {
        ("isp2", "core"),
        ("isp2", "custa"),
        ("isp2", "custb"),
    }
    with pytest.raises(UsageError, match="no provider 3"):
        topology.provider_cut(3)


def test_every_address_of_a_name_has_a_way_back_in_one_reverse_zone() -> None:
    zones = [configuration.zone_file(zone, PLAN.names) for zone in configuration.zone_names()[1:]]
    for name in PLAN.names:
        for address in name.addresses:
            pointer = f"{ipaddress.IPv6Address(address).reverse_pointer}. PTR {name.text}."
            assert sum(pointer in zone for zone in zones) == 1


@pytest.mark.parametrize("name", ["", "-a", "Lab", "a/b", "..", "a" * 33])
def test_a_name_that_could_leave_the_directory_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a lab"):
        inventory.directory_of(name)


def test_a_missing_program_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "SERVER_PATH", str(tmp_path))
    with pytest.raises(Unsupported, match=r"dumpcap.*Debian package tshark"):
        programs.find_program("dumpcap")


def test_the_longest_silence_is_counted_from_the_cut_to_the_end() -> None:
    arrivals = [Arrival(at_ns, 1) for at_ns in (0, 500, 510, 540, 545)]
    assert longest_silence_ns(arrivals, 505, 545) == 30
    assert longest_silence_ns(arrivals, 505, 600) == 55
    assert longest_silence_ns(arrivals, 546, 700) == 154


# --- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2])
def test_each_provider_carries_its_own_addresses(plain_lab: Lab, number: int) -> None:
    before = plain_lab.delivered_octets(number, "b")
    assert _ping(plain_lab, topology.locators("a")[number - 1], topology.locators("b")[number - 1])
    assert plain_lab.delivered_octets(number, "b") >= before + 100


def test_pairs_of_both_providers_cross_the_core(plain_lab: Lab) -> None:
    for source, destination in itertools.permutations((0, 1)):
        name = f"isp{source + 1}"
        before = namespaces.sent_octets(plain_lab.name, name, "core")
        assert _ping(plain_lab, topology.locators("a")[source], topology.locators("b")[destination])
        assert namespaces.sent_octets(plain_lab.name, name, "core") >= before + 100


def test_a_provider_drops_the_source_of_another(plain_lab: Lab) -> None:
    to_isp = namespaces.sent_octets(plain_lab.name, "a", "up1")
    to_b = plain_lab.delivered_octets(1, "b")
    wrong, right = topology.locators("a")[1], topology.locators("a")[0]
    destination = topology.locators("b")[0]
    assert _is_silent(plain_lab, wrong, destination, "-I", "up1", "-s", "1000")
    assert namespaces.sent_octets(plain_lab.name, "a", "up1") >= to_isp + 1000
    assert plain_lab.delivered_octets(1, "b") < to_b + 1000
    assert _ping(plain_lab, right, destination, "-I", "up1", "-s", "1000")


def test_a_cut_provider_forwards_nothing_until_it_is_healed(plain_lab: Lab) -> None:
    (source, _), (destination, _) = topology.locators("a"), topology.locators("b")
    plain_lab.cut_provider(1)
    try:
        assert _is_silent(plain_lab, source, destination)
        assert _is_silent(plain_lab, source, topology.NAME_SERVER)
        assert _ping(plain_lab, source, "2001:db8:1:a::1"), "the link itself must stay up"
        assert _ping(plain_lab, topology.locators("a")[1], topology.locators("b")[1])
        plain_lab.cut_provider(1)
    finally:
        plain_lab.heal_provider(1)
    assert _ping(plain_lab, source, destination)
    plain_lab.heal_provider(1)


@pytest.mark.parametrize(
    ("name", "rrtype", "expected"),
    [
        ("a.example.", "AAAA", ["2001:db8:1:a::a", "2001:db8:2:a::a"]),
        ("b.example.", "AAAA", ["2001:db8:1:b::b", "2001:db8:2:b::b"]),
        ("b.example.", "TYPE65286", ["\\# 0 "]),
        ("plain.example.", "AAAA", ["2001:db8:1:b::c"]),
        ("plain.example.", "TYPE65286", []),
        ("2001:db8:2:b::b", "PTR", ["b.example."]),
        ("2001:db8:1:b::c", "PTR", ["plain.example."]),
    ],
)
def test_the_name_server_knows_the_hosts(
    plain_lab: Lab, name: str, rrtype: str, expected: list[str]
) -> None:
    asked = dns.reversename.from_address(name) if rrtype == "PTR" else name
    query = dns.message.make_query(asked, rrtype)

    def ask() -> dns.message.Message:
        return dns.query.udp(query, topology.NAME_SERVER, timeout=PATIENCE_S)

    answer = namespaces.inside(namespaces.namespace(plain_lab.name, "a"), ask).answer
    found = sorted(record.to_text() for records in answer for record in records)
    assert found == expected
    assert all(records.ttl == 60 for records in answer)


def test_the_programs_of_a_host_resolve_and_download(plain_lab: Lab) -> None:
    resolved = plain_lab.run("a", ["getent", "ahostsv6", "plain.example"])
    assert resolved.stdout.split()[0] == topology.PLAIN_ADDRESS
    plain_lab.serve_content()
    url = "http://b.example/file.bin"
    head = plain_lab.run("a", ["curl", "--silent", "--show-error", "--head", url])
    assert f"Content-Length: {plain_lab.description.content_octets}" in head.stdout, head.stderr


def test_a_capture_holds_all_that_passed_while_it_ran(plain_lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "isp2.pcapng"
    source, destination = topology.locators("a")[1], topology.locators("b")[1]
    with plain_lab.capture("isp2", "custa", path):
        assert _ping(plain_lab, source, destination, "-p", "6d364d36")
    assert path.read_bytes().count(b"m6M6m6M6") >= 2
    assert _ping(plain_lab, source, destination)


def test_a_program_that_does_not_end_in_time_is_an_error(plain_lab: Lab) -> None:
    with pytest.raises(PlatformError, match=r"sleep 60 on a.*within 0\.1 s"):
        plain_lab.run("a", ["sleep", "60"], timeout_s=0.1)


# --- labs come and go -----------------------------------------------------------------------------


def test_two_labs_do_not_know_of_each_other(plain_lab: Lab) -> None:
    pair = topology.locators("a")[0], topology.locators("b")[0]
    with Lab.create() as other:
        with pytest.raises(UsageError, match="already up"):
            Lab.up(other.name, plane="none")
        other.cut_provider(1)
        assert _is_silent(other, *pair)
        assert _ping(plain_lab, *pair)
        names = {lab["name"] for lab in json.loads(_noid("status", "--json").stdout)}
        assert {other.name, plain_lab.name} <= names
    assert _ping(plain_lab, *pair)


def test_nothing_is_left_of_a_lab_not_even_what_will_not_go() -> None:
    names = {name for node in topology.NODES for name in topology.interfaces(node)}
    outside = names & set(os.listdir("/sys/class/net"))
    with Lab.create() as lab:
        ignoring = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
        stubborn = lab.spawn("dns", ["sh", "-c", f"({ignoring}) & {ignoring}"])
        lab.wait_for("both ignore TERM", lambda: stubborn.output() == "ready\n" * 2, PATIENCE_S)
        assert names & set(os.listdir("/sys/class/net")) == outside, "no interface shows outside"
        members = _members(lab.name)
        assert len(members) >= 4, "nsd, nginx, the shell and its child"
    assert _left(lab.name) == []
    assert not any(map(processes.is_running, members))


def test_down_removes_what_a_killed_lab_left_behind(lab_machine: None) -> None:
    with _running_scenario() as (noid, name):
        members = _members(name)
        noid.kill()
        noid.wait()
        assert _left(name) != []
        status = json.loads(_noid("status", "--json", "--name", name).stdout)
        assert [process["running"] for process in status[0]["processes"]] == [True, True]
        removed = _noid("down", "--name", name)
        assert removed.stdout == f"lab {name} is removed\n", removed.stderr
        assert _left(name) == []
        assert not any(map(processes.is_running, members))
    again = _noid("down", "--name", name)
    assert (again.returncode, again.stderr) == (0, "")


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_removes_its_lab(
    lab_machine: None, sign: signal.Signals, status: int
) -> None:
    with _running_scenario() as (noid, name):
        members = _members(name)
        noid.send_signal(sign)
        assert noid.wait(timeout=PATIENCE_S) == status
        assert _left(name) == []
        assert not any(map(processes.is_running, members))


def test_exec_ends_with_the_status_of_the_command(plain_lab: Lab) -> None:
    done = _noid("exec", "--name", plain_lab.name, "b", "--", "sh", "-c", "echo hello; exit 7")
    assert (done.returncode, done.stdout) == (7, "hello\n")


def test_a_provider_is_cut_and_healed_by_hand(plain_lab: Lab) -> None:
    named = ("--name", plain_lab.name)
    ends = (topology.locators("a")[0], topology.locators("b")[0])
    assert _ping(plain_lab, *ends)
    try:
        done = _noid("cut", *named, "1")
        undo = f"noid lab heal --name {plain_lab.name} 1"
        assert done.stdout == f"provider 1: {FAULT_TEXTS[Fault.SILENT]}; undo: {undo}\n"
        assert _is_silent(plain_lab, *ends)
    finally:
        healed = _noid("heal", *named, "1")
    assert healed.stdout == "provider 1: every fault is undone\n"
    assert _ping(plain_lab, *ends)


def test_a_provider_that_is_not_there_cannot_be_cut(plain_lab: Lab) -> None:
    done = _noid("cut", "--name", plain_lab.name, "3")
    assert (done.returncode, done.stderr) == (1, "noid: there is no provider 3; there are 2\n")


def test_without_root_there_is_one_clear_line() -> None:
    prefix = NOBODY if os.geteuid() == 0 else ()
    words = [*prefix, sys.executable, "-m", "noid", "lab", "up"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("noid: ")
    assert done.stderr.endswith("run as root\n")
    assert done.stderr.count("\n") == 1


def test_without_noid_a_download_stalls_when_its_provider_dies(lab_machine: None) -> None:
    done = _noid("run", "blackhole", "--plane", "none", "--stall-after", "2", "--json")
    assert done.returncode == 1, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["scenario"] == "blackhole"
    assert outcome["plane"] == "none"
    assert outcome["survived"] is False
    assert outcome["sha256_ok"] is False
    assert outcome["contexts"] == 0
    assert 2000 <= outcome["gap_ms"] < 1000 * STALL_AFTER_S, "a busy machine is later, not so much"
    assert 100 * 2**20 <= outcome["bytes"] < 190 * 2**20, "it is cut when half of it is there"
    assert outcome["seconds"] > 5
    assert done.stderr == ""


def test_where_there_is_no_daemon_none_can_be_killed() -> None:
    done = _noid("run", "restart", "--plane", "none")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "noid: restart: without noid there is no daemon to kill; take another --plane\n"
    )


# --- what the tests above stand on ----------------------------------------------------------------


def _prefixes(node: str, interface: str) -> set[ipaddress.IPv6Network]:
    return {
        ipaddress.IPv6Interface(address.text).network
        for address in PLAN.addresses
        if (address.node, address.interface) == (node, interface)
    }


def _ping(lab: Lab, source: str, destination: str, *options: str, within_s: int = 30) -> bool:
    words = ["ping", "-c1", f"-W{within_s}", *options, "-I", source, destination]
    return lab.run("a", words).returncode == 0


def _is_silent(lab: Lab, source: str, destination: str, *options: str) -> bool:
    return not _ping(lab, source, destination, *options, within_s=1)


def _noid(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*NOID, "lab", *words], capture_output=True, text=True, timeout=60)


@contextlib.contextmanager
def _running_scenario() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A ``noid lab run`` in the middle of its download, and the name of its lab."""
    words = [*NOID, "lab", "run", "blackhole", "--plane", "none"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as noid:
        name = ""
        try:
            name = wait_for("the run has a lab", lambda: _lab_of(noid.pid), PATIENCE_S)
            wait_for("curl runs on a", lambda: "a" in _nodes(name), PATIENCE_S)
            yield noid, name
        finally:
            noid.kill()
            if name:
                inventory.remove(name)


def _lab_of(pid: int) -> str:
    """The name of the lab whose programs are children of a process; empty if there is none."""
    for name in inventory.names():
        for process in inventory.survey(name)["processes"]:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{process['pid']}/status").read_text()
                if f"PPid:\t{pid}\n" in status:
                    return name
    return ""


def _nodes(name: str) -> set[str]:
    return set(namespaces.members(name, topology.NODES).values())


def _members(name: str) -> list[processes.Record]:
    found = namespaces.members(name, topology.NODES).items()
    records = [processes.record_of(pid, sequence=0, name="", node=node) for pid, node in found]
    return [record for record in records if record is not None]


def _left(name: str) -> list[str]:
    """What is left of a lab on the machine."""
    roots = (namespaces.RUN_DIRECTORY, namespaces.ETC_DIRECTORY, inventory.DIRECTORY)
    return [
        str(path)
        for root in roots
        for path in root.glob("*")
        if path.name == name or path.name.startswith(f"noid-{name}-")
    ]
