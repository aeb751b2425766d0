# SPDX-License-Identifier: MIT
"""What happens to the network of a lab: faults of its providers, and features of its interfaces."""

import time
from collections.abc import Sequence
from pathlib import Path

from noid.lab import changes, namespaces, topology
from noid.lab.faults import Fault
from noid.lab.topology import Topology


class Network:
    """The network of a lab that is up.

    Args:
        name: of the lab.
        directory: of its files.
        plan: its nodes and links.
    """

    def __init__(self, name: str, directory: Path, plan: Topology) -> None:
        self.name = name
        self.directory = directory
        self.plan = plan

    def cut(self, number: int, how: Fault = Fault.SILENT, host: str = "a") -> int:
        """Brings a fault into force; ``heal`` undoes it.

        Args:
            number: of the provider, 1 or 2.
            how: the fault.
            host: whose access line or uplink is hit; for most faults not the whole provider.

        Returns:
            The monotonic time in ns just before the change took effect.

        Raises:
            UsageError: there is no such provider or host, or this lab cannot have that fault.
            Unsupported: nftables is not installed.
            PlatformError: the kernel refuses.
        """
        return changes.cut(self.name, self.plan, self._faults, how, number, host)

    def heal(self, number: int, host: str = "a", *, how: Fault | None = None) -> int:
        """Undoes faults of a provider that are in force.

        Args:
            number: of the provider, 1 or 2.
            host: faults of the whole provider and those of this host are undone.
            how: which fault; all of them if None.

        Returns:
            The monotonic time in ns just before the first change took effect.

        Raises:
            ShimError: as ``cut``.
        """
        topology.check_provider(number)
        began_ns = [
            changes.heal(self.name, self.plan, self._faults, fault, number, host)
            for fault, provider, hit in changes.in_force(self._faults)
            if provider == number and hit in (host, changes.EVERY_HOST) and how in (fault, None)
        ]
        return began_ns[0] if began_ns else time.monotonic_ns()

    def cut_provider(self, number: int) -> int:
        """Makes a provider forward nothing, silently, its links up; as ``cut``."""
        return self.cut(number)

    def heal_provider(self, number: int) -> int:
        """Undoes the faults of a provider; as ``heal``."""
        return self.heal(number)

    def set_features(self, host: str, features: Sequence[str], *, on: bool) -> None:
        """Turns features of a host's uplinks on or off, as ethtool -K does.

        Args:
            host: whose uplinks.
            features: their names, as ``ethtool -k`` shows them.
            on: what they are to be.

        Raises:
            PlatformError: the kernel refuses.
        """
        for interface in self.plan.interfaces(host):
            namespaces.set_features(self.name, host, interface, features, on=on)

    def delivered_octets(self, number: int, host: str) -> int:
        """What a provider has sent to a customer so far, in octets.

        Args:
            number: 1 or 2.
            host: the customer.

        Raises:
            PlatformError: the kernel refuses.
        """
        return namespaces.sent_octets(self.name, f"isp{number}", f"cust{host}")

    @property
    def _faults(self) -> Path:
        return self.directory / "faults"
