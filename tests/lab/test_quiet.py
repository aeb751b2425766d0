# SPDX-License-Identifier: MIT
"""While nothing fails, hosts say little: the law of quiet with real daemons [docs/simulator.md]."""

import time

import pytest

from noid.counters import PlaneCounter
from noid.lab.lab import Lab
from noid.lab.topology import HOSTS
from tests.lab.conversations import counters, establish_context, restart_daemons, serve_echoes, tcp

pytestmark = pytest.mark.alone  # a busy machine causes suspicions, and messages by them

OBSERVED_S = 8.0
MESSAGES_PER_SECOND = 3
"""A sample, the answer to one of the peer's, and what the protocol itself says now and then."""
IN_DOUBT = 40
"""Messages of a suspicion, which a busy machine may cause by late answers."""


def test_a_conversation_causes_few_control_messages(kernel_lab: Lab) -> None:
    lab = kernel_lab
    restart_daemons(lab)
    serve_echoes(lab)
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        establish_context(lab)
        before = {host: counters(lab, host) for host in HOSTS}
        began_s = time.monotonic()
        while time.monotonic() < began_s + OBSERVED_S:
            conversation.echoes()
        for host in HOSTS:
            seen = counters(lab, host) - before[host]
            lasted_s = time.monotonic() - began_s
            limit = MESSAGES_PER_SECOND * lasted_s + IN_DOUBT
            assert seen[PlaneCounter.PACKETS_TO_SLOW_PATH] < limit
