# SPDX-License-Identifier: MIT
"""BFD with a router of each provider that has it configured [RFC 5880, 5881, 5883]."""

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
from noid.flows.bfd_authentication import KEYED, METICULOUS, Authentication
from noid.host.bfd_socket import ON_LINK, BfdSocket, beyond
from noid.roles.checking import Target

RETRY_S: Final = 1.0
"""After a socket was refused, or while there is no gateway or no device."""

KINDS: Final = {"keyed-sha1": KEYED, "meticulous-keyed-sha1": METICULOUS}
"""The types of authentication by their names in the configuration."""

logger = logging.getLogger("noid")


class Detection:
    """The session by one uplink.

    Args:
        table: the provider's configuration.
        where: the router now; None while there is none.
        told: called with what is wrong, empty if nothing is, when that changes.
        failed: whether an earlier daemon has found that the session is down.
    """

    def __init__(
        self,
        table: ProviderTable,
        where: Callable[[], Target | None],
        told: Callable[[str], None],
        *,
        failed: bool = False,
    ) -> None:
        self.table = table
        self._where = where
        self._told = told
        self._why = down_text(table) if failed else ""
        self._reach = beyond(table.bfd_hop_limit_min) if table.bfd_peer else ON_LINK
        self._random = SystemRandom()
        interval_us = round(table.bfd_interval_s * 1e6)
        discriminator = self._random.randint(1, 0xFFFFFFFF)
        kind = KINDS.get(table.bfd_authentication)
        self._session = Session(
            discriminator,
            interval_us,
            table.bfd_multiplier,
            was_up=failed,
            has_forgers=bool(table.bfd_peer) and kind is None,
        )
        self._authentication: Authentication | None = None
        if kind is not None:
            self._authentication = Authentication(
                kind,
                table.bfd_key_id,
                table.bfd_key.encode(),
                sequence=self._random.getrandbits(32),
                interval_us=interval_us,
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
        """Holds it as long as its device is the same one: the sockets are bound to that."""
        first = self._where()
        if first is None or not first.device:
            return
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        sockets = BfdSocket(self.table.uplink, self._reach)
        loop.add_reader(sockets.fileno(), readable.set)
        try:
            while (where := self._where()) is not None and where.device == first.device:
                self._step(sockets, where)
                wait_s = (self._session.deadline_ns - time.monotonic_ns()) / SECOND
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(max(wait_s, 0), RETRY_S)):
                        await readable.wait()
                readable.clear()
        finally:
            loop.remove_reader(sockets.fileno())
            sockets.close()

    def _step(self, sockets: BfdSocket, router: Target) -> None:
        """Hears what there is before it looks at the clock: we may have been late ourselves."""
        for octets in sockets.packets(router.address):
            packet = self._decode(octets)
            if packet is not None:
                answer = self._session.hear(packet, time.monotonic_ns())
                if answer is not None:
                    self._send(sockets, router, answer)
        own = self._session.due(time.monotonic_ns(), self._random.random())
        if own is not None:
            self._send(sockets, router, own)
        self._tell()

    def _decode(self, octets: bytes) -> Packet | None:
        if self._authentication is None:
            return Packet.decode(octets)
        opened = self._authentication.open(octets, time.monotonic_ns())
        return None if opened is None else Packet.decode(opened)

    def _send(self, sockets: BfdSocket, router: Target, packet: bytes) -> None:
        if self._authentication is not None:
            packet = self._authentication.seal(packet)
        sockets.send(router.address, router.device, packet, router.source)

    def _tell(self) -> None:
        one = self._session
        is_failed = one.was_up and one.state is not State.UP and not one.administrative
        why = down_text(self.table) if is_failed else ""
        if why != self._why:
            self._why = why
            self._told(why)


def down_text(table: ProviderTable) -> str:
    """What is wrong with an uplink whose session is down."""
    return f"BFD with {table.bfd_peer or 'the gateway'} is down"
