"""Which addresses of a host are locators, and what is to be said of them [D20, D23, D25]."""

from noid.locators import format_locator
from noid.netlink import HostNetwork
from tests.dns.conftest import in_network_namespace, ip


def seen(*commands: str, interfaces: tuple[str, ...] = ("up*",)) -> dict[str, str]:
    """What a host has after some commands: address -> what is to be said of it."""

    def scenario() -> dict[str, str]:
        for name in ("up1", "up2", "other"):
            ip(f"link add {name} type veth peer name far-{name}")
            ip(f"link set {name} up")
            ip(f"link set far-{name} up")
        ip("addr add 2001:db8:1::1/64 dev up1 nodad")
        for command in commands:
            ip(command)
        network = HostNetwork()
        try:
            found = network.locators(interfaces, excluded="noid0")
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


def test_an_address_that_is_not_known_to_be_unique_yet_is_none() -> None:
    assert "2001:db8:2::1" not in seen("addr add 2001:db8:2::1/64 dev up2")
