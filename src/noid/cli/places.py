# SPDX-License-Identifier: MIT
"""Default paths of the configuration and the control socket.

NOID_CONFIG and NOID_SOCKET in the environment override them; ``noid lab exec`` sets both.
"""

import argparse
import ipaddress
import os
from pathlib import Path
from typing import Final

from noid.config import DEFAULT_SOCKET, Config, load_config
from noid.errors import ConfigError

USUAL_CONFIG: Final = Path("/etc/noid.toml")
NAMED_CONFIG: Final = Path(os.environ["NOID_CONFIG"]) if "NOID_CONFIG" in os.environ else None
"""The configuration that the environment names, which must exist; None if it names none."""
PORT_MAX: Final = 65_535
RESOLVER_HELP: Final = "default: those of the configuration"
CONFIG_HELP: Final = f"TOML file; default: $NOID_CONFIG, or {USUAL_CONFIG} if it exists"
SOCKET_HELP: Final = "of the daemon; default: $NOID_SOCKET, or control.socket of the configuration"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config``."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=NAMED_CONFIG, help=CONFIG_HELP
    )


def add_socket(parser: argparse.ArgumentParser) -> None:
    """Adds ``--socket``; the default is determined only when the option is missing."""
    parser.add_argument(
        "--socket", type=control_socket, metavar="PATH", default="", help=SOCKET_HELP
    )


def config_file(named: Path | None) -> Path | None:
    """The named file, else the default file if it exists, else None."""
    if named is not None:
        return named
    return USUAL_CONFIG if USUAL_CONFIG.exists() else None


def configuration(arguments: argparse.Namespace) -> Config:
    """The configuration from the named file or the default file; defaults if there is no file.

    Raises:
        ConfigError: the file is rejected.
    """
    path = config_file(arguments.config)
    return Config() if path is None else load_config(path)


def control_socket(text: str) -> Path:
    """The path of the daemon's socket; the default path for an empty text."""
    text = text or os.environ.get("NOID_SOCKET", "")
    if text:
        return Path(text)
    try:
        path = config_file(NAMED_CONFIG)
        return DEFAULT_SOCKET if path is None else Path(load_config(path).control.socket)
    except ConfigError:  # a daemon may run nevertheless; noid check prints the reason
        return DEFAULT_SOCKET


def address(text: str) -> str:
    """An argument that is an IPv6 or IPv4 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address") from None
    return text


def port(text: str) -> int:
    """An argument that is a port."""
    if not (text.isdecimal() and 0 < int(text[:6]) <= PORT_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to {PORT_MAX}")
    return int(text)


class Count:
    """An argument that is a count.

    Args:
        most: the greatest value that is accepted.
    """

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self, text: str) -> int:
        """The count as a number."""
        if not (text.isdecimal() and 0 < int(text[:9]) <= self.most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number, 1 to {self.most}")
        return int(text)
