# SPDX-License-Identifier: MIT
"""``border-restart``: the border rewrites while its daemon is killed, started and replaced."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from noid.errors import PlatformError
from noid.lab.lab import Lab
from noid.lab.passing import Passing
from noid.lab.site_play import FIRST_UPLINK, INSIDE, SECOND_UPLINK, Moved, Play
from noid.lab.topology import BORDER, locators
from noid.lab.transfer import STALL_AFTER_S

RESTART = "border-restart"


@dataclass(frozen=True, kw_only=True)
class Restarted(Moved):
    """The result of the scenario.

    Attributes:
        rewritten_while_killed: packets that left by provider 2 while no daemon ran, after a kill.
        rewritten_while_upgraded: the same after it was asked to stop, as by an upgrade.
        not_rewritten: packets that left by the provider of their source after the first kill.
    """

    rewritten_while_killed: int
    rewritten_while_upgraded: int
    not_rewritten: int

    @property
    def good(self) -> bool:
        """Whether rewriting went on."""
        counts = self.rewritten_while_killed > 0 and self.rewritten_while_upgraded > 0
        return super().good and counts and self.not_rewritten == 0

    @property
    def figures(self) -> dict[str, str]:
        """The outcome as texts, by their labels."""
        return super().figures | {
            "rewritten after the kill": str(self.rewritten_while_killed),
            "rewritten during an upgrade": str(self.rewritten_while_upgraded),
            "not rewritten": str(self.not_rewritten),
        }


def run_restart(lab: Lab, *, stall_after_s: float = STALL_AFTER_S) -> Restarted:
    """Plays ``border-restart`` in a lab that is up.

    Raises:
        UsageError: there is no noid in this lab, or it is another network.
        PlatformError: it does not come as far as the kill, or the daemon does not start again.
    """
    play = Play(lab, RESTART, stall_after_s)
    with play.streams:
        play.border.use("isp2")
        play.begin()
        play.begin()
        with (
            Passing(lab, BORDER, FIRST_UPLINK) as first,
            Passing(lab, BORDER, SECOND_UPLINK) as second,
        ):
            killed_ns = time.monotonic_ns()
            killed, survived = _without_daemon(play, second, play.border.kill)
            upgraded, went_on = _without_daemon(play, second, play.border.stop)
            not_rewritten = first.of_contexts(outgoing=True)
        if not any(one["local_locator"] == locators(INSIDE)[0] for one in lab.contexts(INSIDE)):
            raise PlatformError(RESTART, 0, "the host has moved, and nothing is to be rewritten")
        figures = play.figures(killed_ns, survived=survived and went_on, rewritten=play.rewritten())
    return Restarted(
        **figures,
        rewritten_while_killed=killed,
        rewritten_while_upgraded=upgraded,
        not_rewritten=not_rewritten,
    )


def _without_daemon(play: Play, second: Passing, end: Callable[[], None]) -> tuple[int, bool]:
    """Ends the daemon and starts it again, each time with octets afterwards.

    Returns:
        How many packets left by provider 2 while no daemon ran, and whether octets went on.
    """
    end()
    before = second.of_contexts(outgoing=True)
    went_on = play.goes_on()
    count = second.of_contexts(outgoing=True) - before
    play.border.start()
    went_on &= play.border.leaves_by() == ["isp2", "isp2"] and play.goes_on()
    return count, went_on
