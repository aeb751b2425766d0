# SPDX-License-Identifier: MIT
"""What the programs of a border cost each packet, with few prefixes and with many.

    python -m tests.border.cost

Needs root, and an idle machine.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from noid.constants import BORDER_PREFIXES_MAX
from noid.flows.border import Choice, Site, SitePrefix
from noid.locators import parse_locator
from tests.border.packets import REWRITABLE
from tests.border.play import ETHERNET, LOOPBACK, Programs
from tests.border.test_law import packet
from tests.dns.conftest import in_network_namespace

SITES = (2, BORDER_PREFIXES_MAX)
ROUNDS, RUNS = 9, 200_000
CASES = {
    "border_leaving": "2001:db8:1::a",
    "border_departing": "2001:db8:1::a",
    "border_arriving": "2001:db8:9999::a",
}
"""The programs, and the source of the packet that each gets."""


def prepared(directory: Path, prefixes: int) -> Programs:
    """The programs for a site; each run puts the other of its two first prefixes in."""
    made = Programs(directory, 1)
    site = Site(
        48,
        tuple(
            SitePrefix(parse_locator(f"2001:db8:{row + 1:x}::")[:8], LOOPBACK, "")
            for row in range(prefixes)
        ),
    )
    made.tables.put_site(site)
    rows = (1, 0, *range(2, prefixes))
    made.tables.put_choice(site, Choice(rows, (1 << prefixes) - 1))
    return made


def main() -> int:
    """Prints the median, the least and the greatest cost of each program."""
    with tempfile.TemporaryDirectory() as directory:
        made = {count: prepared(Path(directory), count) for count in SITES}
        for name, source in CASES.items():
            octets = ETHERNET + packet(REWRITABLE[0], source)
            found: dict[int, list[int]] = {count: [] for count in SITES}
            for _ in range(ROUNDS):
                for count, programs in made.items():
                    found[count].append(programs.loaded.cost_ns(name, octets, runs=RUNS))
            for count, costs in found.items():
                middle = statistics.median(costs)
                print(f"{name}, {count} prefixes: {middle} ns ({min(costs)}-{max(costs)})")
    return 0


if __name__ == "__main__":
    sys.exit(in_network_namespace(main))
