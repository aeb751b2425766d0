# SPDX-License-Identifier: MIT
"""The pair of devices that cuts super-packets; its far end takes what has no uplink."""

from collections.abc import Mapping

from noid.host.netlink import CUTTING, MTU_MAX, SUMMING, HostNetwork
from noid.host.pairs import Pair
from noid.host.survey import OwnDevice
from noid.planes.bpf.pins import segmenter_names


class Segmenter:
    """The pair of one plane.

    Args:
        network: the host's devices.
        device: name of the device of the slow path.

    Attributes:
        pair: what it is, once ``make`` has made it.
    """

    pair: Pair

    def __init__(self, network: HostNetwork, device: str) -> None:
        self.network = network
        self.names = segmenter_names(device)
        self._wanted = (0, False)
        self._failed: tuple[str, ...] = ()

    def make(self, mtu: int, *, sums: bool) -> Pair:
        """Makes the pair, or takes over that of an earlier daemon.

        Args:
            mtu: octets of IPv6 that packets have which no uplink takes.
            sums: whether every uplink can sum up, so that this is left to them.

        Raises:
            PlatformError: the kernel refuses.
        """
        self._wanted = mtu, sums
        out, cut = self.names
        self.pair = self.network.make_pair(out, cut, mtu=mtu, sums=sums)
        return self.pair

    def keep(self, found: Mapping[str, OwnDevice], mtu: int, *, sums: bool) -> list[str]:
        """Makes the pair as it is to be; it has the same indexes and addresses as before.

        What has not changed by that the last time is not tried again until it changes.

        Args:
            found: the devices of ours.
            mtu: as for ``make``.
            sums: the same.

        Returns:
            What others had changed.

        Raises:
            PlatformError: the kernel refuses.
        """
        changed = tuple(self._changed(found))
        is_new = (mtu, sums) != self._wanted
        if not is_new and changed == self._failed:
            return []
        self._wanted, self._failed = (mtu, sums), ()
        out, cut = self.names
        self.network.make_pair(out, cut, mtu=mtu, sums=sums, before=self.pair)
        self._failed = changed  # if that is still so the next time
        return list(changed)

    def _changed(self, found: Mapping[str, OwnDevice]) -> list[str]:
        mtu, sums = self._wanted
        out, cut = self.names
        changed = []
        for name, index, octets in (
            (out, self.pair.entry, mtu),
            (cut, self.pair.exit, MTU_MAX),
        ):
            device = found.get(name)
            if device is None or device.index != index:
                changed.append(name)
                continue
            if not device.is_up:
                changed.append(f"state of {name}")
            if (device.mtu, device.mtu_ipv6) != (octets, mtu):
                changed.append(f"MTU of {name}")
            if name == out and self._cuts_wrongly(device.features, sums=sums):
                changed.append(f"features of {name}")
        return changed

    def _cuts_wrongly(self, features: frozenset[str], *, sums: bool) -> bool:
        return bool(features.intersection(CUTTING)) or (SUMMING in features) != sums
