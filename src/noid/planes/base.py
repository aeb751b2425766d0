# SPDX-License-Identifier: MIT
"""What a data plane is: the few things the daemon asks of one, whatever moves the packets."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from noid.counters import PlaneCounter
from noid.flows.clock import FlowClock
from noid.flows.events import DatapathEvent
from noid.flows.flow import Flow
from noid.host.routes import DeletedRoute, Difference, PeerRoute, Prefix
from noid.host.survey import Survey
from noid.locators import Locator
from noid.planes.restored import Restored

Notify = Callable[[DatapathEvent], None]
"""Where a data plane reports what the engine must know."""


class DataPlane(Protocol):
    """Carries packets by the flows it is given, and reports what has none.

    Every method returns at once; what cannot be done is counted, never raised, once the plane is
    open.
    """

    kind: str
    """What the configuration calls it."""
    counts: Counter[PlaneCounter]
    """What is counted in Python; see ``counters``."""
    restored: Restored
    """What was restored."""

    def open(self) -> None:
        """Makes everything the plane needs; no packet comes through it yet.

        Raises:
            Unsupported: the machine lacks something the plane needs.
            PlatformError: the system refuses something.
        """

    def start(self) -> None:
        """Lets packets through, by the flows that are installed by now.

        Raises:
            ShimError: as ``open``.
        """

    def close(self) -> None:
        """Lets go of everything; what a plane keeps going without us is its own affair."""

    @property
    def own_devices(self) -> tuple[str, ...]:
        """The names of every device of ours."""

    def network_changed(self, survey: Survey) -> None:
        """Restores everything of the plane that differs on this host."""

    def link_lost(self, index: int, *, is_up: bool) -> None:
        """Sends nothing by a device that has lost its carrier, or has gone down.

        Args:
            index: of the device.
            is_up: whether it has lost its carrier alone.
        """

    def routes_deleted(self, deleted: Iterable[DeletedRoute]) -> None:
        """Restores routes of ours that others have deleted."""

    def routes_changed(self, prefixes: Iterable[Prefix]) -> None:
        """Looks up anew by which device the host sends to the peers in these prefixes."""

    def tables_of_routes(self) -> list[int]:
        """The routing tables that have routes of ours."""

    def wanted_routes(self, table: int) -> Iterable[PeerRoute]:
        """The routes that a routing table is to have now, made when they are iterated over.

        Another thread may do that: there may be hundreds of thousands.
        """

    def correct_table(self, table: int, found: Difference) -> None:
        """Makes a routing table as it is to be.

        Args:
            table: its number.
            found: how it differed from ``wanted_routes`` a moment ago.
        """

    def is_intact(self) -> bool:
        """Whether everything is there of whose removal the kernel sends no message."""

    def keep_address(self, aid: Locator, *, kept: bool) -> None:
        """Keeps an AID deliverable whose uplink has lost the address, or ends that [D23]."""

    @property
    def keeping(self) -> str:
        """The name of the device that AIDs are kept on."""

    def has_restored(self, kind: str, names: Iterable[str]) -> None:
        """Counts things of a kind that others had removed or changed, and notes their names."""

    def counted(self, refusal: PlaneCounter) -> AbstractContextManager[None]:
        """Counts what the kernel refuses, and goes on."""

    def modes(self) -> dict[str, str]:
        """How it works on each uplink, for people; empty where there is but one way."""

    def install(self, flow: Flow) -> None:
        """Uses a flow, in place of the one with its AIDs or its label."""

    def take_up(
        self, flows: Sequence[Flow], clocks: Sequence[FlowClock], aids: Sequence[Locator]
    ) -> None:
        """Uses many flows of an earlier daemon at once, and watches many AIDs [D36].

        Args:
            flows: none of them with AIDs or a label that another has.
            clocks: the times of each.
            aids: as ``watch`` takes them.
        """

    def remove(self, local_label: int) -> None:
        """Forgets a flow."""

    def watch(self, aid: Locator) -> None:
        """Leads what the host sends to this AID through the shim."""

    def unwatch(self, aid: Locator) -> None:
        """Stops doing so."""

    def send_again(self, local_label: int, packet: bytes) -> None:
        """Sends a packet of the ULP by its flow once more."""

    def send(self, packet: bytes) -> None:
        """Sends a whole packet out by the uplink of its source."""

    def deliver(self, packet: bytes) -> None:
        """Gives a whole packet to the host's own stack."""

    def heard(self, local_label: int, *, unasked: bool = False) -> None:
        """Takes what a flow has sent so far as answered: the peer said something authentic.

        Args:
            local_label: which flow.
            unasked: it came of itself, and so counts for the usual gap.
        """

    def received_ns(self, local_label: int) -> int:
        """When a flow last received something, by the monotonic clock; 0 if never."""

    def counters(self) -> Counter[PlaneCounter]:
        """What happened so far."""
