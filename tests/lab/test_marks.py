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
NONE = """\
table inet marks {
  chain output {
    type route hook output priority -150;
    meta mark set ct mark
  }
}
"""
"""As CONNMARK --restore-mark where no connection has one."""


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
    [CONNECTIONS, SOURCES, NONE],
    ids=["connections", "sources", "none"],
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


@pytest.mark.parametrize("marking", [SOURCES], ids=["sources"], indirect=True)
def test_a_program_with_the_mark_of_noid_bypasses_it_where_packets_lose_that(marking: Lab) -> None:
    lab = marking
    ping = ["ping", "-c1", "-W1", "-I", A_1]
    bypassing = [*ping, "-m", str(PlaneSection().mark), B_1]

    def comes_back(words: list[str]) -> bool:
        return lab.run("a", words).returncode == 0

    lab.wait_for("the path carries it", lambda: comes_back(bypassing), PATIENCE_S)
    lab.cut(1)
    lab.wait_for("the context carries others", lambda: comes_back([*ping, B_1]), PATIENCE_S)
    assert not comes_back(bypassing)
    lab.heal(1)
    lab.wait_for("the path carries it", lambda: comes_back(bypassing), PATIENCE_S)
