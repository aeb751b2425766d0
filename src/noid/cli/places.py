# SPDX-License-Identifier: MIT
"""Where commands look for the configuration and the daemon, unless they are told.

The environment may say it: NOID_CONFIG and NOID_SOCKET, as ``noid lab exec`` sets them.
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
"""The configuration that the environment names, which must be there; None if it names none."""
PORT_MAX: Final = 65_535
RESOLVER_HELP: Final = "default: those of the configuration"
CONFIG_HELP: Final = f"TOML file; default: $NOID_CONFIG, or {USUAL_CONFIG} where it is there"
SOCKET_HELP: Final = "of the daemon; default: $NOID_SOCKET, or control.socket of the configuration"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config``."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=NAMED_CONFIG, help=CONFIG_HELP
    )


def add_socket(parser: argparse.ArgumentParser) -> None:
    """Adds ``--socket``; the default is only looked for where it is needed."""
    parser.add_argument(
        "--socket", type=control_socket, metavar="PATH", default="", help=SOCKET_HELP
    )


def config_file(named: Path | None) -> Path | None:
    """The file that was named, or the usual one; None where there is none."""
    if named is not None:
        return named
    return USUAL_CONFIG if USUAL_CONFIG.exists() else None


def configuration(arguments: argparse.Namespace) -> Config:
    """The configuration that was named, or the usual one, or the defaults where there is none.

    Raises:
        ConfigError: it is refused.
    """
    path = config_file(arguments.config)
    return Config() if path is None else load_config(path)


def control_socket(text: str) -> Path:
    """The path of the daemon's socket; of an empty text the usual one."""
    text = text or os.environ.get("NOID_SOCKET", "")
    if text:
        return Path(text)
    try:
        path = config_file(NAMED_CONFIG)
        return DEFAULT_SOCKET if path is None else Path(load_config(path).control.socket)
    except ConfigError:  # the daemon may run all the same; noid check has the reason
        return DEFAULT_SOCKET


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


class Count:
    """A number of things, as an argument.

    Args:
        most: the greatest that is taken.
    """

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self, text: str) -> int:
        """The number that a text says."""
        if not (text.isdecimal() and 0 < int(text[:9]) <= self.most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number, 1 to {self.most}")
        return int(text)
