# SPDX-License-Identifier: MIT
"""Which addresses of a host are locators, and what is to be said of them [D20, D22, D23, D25]."""

import contextlib
import select
import socket
import subprocess

import pytest
from pyroute2.ethtool import Ethtool

from noid.config import HostSection
from noid.constants import LOCATORS_MAX
from noid.engine.events import LocatorsChanged
from noid.host.changes import NetworkChanges
from noid.host.netlink import HostNetwork
from noid.host.reading import features_of
from noid.locators import Locator, format_locator, parse_locator
from noid.planes.steering import GATEWAY
from noid.roles.local_locators import LocalLocators
from tests.namespaces import in_network_namespace, ip


def make_links() -> None:
    """Two uplinks, an address on the first, and a link that is none."""
    for name in ("up1", "up2", "other"):
        ip(f"link add {name} type veth peer name far-{name}")
        ip(f"link set {name} up")
        ip(f"link set far-{name} up")
    ip("addr add 2001:db8:1::1/64 dev up1 nodad")


def seen(*commands: str, interfaces: tuple[str, ...] = ("up*",)) -> dict[str, str]:
    """What a host has after some commands: address -> what is to be said of it."""

    def scenario() -> dict[str, str]:
        make_links()
        for command in commands:
            ip(command)
        network = HostNetwork()
        try:
            found = network.survey(interfaces, excluded=["noid0"]).locators
        finally:
            network.close()
        return {
            format_locator(one.locator): "deprecated " * one.deprecated + "broken" * one.broken
            for one in found
        }

    return in_network_namespace(scenario)


def test_a_preferred_global_address_on_a_wanted_interface_is_a_locator() -> None:
    assert seen(
        "addr add 2001:db8:2::1/64 dev up2 nodad",
        "addr add 2001:db8:3::1/64 dev other nodad",
        "addr add fe80::1/64 dev up2 nodad",
        "addr add ff02::1234/128 dev up2 autojoin",
    ) == {"2001:db8:1::1": "", "2001:db8:2::1": ""}


def test_an_address_that_is_deprecated_is_said_to_be_so() -> None:
    change = "addr change 2001:db8:1::1/64 dev up1 preferred_lft 0"
    assert seen(change) == {"2001:db8:1::1": "deprecated "}


def test_an_address_whose_link_has_no_carrier_is_broken() -> None:
    assert seen("link set far-up1 down") == {"2001:db8:1::1": "broken"}


def test_the_host_s_end_of_an_address_with_a_peer_is_a_locator() -> None:
    address = "2001:db8:2::1 peer 2001:db8:2::2/128 dev up2"
    assert seen(f"addr add {address} nodad") == {"2001:db8:1::1": "", "2001:db8:2::1": ""}


def test_an_address_that_is_not_known_to_be_unique_yet_is_none() -> None:
    assert "2001:db8:2::1" not in seen("addr add 2001:db8:2::1/64 dev up2")


def test_an_address_that_another_host_has_is_none() -> None:
    """Its duplicate address detection fails; the neighbour on the link has it already."""
    begin = ("addr add 2001:db8:9::9/64 dev far-up2 nodad", "addr add 2001:db8:9::9/64 dev up2")
    text = ""

    def scenario() -> None:
        nonlocal text
        make_links()
        for command in begin:
            ip(command)
        network = HostNetwork()
        try:
            while "dadfailed" not in text:
                shown = ["ip", "-6", "addr", "show", "dev", "up2"]
                text = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
                found = network.survey(["up*"], excluded=[]).locators
                assert [one.locator for one in found] == [L1]
        finally:
            network.close()

    in_network_namespace(scenario)


def test_the_network_of_containers_is_no_uplink_unless_it_is_named() -> None:
    inside = (*ROUTED, "addr add fd00:c::1/64 dev other nodad")
    assert set(seen(*inside, interfaces=("*",))) == {"2001:db8:1::1", "2001:db8:2::1"}
    assert "fd00:c::1" in seen(*inside, interfaces=("up*", "oth*"))


def test_addresses_of_a_private_network_are_locators() -> None:
    private = "addr add fd00:1::1/64 dev up2 nodad", "route add default via fe80::1 dev up2"
    assert "fd00:1::1" in seen(*private, interfaces=("*",))
    assert "fd00:1::1" in seen(private[0], interfaces=("*",)), "nothing leads out"


# --- routes ---------------------------------------------------------------------------------------

L1, L2 = parse_locator("2001:db8:1::1"), parse_locator("2001:db8:2::1")
ROUTED = (
    "addr add 2001:db8:2::1/64 dev up2 nodad",
    "route add default via fe80::1 dev up1 metric 100",
    "route add default via fe80::1 dev up2 metric 200",
    "route add default via fe80::1 dev up1 table 101",
    "route add default via fe80::1 dev up2 table 102",
    "rule add from 2001:db8:1::1 table 101",
    "rule add from 2001:db8:2::1 table 102",
)
"""Two uplinks, and the source chooses between them."""
STRANDED = ("route del default table 101", "route del default dev up1")


def told(*steps: tuple[str, ...], host: HostSection | None = None) -> list[LocatorsChanged | None]:
    """What the engine is told after each of some steps."""
    wanted = host or HostSection(interfaces=["up*"])

    def scenario() -> list[LocatorsChanged | None]:
        make_links()
        network = HostNetwork()
        own = LocalLocators(wanted)
        said = []
        try:
            for commands in steps:
                for command in commands:
                    ip(command)
                said.append(own.look(network.survey(wanted.interfaces, excluded=["noid0"])))
        finally:
            network.close()
        return said

    return in_network_namespace(scenario)


def test_a_locator_without_its_route_is_broken_until_the_route_is_added_again() -> None:
    before, stranded, again, back = told(
        ROUTED,
        STRANDED,
        ("route del default table 102",),
        ("route add default via fe80::1 dev up1 table 101",),
    )
    assert before == LocatorsChanged((L1, L2))
    assert stranded == LocatorsChanged((L1, L2), broken=frozenset({L1}))
    # The second still leads out by the common table; the first has nothing but the other's way.
    assert again is None
    assert back == LocatorsChanged((L1, L2))


def test_a_locator_on_a_link_that_never_had_a_route_needs_none() -> None:
    before, after = told((), ("route add 2001:db8:c::/48 via fe80::1 dev up1",))
    assert before == LocatorsChanged((L1,))
    assert after is None


def test_a_route_that_is_there_to_refuse_is_none() -> None:
    _, after = told(
        ROUTED,
        ("route del default table 101", "route add unreachable default table 101"),
    )
    assert after == LocatorsChanged((L1, L2), broken=frozenset({L1}))


def test_a_locator_that_returns_without_its_route_is_broken() -> None:
    remove, add = "addr del 2001:db8:1::1/64 dev up1", "addr add 2001:db8:1::1/64 dev up1 nodad"
    route = "route add default via fe80::1 dev up1 table 101"
    *_, back, routed = told(ROUTED, (*STRANDED, remove), (add,), (route,))
    assert back is not None
    assert routed is not None
    assert back.broken == {L1}
    assert routed.broken == frozenset()


def test_a_link_that_was_down_has_no_route_until_it_is_added_again() -> None:
    down = "link set up2 down"
    up = ("link set up2 up", "addr add 2001:db8:2::1/64 dev up2 nodad")
    _, away, back = told(ROUTED, (down,), up)
    assert away is not None
    assert back is not None
    assert away.locators == (L1,)
    assert back.broken == {L2}


def test_an_address_that_is_on_another_link_now_needs_no_route() -> None:
    move = ("addr del 2001:db8:2::1/64 dev up2", "addr add 2001:db8:2::1/64 dev up3 nodad")
    link = ("link add up3 type veth peer name far-up3", "link set up3 up", "link set far-up3 up")
    *_, moved = told((*ROUTED, *link), move)
    assert moved is None or moved.broken == frozenset()


@pytest.mark.parametrize("backup", [["up2"], ["2001:db8:2::1"], ["wwan*", "*2"]])
def test_what_the_operator_keeps_for_the_worst_case_is_said_to_be_so(backup: list[str]) -> None:
    (said,) = told(ROUTED, host=HostSection(interfaces=["up*"], backup=backup))
    assert said == LocatorsChanged((L1, L2), backup=frozenset({L2}))


def test_of_very_many_addresses_some_of_every_uplink_are_locators() -> None:
    def add(device: int) -> list[str]:
        numbers = range(0x100, 0x100 + 2 * LOCATORS_MAX)
        return [f"addr add 2001:db8:{device}::{n:x}/64 dev up{device} nodad" for n in numbers]

    before, after, later = told(ROUTED, (*add(1),), (*add(2),))
    assert before is not None
    assert after is not None
    assert later is not None
    assert len(after.locators) == len(later.locators) == LOCATORS_MAX
    assert {L1, L2} <= set(after.locators), "those that were known stay"
    assert {L1, L2} <= set(later.locators)
    assert len([one for one in later.locators if one[:8] == L2[:8]]) == LOCATORS_MAX // 2


def test_an_address_on_two_uplinks_is_one_locator() -> None:
    (said,) = told((*ROUTED, "addr add 2001:db8:1::1/64 dev up2 nodad"))
    assert said is not None
    assert sorted(said.locators) == [L1, L2]


def run(command: str) -> None:
    subprocess.run(command.split(), check=True)


def carried(*commands: str) -> list[int]:
    """The MTU of the first uplink, after each of some commands."""

    def scenario() -> list[int]:
        make_links()
        network = HostNetwork()
        try:
            found = []
            for command in commands:
                run(command)
                found.append(network.survey(["up1"], excluded=[]).mtu)
            return found
        finally:
            network.close()

    return in_network_namespace(scenario)


def test_an_uplink_carries_what_its_router_and_its_default_route_say() -> None:
    """A router advertisement sets the MTU for IPv6; the operator, one of the route."""
    assert carried(
        "true",
        "sysctl -qw net.ipv6.conf.up1.mtu=1492",
        "ip -6 route add default via fe80::1 dev up1 mtu 1400",
        "ip -6 route change default via fe80::1 dev up1 mtu 1000",
        "ip link set up1 mtu 1000",
    ) == [1500, 1492, 1400, 1280, 1000]


def heard(*commands: str, within_s: float = 0) -> list[bool]:
    """Whether each of some changes is heard, one after the other, at once or in some time."""

    def is_heard(watching: NetworkChanges) -> bool:
        while not watching.read().matters:
            if not select.select([watching], [], [], within_s)[0]:
                return False
        return True

    def scenario() -> list[bool]:
        make_links()
        for one in ROUTED:
            ip(one)
        with contextlib.closing(NetworkChanges(GATEWAY)) as watching:
            found = []
            for command in commands:
                watching.read()
                ip(command)
                found.append(is_heard(watching))
            return found

    return in_network_namespace(scenario)


@pytest.mark.parametrize(
    "command",
    [
        "route del default dev up1",
        "rule add from 2001:db8:9::/48 table 101",
        "addr add 2001:db8:9::1/64 dev up1 nodad",
        "link set far-up1 down",
    ],
)
def test_a_change_that_may_matter_is_heard(command: str) -> None:
    # The kernel says of a new address that it is there when it has got round to that.
    assert heard(command, within_s=30) == [True]


def test_routes_to_somewhere_in_particular_are_not_heard() -> None:
    # What the kernel has to say of new links comes late, and is heard with one of them or another.
    routes = [f"route add 2001:db8:{n:x}::/48 via fe80::1 dev up1" for n in range(16, 36)]
    assert not all(heard(*routes))


def test_the_addresses_of_this_host_are_those_of_every_device() -> None:
    def scenario() -> frozenset[Locator]:
        make_links()
        ip("link set lo up")
        network = HostNetwork()
        try:
            return network.survey(["up*"], excluded=[]).addresses
        finally:
            network.close()

    found = in_network_namespace(scenario)
    assert {parse_locator("::1"), parse_locator("2001:db8:1::1")} <= found
    assert parse_locator("2001:db8:1::2") not in found


def test_a_device_that_has_gone_during_a_survey_has_no_features() -> None:
    with Ethtool() as ethtool:
        assert features_of(ethtool, "gone0") == frozenset()


def test_the_entry_that_the_operator_has_set_for_a_gateway_stays() -> None:
    """A provider may not answer neighbour solicitations at all."""
    address, gateway = "2001:db8:f::2", "2001:db8:f::1"

    def run() -> str:
        ip("link add up1 type veth peer name far1")
        for name in ("lo", "up1", "far1"):
            ip(f"link set {name} up")
        ip(f"addr add {address}/64 dev up1 nodad")
        ip(f"route add default via {gateway} dev up1")
        ip(f"neigh replace {gateway} lladdr 02:00:00:00:00:01 dev up1 nud permanent")
        with contextlib.closing(HostNetwork()) as network:
            network.ask_for_gateways([parse_locator(address)])
            network.answered_for({parse_locator(gateway): socket.if_nametoindex("up1")})
        command = ["ip", "-6", "neigh", "show", "nud", "permanent"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert f"{gateway} dev up1 lladdr 02:00:00:00:00:01" in in_network_namespace(run)
