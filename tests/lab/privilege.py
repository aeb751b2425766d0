# SPDX-License-Identifier: MIT
"""How a test gives privilege up."""

from typing import Final

NOBODY: Final = (
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
)
"""Before a command: run as nobody, who yet may read this program, wherever it was cloned to."""
