"""Very many routes are made, found and removed with few calls."""

import socket

from noid.locators import Locator
from noid.routes import AT_ONCE, change, leading_to
from tests.dns.conftest import in_network_namespace, ip

TABLE = 4711
AIDS = [
    Locator(bytes.fromhex("20010db8") + number.to_bytes(12, "big"))
    for number in range(1, 2 * AT_ONCE + 7)
]


def devices() -> tuple[int, int]:
    ip("link add one type veth peer name two")
    for name in ("one", "two"):
        ip(f"link set {name} up")
    return socket.if_nametoindex("one"), socket.if_nametoindex("two")


def test_routes_are_made_found_and_removed() -> None:
    def scenario() -> None:
        one, two = devices()
        assert change(AIDS, device=one, table=TABLE) == 0
        assert change(AIDS[:3], device=one, table=TABLE) == 0, "they are there already"
        assert change(AIDS[-3:], device=two, table=TABLE + 1) == 0
        ip(f"route add 2001:db8:5::/64 dev one table {TABLE}")
        assert leading_to(one, TABLE) == set(AIDS)
        assert leading_to(two, TABLE) == set()
        assert leading_to(two, TABLE + 1) == set(AIDS[-3:])
        assert change(AIDS[1:], device=one, table=TABLE, remove=True) == 0
        assert change(AIDS[1:], device=one, table=TABLE, remove=True) == 0, "they are gone already"
        assert leading_to(one, TABLE) == {AIDS[0]}

    in_network_namespace(scenario)


def test_a_table_that_is_not_there_leads_nowhere() -> None:
    assert in_network_namespace(lambda: leading_to(1, TABLE)) == set()


def test_what_the_kernel_refuses_is_counted() -> None:
    nobody = 12345
    assert in_network_namespace(lambda: change(AIDS, device=nobody, table=TABLE)) == len(AIDS)
