# SPDX-License-Identifier: MIT
"""Programs with sources and devices of their own choice, and servers that answer by any address."""

import contextlib

import pytest

from noid.counters import PlaneCounter
from noid.errors import PlatformError
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from tests.lab.conversations import UDP_PORT, Conversation, await_carried, counters, tcp, udp
from tests.lab.field.situations import (
    A_1,
    A_2,
    B_1,
    B_2,
    PATIENCE_S,
    assert_outlives,
    bound,
    pair,
    shell,
)

SECOND_1 = "2001:db8:1:a::2"
"""Another address of uplink 1, which is no locator of the DNS."""
ROUTED_2 = "2001:db8:2:a:f::"
"""Of a prefix that provider 2 routes to a; a has it on no interface (AnyIP)."""

BOUND_PORT = 7790
POOL = 5
SOURCES_S = 5.0
"""Less than the interval at which all routes are compared."""


def test_connections_start_from_a_locator_despite_temporary_addresses(lab: Lab) -> None:
    """mumble-voip/mumble #1377; systemd/systemd #20050, #19838: use_tempaddr is 2."""
    temporary = [address for number in (1, 2) if (address := _make_temporary(lab, number))]
    assert len(temporary) == 2
    # The addresses are others than before, so the routes have lost their sources for a moment.
    lab.wait_for("programs get a locator", lambda: f" src {A_1} " in _route(lab), SOURCES_S)
    try:
        with tcp(lab, "a") as conversation, udp(lab, "a") as datagrams:
            conversation.echoes()
            datagrams.echoes()
            await_carried(lab, conversation)
            lab.cut(1)
            conversation.echoes()
            datagrams.echoes_at_last()
            assert pair(lab)[0] == A_2
    finally:
        for number in (1, 2):
            shell(
                lab,
                "a",
                f"sysctl -qw net.ipv6.conf.up{number}.use_tempaddr=0\n"
                f"ip -6 addr flush dev up{number} temporary\n"
                f"ip addr change 2001:db8:{number}:a::a/64 dev up{number}",
            )


@pytest.mark.parametrize("protocol", ["TCP6", "UDP6"])
def test_a_socket_bound_to_a_device_goes_on_by_the_other(lab: Lab, protocol: str) -> None:
    """openwrt/packages #13050; iputils/iputils #56; sqm-autorate/sqm-autorate #144."""
    with bound(lab, "so-bindtodevice=up1", protocol=protocol) as conversation:
        conversation.echoes()
        assert_outlives(lab, 1, conversation)
        assert_outlives(lab, 2, conversation)
        lab.cut(1, Fault.ROUTER)
        conversation.echoes_at_last()


def test_a_bound_socket_goes_on_without_carrier(lab: Lab) -> None:
    with bound(lab, "so-bindtodevice=up1") as conversation:
        conversation.echoes()
        lab.cut(1, Fault.CARRIER)
        conversation.echoes()
        lab.heal(1)
        conversation.echoes()


def test_a_server_bound_to_an_uplink_keeps_its_connections_while_that_is_down(lab: Lab) -> None:
    """Segments arrive by the other uplink, on a device that the socket is not bound to."""
    words = f"TCP6-LISTEN:{BOUND_PORT},so-bindtodevice=up1,reuseaddr,fork"
    lab.spawn("a", ["socat", words, "PIPE"])
    listens = f"ss -6Htln sport = :{BOUND_PORT}"
    lab.wait_for("the server listens", lambda: bool(shell(lab, "a", listens)), PATIENCE_S)
    with Conversation(lab, "b", ["socat", "-", f"TCP6:[{A_1}]:{BOUND_PORT}"]) as conversation:
        conversation.echoes()
        await_carried(lab, conversation)
        lost = counters(lab, "a")[PlaneCounter.PACKETS_WITHOUT_UPLINK]
        lab.cut(1, Fault.ADMIN)
        with pytest.raises(PlatformError, match="hears its own words"):
            conversation.echoes(timeout_s=0.5)
        lab.wait_for(
            "no refusal leaves",
            lambda: counters(lab, "a")[PlaneCounter.PACKETS_WITHOUT_UPLINK] > lost,
            PATIENCE_S,
        )
        lab.heal(1)
        conversation.echoes()


def test_a_marked_connection_continues_although_its_mark_selects_the_dead_uplink(lab: Lab) -> None:
    shell(lab, "a", "ip -6 rule add priority 500 fwmark 0x100 lookup 101")
    try:
        with bound(lab, "setsockopt-int=1:36:256") as conversation:
            conversation.echoes()
            for fault in (Fault.SILENT, Fault.ROUTER, Fault.CARRIER):
                lab.cut(1, fault)
                conversation.echoes()
                lab.heal(1)
            assert_outlives(lab, 2, conversation)
    finally:
        shell(lab, "a", "ip -6 rule del priority 500")


def test_filters_by_the_outgoing_device_pass_a_moved_connection(lab: Lab) -> None:
    """Only what programs send by uplink 1 may leave, as far as the filter sees."""
    rules = (
        "nft add table inet field\n"
        "nft add chain inet field output '{ type filter hook output priority 0; policy accept; }'\n"
        "nft add rule inet field output tcp dport 7000 oifname != up1 counter drop"
    )
    shell(lab, "a", rules)
    try:
        with tcp(lab, "a") as conversation:
            conversation.echoes()
            assert_outlives(lab, 1, conversation)
            assert_outlives(lab, 2, conversation)
    finally:
        shell(lab, "a", "nft delete table inet field")


def test_a_server_on_any_address_answers_by_the_one_its_client_used(lab: Lab) -> None:
    """The client is on b: its datagrams go on when the address of a expires, and after."""
    with udp(lab, "b") as datagrams, tcp(lab, "b") as conversation:
        datagrams.echoes()
        conversation.echoes()
        shell(lab, "a", f"ip addr change {A_1}/64 dev up1 valid_lft 2 preferred_lft 1")
        try:
            lab.wait_for("the address expires", lambda: A_1 not in _addresses(lab), PATIENCE_S)
            datagrams.echoes_at_last()
            conversation.echoes()
            assert pair(lab)[0] == A_2
        finally:
            lab.cut(1, Fault.ADDRESS)
            lab.heal(1)
        assert_outlives(lab, 2, datagrams, conversation)


def test_a_client_that_uses_two_addresses_of_a_server_is_answered_as_without_noid(lab: Lab) -> None:
    for address in (B_1, B_2):
        lab.run("a", ["ping", "-c1", "-w20", "-I", A_1, address])

    def are_up() -> bool:
        up = [one["local_aid"] for one in lab.contexts("b") if one["state"] == "established"]
        return {B_1, B_2} <= set(up)

    lab.wait_for("both contexts", are_up, PATIENCE_S)
    with Conversation(lab, "a", ["socat", "-", f"UDP6:[{B_1}]:{UDP_PORT}"]) as datagrams:
        datagrams.echoes()


def test_a_connection_from_a_second_address_of_an_uplink_has_a_context(lab: Lab) -> None:
    shell(lab, "a", f"ip addr add {SECOND_1}/64 dev up1 nodad")
    try:
        with bound(lab, f"bind=[{SECOND_1}]") as conversation:
            conversation.echoes()
            lab.wait_for("it is known", lambda: SECOND_1 in lab.status("a")["locators"], PATIENCE_S)
            with bound(lab, f"bind=[{A_1}]") as other:
                other.echoes()
                assert_outlives(lab, 1, other)
    finally:
        shell(lab, "a", f"ip addr del {SECOND_1}/64 dev up1")


def test_a_source_that_is_on_no_interface_reaches_a_peer_as_without_noid(lab: Lab) -> None:
    """A proxy with an address for each customer: IP_FREEBIND, and a local route to the prefix."""
    shell(lab, "isp2", f"ip -6 route add {ROUTED_2}/80 via {A_2}")
    shell(lab, "a", f"ip -6 route add local {ROUTED_2}/80 dev lo")
    try:
        with bound(lab, f"bind=[{ROUTED_2}5],freebind") as conversation:
            conversation.echoes()
    finally:
        shell(lab, "a", f"ip -6 route del local {ROUTED_2}/80 dev lo")
        shell(lab, "isp2", f"ip -6 route del {ROUTED_2}/80")


def _make_temporary(lab: Lab, number: int) -> str:
    """Has the kernel make a temporary address on an uplink, as of a router advertisement."""
    address = f"2001:db8:{number}:a::a/64"
    gateway = f"2001:db8:{number}:a::1 dev up{number}"
    shell(
        lab,
        "a",
        f"sysctl -qw net.ipv6.conf.up{number}.use_tempaddr=2\n"
        f"ip addr del {address} dev up{number}\n"
        f"ip addr add {address} dev up{number} mngtmpaddr nodad valid_lft 3600 preferred_lft 1800\n"
        f"ip -6 route replace default via {gateway} table {100 + number}\n"
        f"ip -6 route replace default via {gateway} metric {100 * number}",
    )
    shown = ["ip", "-6", "-o", "addr", "show", "dev", f"up{number}", "temporary"]

    def made() -> str:
        words = lab.run("a", shown).stdout.split()
        return words[3].partition("/")[0] if words else ""

    return lab.wait_for("a temporary address is there", made, PATIENCE_S)


def _route(lab: Lab) -> str:
    """The route of a new connection to b, with its source."""
    return lab.run("a", ["ip", "-6", "route", "get", B_1]).stdout


def _addresses(lab: Lab) -> str:
    return lab.run("a", ["ip", "-6", "addr", "show", "dev", "up1"]).stdout


def test_every_connection_of_a_context_goes_on_before_the_timer_of_tcp_expires(lab: Lab) -> None:
    """A pool of connections to a database: each has one request under way when the path fails."""
    _set_timer_of_tcp(lab, f"rto_min {10 * SOURCES_S:.0f}s")
    try:
        with contextlib.ExitStack() as stack:
            pool = [stack.enter_context(tcp(lab, "a")) for _ in range(POOL)]
            for one in pool:
                await_carried(lab, one)
            for fault in (Fault.SILENT, Fault.CARRIER):
                lab.cut(1, fault)
                said = [one.say() for one in pool]
                for one, line in zip(pool, said, strict=True):
                    one.hears(line, timeout_s=SOURCES_S)
                lab.heal(1)
                assert_outlives(lab, 2, *pool)
    finally:
        _set_timer_of_tcp(lab, "")


def _set_timer_of_tcp(lab: Lab, least: str) -> None:
    """Sets how long TCP on a waits for an acknowledgement at the least."""
    for number in (1, 2):
        route = f"default via 2001:db8:{number}:a::1 dev up{number}"
        shell(
            lab,
            "a",
            f"ip -6 route replace {route} table {100 + number} {least}\n"
            f"ip -6 route replace {route} metric {100 * number} {least}",
        )
