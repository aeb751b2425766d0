# SPDX-License-Identifier: MIT
"""The scenario ``blackhole``: a provider fails silently during a download.

When half of the file has arrived, provider 1 forwards nothing any more: no error, no link going
down. Plain TCP sends into the hole until it gives up, in a quarter of an hour; with noid it should
not notice more than a pause.
"""

from typing import Final

from noid.lab.lab import Lab
from noid.lab.transfer import STALL_AFTER_S, Outcome, Transfer, Watch

NAME: Final = "blackhole"


def run(
    lab: Lab, *, stall_after_s: float = STALL_AFTER_S, watch: Watch = lambda run: None
) -> Outcome:
    """Runs the scenario in a lab that is up and has no fault.

    Args:
        lab: the lab.
        stall_after_s: how long without a byte until the download is given up.
        watch: called every few milliseconds.

    Raises:
        PlatformError: it does not come as far as the cut, or not over provider 1.
    """
    with Transfer(lab, NAME, stall_after_s, watch) as transfer:
        transfer.await_part(0.5, transfer.is_protected)
        transfer.cut()
        return transfer.finish()
