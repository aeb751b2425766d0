# SPDX-License-Identifier: MIT
"""Says what happens: a line of log for what matters, an event for each monitor."""

import logging
import time
from collections.abc import Callable

from noid.control.reports import LEVELS, Event, event_of, line_of, uplink_line
from noid.control.uplinks import Change, Switch, change_event
from noid.engine.events import Output

logger = logging.getLogger("noid")


class Reporter:
    """Where everything goes that people and programs may want to know.

    Args:
        publish: takes events for the monitors of the control socket.
    """

    def __init__(self, publish: Callable[[Event], None]) -> None:
        self.publish = publish

    def report(self, output: Output) -> None:
        """What the engine reports."""
        event = event_of(output)
        assert event is not None, f"{output} is neither order nor report"
        level = LEVELS[event["event"]]
        if logger.isEnabledFor(level):
            logger.log(level, line_of(event))
        self.publish({"at_ns": time.monotonic_ns(), **event})

    def uplink_changed(self, change: Change) -> None:
        """An uplink is in another state."""
        level, line = uplink_line(change)
        logger.log(level, "%s", line)
        self.publish({"at_ns": time.monotonic_ns(), **change_event(change)})

    def switched(self, switch: Switch) -> None:
        """A context uses another pair of locators."""
