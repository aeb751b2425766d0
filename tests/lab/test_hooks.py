# SPDX-License-Identifier: MIT
"""Our programs and those of others on the same devices, by tcx and by clsact."""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import TypeVar

import pytest

from noid.lab import namespaces
from noid.lab.lab import Lab
from noid.lab.topology import HOSTS, interfaces
from tests.lab.conversations import await_carried, carried_by_context, establish_context, tcp
from tests.planes import foreign
from tests.planes.foreign import Hanging

SIDES = ("egress", "ingress")
HOOKS = ("tcx", "clsact")
NOTHING = Hanging(tcx=0, clsact=0)

Returned = TypeVar("Returned")

each_hook = pytest.mark.parametrize("hook", HOOKS)


@pytest.fixture
def bare_lab(kernel_lab: Lab) -> Lab:
    """The lab, nothing on its uplinks."""
    for host in HOSTS:
        kernel_lab.take_noid_down(host)
        for interface in interfaces(host):
            _inside(kernel_lab, host, functools.partial(foreign.clear, interface))
    assert _hanging(kernel_lab) == [NOTHING] * 4
    return kernel_lab


@each_hook
def test_programs_of_others_stay_and_see_every_packet(bare_lab: Lab, hook: str) -> None:
    lab = bare_lab
    _choose_hook(lab, hook)
    with contextlib.ExitStack() as kept:
        before, behind = foreign.program(), foreign.program()
        for descriptor in (before, behind):
            kept.callback(os.close, descriptor)
        _hang(lab, hook, before, foreign.BEFORE, kept)
        for host in HOSTS:
            lab.start_daemon(host)
        _hang(lab, hook, behind, foreign.BEHIND, kept)
        conversation = kept.enter_context(tcp(lab, "a"))
        conversation.echoes()
        establish_context(lab)
        modes = lab.status("a")["plane"]["uplinks"]
        assert all(mode.startswith(hook) for mode in modes.values()), modes
        await_carried(lab, conversation)
        with carried_by_context(lab, packets=1), foreign.seeing(before, behind):
            conversation.echoes()
        # The next daemon puts its programs in the place of ours, and takes the context up.
        there = _hanging(lab)
        lab.kill_daemon("a")
        conversation.echoes()
        lab.start_daemon("a")
        assert _hanging(lab) == there
        # A peer that was not answered for long, on a busy machine, has set the context aside.
        await_carried(lab, conversation)
        with carried_by_context(lab, packets=1), foreign.seeing(before, behind):
            conversation.echoes()
        # Ours alone are taken down.
        for host in HOSTS:
            lab.take_noid_down(host)
        assert [sum(one) for one in _hanging(lab)] == [2, 2, 0, 0]
        with foreign.seeing(before, behind):
            conversation.echoes()


@each_hook
def test_nothing_is_left_on_a_device_though_it_is_down(bare_lab: Lab, hook: str) -> None:
    lab = bare_lab
    _choose_hook(lab, hook)
    lab.start_daemon("a")
    assert [sum(one) for one in _hanging(lab)] == [1, 1, 1, 1]
    lab.stop_daemon("a")
    lab.run("a", ["ip", "link", "set", "up2", "down"])
    try:
        lab.take_noid_down("a")
    finally:
        lab.run("a", ["ip", "link", "set", "up2", "up"])
    assert _hanging(lab) == [NOTHING] * 4
    for interface in interfaces("a"):
        assert not _inside(lab, "a", functools.partial(foreign.has_clsact, interface))


def test_another_hook_takes_the_place_of_the_one_before(bare_lab: Lab) -> None:
    lab = bare_lab
    for hook in ("tcx", "clsact", "tcx"):
        _choose_hook(lab, hook)
        lab.start_daemon("a")
        assert _hanging(lab) == [Hanging(tcx=hook == "tcx", clsact=hook == "clsact")] * 4
        lab.stop_daemon("a")


# --- what the tests above stand on ----------------------------------------------------------------


def _choose_hook(lab: Lab, hook: str) -> None:
    """Writes into the configuration of both hosts by what to attach."""
    for host in HOSTS:
        path = lab.directory / f"{host}.toml"
        lines = [line for line in path.read_text().splitlines() if not line.startswith("hook")]
        lines.insert(lines.index("[plane]") + 1, f'hook = "{hook}"')
        path.write_text("\n".join(lines) + "\n")


def _hang(lab: Lab, hook: str, program: int, priority: int, kept: contextlib.ExitStack) -> None:
    """Hangs a program on both sides of the uplink of a to provider 1, for as long as is said."""
    for side in SIDES:
        hang = functools.partial(foreign.hang, hook, "up1", side, program, priority=priority)
        kept.callback(os.close, _inside(lab, "a", hang))


def _hanging(lab: Lab) -> list[Hanging]:
    """What hangs on each uplink of a, on its way out and in."""

    def look() -> list[Hanging]:
        return [foreign.hanging(name, side) for name in interfaces("a") for side in SIDES]

    return _inside(lab, "a", look)


def _inside(lab: Lab, host: str, function: Callable[[], Returned]) -> Returned:
    return namespaces.inside(namespaces.namespace(lab.name, host), function)
