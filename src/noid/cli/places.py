"""Where commands look for the configuration and the daemon, unless they are told.

The environment may say it: NOID_CONFIG and NOID_SOCKET, as ``noid lab exec`` sets them.
"""

import argparse
import ipaddress
import os
from pathlib import Path
from typing import Final

from noid.config import DEFAULT_SOCKET

USUAL_CONFIG: Final = Path("/etc/noid.toml")
NAMED_CONFIG: Final = Path(os.environ["NOID_CONFIG"]) if "NOID_CONFIG" in os.environ else None
"""The configuration that the environment names, which must be there; None if it names none."""
USUAL_SOCKET: Final = Path(os.environ.get("NOID_SOCKET", DEFAULT_SOCKET))
PORT_MAX: Final = 65_535
RESOLVER_HELP: Final = "default: those of the configuration"
CONFIG_HELP: Final = f"TOML file; default: $NOID_CONFIG, or {USUAL_CONFIG} where it is there"
SOCKET_HELP: Final = f"of the daemon; default: $NOID_SOCKET, or {DEFAULT_SOCKET}"


def address(text: str) -> str:
    """An address of IPv6 or IPv4, as an argument."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address") from None
    return text


def port(text: str) -> int:
    """A port, as an argument."""
    if not (text.isdecimal() and 0 < int(text[:6]) <= PORT_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to {PORT_MAX}")
    return int(text)
