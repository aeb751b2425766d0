# SPDX-License-Identifier: MIT
"""Arguments that several commands have."""

import argparse
import ipaddress
from pathlib import Path
from typing import Final

from noid.config import Config
from noid.config_places import USUAL_CONFIG, configuration_in, control_socket, named_config

PORT_MAX: Final = 65_535
RESOLVER_HELP: Final = "default: those of the configuration"
CONFIG_HELP: Final = f"TOML file; default: $NOID_CONFIG, or {USUAL_CONFIG} if it exists"
SOCKET_HELP: Final = "of the daemon; default: $NOID_SOCKET, or control.socket of the configuration"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds the option ``--config``."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=named_config(), help=CONFIG_HELP
    )


def add_socket(parser: argparse.ArgumentParser) -> None:
    """Adds the option ``--socket``; the default is determined only when the option is missing."""
    parser.add_argument(
        "--socket", type=control_socket, metavar="PATH", default="", help=SOCKET_HELP
    )


def configuration(arguments: argparse.Namespace) -> Config:
    """The configuration from the named file or the default file; defaults if there is no file.

    Raises:
        ConfigError: the file is rejected.
    """
    return configuration_in(arguments.config)


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
