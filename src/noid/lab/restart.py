# SPDX-License-Identifier: MIT
"""The scenario ``restart``: both daemons are killed in the middle of a download, and start again.

The data plane in the kernel goes on without them, and they take up the contexts it carries [D36].
Then provider 1 fails silently, as in ``blackhole``: who has taken a context up has to notice. With
the data plane in user space packets go plainly until there is a new context.
"""

import time
from dataclasses import asdict, dataclass
from typing import Final

from noid.constants import SECOND
from noid.errors import UsageError
from noid.lab.inventory import Plane
from noid.lab.lab import Lab
from noid.lab.topology import HOSTS
from noid.lab.transfer import STALL_AFTER_S, Outcome, Transfer, Watch

NAME: Final = "restart"
KILL_AT: Final = 0.1
CUT_AT: Final = 0.5
WITHOUT_NS: Final = SECOND // 2
"""How long the hosts are without a daemon, and how long they have been with one at the cut."""


@dataclass(frozen=True, kw_only=True)
class RestartOutcome(Outcome):
    """The result of the scenario; ``gap_ms`` is that of the cut, as in ``blackhole``.

    Attributes:
        usual_gap_ms: the longest time without application bytes before anything happened.
        restart_gap_ms: the same from the kill until the new daemons had been there for a while.
        adopted: contexts that are the same as before the kill at both ends.
    """

    usual_gap_ms: float
    restart_gap_ms: float
    adopted: int

    @property
    def figures(self) -> dict[str, str]:
        """The outcome as texts, by their labels."""
        return super().figures | {
            "longest silence before": f"{self.usual_gap_ms:.1f} ms",
            "longest silence at the restart": f"{self.restart_gap_ms:.1f} ms",
            "contexts taken up": str(self.adopted),
        }


def run(
    lab: Lab, *, stall_after_s: float = STALL_AFTER_S, watch: Watch = lambda run: None
) -> RestartOutcome:
    """Runs the scenario in a lab that is up and whole.

    Args:
        lab: the lab.
        stall_after_s: how long without a byte until the download is given up.
        watch: called every few milliseconds, but not while a daemon starts.

    Raises:
        UsageError: there is no daemon in this lab.
        PlatformError: it does not come as far as the cut, or not over provider 1.
    """
    check_plane(lab.plane)
    with Transfer(lab, NAME, stall_after_s, watch) as transfer:
        transfer.await_part(KILL_AT / 2, transfer.is_protected)
        settled_ns = time.monotonic_ns()
        transfer.await_part(KILL_AT)
        before = _labels(lab)
        killed_ns = time.monotonic_ns()
        for host in HOSTS:
            lab.kill_daemon(host)
        transfer.await_moment(killed_ns + WITHOUT_NS)
        lab.start_daemon(*HOSTS)
        lab.await_taken_up(*HOSTS)
        transfer.await_moment(time.monotonic_ns() + WITHOUT_NS)
        back_ns = time.monotonic_ns()
        after = _labels(lab)
        transfer.await_part(CUT_AT)
        transfer.cut()
        outcome = transfer.finish()
        return RestartOutcome(
            **asdict(outcome),
            usual_gap_ms=transfer.silence_ms(settled_ns, killed_ns),
            restart_gap_ms=transfer.silence_ms(killed_ns, back_ns),
            adopted=min(len(before[host] & after[host]) for host in HOSTS),
        )


def check_plane(plane: Plane) -> None:
    """Refuses a lab that has no daemon.

    Raises:
        UsageError: this one has none.
    """
    if plane == "none":
        raise UsageError(f"{NAME}: without noid there is no daemon to kill; take another --plane")


def _labels(lab: Lab) -> dict[str, set[int]]:
    """The local labels of each host's contexts."""
    return {host: {one["local_label"] for one in lab.contexts(host)} for host in HOSTS}
