# SPDX-License-Identifier: MIT
"""Networks with an uplink without a link layer, one LAN, many routes, narrow or filtered paths."""

from contextlib import ExitStack

import pytest

from noid.counters import PlaneCounter
from noid.host.netlink import CUTTING
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.topology import HOSTS
from tests.lab.conversations import (
    Pinging,
    counters,
    establish_context,
    established,
    restart_daemons,
    serve_echoes,
    tcp,
    udp,
)
from tests.lab.field.situations import (
    A_1,
    A_2,
    B_1,
    B_2,
    NEW_1,
    PATIENCE_S,
    assert_outlives,
    await_locators,
    bound,
    pair,
    renumber,
    shell,
)

LONG_OCTETS = 60_000
M6_DATA = "224-239"
FILTER = "'{ type filter hook forward priority 0; policy accept; }'"


def test_connections_switch_from_and_to_an_uplink_without_link_header(
    lab_machine: None,
) -> None:
    """cilium/cilium #45703: PPP, a modem with raw IP, a tunnel."""
    with Lab.create(plane="bpf", variant="l3") as lab:
        serve_echoes(lab)
        establish_context(lab)
        with tcp(lab, "a") as from_l3, udp(lab, "a") as datagrams:
            from_l3.echoes()
            datagrams.echoes()
            assert_outlives(lab, 1, from_l3, datagrams)
            assert_outlives(lab, 2, from_l3, datagrams)
            with bound(lab, f"bind=[{A_2}]") as from_ethernet:
                from_ethernet.echoes()
                lab.wait_for("it has a context", lambda: _has_context(lab, A_2), PATIENCE_S)
                assert_outlives(lab, 2, from_ethernet, from_l3)
                lab.cut(1, Fault.ADMIN)
                from_ethernet.echoes(octets=LONG_OCTETS)
                from_l3.echoes(octets=LONG_OCTETS)


def test_connections_go_on_by_the_other_router_of_a_lan(lab_machine: None) -> None:
    """freifunk-gluon/gluon #2180: one card, two routers with a prefix each."""
    with Lab.create(plane="bpf", variant="one-lan") as lab:
        serve_echoes(lab)
        establish_context(lab)
        with tcp(lab, "a") as conversation, udp(lab, "a") as datagrams:
            conversation.echoes()
            datagrams.echoes()
            for number in (1, 2, 1):
                assert_outlives(lab, number, conversation, datagrams)
            lab.cut(1, Fault.ROUTER)
            conversation.echoes()
            datagrams.echoes_at_last()
            with tcp(lab, "a") as new:
                new.echoes()


def test_connections_go_on_by_a_multipath_route(lab: Lab) -> None:
    """systemd/systemd #21781, #33470: router advertisements make one route of two next hops."""
    gateways = [f"via 2001:db8:{number}:a::1 dev up{number}" for number in (1, 2)]
    hops = " ".join(f"nexthop {gateway}" for gateway in gateways)
    shell(
        lab,
        "a",
        "ip -6 route del default metric 100; ip -6 route del default metric 200\n"
        f"ip -6 route add default {hops}",
    )
    try:
        with tcp(lab, "a") as one, tcp(lab, "a") as two, tcp(lab, "a") as three:
            for conversation in (one, two, three):
                conversation.echoes()
            lab.wait_for("a context is up", lambda: established(lab, "a"), PATIENCE_S)
            for number in (1, 2):
                lab.cut(number)
                for conversation in (one, two, three):
                    conversation.echoes()
                for _ in range(3):
                    with tcp(lab, "a") as short:
                        short.echoes()
                lab.heal(number)
    finally:
        shell(
            lab,
            "a",
            f"ip -6 route del default {hops}\n"
            f"ip -6 route add default {gateways[0]} metric 100\n"
            f"ip -6 route add default {gateways[1]} metric 200",
        )


def test_long_segments_adapt_to_a_path_that_is_narrow_behind_the_uplink(lab: Lab) -> None:
    """opnsense/core #9398, #4484: PPPoE; the links of the hosts say 1500 octets."""
    narrow = "\n".join(_replace_site(host, "mtu lock 1280") for host in ("a", "b"))
    shell(lab, "isp2", narrow)
    try:
        with tcp(lab, "a") as conversation:
            conversation.echoes(octets=LONG_OCTETS)
            lab.cut(1)
            conversation.echoes(octets=LONG_OCTETS)
            assert pair(lab) == (A_2, B_2)
            conversation.echoes(octets=LONG_OCTETS)
    finally:
        shell(lab, "isp2", "\n".join(_replace_site(host, "") for host in ("a", "b")))


def test_segments_are_long_again_after_the_use_of_an_uplink_with_a_small_mtu(lab: Lab) -> None:
    """Such as PPPoE or a tunnel as the second uplink."""
    restart_daemons(lab)  # nothing is known of the path
    shell(lab, "a", "ip link set up2 mtu 1400")
    try:
        establish_context(lab)
        with tcp(lab, "a") as conversation:
            lab.cut(1)
            conversation.echoes(octets=LONG_OCTETS)
            assert pair(lab) == (A_2, B_2)
            assert "mtu 1400" in _route(lab)
            lab.heal(1)
            lab.cut(2)
            conversation.echoes(octets=LONG_OCTETS)
            assert pair(lab) == (A_1, B_1)
            assert "mtu 1400" not in _route(lab)
    finally:
        shell(lab, "a", "ip link set up2 mtu 1500")
        lab.heal(2)


@pytest.mark.parametrize("others", ["nothing else", "a ping"])
def test_long_segments_pass_a_path_that_drops_them_and_says_nothing(lab: Lab, others: str) -> None:
    """RFC 2923 §2.1: the errors of the narrow router of provider 2 do not arrive."""
    restart_daemons(lab)  # nothing is known of the path
    establish_context(lab)
    narrow = "\n".join(_replace_site(host, "mtu lock 1280") for host in ("a", "b"))
    shell(
        lab,
        "isp2",
        f"{narrow}\nnft add table inet field\n"
        "nft add chain inet field output '{ type filter hook output priority 0; }'\n"
        "nft add rule inet field output icmpv6 type packet-too-big drop",
    )
    try:
        with ExitStack() as stack:
            conversation = stack.enter_context(tcp(lab, "a"))
            conversation.echoes(octets=LONG_OCTETS)
            if others == "a ping":
                stack.enter_context(Pinging(lab, "a"))
            lab.cut(1)
            conversation.echoes(octets=LONG_OCTETS, timeout_s=PATIENCE_S)
            assert pair(lab) == (A_2, B_2)
            # As the kernel does at intervals: what a neighbour that is no router said is forgotten.
            shell(lab, "a", "sysctl -qw net.ipv6.route.flush=1")
            assert "mtu 1280" in _route(lab)
            lab.heal(1)
            lab.cut(2)
            conversation.echoes(timeout_s=PATIENCE_S)
            assert pair(lab) == (A_1, B_1)
            lab.wait_for("long packets go again", lambda: "mtu 1280" not in _route(lab), PATIENCE_S)
            conversation.echoes(octets=LONG_OCTETS)
    finally:
        lab.heal(2)
        shell(lab, "isp2", "\n".join(_replace_site(host, "") for host in ("a", "b")))
        shell(lab, "isp2", "nft delete table inet field")


def test_super_packets_are_cut_if_a_router_on_the_path_has_its_kernel_cut_them(lab: Lab) -> None:
    """A virtual router without such hardware, or with an XDP program at the other end of its link.

    Its kernel does not know M6, and drops such super-packets.
    """
    restart_daemons(lab)
    establish_context(lab)
    for isp in ("isp1", "isp2"):
        lab.set_features(isp, CUTTING, on=False)
    try:
        with tcp(lab, "a") as conversation:
            for _ in range(3):
                conversation.echoes(octets=LONG_OCTETS)
            found = {host: counters(lab, host)[PlaneCounter.SUPERS_NOT_ARRIVED] for host in HOSTS}
            assert all(found.values()), found
            lab.cut(1)
            conversation.echoes(octets=LONG_OCTETS)
    finally:
        for isp in ("isp1", "isp2"):
            lab.set_features(isp, CUTTING, on=True)


def test_connections_pass_a_middlebox_that_drops_m6_data(lab: Lab) -> None:
    """multipath-tcp/mptcp_net-next #477, #57: ICMPv6 passes, next headers 224 to 239 do not."""
    for isp in ("isp1", "isp2"):
        shell(
            lab,
            isp,
            f"nft add table inet field\nnft add chain inet field forward {FILTER}\n"
            f"nft add rule inet field forward meta l4proto {M6_DATA} drop",
        )
    try:
        with tcp(lab, "a") as first:
            first.echoes(timeout_s=PATIENCE_S)
            with tcp(lab, "a") as second:
                second.echoes()
            first.echoes()
    finally:
        for isp in ("isp1", "isp2"):
            shell(lab, isp, "nft delete table inet field")


def test_a_connection_outlives_the_prefix_it_was_made_with(lab: Lab) -> None:
    """openwrt/odhcpd #247; systemd/systemd #29651; openwrt/openwrt #9811 (RFC 8978)."""
    with tcp(lab, "a") as conversation, udp(lab, "b") as datagrams:
        conversation.echoes()
        datagrams.echoes()
        renumber(lab)
        try:
            await_locators(lab, A_1, A_2, NEW_1)
            conversation.echoes()
            lab.cut(1, Fault.ADDRESS)
            await_locators(lab, A_2, NEW_1)
            conversation.echoes()
            datagrams.echoes_at_last()
            with bound(lab, f"bind=[{NEW_1}]") as new:
                new.echoes()
            lab.heal(1)
        finally:
            shell(
                lab,
                "a",
                "ip -6 rule del priority 1003\n"
                f"ip addr del {NEW_1}/64 dev up1\nip addr change {A_1}/64 dev up1",
            )
            shell(lab, "isp1", "ip addr del 2001:db8:1:aa::1/64 dev custa")


def _route(lab: Lab) -> str:
    """The route of a to b, with the size of packets that the kernel has stored."""
    return shell(lab, "a", f"ip -6 route get {B_1} from {A_1}")


def _replace_site(host: str, what: str) -> str:
    """The command that routes the site of a host at provider 2 anew."""
    return f"ip -6 route replace 2001:db8:2:{host}::/64 dev cust{host} metric 256 {what}"


def _has_context(lab: Lab, local_aid: str) -> bool:
    return any(
        one["local_aid"] == local_aid and one["state"] == "established" for one in lab.contexts("a")
    )
