# SPDX-License-Identifier: MIT
"""Routes to M6 peers: by the uplink of the AID, and by our own device for when that is down."""

import socket
from collections.abc import Callable

from noid.config import PlaneSection
from noid.host.links import FAR_AWAY
from noid.host.lookup import Packet, routes_taken
from noid.host.netlink import HostNetwork
from noid.host.routes import DeletedRoute, Difference, PeerRoute, mtu_in
from noid.locators import Locator, parse_locator
from noid.planes.bpf.limits import LIMITS
from noid.planes.steering import BY_OURS, BY_UPLINK, GATEWAY, Steering
from noid.planes.uplink import ETHERNET, NO_UPLINK, OWN_ROW, SENDS, Uplink
from tests.namespaces import in_network_namespace, ip

A1, A2, B1, B2 = map(
    parse_locator, ("2001:db8:1::a", "2001:db8:2::a", "2001:db8:1::b", "2001:db8:2::b")
)
SECTION = PlaneSection()
ROW = 1
TABLE = SECTION.table + ROW


def on_a_host(scenario: Callable[[Steering, Uplink], None], *begin: str) -> list[int]:
    """Plays on a host with an uplink and a device of ours; returns what was refused."""
    refused: list[int] = []

    def play() -> None:
        for name in ("up1", "own"):
            ip(f"link add {name} type veth peer name far-{name}")
            ip(f"link set {name} up")
            ip(f"link set far-{name} up")
        for command in ("addr add 2001:db8:1::a/64 dev up1 nodad", *begin):
            ip(command)
        network = HostNetwork()
        try:
            own = socket.if_nametoindex("own")
            steering = Steering(network, SECTION, own, refused.append, LIMITS.routes_at_once)
            scenario(steering, uplink())
        finally:
            network.close()

    in_network_namespace(play)
    return refused


def uplink(flags: int = ETHERNET) -> Uplink:
    return Uplink(socket.if_nametoindex("up1"), 1500, bytes(6), flags | SENDS)


def peers(count: int) -> list[Locator]:
    return [Locator(B1[:8] + number.to_bytes(8, "big")) for number in range(1, count + 1)]


def test_a_peer_has_a_route_by_the_uplink_and_one_by_our_device() -> None:
    def scenario(steering: Steering, up1: Uplink) -> None:
        assert steering.set_uplink(ROW, up1)
        assert steering.add_peers(ROW, [B1, B1], A1)
        assert not steering.add_peers(ROW, [B1], A1)
        by_uplink = PeerRoute(B1, TABLE, up1.ifindex, BY_UPLINK, gateway=GATEWAY)
        by_ours = PeerRoute(B1, TABLE, steering.own, BY_OURS)
        assert steering.network.routes(TABLE) == {by_uplink, by_ours}
        assert steering.network.neighbour_devices(GATEWAY) == {up1.ifindex}
        steering.remove_peer(ROW, B1)
        steering.remove_peer(ROW, B1)
        assert steering.network.routes(TABLE) == set()
        assert steering.tables() == [SECTION.table]

    assert on_a_host(scenario) == []


def test_a_device_without_neighbours_needs_no_gateway() -> None:
    def scenario(steering: Steering, up1: Uplink) -> None:
        steering.set_uplink(ROW, uplink(flags=0))
        steering.add_peers(ROW, [B1], A1)
        assert PeerRoute(B1, TABLE, up1.ifindex, BY_UPLINK) in steering.network.routes(TABLE)
        assert steering.network.neighbour_devices(GATEWAY) == set()

    assert on_a_host(scenario) == []


def test_an_uplink_that_is_lost_leaves_the_route_by_our_device() -> None:
    def scenario(steering: Steering, up1: Uplink) -> None:
        steering.set_uplink(ROW, up1)
        steering.add_peers(ROW, [B1], A1)
        steering.choose({B1: (ROW, A1)})
        steering.lose_uplink(ROW)
        ip("link set up1 down")
        by_ours = PeerRoute(B1, TABLE, steering.own, BY_OURS)
        assert steering.network.routes(TABLE) == {by_ours}
        assert steering.network.routes(SECTION.table) == set()
        ip("addr add 2001:db8:1::a/128 dev own nodad")
        assert steering.keep_source(A1, kept=True) == ROW
        assert steering.go_on(ROW)
        from_aid = by_ours._replace(table=SECTION.table, source=A1)
        assert steering.network.routes(SECTION.table) == {from_aid}
        steering.narrow_path(B1, 1300)
        (narrow,) = steering.network.routes(SECTION.table)
        assert mtu_in(narrow.metrics) == 1300
        assert differing(steering, SECTION.table) == Difference(set(), set())
        steering.add_peers(ROW, [B2], A1)
        assert steering.network.routes(TABLE) == {by_ours, by_ours._replace(aid=B2)}
        ip("link set up1 up")
        ip("addr add 2001:db8:1::a/64 dev up1 nodad")
        assert steering.set_uplink(ROW, up1)
        assert len(steering.network.routes(TABLE)) == 4
        steering.keep_source(A1, kept=False)
        assert steering.correct(SECTION.table, differing(steering, SECTION.table)) == []
        (by_uplink,) = steering.network.routes(SECTION.table)
        assert by_uplink.metric == BY_UPLINK
        assert steering.network.neighbour_devices(GATEWAY) == {up1.ifindex}

    assert on_a_host(scenario) == []


def test_an_aid_whose_uplink_is_not_known_takes_the_place_of_another_source() -> None:
    """The daemon has started while the uplink was down."""

    def scenario(steering: Steering, up1: Uplink) -> None:
        steering.set_uplink(ROW, up1)
        steering.choose({B1: (ROW, A1)})
        ip("addr add 2001:db8:2::a/128 dev own nodad")
        steering.add_peers(OWN_ROW, [B1], A2)
        steering.choose({B1: (OWN_ROW, A2)})
        assert steering.network.routes(SECTION.table) == set(), "the kernel selects until then"
        assert steering.keep_source(A2, kept=True) == OWN_ROW
        assert steering.go_on(OWN_ROW)
        from_aid = PeerRoute(B1, SECTION.table, steering.own, BY_OURS, source=A2)
        assert steering.network.routes(SECTION.table) == {from_aid}
        steering.choose({B1: (ROW, A1)})
        (by_uplink,) = steering.network.routes(SECTION.table)
        assert by_uplink.source == A1

    assert on_a_host(scenario) == []


def test_a_selection_without_a_context_ends_with_its_uplink() -> None:
    """Nothing would carry the packets of a program: the kernel selects, as without noid."""

    def scenario(steering: Steering, up1: Uplink) -> None:
        steering.set_uplink(ROW, up1)
        steering.choose({B1: (ROW, A1)})
        steering.lose_uplink(ROW)
        ip("link set up1 down")
        ip("addr add 2001:db8:1::a/128 dev own nodad")
        assert steering.keep_source(A1, kept=True) == ROW
        assert steering.go_on(ROW)
        assert steering.network.routes(SECTION.table) == set()

    assert on_a_host(scenario) == []


def test_a_selection_that_ends_while_its_uplink_is_down_leaves_nothing() -> None:
    def scenario(steering: Steering, up1: Uplink) -> None:
        steering.set_uplink(ROW, up1)
        steering.add_peers(ROW, [B1], A1)
        steering.choose({B1: (ROW, A1)})
        steering.lose_uplink(ROW)
        ip("link set up1 down")
        ip("addr add 2001:db8:1::a/128 dev own nodad")
        steering.keep_source(A1, kept=True)
        steering.go_on(ROW)
        ip("link set up1 up")
        ip("addr add 2001:db8:1::a/64 dev up1 nodad")
        steering.set_uplink(ROW, up1)
        steering.unchoose(B1)
        assert steering.network.routes(SECTION.table) == set()

    assert on_a_host(scenario) == []


def differing(steering: Steering, table: int) -> Difference:
    return steering.network.difference(table, steering.wanted(table))


def test_what_changes_while_a_table_is_compared_is_left() -> None:
    def scenario(steering: Steering, up1: Uplink) -> None:
        steering.set_uplink(ROW, up1)
        steering.add_peers(ROW, [B1], A1)
        steering.network.remove_routes(list(steering.wanted(TABLE)))
        found = differing(steering, TABLE)
        steering.remove_peer(ROW, B1)
        steering.add_peers(ROW, [B2], A1)
        late = Difference(found.missing, set(steering.wanted(TABLE)))
        assert steering.correct(TABLE, late) == []
        assert steering.network.routes(TABLE) == set(steering.wanted(TABLE))

    assert on_a_host(scenario) == []


def test_very_many_routes_come_back_in_turns() -> None:
    def scenario(steering: Steering, up1: Uplink) -> None:
        many = peers(2 * LIMITS.routes_at_once + 1)
        steering.add_peers(ROW, many, A1)
        assert not steering.set_uplink(ROW, up1)
        assert len(steering.network.routes(TABLE)) == len(many) + LIMITS.routes_at_once
        assert steering.correct(TABLE, differing(steering, TABLE)) == [], "it is being filled"
        assert not steering.go_on(ROW)
        assert steering.go_on(ROW)
        assert len(steering.network.routes(TABLE)) == 2 * len(many)

    assert on_a_host(scenario) == []


def test_an_uplink_that_is_lost_waits_for_no_routes() -> None:
    def scenario(steering: Steering, up1: Uplink) -> None:
        steering.add_peers(ROW, peers(2 * LIMITS.routes_at_once), A1)
        assert not steering.set_uplink(ROW, up1)
        steering.lose_uplink(ROW)
        assert steering.go_on(ROW)
        assert steering.set_uplink(ROW, NO_UPLINK)
        assert not steering.set_uplink(ROW, up1), "it begins again"

    assert on_a_host(scenario) == []


def test_a_peer_that_is_gone_gets_no_route_in_its_turn() -> None:
    def scenario(steering: Steering, up1: Uplink) -> None:
        many = peers(LIMITS.routes_at_once + 2)
        steering.add_peers(ROW, many, A1)
        assert not steering.set_uplink(ROW, up1)
        there = steering.network.routes(TABLE)
        gone = next(
            aid for aid in many if PeerRoute(aid, TABLE, steering.own, BY_OURS) in there
            and PeerRoute(aid, TABLE, up1.ifindex, BY_UPLINK, GATEWAY) not in there
        )  # fmt: skip
        steering.remove_peer(ROW, gone)
        assert steering.go_on(ROW)
        assert gone not in {route.aid for route in steering.network.routes(TABLE)}

    assert on_a_host(scenario) == []


def test_a_source_is_chosen_until_it_is_left_to_the_kernel() -> None:
    def scenario(steering: Steering, up1: Uplink) -> None:
        steering.set_uplink(ROW, up1)
        assert steering.choose({B1: (ROW, A1)})
        assert not steering.choose({B1: (ROW, A1)})
        (route,) = steering.network.routes(SECTION.table)
        assert (route.aid, route.source, route.device) == (B1, A1, up1.ifindex)
        steering.unchoose(B1)
        steering.unchoose(B1)
        assert steering.network.routes(SECTION.table) == set()

    assert on_a_host(scenario) == []


def test_the_route_of_an_unknown_source_is_as_narrow_as_its_path_until_another_is_chosen() -> None:
    def scenario(steering: Steering, up1: Uplink) -> None:
        def mtu() -> int:
            there = steering.network.routes(SECTION.table)
            assert there == set(steering.wanted(SECTION.table)), "nothing is to be corrected"
            return mtu_in(next(iter(there)).metrics)

        ip("route add default via fe80::1 dev up1 mtu 1450 hoplimit 9 congctl cubic")
        (taken,) = routes_taken([Packet(FAR_AWAY, A1, up1.ifindex)], 0)
        steering.set_uplink(ROW, up1._replace(metrics=taken.metrics))
        steering.narrow_path(B1, 1400)  # it is not chosen
        steering.choose({B1: (ROW, A1)})
        assert mtu() == 1450
        steering.narrow_path(B1, 1400)
        assert mtu() == 1400
        steering.narrow_path(B1, 1500)
        assert mtu() == 1400, "an error makes no path wider"
        steering.narrow_path(B1, None)
        steering.narrow_path(B1, None)
        assert mtu() == 1450
        steering.narrow_path(B1, 1280)
        steering.widen_path(B1)
        steering.widen_path(B2)  # it has no route
        assert mtu() == 1450
        steering.narrow_path(B1, 1280)
        steering.choose({B1: (ROW, A2)})
        assert mtu() == 1450

    assert on_a_host(scenario, "addr add 2001:db8:2::a/64 dev up1 nodad") == []


def test_an_error_that_says_more_than_a_route_can_changes_no_route() -> None:
    def scenario(steering: Steering, up1: Uplink) -> None:
        steering.set_uplink(ROW, up1)
        steering.choose({B1: (ROW, A1)})
        before = steering.network.routes(SECTION.table)
        steering.narrow_path(B1, 0xFFFFFFFF)
        assert steering.network.routes(SECTION.table) == before
        assert set(steering.wanted(SECTION.table)) == before, "nothing is to be corrected"
        steering.narrow_path(B1, None)

    assert on_a_host(scenario) == []


def test_what_is_missing_is_restored_and_what_is_too_much_removed() -> None:
    def scenario(steering: Steering, up1: Uplink) -> None:
        steering.set_uplink(ROW, up1)
        steering.add_peers(ROW, [B1], A1)
        network = steering.network
        network.remove_routes([PeerRoute(B1, TABLE, up1.ifindex, BY_UPLINK, gateway=GATEWAY)])
        network.add_routes([PeerRoute(B2, TABLE, steering.own, BY_OURS)])
        network.remove_neighbour(up1.ifindex, GATEWAY)
        assert steering.correct(TABLE, differing(steering, TABLE)) == [f"table {TABLE}"]
        assert network.routes(TABLE) == set(steering.wanted(TABLE))
        assert differing(steering, TABLE) == (set(), set())
        assert steering.keep_neighbour(ROW)
        assert not steering.keep_neighbour(ROW)
        strange = PeerRoute(B2, TABLE + 5, steering.own, 1)
        network.add_routes([strange])
        assert steering.correct(TABLE + 5, differing(steering, TABLE + 5)) == []
        assert network.routes(TABLE + 5) == set()
        left = PeerRoute(B2, TABLE, steering.own, BY_OURS)
        network.add_routes([left])
        assert steering.correct(TABLE, differing(steering, TABLE)) == []
        steering.add_peers(ROW, [B2], A1)
        deleted = [DeletedRoute(TABLE, B2, BY_OURS)]
        assert steering.restore(deleted) == [], "the message about what was too much comes late"
        assert steering.restore(deleted) == [f"table {TABLE}"]

    assert on_a_host(scenario) == []


def test_refused_routes_are_counted() -> None:
    def scenario(steering: Steering, up1: Uplink) -> None:
        steering.own = 12345
        steering.add_peers(ROW, [B1, B2], A1)

    assert on_a_host(scenario) == [2]
