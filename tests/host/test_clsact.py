# SPDX-License-Identifier: MIT
"""Our programs on a device by clsact, beside filters of others."""

import os
import socket
from collections.abc import Callable

import pytest
from pyroute2 import IPRoute

from noid.errors import PlatformError
from noid.host import clsact
from noid.host.clsact import EGRESS, FILTER_PRIORITY, INGRESS
from tests.namespaces import in_network_namespace, ip
from tests.planes import foreign

FORMER_PRIORITY = 0x6D36
"""Of earlier versions of noid."""
SIDES = {"egress": EGRESS, "ingress": INGRESS}


def names(parent: int) -> list[tuple[int, str]]:
    """The filters on one side of the device: priority and name of each."""
    with IPRoute() as kernel:
        index = socket.if_nametoindex("up1")
        found = [
            (one["info"] >> 16, one.get_attr("TCA_OPTIONS"))
            for one in kernel.get_filters(index=index, parent=parent)
        ]
    return sorted((priority, str(one.get_attr("TCA_BPF_NAME"))) for priority, one in found if one)


def on_a_device(scenario: Callable[[IPRoute, int], None]) -> None:
    """Plays a scenario in a namespace with a device."""

    def inside() -> None:
        ip("link add up1 type veth peer name far1")
        with IPRoute() as kernel:
            scenario(kernel, socket.if_nametoindex("up1"))

    in_network_namespace(inside)


def hang_foreign(side: str, priority: int) -> None:
    """Hangs a program of another owner, which stays."""
    descriptor = foreign.program()
    os.close(foreign.hang("clsact", "up1", side, descriptor, priority=priority))
    os.close(descriptor)


@pytest.mark.parametrize("side", SIDES)
def test_a_filter_of_another_owner_that_has_our_priority_stays(side: str) -> None:
    def scenario(kernel: IPRoute, index: int) -> None:
        parent = SIDES[side]
        hang_foreign(side, FILTER_PRIORITY)
        theirs = names(parent)
        assert not clsact.has_ours(kernel, index, egress=side == "egress")
        assert not clsact.detach(kernel, index)
        assert names(parent) == theirs
        program = foreign.program()
        for _ in range(2):
            clsact.attach(kernel, index, program, egress=side == "egress")
            assert names(parent) == [(FILTER_PRIORITY - 1, "noid"), *theirs]
        assert clsact.has_ours(kernel, index, egress=side == "egress")
        assert clsact.detach(kernel, index)
        assert names(parent) == theirs
        os.close(program)

    on_a_device(scenario)


def test_filters_of_others_on_the_other_side_stay() -> None:
    def scenario(kernel: IPRoute, index: int) -> None:
        hang_foreign("ingress", 1)
        theirs = names(INGRESS)
        program = foreign.program()
        clsact.attach(kernel, index, program, egress=True)
        assert clsact.detach(kernel, index)
        assert names(INGRESS) == theirs
        os.close(program)

    on_a_device(scenario)


def test_the_filter_of_an_earlier_version_is_replaced() -> None:
    def scenario(kernel: IPRoute, index: int) -> None:
        program = foreign.program()
        kernel.tc("add", "clsact", index)
        kernel.tc(
            "add-filter",
            "bpf",
            index,
            handle=1,
            fd=program,
            name="noid",
            parent=INGRESS,
            prio=FORMER_PRIORITY,
            classid=1,
            direct_action=True,
        )
        assert names(INGRESS) == [(FORMER_PRIORITY, "noid")]
        clsact.attach(kernel, index, program, egress=False)
        assert names(INGRESS) == [(FILTER_PRIORITY, "noid")]
        assert clsact.detach(kernel, index)
        assert not foreign.has_clsact("up1")
        os.close(program)

    on_a_device(scenario)


def test_a_device_whose_every_priority_others_have_is_refused() -> None:
    def scenario(kernel: IPRoute, index: int) -> None:
        for priority in range(1, FILTER_PRIORITY + 1):
            hang_foreign("ingress", priority)
        program = foreign.program()
        with pytest.raises(PlatformError, match="every priority"):
            clsact.attach(kernel, index, program, egress=False)
        os.close(program)

    on_a_device(scenario)
