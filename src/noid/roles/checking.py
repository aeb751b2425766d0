# SPDX-License-Identifier: MIT
"""Active checks of the uplinks of a border: an echo request each interval, with hysteresis."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple

from noid.border_config import ProviderTable
from noid.errors import PlatformError
from noid.flows.probing import Probing
from noid.host.echo import Echo
from noid.locators import Locator, format_locator


class Target(NamedTuple):
    """The target of a check.

    Attributes:
        address: the destination of the requests.
        device: its index.
        source: from which address; None: the kernel chooses.
    """

    address: Locator
    device: int
    source: Locator | None = None


class Check:
    """The check of one uplink.

    Args:
        table: the provider's configuration.
        where: the target now; None while there is none.
        told: called with what is wrong, empty if nothing is, when that changes.
        failed: whether an earlier daemon has found that the target does not answer.
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
        self._probing = Probing(table.check_down, table.check_up, works=not failed)
        self._echo: Echo | None = None
        self._target: Locator | None = None
        self._device = 0

    async def run(self) -> None:
        """Checks until it is cancelled."""
        try:
            while True:
                self._ask()
                await asyncio.sleep(self.table.check_interval_s)
        finally:
            self._close()

    def _ask(self) -> None:
        where = self._where()
        if where is None:
            return  # nothing is asked, and silence says nothing: another sign tells what is wrong
        worked = self._probing.works
        sequence = self._probing.begin()
        self._target = where.address
        if worked != self._probing.works:
            silent = f"{format_locator(self._target)} does not answer"
            self._told("" if self._probing.works else silent)
        if where.device != self._device:
            self._close()  # it is bound to another device that had the name
            self._device = where.device
        # What cannot leave is not answered, and counts as that.
        try:
            self._opened().send(where.address, where.device, sequence, where.source)
        except PlatformError:
            self._close()  # the device may be another of the same name by now

    def _opened(self) -> Echo:
        if self._echo is None:
            self._echo = Echo(self.table.uplink)
            asyncio.get_running_loop().add_reader(self._echo.fileno(), self._hear)
        return self._echo

    def _hear(self) -> None:
        if self._echo is not None and self._target is not None:
            for sequence in self._echo.answers(self._target):
                self._probing.heard(sequence)

    def _close(self) -> None:
        if self._echo is not None:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self._echo.fileno())
            self._echo.close()
            self._echo = None
