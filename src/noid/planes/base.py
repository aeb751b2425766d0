# SPDX-License-Identifier: MIT
"""The interface of a data plane."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from noid.config import Plane
from noid.counters import PlaneCounter
from noid.flows.clock import FlowClock
from noid.flows.events import DatapathEvent
from noid.flows.flow import Flow
from noid.host.routes import DeletedRoute, Difference, PeerRoute, Prefix
from noid.host.survey import Survey
from noid.identifiers import Label
from noid.locators import Locator
from noid.planes.restored import Restored

Notify = Callable[[DatapathEvent], None]
"""Where a data plane reports what the engine must know."""


class DataPlane(Protocol):
    """Rewrites packets by the installed flows, and reports packets without a flow.

    No method blocks. After the plane is open, failures are counted and do not raise.
    """

    kind: Plane
    """What the configuration calls it."""
    counts: Counter[PlaneCounter]
    """What is counted in Python; see ``counters``."""
    restored: Restored
    """What was restored."""

    def open(self) -> None:
        """Creates everything the plane needs; no packet passes yet.

        Raises:
            Unsupported: the machine lacks something the plane needs.
            PlatformError: the system refuses something.
        """

    def start(self) -> None:
        """Starts to carry packets, by the flows installed so far.

        Raises:
            ShimError: as ``open``.
        """

    def close(self) -> None:
        """Releases everything; a plane may keep rewriting without the daemon."""

    @property
    def own_devices(self) -> tuple[str, ...]:
        """The names of all devices of noid."""

    def network_changed(self, survey: Survey) -> None:
        """Restores everything of the plane that differs on this host."""

    def link_lost(self, index: int, *, is_up: bool) -> None:
        """Stops sending through a device that has lost its carrier or is down.

        Args:
            index: of the device.
            is_up: whether it is still set up and has only lost its carrier.
        """

    def routes_deleted(self, deleted: Iterable[DeletedRoute]) -> None:
        """Restores routes of noid that others have deleted."""

    def routes_changed(self, prefixes: Iterable[Prefix]) -> None:
        """Looks up again which device the host uses for the peers in these prefixes."""

    def locators_changed(self) -> None:
        """Chooses again the sources of packets to peers that are no longer to be used."""

    def tables_of_routes(self) -> list[int]:
        """The routing tables that have routes of noid."""

    def wanted_routes(self, table: int) -> Iterable[PeerRoute]:
        """The intended routes of a routing table, generated during the iteration.

        The iteration may run in another thread: there can be hundreds of thousands.
        """

    def correct_table(self, table: int, found: Difference) -> None:
        """Corrects a routing table.

        Args:
            table: its number.
            found: how it differed from ``wanted_routes`` a moment ago.
        """

    def is_intact(self) -> bool:
        """Whether all objects exist whose removal the kernel does not report."""

    def keep_address(self, aid: Locator, *, kept: bool) -> None:
        """Adds an AID that its uplink has lost to a device of noid, or removes it [D23]."""

    @property
    def keeping(self) -> str:
        """The name of the device that AIDs are kept on."""

    def has_restored(self, kind: str, names: Iterable[str]) -> None:
        """Counts things of a kind that others had removed or changed, and notes their names."""

    def counted(self, refusal: PlaneCounter) -> AbstractContextManager[None]:
        """Counts refusals of the kernel in the block, instead of raising."""

    def modes(self) -> dict[str, str]:
        """How packets pass each uplink, as text; empty if there is only one way."""

    def install(self, flow: Flow) -> None:
        """Installs a flow; it replaces the flow with its AIDs or its label."""

    def take_up(
        self, flows: Sequence[Flow], clocks: Sequence[FlowClock], aids: Sequence[Locator]
    ) -> None:
        """Installs many flows of an earlier daemon, and watches many AIDs [D36].

        Args:
            flows: all with different AIDs and labels.
            clocks: the times of each.
            aids: as ``watch`` takes them.
        """

    def remove(self, local_label: Label) -> None:
        """Removes a flow."""

    def watch(self, aid: Locator) -> None:
        """Routes packets of the host to this AID through the shim."""

    def unwatch(self, aid: Locator) -> None:
        """Removes that route."""

    def send_again(self, local_label: Label, packet: bytes, silent_ns: int = 0) -> None:
        """Sends a packet of the ULP again through its flow."""

    def send(self, packet: bytes) -> None:
        """Sends a complete packet through the uplink of its source."""

    def deliver(self, packet: bytes) -> None:
        """Delivers a complete packet to the stack of the host."""

    def widen(self, aid: Locator) -> None:
        """Makes the stack forget the size of packets to this AID that errors have said."""

    def heard(self, local_label: Label, *, unasked: bool = False) -> None:
        """Marks the packets of a flow as answered: an authentic message of the peer arrived.

        Args:
            local_label: F(local) of the flow.
            unasked: whether it was unsolicited, so that it counts for the usual interval.
        """

    def received_ns(self, local_label: Label) -> int:
        """When a flow last received something, by the monotonic clock; 0 if never."""

    def heard_ns(self, local_label: Label) -> int:
        """When a flow last received data or a keepalive, by the same clock; 0 if never."""

    def counters(self) -> Counter[PlaneCounter]:
        """The counters so far."""
