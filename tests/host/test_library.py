# SPDX-License-Identifier: MIT
"""Of the netlink library, noid imports what it uses; the rest is imported on demand."""

import subprocess
import sys

DAEMON = """
import sys
import noid.roles.border, noid.roles.host
assert "pyroute2.iproute" in sys.modules
print(*[
    one for one in ("pyroute2.conntrack", "pyroute2.ipdb", "pyroute2.ndb")
    if one in sys.modules
])
"""
REST = """
import sys
from noid.host import library
import pyroute2
assert not hasattr(pyroute2, "nothing_of_this_name") and not hasattr(pyroute2, "__wrapped__")
from pyroute2 import NDB, IPRoute, NetlinkError, netns
assert "pyroute2.ndb.main" in sys.modules and pyroute2.__version__
assert IPRoute is library.IPRoute and NetlinkError is library.NetlinkError
assert netns is library.netns
"""
BEFORE = (
    "import pyroute2; from noid.host import library; assert pyroute2.IPRoute is library.IPRoute"
)


def said(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_daemon_imports_no_part_that_it_does_not_use() -> None:
    assert said(DAEMON) == "\n"


def test_the_rest_is_imported_when_something_asks_for_it() -> None:
    assert said(REST) == ""


def test_a_library_that_is_imported_already_is_taken_as_it_is() -> None:
    assert said(BEFORE) == ""
