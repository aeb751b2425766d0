# SPDX-License-Identifier: MIT
"""A daemon that stands still for seconds, as when it is starved, while its host is flooded [D20].

Attacker: off the path, with any source. It makes the answers of the daemon come seconds late, so
that later silence would look usual, and waits for a failure. Guaranteed: the failure interrupts the
conversation for less than a second.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.topology import locators
from tests.attacks.conftest import attacked_lab
from tests.attacks.test_in_the_lab import LOST_MAX, RECOVERY_S, Stream
from tests.lab.conversations import establish_context

pytestmark = [pytest.mark.lab, pytest.mark.alone]  # it measures time

STOPPED_S = 5.0
RATES = {"inits": 3_000, "strangers": 3_000, "requests": 1_500}
READY_S = 60.0


@pytest.fixture
def lab(lab_machine: None) -> Iterator[Lab]:
    """A new one for each test: the daemon of a host has stood still."""
    with attacked_lab() as made:
        yield made


@pytest.mark.parametrize("host", ["a", "b"])
def test_a_failure_after_the_daemon_stood_still_is_survived(lab: Lab, host: str) -> None:
    establish_context(lab)
    (context,) = lab.contexts("a")
    words = [word for name, rate in RATES.items() for word in (f"--{name}", str(rate))]
    words += ["--label", str(context["local_label"])]
    flood = lab.spawn("core", [sys.executable, "-m", "noid.bench.assault", "flood", *words])
    lab.wait_for("the flood begins", lambda: "ready" in flood.output(), READY_S)
    daemon = int(lab.status(host)["pid"])
    with Stream(lab) as stream:
        os.kill(daemon, signal.SIGSTOP)
        try:
            time.sleep(STOPPED_S)
        finally:
            os.kill(daemon, signal.SIGCONT)
        stream.goes_on(RECOVERY_S)
        (context,) = lab.contexts("a")
        lab.cut(1 + locators("a").index(context["local_locator"]), Fault.SILENT)
        stream.goes_on(RECOVERY_S)
        flood.end()
    assert stream.lost <= LOST_MAX
    assert not stream.forged
