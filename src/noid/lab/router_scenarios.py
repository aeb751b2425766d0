# SPDX-License-Identifier: MIT
"""The scenarios of sites with borders: one row each."""

from collections.abc import Callable
from typing import Final, NamedTuple

from noid.lab import refusing, renumbering, rewriting, upgrading
from noid.lab.site_play import Moved
from noid.lab.sites import Sites


class RouterScenario(NamedTuple):
    """A row of the table.

    Attributes:
        play: plays it, in a lab of its network.
        sites: the network.
        text: what happens, in one line.
    """

    play: Callable[..., Moved]
    sites: Sites
    text: str


ROUTER_SCENARIOS: Final = {
    rewriting.REWRITE: RouterScenario(
        rewriting.run_rewrite,
        "one",
        "a site behind a border, whose line to provider 1 loses its carrier",
    ),
    rewriting.BFD: RouterScenario(
        rewriting.run_bfd,
        "one",
        "the same, but the line keeps its carrier and passes nothing; BFD at 3 x 20 ms tells",
    ),
    rewriting.TWO: RouterScenario(
        rewriting.run_two_borders,
        "two-borders",
        "the same with a border for each provider",
    ),
    rewriting.BOTH: RouterScenario(
        rewriting.run_both,
        "both",
        "two sites, each behind a border, whose lines to provider 1 lose their carrier in turn",
    ),
    renumbering.RENUMBER: RouterScenario(
        renumbering.run_renumber,
        "one",
        "provider 2 delegates another prefix, and then provider 1 loses its carrier",
    ),
    refusing.FILTER: RouterScenario(
        refusing.run_filter,
        "one",
        "hosts and providers send sources that are not theirs through a border",
    ),
    refusing.PLAIN: RouterScenario(
        refusing.run_plain,
        "one",
        "the same as router-rewrite, but no packet of the site may be rewritten",
    ),
    upgrading.RESTART: RouterScenario(
        upgrading.run_restart,
        "one",
        "a border rewrites while its daemon is killed, started again and replaced",
    ),
}
