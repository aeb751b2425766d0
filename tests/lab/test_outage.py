# SPDX-License-Identifier: MIT
"""A host whose noid starts during an outage is not worse off than without noid [D49]."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from noid.lab.lab import Lab
from noid.lab.topology import locators
from tests.lab.conversations import PATIENCE_S, establish_context, restart_daemons, tcp

B_1, B_2 = locators("b")
DROP = """
table inet outage {
  chain c {
    type filter hook input priority 0; policy accept;
    meta l4proto { tcp, udp } th dport 53 drop
  }
}
"""
LINE_DEAD = """
table netdev outage {
  chain c {
    type filter hook ingress device custb priority 0; policy drop;
  }
}
"""


@pytest.fixture
def lab(kernel_lab: Lab) -> Lab:
    """The lab, both daemons fresh."""
    restart_daemons(kernel_lab)
    return kernel_lab


@contextlib.contextmanager
def rules(lab: Lab, node: str, text: str, directory: Path) -> Iterator[None]:
    """Packet filter rules on a node."""
    path = directory / "outage.nft"
    path.write_text(text, encoding="utf-8")
    family = text.split()[1]
    try:
        done = lab.run(node, ["nft", "--file", str(path)])
        assert done.returncode == 0, done.stderr
        yield
    finally:
        lab.run(node, ["nft", "delete", "table", family, "outage"])


def resolver(lab: Lab) -> str:
    """What noid on a says of its resolvers."""
    said = lab.status("a")["dns"]["resolver"]
    assert isinstance(said, str)
    return said


def addresses(lab: Lab, name: str) -> list[str]:
    """What a program on a is told of a name."""
    answer = lab.run("a", ["dig", "+short", "+time=30", "+tries=1", "AAAA", name, "@::1"])
    return sorted(answer.stdout.split())


def await_addresses(lab: Lab, *wanted: str) -> None:
    """Waits until programs on a are told these addresses of b, and no others.

    A context that doubts its pair for a moment, on a busy machine, has them told all.
    """
    lab.wait_for(
        f"programs get {wanted}", lambda: addresses(lab, "b.example") == [*wanted], PATIENCE_S
    )


def test_noid_starts_while_its_first_provider_is_dead(lab: Lab) -> None:
    lab.take_noid_down("a")
    lab.cut_provider(1)
    try:
        lab.start_daemon("a")
        lab.wait_for("a resolver answers", lambda: resolver(lab) == "answers", PATIENCE_S)
        assert addresses(lab, "b.example") == [B_1, B_2]
    finally:
        lab.heal_provider(1)


def test_noid_starts_without_a_resolver_and_restores_its_contexts(lab: Lab, tmp_path: Path) -> None:
    establish_context(lab)
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        lab.kill_daemon("a")
        with rules(lab, "dns", DROP, tmp_path):
            known = len(lab.log("a"))
            lab.start_daemon("a")
            lab.await_taken_up("a")
            (context,) = lab.contexts("a")
            assert context["state"] == "established"
            lab.wait_for(
                "the outage shows", lambda: resolver(lab).startswith("no answer"), PATIENCE_S
            )
            conversation.echoes()
        lab.wait_for("a resolver answers", lambda: resolver(lab) == "answers", PATIENCE_S)
        await_addresses(lab, B_1)
    log = lab.log("a")[known:]
    assert log.count("no answer from 2001:db8:c::53 over any uplink; check the addresses") == 1
    assert log.count("a resolver answers again") == 1


def test_a_peer_that_has_stopped_noid_is_reached_as_without_noid(lab: Lab, tmp_path: Path) -> None:
    lab.take_noid_down("b")
    try:
        with rules(lab, "isp1", LINE_DEAD, tmp_path):
            assert addresses(lab, "b.example") == [B_1, B_2]
            command = ["curl", "-s", "-o", str(tmp_path / "got"), "-w", "%{remote_ip}"]
            limits = ["--connect-timeout", "6", "--max-time", "40"]
            found = lab.run("a", [*command, *limits, "http://b.example/"], timeout_s=60)
            assert found.stdout == B_2
    finally:
        lab.start_daemon("b")


def test_a_peer_that_answers_by_m6_has_one_address(lab: Lab) -> None:
    assert addresses(lab, "b.example") == [B_1, B_2]
    establish_context(lab)
    await_addresses(lab, B_1)
