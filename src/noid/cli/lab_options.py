# SPDX-License-Identifier: MIT
"""The options that commands of ``noid lab`` have in common."""

import argparse
import contextlib
from typing import Final, get_args

from noid.config import PlaneKind

DEFAULT_NAME: Final = "lab"
PLANES: Final = (*get_args(PlaneKind), "none")


def add_name(parser: argparse.ArgumentParser) -> None:
    """Adds the name of the lab."""
    parser.add_argument("--name", default=DEFAULT_NAME, help="of the lab; default: %(default)s")


def add_plane(parser: argparse.ArgumentParser) -> None:
    """Adds the data plane of the hosts."""
    parser.add_argument(
        "--plane",
        choices=PLANES,
        default=PLANES[0],
        help="data plane on a and b; none: plain IPv6; default: %(default)s",
    )


def seconds(text: str) -> float:
    """A positive number of seconds."""
    with contextlib.suppress(ValueError):
        number = float(text)
        if 0 < number < float("inf"):
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
