# SPDX-License-Identifier: MIT
"""A site that gets another prefix, up to the last step: the DNS lists the new addresses alone."""

import os
import signal
from ipaddress import IPv6Address
from pathlib import Path

from noid.lab.configuration import zone_names, zone_path
from noid.lab.lab import Lab
from tests.lab.conversations import establish_context, serve_echoes, tcp
from tests.lab.field.situations import A_1, A_2, NEW_1, await_locators, bound, renumber, shell

VERIFIED_WITHIN_S = 150.0
"""Two TTLs of the lab's zones and some time."""


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
