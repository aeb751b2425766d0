# SPDX-License-Identifier: MIT
"""``noid doctor`` behind rules that are really there, and the rules it inserts."""

import json
import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from noid.cli.main import main
from noid.config import Config, Plane
from noid.constants import LOCATORS_MAX
from noid.doctor.firewall import ROUNDS_MAX, Firewall, Outcome
from noid.doctor.losses import describe, ranges
from noid.doctor.trial import NOWHERE
from noid.host.netlink import HostNetwork
from noid.locators import parse_locator
from tests.doctor.rulesets import (
    BASE,
    BEFORE_NFTABLES,
    BY_THE_OTHER,
    CHAINS_IN_A_ROW,
    DROPPED,
    LINKS,
    LOOSE,
    ONLY_KNOWN,
    PLACES,
    PLANES,
    STRICT,
    TOO_MANY,
    ZONES,
)
from tests.namespaces import in_network_namespace, wait_for_links
from tests.planes import foreign

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
        ok: texts.
    """

    wrong: list[str]
    unknown: list[str]
    fixes: list[str]
    commands: list[str]
    ok: list[str]


def run(program: str, text: str) -> None:
    arguments = {"ip": ["ip", "-6", "-batch", "-"], "nft": ["nft", "-f", "-"]}[program]
    subprocess.run(arguments, input=text, text=True, check=True)


def output(*arguments: str) -> str:
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


def state() -> list[str]:
    """Devices, addresses and rules of the host, and the routes that a trial could add."""
    addresses = output("ip", "-6", "-o", "address", "show", "scope", "global").splitlines()
    routes = output("ip", "-6", "route", "show", "table", "all").splitlines()
    return [
        *(name for _, name in socket.if_nameindex()),
        *(" ".join(one.split()[1:4]) for one in addresses),
        output("ip", "-6", "rule"),
        *(one for one in routes if "noid" in one or "2000:" in one),
    ]


def ruleset() -> str:
    return output("nft", "--stateless", "list", "ruleset")


def tried(kind: Plane, act: Callable[[Firewall], Outcome] = Firewall.try_out) -> Outcome:
    """How a try on this host ends; it leaves nothing behind."""
    config = Config()
    before = state()
    network = HostNetwork()
    try:
        outcome = act(Firewall(network, config.plane, config.code_points(), PLACES, kind))
    finally:
        network.close()
    assert state() == before
    assert "noid-try" not in ruleset()
    return outcome


def texts(outcome: Outcome) -> list[str]:
    """What it says is lost."""
    return [describe(one, Config().code_points()) for one in outcome.lost]


def make_links(links: str) -> None:
    """Two uplinks that carry: what is sent before is lost without a rule."""
    run("ip", links)
    wait_for_links("up1", "up2", "provider1", "provider2")


def with_rules(rules: str, kind: Plane, links: str = LINKS) -> Outcome:
    """How a try ends on a host with certain rules."""

    def scenario() -> Outcome:
        make_links(links)
        run("nft", rules)
        return tried(kind)

    return in_network_namespace(scenario)


def examined(
    capsys: pytest.CaptureFixture[str], directory: Path, *options: str, kind: str = "auto"
) -> Seen:
    """What doctor says of the firewall; nothing of the trial stays."""
    before = state()
    capsys.readouterr()
    config = directory / "noid.toml"
    plane = f'[plane]\nkind = "{kind}"\npins = "{directory}/pins"\n'
    config.write_text(f'[control]\nsocket = "{directory}/s"\n{plane}')
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
        ok=[one["text"] for one in found if one["health"] == "ok"],
    )


@pytest.mark.lab
@pytest.mark.parametrize(("kind", "hook", "rules", "expected"), DROPPED)
def test_what_rules_drop_is_named_and_passes_after_the_fix(
    kind: Plane, hook: str, rules: str, expected: list[str]
) -> None:
    def scenario() -> tuple[Outcome, str, str, Outcome]:
        make_links(LINKS)
        run("nft", BASE.format(hook=hook, rules=rules))
        before = ruleset()
        seen = tried(kind)
        unchanged = ruleset()
        for loss in seen.lost:
            subprocess.run(loss.command, shell=True, check=True)
        return seen, before, unchanged, tried(kind) if seen.lost else seen

    seen, before, unchanged, after = in_network_namespace(scenario)
    assert [text.partition(" drops ")[2] for text in texts(seen)] == expected
    assert all(text.startswith("inet house c (") for text in texts(seen))
    assert before == unchanged
    assert after == Outcome((), ())


@pytest.mark.lab
@pytest.mark.parametrize("kind", ["auto", "bpf", "tun"])
def test_the_plane_that_the_host_would_get_is_tried(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scenario() -> Seen:
        make_links(LINKS)
        return examined(capsys, tmp_path, kind=kind)

    plane = "bpf" if kind == "auto" else kind
    text = f"M6 packets pass the rules of this host on up1 up2, in both directions (plane {plane})"
    assert in_network_namespace(scenario) == Seen([], [], [], [], [text])


@pytest.mark.lab
@pytest.mark.parametrize(("rules", "kind"), [(STRICT, "bpf"), (LOOSE, "bpf"), (LOOSE, "tun")])
def test_reverse_path_filters_drop_nothing_where_routes_go_by_source(
    rules: str, kind: Plane
) -> None:
    assert with_rules(rules, kind) == Outcome((), ())


@pytest.mark.lab
def test_a_strict_reverse_path_filter_drops_what_peers_of_the_tun_plane_send() -> None:
    """The routes to its peers lead to its own device, and their packets arrive on the uplinks."""
    seen = with_rules(STRICT, "tun")
    rule = "inet fw pre (meta nfproto ipv6 fib saddr . mark . iif oif missing counter drop)"
    assert texts(seen) == [
        f"{rule} drops inbound ICMPv6 type 200 on up1 up2",
        f"{rule} drops inbound next headers 224-239 on up1 up2",
        f"{rule} drops inbound plain packets (TCP, UDP) on up1 up2",
    ]


@pytest.mark.lab
def test_a_strict_reverse_path_filter_without_routes_by_source_is_named() -> None:
    """Answers to the second address appear on its uplink; its other routes lead by the first."""
    seen = with_rules(STRICT, "bpf", LINKS + BY_THE_OTHER)
    rule = "inet fw pre (meta nfproto ipv6 fib saddr . mark . iif oif missing counter drop)"
    assert texts(seen) == [f"{rule} drops inbound ICMPv6 type 200 on up2"]


@pytest.mark.lab
@pytest.mark.parametrize(
    ("rules", "kind"),
    [(ZONES, "tun"), (STRICT, "tun"), (CHAINS_IN_A_ROW, "auto"), (BEFORE_NFTABLES, "auto")],
)
def test_fixes_are_kept_once_the_same_test_passes(
    rules: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scenario() -> tuple[Seen, Seen]:
        make_links(LINKS)
        run("nft", rules)
        return (
            examined(capsys, tmp_path, "--fix", kind=kind),
            examined(capsys, tmp_path, kind=kind),
        )

    fixed, after = in_network_namespace(scenario)
    assert fixed.fixes
    assert all(text.startswith("nft 'insert rule ") for text in fixed.fixes)
    assert all("the same test passes now" in text for text in fixed.fixes)
    assert (fixed.wrong, fixed.unknown, len(fixed.ok)) == ([], [], 1)
    assert after == Seen([], [], [], [], fixed.ok)


@pytest.mark.lab
def test_zones_by_interface_are_told_apart() -> None:
    seen = with_rules(ZONES, "tun")
    zone = "inet zones filter_IN_public (reject with icmpx admin-prohibited)"
    assert texts(seen) == [
        "inet zones filter_INPUT (ct state invalid drop) drops inbound ICMPv6 type 200 on up1 up2",
        f"{zone} drops inbound next headers 224-239 on up1",
    ]
    assert [loss.command for loss in seen.lost] == [
        "nft 'insert rule inet zones filter_INPUT icmpv6 type 200 accept'",
        "nft 'insert rule inet zones filter_IN_public meta l4proto 224-239 accept'",
    ]


@pytest.mark.lab
def test_exceptions_for_restored_packets_are_narrow() -> None:
    rules = BASE.format(hook="input", rules=f"icmpv6 type 200 accept\n{ONLY_KNOWN}")
    where = "nft 'insert rule inet house c iifname"
    known = "ip6 daddr { 2001:db8:1:a::a, 2001:db8:2:a::a } ct state established,related accept'"
    assert [loss.command for loss in with_rules(rules, "bpf").lost] == [
        f'{where} {{ "up1", "up2" }} {known}',
        f'{where} "noid0*" {known}',
    ]


@pytest.mark.lab
def test_rules_in_front_of_nftables_tables_are_named() -> None:
    assert texts(with_rules(BEFORE_NFTABLES, "bpf")) == [
        "netdev early up1 (icmpv6 type 200 drop) drops inbound ICMPv6 type 200 on up1"
    ]


@pytest.mark.lab
def test_fixes_that_do_not_help_are_deleted_and_not_praised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More chains drop one after another than fixes are tried."""

    def scenario() -> tuple[str, Seen, str]:
        make_links(LINKS)
        run("nft", TOO_MANY)
        before = ruleset()
        return before, examined(capsys, tmp_path, "--fix"), ruleset()

    before, fixed, after = in_network_namespace(scenario)
    assert before == after
    assert len(fixed.fixes) == ROUNDS_MAX
    assert all("did not help, and deleted again" in text for text in fixed.fixes)
    assert (len(fixed.wrong), fixed.ok) == (1, [])
    assert fixed.commands == [], "a rule that did not help is not suggested again"


@pytest.mark.lab
def test_what_no_rule_of_nftables_drops_comes_without_a_rule() -> None:
    """A BPF program drops control messages on an uplink; nftables does not see them."""

    def fixed(firewall: Firewall) -> Outcome:
        helped, useless, outcome = firewall.fix()
        assert helped == useless == []
        return outcome

    def scenario() -> tuple[Outcome, Outcome]:
        make_links(LINKS)
        program = foreign.program(foreign.DROP_CONTROL)
        kept = foreign.hang("clsact", "up1", "ingress", program, priority=foreign.BEFORE)
        try:
            return tried("bpf"), tried("bpf", fixed)
        finally:
            os.close(kept)
            os.close(program)

    for seen in in_network_namespace(scenario):
        assert texts(seen) == ["something other than nftables drops inbound ICMPv6 type 200 on up1"]
        assert [loss.command for loss in seen.lost] == [
            "no nftables rule drops it; see ip6tables-legacy -S and tc filter show"
        ]


@pytest.mark.lab
def test_rules_that_drop_all_conversations_are_reported_as_untested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host that may not open connections to the port of the trial has no restored answers."""

    def scenario() -> Seen:
        make_links(LINKS)
        run("nft", BASE.format(hook="output", rules="tcp dport 443 drop\nudp dport 443 drop"))
        return examined(capsys, tmp_path)

    seen = in_network_namespace(scenario)
    assert seen.wrong == []
    assert seen.unknown == [
        "restored packets are not tested: the rules of this host drop outbound TCP, UDP to port 443"
    ]


@pytest.mark.lab
def test_a_table_left_by_a_trial_that_was_killed_is_replaced() -> None:
    old = "table inet noid-try {\nchain old {\ntype filter hook input priority 0;\ndrop\n}\n}"
    assert with_rules(old, "bpf") == Outcome((), ())


@pytest.mark.lab
@pytest.mark.parametrize("kind", PLANES)
def test_no_packet_leaves_the_host(kind: Plane) -> None:
    def scenario() -> tuple[list[bytes], list[bytes]]:
        make_links(LINKS)
        run("nft", LOOSE)
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86DD)) as line:
            line.setblocking(False)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            assert tried(kind) == Outcome((), ())
            during = sent_by_locators(line)
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
                one.bind(("2001:db8:1:a::a", 0))
                one.sendto(b"", ("2001:db8:1:a::1", 9))
            return during, sent_by_locators(line)

    during, after = in_network_namespace(scenario)
    assert during == []
    assert after, "neighbour discovery of what was sent to a neighbour"


def sent_by_locators(line: socket.socket) -> list[bytes]:
    """The packets of this host that have arrived at a provider."""
    providers = {socket.if_nametoindex(name) for name in ("provider1", "provider2")}
    found: list[bytes] = []
    while True:
        try:
            packet, (name, *_) = line.recvfrom(2_048)
        except BlockingIOError:
            return found
        ours = packet[8:24] in PLACES or packet[24:32] == NOWHERE[:8]
        if ours and socket.if_nametoindex(name) in providers:
            found.append(packet)


@pytest.mark.lab
@pytest.mark.parametrize("kind", PLANES)
def test_as_many_locators_are_tried_as_a_context_may_have(kind: Plane) -> None:
    many = {parse_locator(f"2001:db8:1:a::{n + 256:x}"): "up1" for n in range(LOCATORS_MAX + 1)}
    links = "".join(
        f"address add 2001:db8:1:a::{n + 256:x}/64 dev up1 nodad\n" for n in range(LOCATORS_MAX + 1)
    )

    def all_of(firewall: Firewall) -> Outcome:
        other = Firewall(firewall.network, firewall.section, firewall.points, many, kind)
        assert len(other.places) == LOCATORS_MAX
        return other.try_out()

    def scenario() -> Outcome:
        make_links(LINKS + links)
        return tried(kind, all_of)

    assert in_network_namespace(scenario) == Outcome((), ())


def test_numbers_are_written_as_nft_reads_them() -> None:
    assert ranges((224, 225, 226, 230, 239, 238)) == ["224-226", "230", "238-239"]
