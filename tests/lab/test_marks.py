# SPDX-License-Identifier: MIT
"""Firewalls that give packets the mark of their connection or source, in place of that of noid."""

from collections.abc import Iterator
from functools import partial

import pytest

from noid.config import PlaneSection
from noid.lab.lab import Lab
from noid.lab.topology import locators
from tests.lab.conversations import (
    PATIENCE_S,
    await_carried,
    echoing_lab,
    establish_context,
    tcp,
)
from tests.lab.vpn import run

IN_TUNNEL = ("fd99::1", "fd99::2")
PORT = 4789
A_1, A_2 = locators("a")
B_1, _ = locators("b")
CONNECTIONS = f"""\
table inet marks {{
  chain output {{
    type route hook output priority -150;
    ct mark != 0 meta mark set ct mark
  }}
  chain postrouting {{
    type filter hook postrouting priority 150;
    ip6 saddr {A_1} ct mark set 1
    ip6 saddr {A_2} ct mark set 2
  }}
}}
"""
"""The mark of a connection, restored for each packet."""
SOURCES = f"""\
table inet marks {{
  chain output {{
    type route hook output priority -150;
    ip6 saddr {A_1} meta mark set 1
    ip6 saddr {A_2} meta mark set 2
  }}
}}
"""
ONE = """\
table inet marks {
  chain output {
    type route hook output priority -150;
    meta mark set 1
  }
}
"""
"""Everything is led to one uplink, also what has an address of the other."""
NONE = """\
table inet marks {
  chain output {
    type route hook output priority -150;
    meta mark set ct mark
  }
}
"""
"""As CONNMARK --restore-mark where no connection has one."""
OF_TUNNEL = f"""\
table inet marks {{
  chain output {{
    type route hook output priority -150;
    udp dport {PORT} meta mark set 51820
  }}
}}
"""
"""As WireGuard marks the packets that it sends."""


@pytest.fixture
def marking(lab_machine: None, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab with a context, where host a has routing rules by the marks of a firewall."""
    with echoing_lab() as lab:
        establish_context(lab)
        (lab.directory / "marks.nft").write_text(request.param)
        run(
            lab,
            f"nft -f {lab.directory}/marks.nft",
            "ip -6 rule add priority 300 fwmark 1 lookup 101",
            "ip -6 rule add priority 301 fwmark 2 lookup 102",
        )
        yield lab


def uses(lab: Lab, locator: str) -> bool:
    """Whether packets of every context of host a leave from a locator."""
    return {one["local_locator"] for one in lab.contexts("a")} == {locator}


@pytest.mark.parametrize(
    "marking",
    [CONNECTIONS, SOURCES, ONE, NONE],
    ids=["connections", "sources", "one", "none"],
    indirect=True,
)
def test_a_context_follows_the_path_that_works_where_its_messages_lose_their_mark(
    marking: Lab,
) -> None:
    """Messages about a pair of locators arrive by that pair."""
    lab = marking
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        await_carried(lab, conversation)
        for number, left in ((1, A_2), (2, A_1), (1, A_2)):
            lab.cut(number)
            conversation.echoes()
            lab.wait_for("it has left", partial(uses, lab, left), PATIENCE_S)
            lab.heal(number)


@pytest.mark.parametrize("marking", [OF_TUNNEL], ids=["tunnel"], indirect=True)
def test_a_tunnel_by_a_context_carries_packets_with_the_mark_of_noid(marking: Lab) -> None:
    """Such as queries of the stub: packets of the tunnel keep their socket, and have its mark."""
    lab = marking
    for host, own, peer, inside in (("a", A_1, B_1, IN_TUNNEL[0]), ("b", B_1, A_1, IN_TUNNEL[1])):
        for words in (
            f"ip link add t0 mtu 1280 type vxlan id 7 local {own} remote {peer} dstport {PORT}",
            f"ip -6 addr add {inside}/64 dev t0 nodad",
            "ip link set t0 up",
        ):
            done = lab.run(host, words.split())
            assert done.returncode == 0, done.stderr
    ping = ["ping", "-c1", "-W1", "-m", str(PlaneSection().mark), IN_TUNNEL[1]]

    def comes_back() -> bool:
        return lab.run("a", ping).returncode == 0

    lab.wait_for("the tunnel carries it", comes_back, PATIENCE_S)
    for number in (1, 2):
        lab.cut(number)
        lab.wait_for("the tunnel carries it", comes_back, PATIENCE_S)
        lab.heal(number)
