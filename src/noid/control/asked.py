# SPDX-License-Identifier: MIT
"""Who answers at the address of the stub, which may be another program than noid."""

import enum
import errno
import socket
from pathlib import Path
from typing import Final

from noid.control.client import ask
from noid.errors import PlatformError

DNS_PORT: Final = 53
EMPTY_QUERY: Final = bytes(12)
"""The header of a DNS message without a question: a closed port refuses it at once."""
WAIT_S: Final = 0.5


class Answering(enum.Enum):
    """Who answers there."""

    NOID = "noid"
    ANOTHER = "another program"
    NOTHING = "nothing"
    UNKNOWN = "unknown"
    """The control socket is for another user."""


def answering(listen: str, control: Path) -> Answering:
    """Who answers at the address of the stub: noid, if its daemon runs, because it has the port.

    Args:
        listen: the address.
        control: the control socket of the daemon.
    """
    try:
        ask(control, "status")
    except PlatformError as error:
        if error.errno == errno.EACCES:
            return Answering.UNKNOWN
    else:
        return Answering.NOID
    try:
        family = socket.AF_INET6 if ":" in listen else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(WAIT_S)
            client.connect((listen, DNS_PORT))
            client.send(EMPTY_QUERY)
            client.recv(1)
    except TimeoutError:
        pass  # the port is open
    except OSError:
        return Answering.NOTHING
    return Answering.ANOTHER
