# SPDX-License-Identifier: MIT
"""The daemon is suspended, or restarted during an outage, and others remove what it installed."""

import os
import re
import signal

import pytest

from noid.counters import PlaneCounter
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.processes import read_records
from tests.lab.conversations import Conversation, tcp
from tests.lab.field.situations import (
    A_1,
    A_2,
    PATIENCE_S,
    assert_outlives,
    await_home,
    await_locators,
    configure,
    pair,
    shell,
)

RESTORED = PlaneCounter.OBJECTS_RESTORED.identifier
ANY_PORT = 7791
CHURN = """
n=0
while :; do
    n=$((n + 1))
    ip link add veth$n type veth peer name ceth$n
    ip link set veth$n up; ip link set ceth$n up
    ip addr add fd00:$n::1/64 dev veth$n nodad
    ip link del veth$((n - 5)) 2>/dev/null
    sleep 0.1
done
"""


@pytest.mark.parametrize("number", [1, 2])
def test_a_daemon_restarted_while_an_uplink_is_down_takes_up_its_contexts(
    lab: Lab, number: int
) -> None:
    """slackhq/nebula #259; tailscale/tailscale #1591."""
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        lab.kill_daemon("a")
        conversation.echoes()
        lab.cut(number, Fault.ADMIN)
        lab.start_daemon("a")
        conversation.echoes()
        lab.heal(number)
        await_locators(lab, A_1, A_2)
        assert_outlives(lab, 1, conversation)
        assert_outlives(lab, 2, conversation)


@pytest.mark.parametrize("fault", [Fault.ADMIN, Fault.ADDRESS])
@pytest.mark.parametrize("is_lost_before", [True, False], ids=["before", "after"])
def test_a_server_on_any_address_answers_from_its_aid_after_a_restart(
    lab: Lab, fault: Fault, is_lost_before: bool
) -> None:
    """The address is gone when the daemon starts, whether it ended before that or after."""
    lab.spawn("a", ["socat", f"UDP6-RECVFROM:{ANY_PORT},fork", "PIPE"])
    listens = f"ss -6Hnlu sport = :{ANY_PORT}"
    lab.wait_for("the server is there", lambda: bool(shell(lab, "a", listens)), PATIENCE_S)
    client = ["socat", "-", f"UDP6:[{A_1}]:{ANY_PORT}"]
    with Conversation(lab, "b", client) as datagrams:
        datagrams.echoes_at_last()
        if is_lost_before:
            lab.cut(1, fault)
            datagrams.echoes_at_last()
        lab.kill_daemon("a")
        if not is_lost_before:
            lab.cut(1, fault)
        lab.start_daemon("a")
        datagrams.echoes_at_last()
        lab.heal(1)
        await_locators(lab, A_1, A_2)
        datagrams.echoes_at_last()


def test_a_connection_goes_on_soon_after_its_daemon_does(lab: Lab) -> None:
    """tailscale/tailscale #10688, #2173; netbirdio/netbird #2011: a suspended machine."""
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        daemon = _daemon_pid(lab)
        os.kill(daemon, signal.SIGSTOP)
        try:
            conversation.echoes()
            lab.cut(1)
            for number in range(60):
                address = f"2001:db8:2:a::{number + 0x1000:x}/64 dev up2"
                shell(lab, "a", f"ip addr add {address} nodad; ip addr del {address}")
        finally:
            os.kill(daemon, signal.SIGCONT)
        conversation.echoes()
        answer = lab.run("a", ["dig", "+short", "+time=30", "AAAA", "b.example", "@::1"])
        assert "2001:db8:" in answer.stdout
        lab.heal(1)
        assert_outlives(lab, 2, conversation)


def test_containers_that_come_and_go_harm_no_connection(lab: Lab) -> None:
    """Ysurac/openmptcprouter #2020, #1732: every device counts as an uplink, as by default."""
    configure(lab, "a", 'interfaces = ["up*"]\n', "")
    churn = lab.spawn("a", ["sh", "-c", CHURN])
    try:
        await_home(lab)
        with tcp(lab, "a") as conversation:
            for number in (1, 2, 1):
                conversation.echoes()
                assert_outlives(lab, number, conversation)
    finally:
        churn.end()
        shell(
            lab,
            "a",
            "for link in $(ip -br link | grep -o '^veth[0-9]*'); do ip link del $link; done",
        )
    lab.wait_for("no pin is left of them", lambda: _pinned(lab) <= _indexes(lab), PATIENCE_S)
    configure(lab, "a", "[host]\n", '[host]\ninterfaces = ["up*"]\n')


def test_programs_are_restored_when_another_removes_clsact(lab: Lab) -> None:
    """aquasecurity/tracee #1828; vyos/vyos-1x #5351; tohojo/sqm-scripts."""
    configure(lab, "a", "[plane]\n", '[plane]\nhook = "clsact"\n')
    try:
        await_home(lab)
        with tcp(lab, "a") as conversation:
            conversation.echoes()
            before = lab.status("a")["plane"]["counters"][RESTORED]
            shell(lab, "a", "tc qdisc del dev up1 clsact")
            conversation.echoes()
            lab.wait_for("they are restored", lambda: _restored(lab) > before, PATIENCE_S)
            assert "noid" in shell(lab, "a", "tc filter show dev up1 ingress")
            assert_outlives(lab, 1, conversation)
    finally:
        configure(lab, "a", 'hook = "clsact"\n', "")


def test_rules_and_routes_are_restored_when_another_flushes_them(lab: Lab) -> None:
    """systemd-networkd removes rules and routes that it did not add, when it is reloaded."""
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        rules = _own_rules(lab)
        for priority in sorted({rule.split(":")[0] for rule in rules}):
            lab.run("a", ["ip", "-6", "rule", "flush", "priority", priority])
            shell(lab, "a", f"while ip -6 rule del priority {priority} 2>/dev/null; do :; done")
        lab.wait_for("the rules are restored", lambda: _own_rules(lab) == rules, PATIENCE_S)
        lab.cut(1, Fault.CARRIER)
        conversation.echoes()
        assert pair(lab)[0] == A_2
        assert A_1 in shell(lab, "a", "ip -6 addr show dev up1")


def _daemon_pid(lab: Lab) -> int:
    """The process of noid on a; of those on record, the last one started."""
    records = read_records(lab.directory / "processes")
    return [record.pid for record in records if record.name == "noid-a"][-1]


def _restored(lab: Lab) -> int:
    return int(lab.status("a")["plane"]["counters"][RESTORED])


def _own_rules(lab: Lab) -> list[str]:
    """The rules of noid on a."""
    shown = shell(lab, "a", "ip -6 rule").splitlines()
    return sorted(rule for rule in shown if re.match(r"6[0-4]:", rule))


def _pinned(lab: Lab) -> set[str]:
    """The indexes of the devices that have a pinned program."""
    pins = (lab.directory / "pins" / "a").glob("link-*")
    return {path.name.split("-")[1] for path in pins}


def _indexes(lab: Lab) -> set[str]:
    """The indexes of the devices that a has."""
    return set(re.findall(r"^(\d+):", shell(lab, "a", "ip -o link"), re.MULTILINE))
