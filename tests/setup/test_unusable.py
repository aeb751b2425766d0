# SPDX-License-Identifier: MIT
"""``noid setup`` while an uplink cannot be used: what was set up for it is kept."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from noid.config import load_config
from noid.lab.waiting import wait_for
from tests.setup.host import LIMIT_S, PREFIXES, Host, address, fresh, two_uplinks
from tests.setup.test_managers import (
    NAMED,
    etc,
    has_routes,
    networkd,
    routed,
    write_interfaces,
    write_networks,
)

pytestmark = [pytest.mark.lab, pytest.mark.slow]
DOWN = "link set eth1 down"
NO_CARRIER = "link set far-eth1 down"
GONE = "link delete eth1"
AGAIN = "run noid setup again when it works"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with two_uplinks(tmp_path) as one:
        yield one


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Host]:
    with fresh(tmp_path) as one:
        yield one


def connect(host: Host, device: str, metric: int) -> None:
    prefix = PREFIXES[device]
    host.ip(f"link set {device} up")
    host.ip(f"address replace {prefix}::a/64 dev {device} nodad")
    host.ip(f"-6 route replace default via {prefix}::1 dev {device} metric {metric}")


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (DOWN, "is down"),
        (GONE, "does not exist now"),
        ("-6 route flush dev eth1", "has no default"),
    ],
)
def test_what_was_set_up_for_an_uplink_is_kept_while_it_is_down(
    host: Host, event: str, why: str
) -> None:
    before = host.snapshot()
    first = host.setup(*NAMED).stdout
    config, rules = host.config.read_bytes(), host.run("ip", "-6", "rule").stdout
    host.ip(event)
    said = host.setup(*NAMED).stdout
    assert f"# eth1 {why}" in said
    assert AGAIN in said
    assert host.config.read_bytes() == config
    assert host.run("ip", "-6", "rule").stdout == rules
    assert [one for one in said.splitlines() if " IN " in one] == [
        one for one in first.splitlines() if " IN " in one
    ]

    if event == GONE:
        host.ip("link add eth1 type veth peer name far-eth1")
        host.ip("link set far-eth1 up")
    connect(host, "eth1", 2)
    assert AGAIN not in host.setup().stdout
    assert routed(host)
    host.setup("--undo")
    assert host.snapshot() == before


def test_an_uplink_that_loses_its_carrier_is_set_up_as_before(host: Host) -> None:
    host.setup(*NAMED)
    config = host.config.read_bytes()
    host.ip(NO_CARRIER)
    assert "# eth1 has no carrier" in host.setup().stdout
    assert host.config.read_bytes() == config
    assert routed(host)


def test_an_uplink_without_a_carrier_that_has_address_and_route_is_set_up(bare: Host) -> None:
    bare.ip(NO_CARRIER)
    for metric, device in enumerate(PREFIXES, 1):
        bare.ip(f"link set {device} up")
        bare.ip(f"address add {address(device)}/64 dev {device}")
        bare.ip(f"-6 route add default via {PREFIXES[device]}::1 dev {device} metric {metric}")
    wait_for("an address is tested", lambda: "tentative" not in bare.ip("-6 a s eth0"), LIMIT_S)
    before = bare.snapshot()
    said = bare.setup(*NAMED).stdout
    assert "# eth1 has no carrier" in said
    assert f"a.example. 300 IN AAAA {address('eth1')}" in said
    assert load_config(bare.config).host.interfaces == ["eth0", "eth1"]
    bare.ip("link set far-eth1 up")
    wait_for("routes by source of eth1", lambda: routed(bare), LIMIT_S)
    bare.setup("--undo")
    bare.ip(NO_CARRIER)
    assert bare.snapshot() == before


def test_an_uplink_whose_prefix_another_device_has_is_not_kept(host: Host) -> None:
    host.setup(*NAMED)
    host.ip("link add br0 type bridge")
    host.ip("link set eth1 master br0")
    host.ip(f"address del {address('eth1')}/64 dev eth1")
    host.ip("link set br0 up")
    host.ip(f"address add {address('eth1')}/64 dev br0 nodad")
    host.ip(f"-6 route replace default via {PREFIXES['eth1']}::1 dev br0 metric 2")
    said = host.setup(*NAMED).stdout
    assert AGAIN not in said
    assert load_config(host.config).host.interfaces == ["eth0", "br0"]
    assert host.leaves_by(address("eth1")) == "br0"


def test_a_card_that_is_configured_and_down_is_named(bare: Host) -> None:
    write_interfaces(bare, "")
    before = etc(bare)
    bare.run("ifup", "lo", "eth0")
    said = bare.setup(*NAMED).stdout
    assert f"# eth1 is down and is left out; if it is an uplink, {AGAIN}" in said
    assert load_config(bare.config).host.interfaces == ["eth0"]
    bare.run("ifup", "eth1")
    wait_for("addresses", lambda: has_routes(bare), LIMIT_S)
    assert AGAIN not in bare.setup().stdout
    assert load_config(bare.config).host.interfaces == ["eth0", "eth1"]
    assert routed(bare)
    bare.setup("--undo")
    assert etc(bare) == before


def test_the_stanza_of_an_uplink_that_is_down_is_kept(bare: Host) -> None:
    write_interfaces(bare, "")
    before = etc(bare)
    bare.run("ifup", "-a")
    wait_for("addresses", lambda: has_routes(bare), LIMIT_S)
    bare.setup(*NAMED)
    files = etc(bare)
    bare.run("ifdown", "eth1")
    assert AGAIN in bare.setup().stdout
    assert etc(bare) == files
    bare.run("ifup", "eth1")
    wait_for("routes by source of eth1", lambda: routed(bare), LIMIT_S)
    bare.setup("--undo")
    assert etc(bare) == before


def test_the_file_of_an_uplink_that_networkd_has_without_a_carrier_is_kept(bare: Host) -> None:
    write_networks(bare)
    before = etc(bare)
    with networkd(bare):
        wait_for("addresses", lambda: has_routes(bare), LIMIT_S)
        bare.setup(*NAMED)
        files = etc(bare)
        bare.ip(NO_CARRIER)
        wait_for("eth1 is lost", lambda: address("eth1") not in bare.ip("-6 address"), LIMIT_S)
        assert AGAIN in bare.setup().stdout
        assert etc(bare) == files
        bare.ip("link set far-eth1 up")
        wait_for("routes by source of eth1", lambda: routed(bare), LIMIT_S)
        bare.setup("--undo")
    assert etc(bare) == before
