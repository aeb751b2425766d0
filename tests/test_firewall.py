"""``noid doctor`` behind rules that are really there, and the rules it inserts."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from noid.cli.main import main
from noid.firewall import ROUNDS_MAX, ranges
from tests.dns.conftest import in_network_namespace
from tests.plane import foreign

LINKS = """\
link set lo up
link add up1 type veth peer name provider1
link add up2 type veth peer name provider2
link set up1 up
link set up2 up
link set provider1 up
link set provider2 up
address add 2001:db8:1:a::a/64 dev up1 nodad
address add 2001:db8:2:a::a/64 dev up2 nodad
rule add from 2001:db8:1:a::a lookup 101
rule add from 2001:db8:2:a::a lookup 102
route add default via 2001:db8:1:a::1 dev up1 table 101
route add default via 2001:db8:2:a::1 dev up2 table 102
route add default via 2001:db8:1:a::1 dev up1
"""
BASE = "table inet house {{\nchain c {{\ntype filter hook {hook} priority 0;\n{rules}\n}}\n}}\n"
ONLY_KNOWN = "policy drop\niif lo accept\nicmpv6 type { 135, 136 } accept"
NO_REPLIES = "inbound restored packets (TCP, UDP) on up1 up2"
DROPPED = [
    ("input", "meta l4proto 224-239 drop", ["inbound next headers 224-239 on up1 up2"]),
    ("input", "icmpv6 type 200 drop", ["inbound ICMPv6 type 200 on up1 up2"]),
    ("prerouting", "meta l4proto 224-239 drop", ["inbound next headers 224-239 on up1 up2"]),
    (
        "output",
        "meta l4proto { 225, 232-239 } drop",
        ["outbound next headers 225, 232-239 on up1 up2"],
    ),
    ("output", "icmpv6 type 200 reject", ["outbound ICMPv6 type 200 on up1 up2"]),
    ("postrouting", "meta l4proto 230 drop", ["outbound next headers 230 on up1 up2"]),
    ("input", 'iifname "up2" icmpv6 type 200 drop', ["inbound ICMPv6 type 200 on up2"]),
    ("output", 'oifname "up1" meta l4proto 224 drop', ["outbound next headers 224 on up1"]),
    (
        "input",
        ONLY_KNOWN,
        [
            "inbound ICMPv6 type 200 on up1 up2",
            "inbound next headers 224-239 on up1 up2",
            NO_REPLIES.replace("up1 up2", "noid0-try"),
            NO_REPLIES,
        ],
    ),
    (
        "input",
        'iifname "noid0*" drop',
        ["inbound restored packets (TCP, UDP) on noid0-try"],
    ),
    (
        "output",
        'oifname "noid0*" drop',
        ["outbound plain packets (TCP, UDP) on noid0-try"],
    ),
]
"""A hook, the rules there, and what doctor says they drop."""

ZONES = """\
table inet zones {
    chain filter_INPUT {
        type filter hook input priority 10; policy accept;
        ct state { established, related } accept
        ct state invalid drop
        iifname "lo" accept
        jump filter_INPUT_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_INPUT_ZONES {
        iifname "up1" goto filter_IN_public
        iifname "up2" goto filter_IN_external
    }
    chain filter_IN_public {
        icmpv6 type { 1, 2, 3, 4, 135, 136 } accept
        reject with icmpx admin-prohibited
    }
    chain filter_IN_external {
        meta l4proto 224-239 accept
        drop
    }
}
"""
"""Zones by interface as firewalld makes them. Connection tracking calls ICMPv6 type 200 invalid."""
REVERSE_PATH = """\
table inet fw {
    chain pre {
        type filter hook prerouting priority -145; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing counter drop
    }
    chain input {
        type filter hook input priority 0; policy drop;
        icmpv6 type 200 accept
        ct state established,related accept
        ct state invalid counter drop
        iif lo accept
        meta l4proto 224-239 accept
    }
}
"""
LOOSE = REVERSE_PATH.replace("saddr . mark . iif oif", "saddr . mark oif")
OWN_ZONE_ONLY = """\
table inet fw {
    chain input {
        type filter hook input priority 0; policy accept;
        iifname "up2" ip6 daddr 2001:db8:1:a::a drop
        iifname "up1" ip6 daddr 2001:db8:2:a::a drop
    }
}
"""
BEFORE_NFTABLES = """\
table netdev early {
    chain up1 {
        type filter hook ingress device "up1" priority 0;
        icmpv6 type 200 drop
    }
}
"""
CHAINS_IN_A_ROW = "table inet row {\n" + "".join(
    f"chain c{one} {{\ntype filter hook input priority {one};\nicmpv6 type 200 drop\n}}\n"
    for one in range(ROUNDS_MAX)
)
TOO_MANY = f"{CHAINS_IN_A_ROW}chain last {{\ntype filter hook input priority 99;\n"
TOO_MANY += "icmpv6 type 200 drop\n}\n}\n"
CHAINS_IN_A_ROW += "}\n"


@dataclass
class Seen:
    """What doctor says of the firewall.

    Attributes:
        wrong: texts.
        unknown: texts.
        fixes: what it says of its fixes.
        commands: those it suggests.
        is_ok: whether it says that packets pass.
    """

    wrong: list[str]
    unknown: list[str]
    fixes: list[str]
    commands: list[str]
    is_ok: bool


def run(program: str, text: str) -> None:
    arguments = {"ip": ["ip", "-6", "-batch", "-"], "nft": ["nft", "-f", "-"]}[program]
    subprocess.run(arguments, input=text, text=True, check=True)


def output(*arguments: str) -> str:
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


def state() -> list[str]:
    """Devices and rules of the host, and the routes that a trial could add.

    Routes of addresses come once the kernel has found these to be unique, at any time.
    """
    routes = output("ip", "-6", "route", "show", "table", "all").splitlines()
    return [
        output("ip", "-o", "link"),
        output("ip", "-6", "rule"),
        *(one for one in routes if "noid" in one or "2000:" in one),
    ]


def ruleset() -> str:
    return output("nft", "--stateless", "list", "ruleset")


def examined(capsys: pytest.CaptureFixture[str], directory: Path, *options: str) -> Seen:
    """What doctor says of the firewall; nothing of the trial stays."""
    before = state()
    capsys.readouterr()
    config = directory / "noid.toml"
    config.write_text(f'[control]\nsocket = "{directory}/s"\n[plane]\npins = "{directory}/pins"\n')
    words = ["doctor", "--json", "--config", str(config), *options]
    words += ["--resolv-conf", str(directory / "none")]
    assert main(words) == 1, "no daemon is running"
    findings = json.loads(capsys.readouterr().out)
    assert state() == before
    assert "noid-try" not in ruleset()
    found = [one for one in findings if one["check"] == "firewall"]
    return Seen(
        wrong=[one["text"] for one in found if one["health"] == "wrong"],
        unknown=[one["text"] for one in found if one["health"] == "unknown"],
        fixes=[one["text"] for one in findings if one["check"] == "firewall fix"],
        commands=[one["mend"] for one in found if one["mend"]],
        is_ok=any(one["health"] == "ok" for one in found),
    )


def carry_out(commands: list[str]) -> None:
    for command in commands:
        subprocess.run(command, shell=True, check=True)


@pytest.mark.lab
@pytest.mark.parametrize(("hook", "rules", "expected"), DROPPED)
def test_what_rules_drop_is_named_and_passes_after_the_fix(
    hook: str, rules: str, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scenario() -> tuple[Seen, str, str, Seen]:
        run("ip", LINKS)
        run("nft", BASE.format(hook=hook, rules=rules))
        before = ruleset()
        seen = examined(capsys, tmp_path)
        unchanged = ruleset()
        carry_out(seen.commands)
        return seen, before, unchanged, examined(capsys, tmp_path)

    seen, before, unchanged, after = in_network_namespace(scenario)
    assert [text.partition(" drops ")[2] for text in seen.wrong] == expected
    assert all(text.startswith("inet house c (") for text in seen.wrong)
    assert before == unchanged, "without --fix it changes no rule"
    assert (after.wrong, after.is_ok) == ([], True)


@pytest.mark.lab
def test_without_rules_packets_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def scenario() -> Seen:
        run("ip", LINKS)
        return examined(capsys, tmp_path)

    assert in_network_namespace(scenario) == Seen([], [], [], [], is_ok=True)


@pytest.mark.lab
@pytest.mark.parametrize("rules", [ZONES, REVERSE_PATH, OWN_ZONE_ONLY, CHAINS_IN_A_ROW])
def test_fixes_are_kept_once_the_same_test_passes(
    rules: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scenario() -> tuple[Seen, Seen, Seen]:
        run("ip", LINKS)
        run("nft", rules)
        first = examined(capsys, tmp_path)
        return first, examined(capsys, tmp_path, "--fix"), examined(capsys, tmp_path)

    first, fixed, after = in_network_namespace(scenario)
    assert first.wrong + first.unknown
    assert fixed.fixes
    assert all(text.startswith("nft 'insert rule inet ") for text in fixed.fixes)
    assert all("the same test passes now" in text for text in fixed.fixes)
    assert (fixed.wrong, fixed.unknown, fixed.is_ok) == ([], [], True)
    assert after == Seen([], [], [], [], is_ok=True)


@pytest.mark.lab
def test_zones_by_interface_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scenario() -> Seen:
        run("ip", LINKS)
        run("nft", ZONES)
        return examined(capsys, tmp_path)

    seen = in_network_namespace(scenario)
    zone = "inet zones filter_IN_public (reject with icmpx admin-prohibited)"
    assert seen.wrong == [
        "inet zones filter_INPUT (ct state invalid drop) drops inbound ICMPv6 type 200 on up1 up2",
        f"{zone} drops inbound next headers 224-239 on up1",
    ]
    assert seen.commands == [
        "nft 'insert rule inet zones filter_INPUT icmpv6 type 200 accept'",
        "nft 'insert rule inet zones filter_IN_public meta l4proto 224-239 accept'",
    ]


@pytest.mark.lab
def test_a_strict_reverse_path_filter_is_named_and_the_exception_is_narrow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scenario() -> tuple[Seen, Seen]:
        run("ip", LINKS)
        run("nft", REVERSE_PATH)
        seen = examined(capsys, tmp_path)
        carry_out(list(dict.fromkeys(seen.commands)))
        return seen, examined(capsys, tmp_path)

    seen, after = in_network_namespace(scenario)
    rule = "meta nfproto ipv6 fib saddr . mark . iif oif missing counter drop"
    named = f"inet fw pre ({rule}) drops inbound restored packets (TCP, UDP) on up1 up2"
    assert all(text.startswith(named) for text in (*seen.wrong, *seen.unknown))
    assert [text.endswith("while its own uplink is down") for text in seen.unknown] == [True]
    assert all("ct state established,related accept'" in one for one in seen.commands)
    assert after == Seen([], [], [], [], is_ok=True)


@pytest.mark.lab
def test_a_loose_reverse_path_filter_drops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scenario() -> Seen:
        run("ip", LINKS)
        run("nft", LOOSE)
        return examined(capsys, tmp_path)

    assert in_network_namespace(scenario) == Seen([], [], [], [], is_ok=True)


@pytest.mark.lab
def test_rules_in_front_of_nftables_tables_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scenario() -> tuple[Seen, Seen]:
        run("ip", LINKS)
        run("nft", BEFORE_NFTABLES)
        return examined(capsys, tmp_path), examined(capsys, tmp_path, "--fix")

    seen, fixed = in_network_namespace(scenario)
    assert seen.wrong == [
        "netdev early up1 (icmpv6 type 200 drop) drops inbound ICMPv6 type 200 on up1"
    ]
    assert (fixed.wrong, fixed.is_ok) == ([], True)


@pytest.mark.lab
def test_fixes_that_do_not_help_are_deleted_and_not_praised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More chains drop one after another than fixes are tried."""

    def scenario() -> tuple[str, Seen, str]:
        run("ip", LINKS)
        run("nft", TOO_MANY)
        before = ruleset()
        return before, examined(capsys, tmp_path, "--fix"), ruleset()

    before, fixed, after = in_network_namespace(scenario)
    assert before == after
    assert len(fixed.fixes) == ROUNDS_MAX
    assert all("did not help, and deleted again" in text for text in fixed.fixes)
    assert (len(fixed.wrong), fixed.is_ok) == (1, False)
    assert fixed.commands == [], "a rule that did not help is not suggested again"


@pytest.mark.lab
def test_what_no_rule_of_nftables_drops_comes_without_a_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A BPF program drops control messages on an uplink; nftables does not see them."""

    def scenario() -> tuple[Seen, Seen]:
        run("ip", LINKS)
        program = foreign.program(foreign.DROP_CONTROL)
        kept = foreign.hang("clsact", "up1", "ingress", program, priority=foreign.BEFORE)
        try:
            return examined(capsys, tmp_path), examined(capsys, tmp_path, "--fix")
        finally:
            os.close(kept)
            os.close(program)

    for seen in in_network_namespace(scenario):
        assert seen.wrong == ["something other than nftables drops inbound ICMPv6 type 200 on up1"]
        assert seen.fixes == []
        assert seen.commands == [
            "no nftables rule drops it; see ip6tables-legacy -S and tc filter show"
        ]


@pytest.mark.lab
def test_what_the_host_sends_to_nobody_is_not_held_against_its_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host that may not open connections to the port of the trial has no restored answers."""

    def scenario() -> Seen:
        run("ip", LINKS)
        run("nft", BASE.format(hook="output", rules="tcp dport 443 drop\nudp dport 443 drop"))
        return examined(capsys, tmp_path)

    seen = in_network_namespace(scenario)
    assert seen.wrong == []
    assert seen.unknown == [
        "restored packets are not tried: this host's rules let no TCP, UDP to port 443 out"
    ]


@pytest.mark.lab
def test_a_table_left_by_a_trial_that_was_killed_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scenario() -> Seen:
        run("ip", LINKS)
        run(
            "nft",
            "table inet noid-try {\nchain old {\ntype filter hook input priority 0;\ndrop\n}\n}",
        )
        return examined(capsys, tmp_path)

    assert in_network_namespace(scenario) == Seen([], [], [], [], is_ok=True)


def test_numbers_are_written_as_nft_reads_them() -> None:
    assert ranges((224, 225, 226, 230, 239, 238)) == ["224-226", "230", "238-239"]
