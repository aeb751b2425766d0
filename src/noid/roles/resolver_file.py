# SPDX-License-Identifier: MIT
"""Keeps programs asking noid, though DHCP clients write the file that says so anew [D49].

The file is compared now and then while `noid resolver on` is in force. A change is reported once;
later ones are counted.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from noid.errors import PlatformError
from noid.host.precise import until_next
from noid.host.resolvconf import is_in_force, is_on, is_wanted, state_of, turn_on
from noid.roles.patience import Patience

LOOK_INTERVAL_S: Final = 0.5
"""How often the file is looked at."""
RESTORED_BURST: Final = 20
RESTORED_INTERVAL_S: Final = 10.0
"""How often it is restored at once, and how often from then on, while others write it anew."""

logger = logging.getLogger("noid")


class ResolverFile:
    """The file that says where programs ask.

    Args:
        path: the file.
        listen: address of the stub.
        changed: is called when the resolvers named by others may be other ones.
    """

    def __init__(self, path: Path, listen: str, changed: Callable[[], None]) -> None:
        self.path = path
        self.listen = listen
        self.changed = changed
        self.restored = 0
        self.trouble = ""
        self._seen: tuple[object, ...] = ()
        self._patience = Patience(RESTORED_BURST, RESTORED_INTERVAL_S)

    def describe(self) -> dict[str, Any]:
        """What ``noid status`` shows."""
        return {"on": is_in_force(self.path), "restored": self.restored, "trouble": self.trouble}

    async def watch(self) -> None:
        """Looks at the file until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            wait_s = self._patience.wait_s(loop.time())
            if not wait_s and self.look():
                self._patience.use(loop.time())
            await asyncio.sleep(max(wait_s, until_next(LOOK_INTERVAL_S, loop.time())))

    def look(self) -> bool:
        """Restores the file, if others have written it; returns whether that was tried."""
        state = state_of(self.path)
        if state == self._seen:
            return False
        self._seen = state
        self.changed()
        if not is_wanted(self.path):
            return False
        is_ours = is_on(self.path)
        try:
            if not turn_on(self.path, self.listen):
                return False
        except PlatformError as error:
            if is_ours:  # others behind the stub, which programs ask; noid-resolver.path adds them
                return False
            self._complain(str(error))
            self._seen = ()  # tried again: the disk may have room by then
            return True
        self._seen = state_of(self.path)
        self.trouble = ""
        if is_ours:
            return True
        self.restored += 1
        if self.restored == 1:
            logger.warning(
                "%s was written anew by another program: noid is named first in it again, and will "
                "be each time; noid resolver off ends that",
                self.path,
            )
        return True

    def _complain(self, trouble: str) -> None:
        if not self.trouble:
            logger.warning("%s; programs do not ask noid until: noid resolver on", trouble)
        self.trouble = trouble
