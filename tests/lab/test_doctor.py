# SPDX-License-Identifier: MIT
"""``noid doctor`` beside a running noid, behind rules that keep it from working."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from noid.errors import PlatformError
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.topology import HOSTS, locators
from tests.lab.conversations import (
    PATIENCE_S,
    await_carried,
    carried_by_context,
    establish_context,
    restart_daemons,
    serve_echoes,
    tcp,
)
from tests.lab.refusals import NOID
from tests.test_json import check

STATEFUL = """\
table inet fw {
    chain pre {
        type filter hook prerouting priority -145; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing counter drop
    }
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        ct state invalid counter drop
        iif lo accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
        icmpv6 type { packet-too-big, destination-unreachable } accept
    }
}
"""
PASS = "M6 packets pass the rules of this host on up1 up2, in both directions (plane bpf)"
STALL_S = 8.0
DROPS = {
    "bpf": "inet fw input (ct state invalid counter drop) drops inbound ICMPv6 type 200",
    "tun": (
        "inet fw pre (meta nfproto ipv6 fib saddr . mark . iif oif missing counter drop)"
        " drops inbound plain packets (TCP, UDP)"
    ),
}
"""What STATEFUL drops first, by plane: the routes of the TUN plane lead to its device."""
NOT_A_LOCATOR = "2001:db8:1:a::77"
SEND_FROM = f"""\
import socket, sys
one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
one.bind(("{NOT_A_LOCATOR}", 0))
one.sendto(b"word", (sys.argv[1], 7001))
"""


def examined(lab: Lab, *options: str, host: str = "a") -> list[dict[str, Any]]:
    environment = [f"{key}={value}" for key, value in lab.environment(host).items()]
    words = ["env", *environment, *NOID, "doctor", "--json", *options]
    done = lab.run(host, words, timeout_s=120)
    findings: list[dict[str, Any]] = json.loads(done.stdout)
    for one in findings:
        check("finding", one)
    return findings


def of(check: str, findings: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Health and text of the findings of one check."""
    return [(one["health"], one["text"]) for one in findings if one["check"] == check]


@contextlib.contextmanager
def rules(lab: Lab) -> Iterator[None]:
    """A stateful firewall with a strict reverse-path filter on a."""
    path = lab.directory / "fw.nft"
    path.write_text(STATEFUL)
    assert lab.run("a", ["nft", "-f", str(path)]).returncode == 0
    try:
        yield
    finally:
        lab.run("a", ["nft", "delete", "table", "inet", "fw"])


def test_the_fixes_let_a_context_be_made_and_used(lab: Lab) -> None:
    serve_echoes(lab)
    with rules(lab):
        before = examined(lab)
        fixed = examined(lab, "--fix")
        after = examined(lab)
        restart_daemons(lab)
        with tcp(lab, "a") as conversation:
            conversation.echoes()
            establish_context(lab)
            await_carried(lab, conversation)
            with carried_by_context(lab, packets=1):
                conversation.echoes()
    assert ("wrong", f"{DROPS[lab.plane]} on up1 up2") in of("firewall", before)
    assert {health for health, _ in of("firewall fix", fixed)} == {"ok"}
    assert [health for health, _ in of("firewall", fixed)] == ["ok"]
    assert [health for health, _ in of("firewall", after)] == ["ok"]


def test_next_headers_are_tried_inbound_where_rules_see_them(lab: Lab) -> None:
    """The plane in the kernel takes M6 packets off the uplink before any rule."""
    with rules(lab):
        texts = [text for _, text in of("firewall", examined(lab))]
    seen = [text for text in texts if "inbound next headers" in text]
    assert len(seen) == (1 if lab.plane == "tun" else 0), texts


@pytest.fixture(scope="module")
def filtered_lab(lab_machine: None) -> Iterator[Lab]:
    """Hosts behind a strict reverse-path filter and a stateful firewall, plane bpf."""
    with Lab.create(plane="bpf", variant="firewall") as lab:
        serve_echoes(lab)
        yield lab


def rules_pass(lab: Lab) -> bool:
    """Doctor says so on both hosts, and the reverse-path filter drops nothing of what it sends."""
    before = filtered(lab)
    says_so = all(of("firewall", examined(lab, host=host)) == [("ok", PASS)] for host in HOSTS)
    return says_so and filtered(lab) == before


def filtered(lab: Lab) -> dict[str, int]:
    """How many packets the reverse-path filters have dropped."""
    dropped = {}
    for host in HOSTS:
        rules = lab.run(host, ["nft", "list", "table", "inet", "firewall"]).stdout
        (rule,) = [line for line in rules.splitlines() if "iif oif missing" in line]
        dropped[host] = int(rule.split("counter packets ")[1].split()[0])
    return dropped


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.ADMIN])
def test_a_conversation_survives_behind_a_firewall_that_doctor_calls_ok(
    filtered_lab: Lab, fault: Fault
) -> None:
    lab = filtered_lab
    restart_daemons(lab)
    # The routes of an uplink that was down before this test may not be back yet.
    lab.wait_for("the rules pass", lambda: rules_pass(lab), PATIENCE_S)
    before = filtered(lab)
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        establish_context(lab)
        await_carried(lab, conversation)
        with carried_by_context(lab, packets=1):
            conversation.echoes()
        lab.cut(1, fault)
        try:
            conversation.echoes()
            with tcp(lab, "a") as new:
                new.echoes()
            # Later, while the uplink is up again and its routes are not, some may be dropped as
            # without noid.
            assert filtered(lab) == before
        finally:
            lab.heal(1)
        conversation.echoes()
    # The routes of the uplink that was down may not be back yet.
    lab.wait_for("the rules pass again", lambda: rules_pass(lab), PATIENCE_S)


def test_the_rule_that_doctor_names_stops_a_connection_and_the_fix_restores_it(
    filtered_lab: Lab,
) -> None:
    lab = filtered_lab
    restart_daemons(lab)
    rule = ["nft", "insert", "rule", "inet", "firewall", "input", "iifname", "noid0*", "drop"]
    assert lab.run("a", rule).returncode == 0
    ((health, text),) = of("firewall", examined(lab))
    assert health == "wrong"
    assert "drops inbound restored packets (TCP, UDP) on noid0-try" in text
    assert text.endswith("while its own uplink is down")
    establish_context(lab)
    assert not survives_the_loss_of_an_uplink(lab)
    assert {health for health, _ in of("firewall fix", examined(lab, "--fix"))} == {"ok"}
    assert survives_the_loss_of_an_uplink(lab, within_s=PATIENCE_S)


def survives_the_loss_of_an_uplink(lab: Lab, *, within_s: float = STALL_S) -> bool:
    """Whether a conversation of a goes on within some seconds after its uplink is set down."""
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        lab.cut(1, Fault.ADMIN)
        try:
            conversation.echoes(timeout_s=within_s)
            return True
        except PlatformError:
            return False
        finally:
            lab.heal(1)
            conversation.echoes(timeout_s=PATIENCE_S)


@pytest.fixture
def plain_address(lab: Lab) -> Iterator[None]:
    """An address of a that is no locator: it is on no uplink."""
    lab.run("a", ["ip", "-6", "address", "add", f"{NOT_A_LOCATOR}/128", "dev", "lo"])
    try:
        yield
    finally:
        lab.run("a", ["ip", "-6", "address", "del", f"{NOT_A_LOCATOR}/128", "dev", "lo"])


@pytest.mark.usefixtures("plain_address")
def test_a_source_that_is_no_locator_is_reported_once(lab: Lab) -> None:
    restart_daemons(lab)
    establish_context(lab)
    assert lab.status("a")["sources_not_covered"] == []

    def reported() -> bool:
        done = lab.run("a", ["python3", "-c", SEND_FROM, locators("b")[0]])
        assert done.returncode == 0, done.stderr
        return bool(lab.status("a")["sources_not_covered"])

    lab.wait_for("the source is reported", reported, PATIENCE_S)
    reported()
    assert lab.status("a")["sources_not_covered"] == [NOT_A_LOCATOR]
    lines = [one for one in lab.log("a").splitlines() if "source not covered: " in one]
    assert [f"source={NOT_A_LOCATOR}" in one for one in lines] == [True]
    assert " WARNING " in lines[0]
    (finding,) = [one for one in examined(lab) if one["check"] == "sources"]
    assert finding["health"] == "wrong"
    assert NOT_A_LOCATOR in finding["text"]
    assert "bind to a locator" in finding["mend"]
    lab.run("a", [*NOID, "reload", "--socket", str(lab.control_socket("a"))])
    assert of("sources", examined(lab)) == [("ok", "programs send from locators")]
