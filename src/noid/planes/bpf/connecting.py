# SPDX-License-Identifier: MIT
"""The kernel program that chooses the source of each new connection to an M6 peer, by weights.

It is attached to the root of the control groups without a pin, so that it ends with the daemon. It
applies to this network namespace only.
"""

import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from noid.errors import Unsupported
from noid.locators import LOCATOR_OCTETS, Locator
from noid.planes.bpf import libbpf
from noid.planes.bpf.libbpf import Table
from noid.planes.bpf.loading import Programs, other_version
from noid.planes.bpf.pins import object_code
from noid.planes.bpf.plain import group_roots, no_groups

OBJECT: Final = "connect.bpf.o"
PROGRAM: Final = "host_connects"
SOURCE_SLOTS: Final = 128
"""Each source has as many as its weight says."""
COUNT: Final = struct.Struct("=I")
NETNS_COOKIE: Final = 71
"""SO_NETNS_COOKIE."""
COOKIE_OCTETS: Final = 8


class Connecting:
    """The program, loaded and attached.

    Args:
        log_path: where the messages of the verifier go if the kernel refuses the program.

    Raises:
        Unsupported: this kernel, or this installation, does not have what it needs.
        PlatformError: the kernel refuses it.
    """

    def __init__(self, log_path: Path) -> None:
        roots = group_roots()
        if not roots:
            raise no_groups()
        self._programs = Programs(
            object_code(OBJECT), sizes={}, constants=_cookie(), log_path=log_path
        )
        try:
            maps = self._programs.maps
            if not maps.keys() >= {"sources", "spread_peers"}:
                raise other_version()
            value_octets = COUNT.size + SOURCE_SLOTS * LOCATOR_OCTETS
            self._sources = Table(maps["sources"], COUNT.size, value_octets)
            self._peers = Table(maps["spread_peers"], LOCATOR_OCTETS, COUNT.size)
            self._link = libbpf.attach_to_group(self._programs.programs[PROGRAM], roots[0])
        except BaseException:
            self._programs.close()
            raise

    def close(self) -> None:
        """Detaches the program: the routes choose the source of new connections."""
        os.close(self._link)
        self._programs.close()

    def set_sources(self, slots: Sequence[Locator]) -> None:
        """Sets the sources that connections start from.

        Args:
            slots: each source as often as its weight says; of these one is chosen at random.
        """
        kept = slots[:SOURCE_SLOTS]
        value = COUNT.pack(len(kept)) + b"".join(kept).ljust(
            SOURCE_SLOTS * LOCATOR_OCTETS, bytes(1)
        )
        self._sources.put(COUNT.pack(0), value)

    def set_peer(self, aid: Locator, *, is_spread: bool) -> None:
        """Sets whether connections to an address are spread."""
        if is_spread:
            self._peers.put(aid, COUNT.pack(1))
        else:
            self._peers.remove(aid)


def _cookie() -> bytes:
    """The cookie of this network namespace, in the byte order of the machine.

    Raises:
        Unsupported: the kernel does not say it.
    """
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        try:
            return one.getsockopt(socket.SOL_SOCKET, NETNS_COOKIE, COOKIE_OCTETS)
        except OSError:
            raise Unsupported("cookies of network namespaces", "Linux 5.14 has them") from None
