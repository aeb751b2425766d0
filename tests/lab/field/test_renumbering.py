# SPDX-License-Identifier: MIT
"""A site that gets another prefix, up to the last step: the DNS lists the new addresses alone."""

import os
import signal
import socket
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from noid.lab import namespaces
from noid.lab.configuration import zone_names, zone_path
from noid.lab.inventory import Plane
from noid.lab.lab import Lab
from tests.lab.conftest import PLANES
from tests.lab.conversations import assert_no_errors, establish_context, serve_echoes, tcp
from tests.lab.field.situations import (
    A_1,
    A_2,
    B_1,
    NEW_1,
    PATIENCE_S,
    await_locators,
    bound,
    renumber,
    shell,
)

VERIFIED_WITHIN_S = 150.0
"""Two TTLs of the lab's zones and some time."""
OLD_IS_GONE = f"ip addr del {A_1}/64 dev up1"
OLD_IS_DEPRECATED = f"ip addr change {A_1}/64 dev up1 preferred_lft 0 valid_lft 7200"
REPLACED = f"""\
ip addr add {NEW_1}/64 dev up1 nodad
ip -6 rule add priority 1003 from 2001:db8:1:aa::/64 lookup 101
ip -6 route replace default via 2001:db8:1:aa::1 dev up1 table 101
ip -6 route add default via 2001:db8:1:aa::1 dev up1 metric 50
"""


def test_a_connection_outlives_the_prefix_and_its_names(lab_machine: None) -> None:
    """openwrt/odhcpd #247; systemd/systemd #29651; openwrt/openwrt #9811 (RFC 8978)."""
    with Lab.create(plane="bpf") as lab:
        serve_echoes(lab)
        establish_context(lab)
        with tcp(lab, "a") as conversation:
            conversation.echoes()
            renumber(lab)
            await_locators(lab, A_1, A_2, NEW_1)
            conversation.echoes()
            shell(lab, "a", f"ip addr del {A_1}/64 dev up1")
            await_locators(lab, A_2, NEW_1)
            conversation.echoes()
            _publish(lab.directory / "dns", A_1, NEW_1)
            lab.wait_for("b verifies it", lambda: NEW_1 in _verified(lab), VERIFIED_WITHIN_S)
            assert A_2 in _verified(lab), "what was proven stays so"
            conversation.echoes()
            lab.cut(2)
            conversation.echoes_at_last()
            with bound(lab, f"bind=[{NEW_1}]") as new:
                new.echoes()


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("end", [OLD_IS_GONE, OLD_IS_DEPRECATED], ids=["gone", "deprecated"])
def test_new_connections_start_from_a_prefix_that_replaces_the_only_one(
    lab_machine: None, plane: Plane, end: str
) -> None:
    """RFC 8978: the old prefix is dead at once, and the peer does not know the new one."""
    with Lab.create(plane=plane) as lab:
        serve_echoes(lab)
        shell(lab, "a", "ip link set up2 down")
        await_locators(lab, A_1)
        with tcp(lab, "a") as conversation:
            conversation.echoes()
            lab.wait_for("its context", lambda: _has_context(lab), PATIENCE_S)
            conversation.echoes()
            assert _source(lab) == A_1
            shell(lab, "isp1", "ip addr add 2001:db8:1:aa::1/64 dev custa nodad")
            shell(lab, "isp1", "ip addr del 2001:db8:1:a::1/64 dev custa")
            shell(lab, "a", REPLACED + end)
            lab.wait_for("another source", lambda: _source(lab) == NEW_1, PATIENCE_S)
        with tcp(lab, "a") as new:
            new.echoes()
        shell(lab, "isp1", "ip addr add 2001:db8:1:a::1/64 dev custa nodad")
        shell(lab, "a", f"ip addr replace {A_1}/64 dev up1 nodad preferred_lft forever")
        with bound(lab, f"bind=[{A_1}]") as old:
            old.echoes()
        assert_no_errors(lab)


def _has_context(lab: Lab) -> bool:
    return any(
        (one["local_aid"], one["peer_aid"], one["state"]) == (A_1, B_1, "established")
        for one in lab.contexts("a")
    )


def _source(lab: Lab) -> str:
    """The source that a new connection of a to b gets."""

    def ask() -> str:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
            one.connect((B_1, 9))
            name: str = one.getsockname()[0]
            return name

    return namespaces.inside(namespaces.namespace(lab.name, "a"), ask)


def _verified(lab: Lab) -> list[str]:
    """Lsv(a) of the context of b that the connection uses."""
    found = [one["lsv_peer"] for one in lab.contexts("b") if one["peer_aid"] == A_1]
    return found[0] if found else []


def _publish(directory: Path, old: str, new: str) -> None:
    """Puts an address into the zones in place of another, and lets the name server read them."""
    for zone in zone_names():
        path = zone_path(directory, zone)
        text = path.read_text(encoding="utf-8").replace(" 1 3600 ", " 2 3600 ")
        for one, other in ((old, new), (_reverse(old), _reverse(new))):
            text = text.replace(one, other)
        path.write_text(text, encoding="utf-8")
    os.kill(int((directory / "nsd.pid").read_text(encoding="utf-8")), signal.SIGHUP)


def _reverse(address: str) -> str:
    """The name of an address under ip6.arpa."""
    return IPv6Address(address).reverse_pointer
