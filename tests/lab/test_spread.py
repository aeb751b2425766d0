# SPDX-License-Identifier: MIT
"""Priorities, weights and pins of uplinks, with real connections."""

import json
import sys
from collections.abc import Iterator

import pytest

from noid.lab import configuration
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.topology import locators
from tests.lab.conversations import (
    PATIENCE_S,
    TCP_PORT,
    await_carried,
    establish_context,
    restart_daemons,
    tcp,
)
from tests.lab.test_maintenance import number_in_use, uplinks

A_1, A_2 = locators("a")
CONNECTIONS = 200
SHARE, SHARE_WITHIN = 0.75, 0.14
"""Of weights 3 and 1, and more than four standard deviations of so many connections."""
CONNECT = f"""\
import json, socket, sys
from collections import Counter
found = Counter()
for _ in range(int(sys.argv[2])):
    with socket.create_connection((sys.argv[1], {TCP_PORT}), 20) as one:
        found[one.getsockname()[0]] += 1
print(json.dumps(found))
"""


@pytest.fixture
def lab(kernel_lab: Lab) -> Iterator[Lab]:
    """The lab, both daemons fresh, which has its usual configuration in the end."""
    restart_daemons(kernel_lab)
    yield kernel_lab
    configure(kernel_lab, "")


def configure(lab: Lab, text: str) -> None:
    """Adds to the configuration of a."""
    lab.configure("a", configuration.noid_toml("a", lab.directory, lab.plane) + text)


def weights(first: int, second: int) -> str:
    return f"[uplinks.up1]\nweight = {first}\n[uplinks.up2]\nweight = {second}\n"


def sources(lab: Lab, count: int = CONNECTIONS, host: str = "a", to: str = "b") -> dict[str, int]:
    """How many of so many new connections start at each address."""
    words = [sys.executable, "-c", CONNECT, f"{to}.example", str(count)]
    done = lab.run(host, words)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def aids(lab: Lab) -> set[str]:
    """The AIDs of the contexts of a."""
    return {one["local_aid"] for one in lab.contexts("a")}


def test_new_connections_start_at_each_uplink_by_its_weight(lab: Lab) -> None:
    assert sources(lab, 10) == {A_1: 10}
    configure(lab, weights(3, 1))
    assert lab.status("a")["spread"] == {"by": "connections", "trouble": ""}
    assert [uplinks(lab)[name]["share"] for name in ("up1", "up2")] == [0.75, 0.25]
    found = sources(lab)
    assert found[A_1] / CONNECTIONS == pytest.approx(SHARE, abs=SHARE_WITHIN)
    assert found[A_1] + found[A_2] == CONNECTIONS
    lab.wait_for(
        "each is carried by a context of its own", lambda: aids(lab) == {A_1, A_2}, PATIENCE_S
    )
    assert len(sources(lab, 10, "b", "a")) == 1, "another host of this machine is not affected"
    configure(lab, "")
    assert len(sources(lab, 10)) == 1


def test_a_connection_that_has_a_source_keeps_it(lab: Lab) -> None:
    configure(lab, weights(1, 8))
    assert sources(lab, 20).get(A_2, 0) > 0
    bound = f"import socket; s = socket.create_connection(('b.example', {TCP_PORT}), 20, "
    bound += f"('{A_1}', 0)); print(s.getsockname()[0])"
    for _ in range(5):
        assert lab.run("a", [sys.executable, "-c", bound]).stdout.split() == [A_1]


def test_connections_are_not_spread_without_a_daemon(lab: Lab) -> None:
    configure(lab, weights(1, 1))
    assert len(sources(lab, 30)) == 2
    lab.kill_daemon("a")
    try:
        lab.wait_for("routes decide", lambda: len(sources_without_name(lab, 10)) == 1, PATIENCE_S)
    finally:
        lab.start_daemon("a")


def sources_without_name(lab: Lab, count: int) -> dict[str, int]:
    """As ``sources``, to an address: no daemon answers for names."""
    words = [sys.executable, "-c", CONNECT, locators("b")[0], str(count)]
    found: dict[str, int] = json.loads(lab.run("a", words).stdout)
    return found


def test_a_pinned_peer_uses_its_uplink_while_it_works(lab: Lab) -> None:
    configure(lab, '[policy.pin]\n"*.example" = "up2"\n')
    restart_daemons(lab)  # a reload takes effect with the next survey
    assert sources(lab, 5) == {A_2: 5}
    with tcp(lab, "a") as conversation:
        await_carried(lab, conversation)
        lab.wait_for("both ends use it", lambda: number_in_use(lab) == {2}, PATIENCE_S)

        def is_at_the_other() -> bool:
            conversation.echoes()
            return number_in_use(lab) == {1}

        lab.cut(2)
        try:
            lab.wait_for("both ends use the other", is_at_the_other, PATIENCE_S)
        finally:
            lab.heal(2)
        conversation.echoes()


def test_an_uplink_of_a_higher_priority_is_a_backup_until_the_first_fails(lab: Lab) -> None:
    configure(lab, "[uplinks.up1]\npriority = 2\n")
    lab.wait_for("it is marked", lambda: uplinks(lab)["up1"]["backup"], PATIENCE_S)
    assert uplinks(lab)["up1"]["priority"] == 2
    assert sources(lab, 5) == {A_2: 5}
    with tcp(lab, "a") as conversation:
        await_carried(lab, conversation)
        lab.cut(2, Fault.CARRIER)
        try:
            conversation.echoes()
            lab.wait_for("it is no backup", lambda: not uplinks(lab)["up1"]["backup"], PATIENCE_S)
        finally:
            lab.heal(2)
        lab.wait_for("it is one again", lambda: uplinks(lab)["up1"]["backup"], PATIENCE_S)
        conversation.echoes()


def test_an_uplink_over_which_nothing_arrives_is_shown(lab: Lab) -> None:
    establish_context(lab)
    with tcp(lab, "a") as conversation:
        await_carried(lab, conversation)

        def shown() -> tuple[str, str]:
            conversation.echoes()
            up1 = uplinks(lab)["up1"]
            return up1["state"], up1["reason"]

        lab.cut(1, Fault.ONE_WAY)
        try:
            wanted = ("degraded", "inbound_silent")
            lab.wait_for("it is shown", lambda: shown() == wanted, PATIENCE_S)
        finally:
            lab.heal(1)
        lab.wait_for("it is up", lambda: uplinks(lab)["up1"]["state"] == "up", PATIENCE_S)
