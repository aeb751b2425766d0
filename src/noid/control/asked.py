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
HELD: Final = "the port is open and nothing answers"
SEE_UNITS: Final = "systemctl status noid noid.socket"
ASK_AGAIN: Final = "run it as root; if the daemon does not respond, restart it"


class Answering(enum.Enum):
    """Which program answers DNS queries at an address."""

    NOID = "noid"
    ANOTHER = "another program"
    NOTHING = "nothing"
    HELD = "held"
    """The port is open, and nothing answers: systemd holds it for noid, or a program is stuck."""
    UNKNOWN = "unknown"
    """The control socket is for another user, or the daemon does not respond."""


SILENT: Final = {errno.EACCES, errno.EAGAIN, errno.ETIMEDOUT}
"""Errors of the control socket where a daemon may run: the port is its own."""


def answering(listen: str, control: Path) -> Answering:
    """Who answers at the address of the stub: noid, if its daemon runs, because it has the port.

    Args:
        listen: the address.
        control: the control socket of the daemon.
    """
    try:
        ask(control, "status")
    except PlatformError as error:
        if error.errno in SILENT:
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
        return Answering.HELD
    except OSError:
        return Answering.NOTHING
    return Answering.ANOTHER
