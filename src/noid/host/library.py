# SPDX-License-Identifier: MIT
# ruff: noqa: E402 - the package must be in its place before its modules are imported
"""The netlink library, of which only the modules that noid uses are imported.

``import pyroute2`` imports everything that is in it, such as a database of the network and what
that needs: a fifth of the processor time of all imports of a daemon, and 4 MB. Here, the package is
in ``sys.modules`` with its path alone, by which its modules are found. When something asks it for
anything else, its own module, which imports the rest, is executed.
"""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Final

NAME: Final = "pyroute2"


def package() -> ModuleType:
    """The package, whose own module is executed only when that is needed."""
    found = importlib.util.find_spec(NAME)
    assert found is not None, "noid is installed with it"
    assert found.loader is not None, "it is no namespace package"
    loader, made = found.loader, importlib.util.module_from_spec(found)

    def attribute(name: str) -> object:
        """A module of the package, or what its own module defines."""
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return importlib.import_module(f"{NAME}.{name}")
        except ModuleNotFoundError:
            vars(made).pop("__getattr__", None)
            loader.exec_module(made)
            return getattr(made, name)

    vars(made)["__getattr__"] = attribute
    return made


if NAME not in sys.modules:
    sys.modules[NAME] = package()

from pyroute2 import netns
from pyroute2.ethtool import Ethtool
from pyroute2.ethtool.ioctl import EthtoolError
from pyroute2.iproute import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

__all__ = ["Ethtool", "EthtoolError", "IPRoute", "NetlinkError", "netns"]
