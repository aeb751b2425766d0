# SPDX-License-Identifier: MIT
"""What observes the hosts of the simulated world, such as the laws."""

from typing import Protocol, TypeVar

from noid.engine.events import Input, Output
from noid.flows.events import DatapathEvent
from noid.flows.flow import Flow
from noid.sim.parcel import Parcel

Observed = TypeVar("Observed", contravariant=True)
"""A host; a parameter, so that hosts can name this class."""


class Observer(Protocol[Observed]):
    """Observes a node before its actions have effects elsewhere."""

    def before(self, node: Observed, event: Input) -> None:
        """The engine is about to get an event."""

    def raised(self, node: Observed, event: Input, error: Exception) -> None:
        """The engine raised an exception."""

    def after(self, node: Observed, event: Input, outputs: list[Output]) -> None:
        """The engine returned these outputs."""

    def standing(self, node: Observed, outputs: list[Output]) -> None:
        """The outputs were executed."""

    def reported(self, node: Observed, event: DatapathEvent, parcel: Parcel | None) -> None:
        """The packet path reports something, because of a parcel or by itself."""

    def control_sent(self, node: Observed, packet: bytes) -> None:
        """A control message leaves."""

    def data_sent(self, node: Observed, flow: Flow, packet: bytes) -> None:
        """A data packet leaves by a flow."""

    def told(self, node: Observed, packet: bytes) -> None:
        """A program hears of an error."""
