# SPDX-License-Identifier: MIT
"""The router of an uplink dies or is replaced, while its connections are idle or busy [D50]."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from noid.errors import PlatformError
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from tests.lab.conversations import Conversation, echoing_lab, establish_context, tcp
from tests.lab.field.situations import (
    A_2,
    B_1,
    PATIENCE_S,
    assert_outlives,
    neighbour,
    pair,
    quick_neighbours,
    shell,
)

ROUTER = "2001:db8:1:a::1"
ATTEMPT_S = 5.0
IDLE_S = 12.0
"""Longer than a neighbour counts as reachable here, and than noid leaves gateways unverified."""


@pytest.fixture
def lab(lab: Lab) -> Iterator[Lab]:
    with quick_neighbours(lab):
        yield lab


def test_the_first_packet_after_a_pause_survives_a_failed_router(lab: Lab) -> None:
    """slackhq/nebula #259; tailscale/tailscale #17930."""
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        lab.cut(1, Fault.ROUTER)
        _await_failed_router(lab)
        conversation.echoes()


def test_new_connections_work_while_the_router_of_the_preferred_uplink_is_down(lab: Lab) -> None:
    lab.cut(1, Fault.ROUTER)
    _await_failed_router(lab)
    # The kernel refuses connections from then until noid has moved the routes.
    lab.wait_for("a connection is made", lambda: _connects(lab), PATIENCE_S)
    with tcp(lab, "a") as by_name, tcp(lab, "a", f"[{B_1}]") as by_address:
        by_name.echoes()
        by_address.echoes()
        with tcp(lab, "b") as opposite:
            opposite.echoes()


@pytest.mark.slow
def test_a_router_that_was_replaced_is_used_again_while_a_connection_is_busy(lab: Lab) -> None:
    """opnsense/core #3601; acassen/keepalived #648: the acknowledgements confirm no router."""
    with tcp(lab, "a") as conversation:
        # noid knows how to reach the router; the kernel, which has just forgotten it, asks later.
        lab.wait_for("the kernel knows the router", lambda: _knows(lab, conversation), PATIENCE_S)
        known = _link(lab)
        lab.cut(1, Fault.ROUTER_REPLACED)
        deadline = time.monotonic() + 2 * PATIENCE_S
        while _link(lab) in ("", known):
            conversation.echoes()
            assert time.monotonic() < deadline, neighbour(lab, ROUTER)
        assert_outlives(lab, 2, conversation)


def test_a_router_that_was_replaced_is_found_while_the_kernel_trusts_the_former(lab: Lab) -> None:
    """The host has no other uplink that works."""
    shell(lab, "a", "sysctl -qw net.ipv6.neigh.up1.base_reachable_time_ms=3600000")
    lab.run("a", ["ip", "neigh", "flush", "dev", "up1"])
    lab.cut(2)
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        lab.wait_for("the router is trusted", lambda: "REACHABLE" in neighbour(lab, ROUTER), 60)
        lab.cut(1, Fault.ROUTER_REPLACED)
        conversation.echoes()


def test_a_moved_connection_follows_a_router_that_was_replaced(lab: Lab) -> None:
    with tcp(lab, "a") as conversation:
        lab.cut(1)
        conversation.echoes()
        lab.wait_for("it has moved", lambda: pair(lab)[0] == A_2, PATIENCE_S)
        shell(lab, "isp2", "ip link set custa address 02:00:00:00:6d:42")
        conversation.echoes(timeout_s=2 * PATIENCE_S)


@pytest.mark.slow
def test_the_first_word_after_a_long_pause_is_answered(lab_machine: None) -> None:
    """In one lab the provider has died in between, in the other its router."""
    with ExitStack() as stack:
        labs = [stack.enter_context(echoing_lab()) for _ in range(2)]
        for lab in labs:
            stack.enter_context(quick_neighbours(lab))
        conversations = [stack.enter_context(tcp(lab, "a")) for lab in labs]
        for lab, conversation, fault in zip(
            labs, conversations, (Fault.SILENT, Fault.ROUTER), strict=True
        ):
            conversation.echoes()
            establish_context(lab)
            conversation.echoes()
            lab.cut(1, fault)
        time.sleep(IDLE_S)
        for lab, conversation in zip(labs, conversations, strict=True):
            conversation.echoes()
            assert pair(lab)[0] == A_2


def _connects(lab: Lab) -> bool:
    with contextlib.suppress(PlatformError, OSError), tcp(lab, "a", f"[{B_1}]") as conversation:
        conversation.echoes(timeout_s=ATTEMPT_S)
        return True
    return False


def _await_failed_router(lab: Lab) -> None:
    """Makes a send neighbour solicitations for its dead router, without an answer."""

    def has_failed() -> bool:
        lab.run("a", ["ping", "-c1", "-W1", "-I", "up1", ROUTER])
        return "FAILED" in neighbour(lab, ROUTER)

    lab.run("a", ["ip", "neigh", "flush", "dev", "up1"])
    lab.wait_for("neighbour discovery fails", has_failed, PATIENCE_S)


def _knows(lab: Lab, conversation: Conversation) -> bool:
    """Whether the kernel of a knows its router, after another word of a conversation."""
    conversation.echoes()
    return bool(_link(lab))


def _link(lab: Lab) -> str:
    """The link-layer address by which a knows its router; empty if it knows none."""
    _, has, rest = neighbour(lab, ROUTER).partition("lladdr ")
    return rest.split()[0] if has else ""
