# SPDX-License-Identifier: MIT
"""``python -m tests.reverts``: takes back each fix, and says which law notices, and how soon."""

import sys
import tempfile
from pathlib import Path

from tests.reverts.play import copy_to, planted, verdict_on
from tests.reverts.table import REVERTS


def main() -> int:
    """Prints a row of Markdown for each revert; exit status 1 where no law notices one."""
    status = 0
    with tempfile.TemporaryDirectory() as directory:
        package = copy_to(Path(directory))
        for revert in REVERTS:
            with planted(package, revert):
                found = verdict_on(package, revert.family)
            law = found.violation.partition(":")[0] or "none"
            status |= not found.violation
            where = f"`{revert.family}` {found.number}"
            print(f"| {revert.name} | {law} | {where} | {found.seconds:.1f} s |", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
