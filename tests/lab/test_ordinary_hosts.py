# SPDX-License-Identifier: MIT
"""Settings and addresses of ordinary hosts: of routers, desktops and servers."""

import contextlib
import re
from collections.abc import Iterator

import pytest

from noid.config import PlaneSection
from noid.counters import PlaneCounter
from noid.errors import PlatformError
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.namespaces import namespace
from noid.lab.topology import HOSTS, locators, site
from tests.lab.conversations import (
    AGAIN_TIMEOUT_S,
    PATIENCE_S,
    TCP_PORT,
    UDP_PORT,
    Conversation,
    await_carried,
    counters,
    echoing_lab,
    establish_context,
    tcp,
)
from tests.lab.vpn import (
    IN_VPN,
    PRIORITIES,
    VPN_MARK,
    await_heeded,
    lead_into_vpn,
    make_vpn,
    rules,
    run,
)

SLAAC = "2001:db8:1:a:a00:27ff:fe00:1"
"""An address of provider 1 that is not in the DNS."""
VIRTUAL = "2001:db8:1:a::99"
TRANSLATED = "2001:db8:99::9"
"""An address of no host."""
IN_LAN = ("2001:db8:9::b", "2001:db8:9::a")
"""Of host b and host a, in a LAN behind host a."""
PRIVATE = ("fd00:1::a", "fd00:2::a")
MARK = PlaneSection().mark
SERVER_PORT = 7002
RESOLVER = "2001:db8:77::53"
"""An address of no host, as that of a resolver within the VPN."""
LIFETIMES = "valid_lft 3600 preferred_lft 1800"


@pytest.fixture
def ordinary_lab(lab_machine: None, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab for one test, which leaves addresses and settings behind."""
    with echoing_lab(getattr(request, "param", "bpf")) as lab:
        yield lab


def begin_context(lab: Lab, host: str, source: str, peer: str) -> None:
    """Lets a host speak to a peer from an address until a context uses that."""

    def is_used() -> bool:
        lab.run(host, ["ping", "-c1", "-w20", "-I", source, peer])
        return any(one["local_aid"] == source for one in lab.contexts(host))

    lab.wait_for("a context uses it", is_used, PATIENCE_S)


def test_carrier_loss_is_survived_where_the_kernel_ignores_routes_without_a_carrier(
    ordinary_lab: Lab,
) -> None:
    """Routing daemons set that; the routes by the uplink do not count then, though it is up."""
    lab = ordinary_lab
    run(lab, "sysctl -qw net.ipv6.conf.all.ignore_routes_with_linkdown=1")
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        establish_context(lab)
        await_carried(lab, conversation)
        lab.cut(1, Fault.CARRIER)
        run(lab, f"ip -6 addr add {SLAAC}/128 dev lo")  # sockets look up their routes again
        conversation.echoes()
        with tcp(lab, "a") as another:
            another.echoes()


def test_a_connection_starts_from_the_address_of_its_uplink_that_the_dns_has(
    ordinary_lab: Lab,
) -> None:
    """A host with an address by autoconfiguration besides the one in the DNS."""
    lab = ordinary_lab
    run(lab, f"ip -6 addr add {SLAAC}/64 dev up1 nodad")
    lab.wait_for("noid has seen it", lambda: SLAAC in lab.status("a")["locators"], 20)
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        establish_context(lab)
        await_carried(lab, conversation)
        lab.cut(1)
        conversation.echoes()


@pytest.fixture
def vpn_rule(ordinary_lab: Lab, request: pytest.FixtureRequest) -> int:
    """The priority of the rule of a VPN of everything on host a, which noid has noticed."""
    lab, priority = ordinary_lab, int(request.param)
    establish_context(lab)
    make_vpn(lab)
    lead_into_vpn(lab, priority)
    await_heeded(lab)
    return priority


both_orders = pytest.mark.parametrize(
    "vpn_rule", list(PRIORITIES.values()), indirect=True, ids=list(PRIORITIES)
)


@both_orders
def test_a_vpn_of_everything_keeps_the_path_to_its_server(ordinary_lab: Lab, vpn_rule: int) -> None:
    lab = ordinary_lab
    own, peer = locators("a")[0], locators("b")[0]
    words = f"UDP6:[{peer}]:{UDP_PORT},bind=[{own}],setsockopt-int=1:36:{VPN_MARK}"
    with Conversation(lab, "a", ["socat", "-", words]) as vpn:
        for number in (1, 2, 1):
            vpn.echoes_at_last()
            lab.cut(number)
            vpn.echoes_at_last()
            lab.heal(number)


@both_orders
@pytest.mark.parametrize("ordinary_lab", ["bpf", "tun"], indirect=True)
def test_a_vpn_of_everything_takes_connections_and_queries(
    ordinary_lab: Lab, vpn_rule: int
) -> None:
    """Also those with the mark of noid, which "noid plain" and the queries of the stub have."""
    lab, peer = ordinary_lab, locators("b")[0]
    assert lab.run("a", ["getent", "ahosts", "b.example"]).returncode == 0, "noid looks again"

    def way(*words: str) -> str:
        return lab.run("a", ["ip", "-6", "route", "get", *words]).stdout

    lab.wait_for("connections take it", lambda: " dev vpn0 " in way(peer), PATIENCE_S)
    for destination in (peer, RESOLVER):
        for mark in ("0", str(MARK)):
            assert f" dev vpn0 table {VPN_MARK} src {IN_VPN} " in way(destination, "mark", mark)
    run(lab, f"ip -6 rule del priority {vpn_rule}")
    lab.wait_for("noid has seen it", lambda: "ipproto" not in rules(lab), PATIENCE_S)
    lab.wait_for("connections use uplinks", lambda: " dev vpn0 " not in way(peer), PATIENCE_S)


def test_a_desktop_with_temporary_and_unique_local_addresses_keeps_its_connection(
    ordinary_lab: Lab,
) -> None:
    """Privacy extensions, and a router at home that announces a private prefix besides."""
    lab = ordinary_lab
    for number, (own, private) in enumerate(zip(locators("a"), PRIVATE, strict=True), start=1):
        uplink, gateway = f"dev up{number}", site(number, "a").replace("/64", "1")
        run(
            lab,
            f"sysctl -qw net.ipv6.conf.up{number}.use_tempaddr=2",
            f"ip -6 addr del {own}/64 {uplink}",
            f"ip -6 addr add {own}/64 {uplink} mngtmpaddr nodad {LIFETIMES}",
            f"ip -6 addr add {private}/64 {uplink} nodad",
            f"ip -6 route replace default via {gateway} {uplink} table {100 + number}",
            f"ip -6 route replace default via {gateway} {uplink} metric {100 * number}",
        )
    lab.wait_for("noid has seen them", lambda: set(PRIVATE) < set(lab.status("a")["locators"]), 20)
    lab.wait_for(
        "the temporary address is there",
        lambda: "temporary" in lab.run("a", ["ip", "-6", "addr", "show", "dev", "up1"]).stdout,
        20,
    )
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        establish_context(lab)
        await_carried(lab, conversation)
        lab.cut(1)
        conversation.echoes()


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.CARRIER, Fault.ADMIN])
def test_long_datagrams_of_a_socket_without_a_source_move_to_a_narrow_uplink(
    ordinary_lab: Lab, fault: Fault
) -> None:
    """It is not connected: the kernel selects source and route for each datagram."""
    lab = ordinary_lab
    for node, interface in (("a", "up1"), ("isp1", "custa"), ("isp1", "custb"), ("b", "up1")):
        done = lab.run(node, ["ip", "link", "set", interface, "mtu", "9000"])
        assert done.returncode == 0, done.stderr
    words = ["socat", "-b9000", "-", f"UDP6-SENDTO:[{locators('b')[0]}]:{UDP_PORT}"]
    with Conversation(lab, "a", words) as conversation:

        def a_long_one_comes_back() -> bool:
            with contextlib.suppress(PlatformError):
                conversation.echoes(octets=5000, timeout_s=AGAIN_TIMEOUT_S)
                return True
            return False

        conversation.echoes_at_last()
        establish_context(lab)
        await_carried(lab, conversation)
        lab.wait_for("a long datagram comes back", a_long_one_comes_back, PATIENCE_S)
        lab.cut(1, fault)
        lab.wait_for("a long datagram comes back", a_long_one_comes_back, PATIENCE_S)


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.CARRIER, Fault.ADMIN])
def test_long_packets_without_a_source_move_to_a_narrow_path(
    ordinary_lab: Lab, fault: Fault
) -> None:
    """Each link of the other provider carries less than the one before."""
    lab = ordinary_lab
    for node, interface, mtu in (
        *((node, "up1", "9000") for node in HOSTS),
        *(("isp1", interface, "9000") for interface in ("custa", "custb")),
        ("a", "up2", "1400"),
        ("isp2", "custa", "1400"),
        ("isp2", "custb", "1300"),
        ("b", "up2", "1300"),
    ):
        done = lab.run(node, ["ip", "link", "set", interface, "mtu", mtu])
        assert done.returncode == 0, done.stderr
    establish_context(lab)
    lab.cut(1, fault)
    ping = ["ping", "-c1", "-W1", "-s1800", locators("b")[0]]
    for _ in range(2):
        lab.wait_for("a long one comes back", lambda: lab.run("a", ping).returncode == 0, 20)


def test_a_host_behind_a_device_that_is_no_uplink_speaks_plainly(ordinary_lab: Lab) -> None:
    """Host a is a router with a LAN, and the host there has noid too.

    Data of a context would not be received from the LAN, where no programs are.
    """
    lab = ordinary_lab
    inside, router = IN_LAN
    lab.take_noid_down("b")
    lan = f"link add lan0 type veth peer lan0 netns {namespace(lab.name, 'b')}"
    run(lab, f"ip {lan}")
    for host, own in (("a", router), ("b", inside)):
        for words in ("link set lan0 up", f"addr add {own}/64 dev lan0 nodad"):
            assert lab.run(host, ["ip", *words.split()]).returncode == 0, words
    run(lab, "ip -6 rule add priority 800 lookup main suppress_prefixlength 0")
    for peer in locators("a"):
        route = f"ip -6 route add {peer}/128 via {router} dev lan0"
        assert lab.run("b", route.split()).returncode == 0
    config = lab.directory / "b.toml"
    text = re.sub("locators = .*", "", config.read_text()).replace('"up*"', '"lan*"')
    config.write_text(text)
    lab.start_daemon("b")
    words = f"TCP6:[{locators('a')[0]}]:{TCP_PORT},bind=[{inside}]"
    with Conversation(lab, "b", ["socat", "-", words]) as conversation:
        conversation.echoes()
        assert lab.run("b", ["ping", "-c1", "-W9", "a.example"]).returncode == 0

        def is_refused() -> bool:
            conversation.echoes()
            return counters(lab, "a")[PlaneCounter.INITS_ELSEWHERE] > 0

        lab.wait_for("a refuses an INIT", is_refused, PATIENCE_S)
        lab.cut(1)
        conversation.echoes()


@pytest.mark.parametrize("hook", ["tcx", "clsact"])
def test_a_script_that_shapes_what_arrives_gets_restored_packets(
    ordinary_lab: Lab, hook: str
) -> None:
    """Shaping scripts lead each inbound packet through another device (SQM), past later filters."""
    lab = ordinary_lab
    lab.take_noid_down("a")
    config = lab.directory / "a.toml"
    config.write_text(config.read_text().replace("[plane]\n", f'[plane]\nhook = "{hook}"\n'))
    lab.start_daemon("a")
    for number in (1, 2):
        if hook == "tcx":
            run(lab, f"tc qdisc add dev up{number} clsact")
        run(
            lab,
            f"ip link add ifb{number} type ifb",
            f"ip link set ifb{number} up",
            f"tc filter add dev up{number} ingress protocol all prio 10 u32 match u32 0 0"
            f" action mirred egress redirect dev ifb{number}",
        )
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        establish_context(lab)
        await_carried(lab, conversation)
        lab.cut(1)
        conversation.echoes(octets=60_000)


def test_programs_reach_the_host_that_has_taken_a_virtual_address(ordinary_lab: Lab) -> None:
    """An address of several servers (VRRP): it leaves host a, which has a context that uses it."""
    lab = ordinary_lab
    run(lab, f"ip -6 addr add {VIRTUAL}/128 dev up1 nodad")
    lab.wait_for("noid has seen it", lambda: VIRTUAL in lab.status("a")["locators"], 20)
    begin_context(lab, "a", VIRTUAL, locators("b")[0])
    run(lab, f"ip -6 addr del {VIRTUAL}/128 dev up1")
    lab.wait_for("host a keeps it", lambda: _is_kept(lab), PATIENCE_S)
    add = ["ip", "-6", "addr", "add", f"{VIRTUAL}/128", "dev", "custa", "nodad"]
    assert lab.run("isp1", add).returncode == 0
    lab.wait_for("host a keeps it no longer", lambda: not _is_kept(lab), PATIENCE_S)
    run(lab, f"ping -c1 -w20 {VIRTUAL}")
    assert any(one["local_aid"] == VIRTUAL for one in lab.contexts("a")), "its context is there"


def _is_kept(lab: Lab) -> bool:
    return "dev lo" in lab.run("a", ["ip", "-6", "route", "get", VIRTUAL]).stdout


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.CARRIER, Fault.ADMIN])
def test_a_conversation_with_a_peer_behind_an_address_that_is_translated_goes_on(
    ordinary_lab: Lab, fault: Fault
) -> None:
    """Nftables replaces the destination in the output hook, after the first look-up of the route.

    Without noid the conversation ends with the path.
    """
    lab = ordinary_lab
    run(
        lab,
        "nft add table ip6 t",
        "nft add chain ip6 t out { type nat hook output priority -100 ; }",
        f"nft add rule ip6 t out ip6 daddr {TRANSLATED} dnat to {locators('b')[0]}",
    )
    stream = ["socat", "-", f"TCP6:[{TRANSLATED}]:{TCP_PORT}"]
    datagrams = ["socat", "-", f"UDP6:[{TRANSLATED}]:{UDP_PORT}"]
    establish_context(lab)
    with Conversation(lab, "a", stream) as tcp_one, Conversation(lab, "a", datagrams) as udp_one:
        for number in (1, 2, 1):
            await_carried(lab, tcp_one)
            udp_one.echoes_at_last()
            lab.cut(number, fault)
            tcp_one.echoes()
            udp_one.echoes_at_last()
            lab.heal(number)


@pytest.mark.parametrize("ordinary_lab", ["bpf", "tun"], indirect=True)
@pytest.mark.parametrize("fault", [Fault.ADMIN, Fault.CARRIER, Fault.SILENT])
def test_a_server_that_is_bound_to_no_address_answers_after_its_uplink_has_failed(
    ordinary_lab: Lab, fault: Fault
) -> None:
    """It answers from the address that its client uses, although its uplink has lost that."""
    lab = ordinary_lab
    lab.spawn("b", ["socat", f"UDP6-RECVFROM:{SERVER_PORT},fork", "PIPE"])
    sockets = ["ss", "-6Hnlu", f"sport = {SERVER_PORT}"]
    lab.wait_for("the server is there", lambda: lab.run("b", sockets).stdout, PATIENCE_S)
    client = ["socat", "-", f"UDP6:[{locators('b')[0]}]:{SERVER_PORT}"]
    with Conversation(lab, "a", client) as conversation:
        conversation.echoes_at_last()
        establish_context(lab)
        for _ in range(2):
            lab.cut(1, fault, "b")
            conversation.echoes_at_last()
            begin_context(lab, "b", locators("b")[1], locators("a")[0])
            conversation.echoes_at_last()
            lab.heal(1, "b")
            conversation.echoes_at_last()
