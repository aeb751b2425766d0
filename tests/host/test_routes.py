# SPDX-License-Identifier: MIT
"""Very many routes are added, listed and removed with few calls."""

import socket
import subprocess

from noid.host.links import FAR_AWAY
from noid.host.lookup import Packet, routes_taken
from noid.host.routes import AT_ONCE, PeerRoute, add, listed, mtu_in, remove, with_hop_limit
from noid.locators import Locator, format_locator, parse_locator
from tests.namespaces import in_network_namespace, ip

TABLE = 4711
AIDS = [
    Locator(bytes.fromhex("20010db8") + number.to_bytes(12, "big"))
    for number in range(1, 2 * AT_ONCE + 7)
]
GATEWAY, SOURCE = parse_locator("fe80::1"), parse_locator("2001:db8:9::1")


def devices() -> tuple[int, int]:
    ip("link add one type veth peer name two")
    for name in ("one", "two"):
        ip(f"link set {name} up")
    return socket.if_nametoindex("one"), socket.if_nametoindex("two")


def routes(device: int, *, table: int = TABLE, metric: int = 100) -> list[PeerRoute]:
    return [PeerRoute(aid, table, device, metric) for aid in AIDS]


def test_routes_are_added_listed_and_removed() -> None:
    def scenario() -> None:
        one, two = devices()
        first, second, other = routes(one), routes(two, metric=200), routes(two, table=TABLE + 1)
        assert add(first) == 0
        assert add(first[:3]) == 0, "they are there already"
        assert add([*second, *other[-3:]]) == 0
        ip(f"route add 2001:db8:5::/64 dev one table {TABLE}")
        assert listed(TABLE) == {*first, *second}
        assert listed(TABLE + 1) == set(other[-3:])
        assert listed(TABLE, 2) == {*first, *second, *other[-3:]}
        remove([*first[1:], *second])
        remove(first[1:])  # they are gone already
        assert listed(TABLE) == {first[0]}

    in_network_namespace(scenario)


def test_a_route_is_listed_with_its_gateway_and_its_source() -> None:
    def scenario() -> None:
        one, _ = devices()
        ip("addr add 2001:db8:9::1/64 dev one nodad")
        route = PeerRoute(AIDS[0], TABLE, one, 7, gateway=GATEWAY, source=SOURCE)
        assert add([route]) == 0
        assert listed(TABLE) == {route}

    in_network_namespace(scenario)


def test_a_route_says_of_its_path_what_the_default_route_says() -> None:
    def scenario() -> None:
        one, two = devices()
        ip("addr add 2001:db8:9::1/64 dev one nodad")
        question = [Packet(FAR_AWAY, SOURCE, one)]
        assert routes_taken(question, 0)[0].error, "there is no route"
        ip("route add default via fe80::1 dev one mtu 1400 hoplimit 9 initcwnd 20 congctl cubic")
        metrics = routes_taken(question, 0)[0].metrics
        assert mtu_in(metrics) == 1400
        assert routes_taken([Packet(FAR_AWAY, SOURCE, two)], 0)[0].device != two
        plain = PeerRoute(AIDS[0], TABLE, one, 7, gateway=GATEWAY)
        route = plain._replace(metrics=metrics)
        assert add([route]) == add([plain._replace(aid=AIDS[1])]) == 0
        assert listed(TABLE) == {route, plain._replace(aid=AIDS[1])}
        shown = subprocess.run(
            ["ip", "-6", "route", "show", "table", str(TABLE)], capture_output=True, text=True
        ).stdout
        assert "mtu 1400 hoplimit 9 initcwnd 20" in shown
        assert mtu_in(b"") == 0
        assert with_hop_limit(metrics, 8) == metrics
        higher = route._replace(aid=AIDS[2], metrics=with_hop_limit(metrics, 64))
        bare = route._replace(aid=AIDS[3], metrics=with_hop_limit(b"", 64))
        assert add([higher, bare]) == 0
        assert {higher, bare} <= listed(TABLE), "the kernel lists them as they were added"
        assert mtu_in(higher.metrics) == 1400

    in_network_namespace(scenario)


def test_very_many_questions_for_the_way_out_are_answered_in_their_order() -> None:
    """A server may have a thousand addresses, and each survey asks twice for each."""
    by_two, refused, *others = AIDS

    def scenario() -> None:
        one, two = devices()
        ip("route add default via fe80::1 dev one")
        ip(f"route add default via fe80::1 dev two table {TABLE}")
        ip(f"rule add from {format_locator(by_two)} table {TABLE}")
        ip(f"rule add from {format_locator(refused)} unreachable")
        questions = [Packet(FAR_AWAY, aid, device) for aid in AIDS for device in (0, two)]
        found = [taken.device for taken in routes_taken(questions, 0)]
        assert found == [two, two, 0, 0] + [one, one] * len(others)

    in_network_namespace(scenario)


def test_a_table_that_is_not_there_has_no_routes() -> None:
    assert in_network_namespace(lambda: listed(TABLE)) == set()


def test_refused_routes_are_counted() -> None:
    no_device = 12345
    assert in_network_namespace(lambda: add(routes(no_device))) == len(AIDS)
