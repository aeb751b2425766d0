# SPDX-License-Identifier: MIT
"""What the tests of field cases share: situations of host a that users have reported.

The public report that a test stands for is named in the docstring of the test.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from noid.lab.lab import Lab
from noid.lab.topology import HOSTS, locators
from tests.lab.conversations import Conversation, establish_context, restart_daemons

A_1, A_2 = locators("a")
B_1, B_2 = locators("b")
NEW_1: Final = "2001:db8:1:aa::a"
"""The address of a in another prefix of provider 1."""
PATIENCE_S: Final = 60.0
NEIGHBOUR_TIMES: Final = ("base_reachable_time_ms", "retrans_time_ms", "delay_first_probe_time")
QUICK: Final = (1_000, 100, 1)
USUAL: Final = (30_000, 1_000, 5)
"""Of Linux (Documentation/networking/ip-sysctl)."""


@contextlib.contextmanager
def made_whole(lab: Lab) -> Iterator[Lab]:
    """A and b have a context that uses its AIDs; every fault of the lab is undone afterwards."""
    _forget_neighbours(lab)
    await_locators(lab, A_1, A_2)
    if not all(_has_context(lab, host) for host in HOSTS):
        restart_daemons(lab)
        establish_context(lab)
    if not _is_home(lab):
        lab.cut(2)
        await_home(lab)
        lab.heal(2)
    yield lab
    for host in HOSTS:
        for number in (1, 2):
            lab.heal(number, host)


def await_home(lab: Lab) -> None:
    """Waits until a has a context with b that uses its AIDs."""
    lab.wait_for("the context uses its AIDs", lambda: _is_home(lab), PATIENCE_S)


def _has_context(lab: Lab, host: str) -> bool:
    return any(
        {one["local_aid"], one["peer_aid"]} == {A_1, B_1}
        and one["state"] == "established"
        and len(one["lsv_peer"]) == 2
        for one in lab.contexts(host)
    )


def _is_home(lab: Lab) -> bool:
    """Whether the context between the first locators uses them, once something was sent by it."""
    lab.run("a", ["ping", "-c1", "-W1", "-I", A_1, B_1])
    return pair(lab) == (A_1, B_1)


def shell(lab: Lab, node: str, script: str) -> str:
    """Runs lines of a shell script on a node; the first that fails fails the test."""
    done = lab.run(node, ["sh", "-e", "-c", script])
    assert done.returncode == 0, f"{script}: {done.stdout} {done.stderr}"
    return done.stdout


def bound(lab: Lab, option: str, *, protocol: str = "TCP6") -> Conversation:
    """A conversation of a with the echo server of b by a socket with an option of socat."""
    port = 7000 if protocol == "TCP6" else 7001
    return Conversation(lab, "a", ["socat", "-", f"{protocol}:b.example:{port},{option}"])


def pair(lab: Lab, local_aid: str = A_1, peer_aid: str = B_1) -> tuple[str, str]:
    """The locators that a context of a uses; empty ones where it has no such context."""
    for one in lab.contexts("a"):
        if (one["local_aid"], one["peer_aid"]) == (local_aid, peer_aid):
            return one["local_locator"], one["peer_locator"]
    return "", ""


def await_locators(lab: Lab, *wanted: str) -> None:
    """Waits until noid on a knows these locators, in any order, and no other."""

    def known() -> bool:
        return sorted(lab.status("a")["locators"]) == sorted(wanted)

    lab.wait_for(f"the locators are {' '.join(wanted)}", known, PATIENCE_S)


def renumber(lab: Lab) -> None:
    """Gives a an address in another prefix of provider 1, and deprecates the one it has."""
    shell(lab, "isp1", "ip addr add 2001:db8:1:aa::1/64 dev custa nodad")
    shell(
        lab,
        "a",
        f"ip addr add {NEW_1}/64 dev up1 nodad\n"
        "ip -6 rule add priority 1003 from 2001:db8:1:aa::/64 lookup 101\n"
        f"ip addr change {A_1}/64 dev up1 preferred_lft 0 valid_lft 7200",
    )


def assert_outlives(lab: Lab, number: int, *conversations: Conversation) -> None:
    """Conversations go on while a provider forwards nothing, and after it does again."""
    lab.cut(number)
    for conversation in conversations:
        conversation.echoes_at_last()
    lab.heal(number)
    for conversation in conversations:
        conversation.echoes_at_last()


def configure(lab: Lab, host: str, old: str, new: str) -> None:
    """Starts noid on a host again with its configuration changed in one place."""
    lab.take_noid_down(host)
    path = config_path(lab, host)
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, text
    path.write_text(text.replace(old, new), encoding="utf-8")
    lab.start_daemon(host)


def config_path(lab: Lab, host: str) -> Path:
    """The configuration of noid on a host."""
    return Path(lab.environment(host)["NOID_CONFIG"])


@contextlib.contextmanager
def quick_neighbours(lab: Lab) -> Iterator[None]:
    """Host a soon finds out that a neighbour is not there."""
    _set_neighbours(lab, QUICK)
    try:
        yield
    finally:
        _set_neighbours(lab, USUAL)


def _set_neighbours(lab: Lab, times: tuple[int, ...]) -> None:
    switches = [
        f"net.ipv6.neigh.{uplink}.{name}={value}"
        for uplink in ("up1", "up2")
        for name, value in zip(NEIGHBOUR_TIMES, times, strict=True)
    ]
    shell(lab, "a", "\n".join(f"sysctl -qw {switch}" for switch in switches))
    _forget_neighbours(lab)  # which keep the timers that they have


def _forget_neighbours(lab: Lab) -> None:
    for uplink in ("up1", "up2"):
        lab.run("a", ["ip", "neigh", "flush", "dev", uplink])


def neighbour(lab: Lab, address: str, interface: str = "up1") -> str:
    """What a knows of a neighbour, as ``ip neigh`` says it; empty if nothing."""
    return lab.run("a", ["ip", "-6", "neigh", "show", address, "dev", interface]).stdout.strip()
