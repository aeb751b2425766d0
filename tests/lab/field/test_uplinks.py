# SPDX-License-Identifier: MIT
"""Uplinks vanish, lose their carrier, are set down or renamed, and come again."""

import time

from noid.lab import namespaces
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.topology import HOSTS
from tests.lab.conversations import Conversation, restart_daemons, tcp, udp
from tests.lab.field.situations import (
    A_1,
    A_2,
    B_1,
    PATIENCE_S,
    assert_outlives,
    await_locators,
    bound,
    pair,
    shell,
)

PARKED_S = 2.5
"""Less than a packet waits for a neighbour that does not answer, which is 3 s."""
OTHER = {1: 2, 2: 1}


def test_a_connection_follows_an_uplink_that_vanishes_and_comes_again(lab: Lab) -> None:
    """Ysurac/openmptcprouter #1732, #3963; openwrt/openwrt #11086: a tethered telephone."""
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        for gone, other in ((1, 2), (2, 1)):
            shell(lab, "a", f"ip link del up{gone}")
            conversation.echoes()
            _create_uplink(lab, gone)
            await_locators(lab, A_1, A_2)
            _await_attached(lab, gone)
            assert_outlives(lab, other, conversation)


def test_a_connection_goes_on_in_another_network_after_a_time_without_any(lab: Lab) -> None:
    """A laptop between two known networks: the DNS lists both addresses, and it has one at most."""

    def are_set_up(host: str) -> bool:
        states = [one["state"] for one in lab.contexts(host)]
        return states == ["established"]

    lab.cut(2, Fault.ADMIN)
    await_locators(lab, A_1)
    restart_daemons(lab)  # the peer knows nothing of the other address
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        lab.wait_for("both have a context", lambda: all(map(are_set_up, HOSTS)), PATIENCE_S)
        assert [one["lsl_peer"] for one in lab.contexts("b")] == [[A_1]]
        lab.cut(1, Fault.ADMIN)
        await_locators(lab)
        lab.heal(2)
        conversation.echoes()
        assert pair(lab)[0] == A_2


def test_an_established_context_has_a_route_by_its_uplink_and_one_by_ours(lab: Lab) -> None:
    """The context is set aside until its peer has answered, and has none of them before."""

    def devices() -> list[str]:
        shown = shell(lab, "a", "ip -6 route show table all").splitlines()
        return [line.split(" dev ")[1].split()[0] for line in shown if _leads(line)]

    lab.wait_for("both are there", lambda: sorted(devices()) == ["noid0-cut", "up1"], PATIENCE_S)


def test_connections_survive_a_lost_carrier_and_new_ones_start(lab: Lab) -> None:
    """multipath-tcp/mptcpd #334: the cable is pulled; addresses and routes stay."""
    with tcp(lab, "a") as old, udp(lab, "a") as datagrams:
        old.echoes()
        datagrams.echoes()
        lab.cut(1, Fault.CARRIER)
        old.echoes()
        datagrams.echoes_at_last()
        with tcp(lab, "a") as new:
            new.echoes()
        lab.heal(1)
        assert_outlives(lab, 2, old, datagrams)


def test_nothing_waits_on_an_uplink_that_is_set_down_while_it_is_used(lab: Lab) -> None:
    """openwrt/packages #25792; Ysurac/openmptcprouter #1732: a gap of 3.1 s."""
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        shell(lab, "a", "(sleep 0.2; ip link set up1 down) >/dev/null 2>&1 &")
        longest_s = _longest_echo_s(lab, conversation)
    assert longest_s < PARKED_S
    lab.cut(1, Fault.ADMIN)  # so that the lab restores addresses and routes


def test_a_carrier_that_comes_and_goes_harms_no_connection(lab: Lab) -> None:
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        for _ in range(10):
            lab.cut(1, Fault.CARRIER)
            conversation.echoes()
            lab.heal(1)
            conversation.echoes()
        assert_outlives(lab, 2, conversation)
        assert_outlives(lab, 1, conversation)


def test_uplinks_are_set_down_and_up_in_turn(lab: Lab) -> None:
    with tcp(lab, "a") as conversation, udp(lab, "a") as datagrams:
        conversation.echoes()
        datagrams.echoes()
        for number in (1, 2, 1, 2):
            lab.cut(number, Fault.ADMIN)
            conversation.echoes()
            datagrams.echoes_at_last()
            lab.heal(number)
            await_locators(lab, A_1, A_2)
        with tcp(lab, "a") as new:
            new.echoes()


def test_a_connection_goes_on_when_its_uplink_is_renamed(lab: Lab) -> None:
    """A device that is up can be renamed since Linux 6.2; before, it is set down for that."""
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        shell(lab, "a", "ip link set up1 name up7")
        try:
            conversation.echoes()
            lab.wait_for("its new name is known", lambda: "up7" in _modes(lab), PATIENCE_S)
            assert_outlives(lab, 2, conversation)
            assert_outlives(lab, 1, conversation)
        finally:
            shell(lab, "a", "ip link set up7 name up1")
        conversation.echoes()


def test_a_connection_survives_a_new_link_address_of_its_uplink(lab: Lab) -> None:
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        before = shell(lab, "a", "cat /sys/class/net/up1/address").strip()
        shell(
            lab,
            "a",
            "sysctl -qw net.ipv6.conf.up1.ndisc_notify=1  # or the router learns it in 40 s\n"
            "ip link set up1 address 02:00:00:00:6d:41",
        )
        conversation.echoes()
        assert_outlives(lab, 1, conversation)
        assert_outlives(lab, 2, conversation)
        shell(lab, "a", f"ip link set up1 address {before}")
        conversation.echoes()


def test_a_bound_connection_continues_on_an_uplink_created_with_a_new_index(lab: Lab) -> None:
    with bound(lab, f"bind=[{A_2}]") as conversation:
        conversation.echoes()
        lab.wait_for("it has a context", lambda: pair(lab, A_2)[0] == A_2, PATIENCE_S)
        shell(lab, "a", "ip link del up2")
        conversation.echoes()
        _create_uplink(lab, 2)
        await_locators(lab, A_1, A_2)
        assert_outlives(lab, 1, conversation)


def test_an_uplink_created_again_without_a_daemon_is_used_after_the_next_start(
    lab: Lab,
) -> None:
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        lab.kill_daemon("a")
        shell(lab, "a", "ip link del up1")
        _create_uplink(lab, 1)
        lab.start_daemon("a")
        conversation.echoes()
        _await_attached(lab, 1)
        assert_outlives(lab, 2, conversation)


def test_an_uplink_created_again_without_a_daemon_is_used_after_noid_down(lab: Lab) -> None:
    with tcp(lab, "a") as before:
        before.echoes()
        lab.kill_daemon("a")
        shell(lab, "a", "ip link del up1")
        _create_uplink(lab, 1)
        lab.take_noid_down("a")
        try:
            with tcp(lab, "a", f"[{B_1}]") as after:
                after.echoes()
            assert " dev up1 " in shell(lab, "a", f"ip -6 route get {B_1} from {A_1}")
        finally:
            lab.start_daemon("a")


def _leads(route: str) -> bool:
    """Whether a route is for packets from an AID to b, and not for those without a source."""
    return route.startswith(f"{B_1} ") and " table 279" in route and " src " not in route


def _create_uplink(lab: Lab, number: int) -> None:
    """Creates the link between a and a provider again, which has gone at both ends."""
    site, other_end = f"2001:db8:{number}:a", namespaces.namespace(lab.name, "a")
    shell(
        lab,
        f"isp{number}",
        f"ip link add custa type veth peer name up{number} netns {other_end}\n"
        f"ip link set custa up; ip addr add {site}::1/64 dev custa nodad",
    )
    shell(
        lab,
        "a",
        f"ip link set up{number} up; ip addr add {site}::a/64 dev up{number} nodad\n"
        f"ip -6 route add default via {site}::1 dev up{number} table {100 + number}\n"
        f"ip -6 route add default via {site}::1 dev up{number} metric {100 * number}",
    )


def _longest_echo_s(lab: Lab, conversation: Conversation) -> float:
    """The longest a word takes to come back until the context of a has left provider 1."""
    longest = 0.0
    deadline = time.monotonic() + PATIENCE_S
    while pair(lab)[0] == A_1 and time.monotonic() < deadline:
        longest = max(longest, _echo_s(conversation))
    return max(longest, _echo_s(conversation))


def _echo_s(conversation: Conversation) -> float:
    began = time.monotonic()
    conversation.echoes()
    return time.monotonic() - began


def _modes(lab: Lab) -> dict[str, str]:
    found: dict[str, str] = lab.status("a")["plane"]["uplinks"]
    return found


def _await_attached(lab: Lab, number: int) -> None:
    def is_attached() -> bool:
        return not _modes(lab).get(f"up{number}", "none").startswith("none")

    lab.wait_for("programs are attached", is_attached, PATIENCE_S)
