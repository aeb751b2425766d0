"""Where commands look for the configuration and the daemon, unless they are told.

The environment may say it: NOID_CONFIG and NOID_SOCKET, as ``noid lab exec`` sets them.
"""

import os
from pathlib import Path
from typing import Final

from noid.config import DEFAULT_SOCKET

USUAL_CONFIG: Final = Path("/etc/noid.toml")
NAMED_CONFIG: Final = Path(os.environ["NOID_CONFIG"]) if "NOID_CONFIG" in os.environ else None
"""The configuration that the environment names, which must be there; None if it names none."""
USUAL_SOCKET: Final = Path(os.environ.get("NOID_SOCKET", DEFAULT_SOCKET))
CONFIG_HELP: Final = f"TOML file; default: $NOID_CONFIG, or {USUAL_CONFIG} where it is there"
SOCKET_HELP: Final = f"of the daemon; default: $NOID_SOCKET, or {DEFAULT_SOCKET}"
