"""What a data plane is: the few things the daemon asks of one, whatever moves the packets."""

from collections.abc import Callable, Sequence
from typing import Protocol

from noid.engine.events import Input
from noid.locators import Locator
from noid.plane.layout import Clock
from noid.plane.rewrite import Flow

Notify = Callable[[Input], None]
"""Where a data plane reports what the engine must know."""


class DataPlane(Protocol):
    """Carries packets by the flows it is given, and reports what has none.

    Every method returns at once; what cannot be done is counted, never raised, once the plane is
    open.
    """

    kind: str
    """What the configuration calls it."""

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

    def links_changed(self) -> None:
        """Looks at the host's devices again: some have come, gone or changed."""

    def modes(self) -> dict[str, str]:
        """How it works on each uplink, for people; empty where there is but one way."""

    def install(self, flow: Flow) -> None:
        """Uses a flow, in place of the one with its AIDs or its label."""

    def take_up(
        self, flows: Sequence[Flow], clocks: Sequence[Clock], aids: Sequence[Locator]
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

    def received_ns(self, local_label: int) -> int:
        """When a flow last received something, by the monotonic clock; 0 if never."""

    def counters(self) -> dict[str, int]:
        """What happened so far, by name."""
