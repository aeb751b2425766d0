# SPDX-License-Identifier: MIT
"""Uplinks whose queueing discipline has the kernel cut super-packets, which knows no M6."""

import contextlib
import json
from collections.abc import Iterator

import pytest

from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.topology import interfaces
from tests.lab.conversations import (
    PATIENCE_S,
    establish_context,
    restart_daemons,
    tcp,
)

BUCKET = ("rate", "10gbit", "burst", "20kb", "limit", "20mb")
"""Shorter than a super-packet, and nothing waits for long, so that nothing is dropped for that."""
OFFLOADS = ("tx-tcp6-segmentation", "tx-checksum-ip-generic")
LONG = 500_000


def whole(lab: Lab) -> bool:
    """Whether any uplink of a gets super-packets whole."""
    return any("whole" in one for one in lab.status("a")["plane"]["uplinks"].values())


@contextlib.contextmanager
def buckets(lab: Lab) -> Iterator[None]:
    """Both uplinks of a have tbf."""
    for one in interfaces("a"):
        done = lab.run("a", ["tc", "qdisc", "add", "dev", one, "root", "tbf", *BUCKET])
        assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        for one in interfaces("a"):
            lab.run("a", ["tc", "qdisc", "del", "dev", one, "root"])


def dropped(lab: Lab) -> dict[str, int]:
    """Packets that the queues of a have dropped, by uplink."""
    found = {}
    for one in interfaces("a"):
        shown = lab.run("a", ["tc", "-s", "-j", "qdisc", "show", "dev", one, "root"]).stdout
        (queue,) = json.loads(shown)
        assert queue["kind"] == "tbf"
        found[one] = int(queue["drops"])
    return found


@pytest.mark.parametrize("lacking", [(), OFFLOADS[:1], OFFLOADS], ids=["all", "no TSO", "none"])
def test_no_super_packet_is_lost_in_a_queue_that_cuts_it(
    kernel_lab: Lab, lacking: tuple[str, ...]
) -> None:
    lab = kernel_lab
    restart_daemons(lab)
    nothing = dict.fromkeys(interfaces("a"), 0)
    lab.set_features("a", lacking, on=False)
    try:
        with buckets(lab), tcp(lab, "a") as conversation:
            lab.wait_for("the plane has noticed", lambda: not whole(lab), PATIENCE_S)
            conversation.echoes()
            establish_context(lab)
            conversation.echoes(octets=LONG)
            assert dropped(lab) == nothing
            lab.cut(1, Fault.SILENT)
            try:
                conversation.echoes(octets=LONG)
                assert dropped(lab) == nothing, "of a context that has moved"
            finally:
                lab.heal(1)
        if not lacking:
            lab.wait_for("they are whole again", lambda: whole(lab), PATIENCE_S)
    finally:
        lab.set_features("a", lacking, on=True)
