# SPDX-License-Identifier: MIT
"""Policy rules of the operator.

By user: data of programs follows them, noid's packets do not. By source or mark, and before those
of noid: they lead no packet of a context back to the neighbours of its own uplink.
"""

import contextlib
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.topology import locators
from tests.lab.conversations import (
    PATIENCE_S,
    TCP_PORT,
    Conversation,
    await_carried,
    establish_context,
    restart_daemons,
    tcp,
)

A_1, A_2 = locators("a")
ROOTS_RULE = ["priority", "900", "uidrange", "0-0", "lookup", "102"]
"""Everything of root leaves by uplink 2; so does what noid sends, and what its programs redirect,
unless noid sees to it."""
NOBODY = 65_534
SOURCE = f"""\
import os, socket, sys
(_, _, _, _, to), *_ = socket.getaddrinfo("b.example", {TCP_PORT}, type=socket.SOCK_STREAM)
os.setuid(int(sys.argv[1]))
with socket.socket(socket.AF_INET6) as one:
    one.settimeout(20)
    one.connect(to)
    print(one.getsockname()[0])
"""


@pytest.fixture
def ruled(kernel_lab: Lab) -> Iterator[Lab]:
    """The lab, fresh, where a has a rule for root."""
    kernel_lab.run("a", ["ip", "-6", "rule", "add", *ROOTS_RULE])
    try:
        restart_daemons(kernel_lab)
        yield kernel_lab
    finally:
        kernel_lab.run("a", ["ip", "-6", "rule", "del", *ROOTS_RULE])


@contextlib.contextmanager
def cut(lab: Lab, provider: int) -> Iterator[None]:
    lab.cut_provider(provider)
    try:
        yield
    finally:
        lab.heal_provider(provider)


def test_a_rule_for_root_leads_no_packet_of_a_context_to_another_uplink(ruled: Lab) -> None:
    """Neither noid's own packets, nor those of programs that the kernel sends by our redirect."""
    words = ["socat", "-", f"TCP6:b.example:{TCP_PORT},bind=[{A_1}]"]
    with Conversation(ruled, "a", words) as conversation:
        conversation.echoes()
        ruled.wait_for("a context carries it", lambda: _in_use(ruled) == {A_1}, PATIENCE_S)
        ruled.wait_for("its peer has proven it", lambda: _is_proven(ruled), PATIENCE_S)
        for provider, other in ((1, A_2), (2, A_1)):
            with cut(ruled, provider):
                conversation.echoes()
                ruled.wait_for("it has moved", partial(_moved_to, ruled, other), PATIENCE_S)
                conversation.echoes(octets=60_000)


def _moved_to(lab: Lab, locator: str) -> bool:
    return _in_use(lab) == {locator}


def _in_use(lab: Lab) -> set[str]:
    return {one["local_locator"] for one in lab.contexts("a") if one["local_aid"] == A_1}


def _is_proven(lab: Lab) -> bool:
    return any(
        one["peer_aid"] == A_1 and len(one["lsv_peer"]) == 2 and one["state"] == "established"
        for one in lab.contexts("b")
    )


def test_new_connections_start_where_the_rules_for_their_user_say(ruled: Lab) -> None:
    def source_of(user: int) -> str:
        done = ruled.run("a", [sys.executable, "-c", SOURCE, str(user)])
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert source_of(NOBODY) == A_1
    for _ in range(2):  # also after the peer has contexts
        assert source_of(0) == A_2
        assert source_of(NOBODY) == A_1


@pytest.mark.parametrize("selector", ["from 2001:db8:1:a::/64", "fwmark 0x100"])
def test_a_rule_without_a_priority_leads_no_connection_to_a_dead_uplink(
    kernel_lab: Lab, selector: str
) -> None:
    """A script of the uplink adds it while noid runs, and the kernel puts it before all others."""
    lab, rule = kernel_lab, [*selector.split(), "lookup", "101"]
    restart_daemons(lab)
    establish_context(lab)
    before = _rules(lab)
    lab.run("a", ["ip", "-6", "rule", "add", *rule])
    try:
        lab.wait_for("noid has seen it", lambda: _rules(lab).count(A_1) > before.count(A_1), 20)
        marked = f"TCP6:b.example:{TCP_PORT},setsockopt-int=1:36:256"
        with tcp(lab, "a") as usual, Conversation(lab, "a", ["socat", "-", marked]) as conversation:
            for one in (usual, conversation):
                await_carried(lab, one)
            for fault in (Fault.CARRIER, Fault.ADMIN, Fault.ROUTER):
                lab.cut(1, fault)
                for one in (usual, conversation):
                    one.echoes()
                lab.heal(1)
                with cut(lab, 2):
                    for one in (usual, conversation):
                        one.echoes()
    finally:
        lab.run("a", ["ip", "-6", "rule", "del", *rule])
        lab.heal(1)
    lab.wait_for("its own rules are as before", lambda: _rules(lab) == before, 20)


def _rules(lab: Lab) -> str:
    return lab.run("a", ["ip", "-6", "rule"]).stdout
