# SPDX-License-Identifier: MIT
"""BFD with the routers of the providers: a session by each uplink that has it [RFC 5880, 5881]."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from random import SystemRandom
from typing import Final

from noid.border_config import ProviderTable
from noid.constants import SECOND
from noid.errors import PlatformError
from noid.flows.bfd import Packet, Session, State
from noid.host.bfd_socket import BfdSocket
from noid.locators import Locator

RETRY_S: Final = 1.0
"""After a socket was refused, or while there is no gateway."""
SILENT: Final = "BFD with the gateway is down"

logger = logging.getLogger("noid")


class Detection:
    """The session by one uplink.

    Args:
        table: the provider's configuration.
        where: the gateway now, and the index of the device; None while there is none.
        told: called with what is wrong, empty if nothing is, when that changes.
    """

    def __init__(
        self,
        table: ProviderTable,
        where: Callable[[], tuple[Locator, int] | None],
        told: Callable[[str], None],
    ) -> None:
        self.table = table
        self._where = where
        self._told = told
        self._why = ""
        self._random = SystemRandom()
        self._session = Session(
            self._random.randint(1, 0xFFFFFFFF),
            round(table.bfd_interval_s * 1e6),
            table.bfd_multiplier,
        )

    async def run(self) -> None:
        """Holds the session until it is cancelled."""
        said = ""
        while True:
            try:
                await self._hold()
            except PlatformError as error:
                if said != str(error):
                    said = str(error)
                    logger.warning("%s", error)
            await asyncio.sleep(RETRY_S)

    async def _hold(self) -> None:
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        sockets = BfdSocket(self.table.uplink)
        loop.add_reader(sockets.fileno(), readable.set)
        try:
            while (where := self._where()) is not None:
                self._step(sockets, *where)
                wait_s = (self._session.deadline_ns - time.monotonic_ns()) / SECOND
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(readable.wait(), min(max(wait_s, 0), RETRY_S))
                readable.clear()
        finally:
            loop.remove_reader(sockets.fileno())
            sockets.close()

    def _step(self, sockets: BfdSocket, gateway: Locator, index: int) -> None:
        """Hears what there is before it looks at the clock: we may have been late ourselves."""
        for octets in sockets.packets(gateway):
            packet = Packet.decode(octets)
            if packet is not None:
                answer = self._session.hear(packet, time.monotonic_ns())
                if answer is not None:
                    sockets.send(gateway, index, answer)
        own = self._session.due(time.monotonic_ns(), self._random.random())
        if own is not None:
            sockets.send(gateway, index, own)
        self._tell()

    def _tell(self) -> None:
        one = self._session
        is_failed = one.was_up and one.state is not State.UP and not one.administrative
        why = SILENT if is_failed else ""
        if why != self._why:
            self._why = why
            self._told(why)
