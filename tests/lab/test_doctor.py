"""``noid doctor`` beside a running noid, behind rules that keep it from working."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from noid.lab.lab import Lab
from noid.lab.topology import locators
from tests.lab.conversations import (
    carried_by_context,
    establish_context,
    restart_daemons,
    serve_echoes,
    tcp,
)
from tests.lab.refusals import NOID

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
NOT_A_LOCATOR = "2001:db8:1:a::77"
SEND_FROM = f"""\
import socket, sys
one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
one.bind(("{NOT_A_LOCATOR}", 0))
one.sendto(b"word", (sys.argv[1], 7001))
"""


def examined(lab: Lab, *options: str) -> list[dict[str, Any]]:
    environment = [f"{key}={value}" for key, value in lab.environment("a").items()]
    words = ["env", *environment, *NOID, "doctor", "--json", *options]
    done = lab.run("a", words, timeout_s=120)
    findings: list[dict[str, Any]] = json.loads(done.stdout)
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
            with carried_by_context(lab, packets=1):
                conversation.echoes()
    dropped = "inet fw input (ct state invalid counter drop) drops inbound ICMPv6 type 200"
    assert ("wrong", f"{dropped} on up1 up2") in of("firewall", before)
    assert {health for health, _ in of("firewall fix", fixed)} == {"ok"}
    assert [health for health, _ in of("firewall", fixed)] == ["ok"]
    assert [health for health, _ in of("firewall", after)] == ["ok"]


def test_next_headers_are_tried_inbound_where_rules_see_them(lab: Lab) -> None:
    """The plane in the kernel takes M6 packets off the uplink before any rule."""
    with rules(lab):
        texts = [text for _, text in of("firewall", examined(lab))]
    seen = [text for text in texts if "inbound next headers" in text]
    assert len(seen) == (1 if lab.plane == "tun" else 0), texts


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

    lab.wait_for("the source is reported", reported, 10)
    reported()
    assert lab.status("a")["sources_not_covered"] == [NOT_A_LOCATOR]
    lines = [one for one in lab.log("a").splitlines() if "source not covered: " in one]
    assert [f"source={NOT_A_LOCATOR}" in one for one in lines] == [True]
    assert " WARNING " in lines[0]
    (finding,) = [one for one in examined(lab) if one["check"] == "sources"]
    assert finding["health"] == "wrong"
    assert NOT_A_LOCATOR in finding["text"]
    assert "bind to a locator" in finding["mend"]
