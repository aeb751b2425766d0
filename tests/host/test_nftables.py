# SPDX-License-Identifier: MIT
"""nft as a program: what it prints, and what is done when it refuses."""

import subprocess

import pytest

from noid.errors import PlatformError, Unsupported
from noid.host import nftables, programs
from noid.host.nftables import TRACE_OCTETS_MAX, Drop, Trace, Traced
from tests.namespaces import in_network_namespace

HERE, THERE = "2001:db8::1", "2000::1"
PACKET = f'packet: iif "up1" ip6 saddr {THERE} ip6 daddr {HERE} ip6 hoplimit 64 ip6 nexthdr'
PRINTED = f"""\
trace id 1 inet own first {PACKET} ipv6-icmp ip6 length 20 icmpv6 type 200 icmpv6 code 255
trace id 1 inet own first rule meta nftrace set 1 (verdict continue)
trace id 2 inet own first {PACKET} 224 ip6 length 16
trace id 1 inet fw input rule ct state invalid counter packets 3 bytes 180 drop (verdict drop)
trace id 2 inet fw input rule meta l4proto 224 jump other (verdict jump other)
trace id 2 inet fw other policy accept
trace id 2 inet fw input policy drop
trace id 3 inet own first {PACKET} udp ip6 length 16
trace id 3 inet own last rule drop (verdict drop)
trace id 4 inet fw input rule drop (verdict drop)
trace id 5 ip fw input packet: iif "up1" ip saddr 192.0.2.1 ip daddr 192.0.2.2
trace id 5 ip fw input rule drop (verdict drop)
something else
"""


def printing(*arguments: str) -> Trace:
    return Trace(subprocess.Popen(arguments, stdout=subprocess.PIPE))


def test_a_trace_names_the_rule_that_dropped_each_packet() -> None:
    trace = printing("true")
    trace.process.communicate()
    trace.output += PRINTED.encode()
    assert trace.drops(except_table="own") == {
        Traced("up1", THERE, HERE, 58, 200): Drop("inet fw input", "ct state invalid counter drop"),
        Traced("up1", THERE, HERE, 224): Drop("inet fw input", "policy drop"),
    }


def test_a_packet_with_the_number_of_one_that_was_dropped_is_another() -> None:
    trace = printing("true")
    trace.process.communicate()
    trace.output += PRINTED.replace("up1", "up2").encode()
    trace.output += PRINTED.encode()
    devices = {traced.device for traced in trace.drops(except_table="own")}
    assert devices == {"up1", "up2"}


def test_a_packet_with_the_number_of_one_that_passed_is_another() -> None:
    trace = printing("true")
    trace.process.communicate()
    passed = f"trace id 4 inet own first {PACKET} 224 ip6 length 16\n".replace("up1", "up2")
    dropped = f"trace id 4 inet own first {PACKET} 224 ip6 length 16\n"
    trace.output += (passed + dropped + "trace id 4 inet fw input policy drop\n").encode()
    drop = Drop("inet fw input", "policy drop")
    assert trace.drops(except_table="own")[Traced("up1", THERE, HERE, 224)] == drop


def test_only_so_much_of_a_trace_is_kept() -> None:
    trace = printing("head", "-c", str(TRACE_OCTETS_MAX + 1), "/dev/zero")
    assert not trace.wait_for("no such text", lambda: None)
    trace.process.communicate()
    assert len(trace.output) == TRACE_OCTETS_MAX


def test_without_nft_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(programs, "SERVER_PATH", "/nowhere")
    with pytest.raises(Unsupported, match="nft is not available: install the Debian package nft"):
        nftables.run("list ruleset")


@pytest.mark.lab
def test_nft_is_refused_in_one_line() -> None:
    def scenario() -> str:
        with pytest.raises(PlatformError) as refused:
            nftables.insert("inet none none accept")
        return str(refused.value)

    said = in_network_namespace(scenario)
    assert said.startswith("nft: ")
    assert "\n" not in said


@pytest.mark.lab
@pytest.mark.parametrize(
    ("hook", "priority", "expected"),
    [("prerouting", -300, False), ("prerouting", -145, True), ("input", 0, True)],
)
def test_chains_before_connection_tracking_are_told_apart(
    hook: str, priority: int, expected: bool
) -> None:
    def scenario() -> bool:
        nftables.run(
            f"table inet t {{\nchain c {{\ntype filter hook {hook} priority {priority}\n}}\n}}\n"
        )
        return nftables.sees_connections("inet t c")

    assert in_network_namespace(scenario) is expected


def test_chains_of_a_device_come_before_connection_tracking() -> None:
    assert not nftables.sees_connections("netdev t c")
