# SPDX-License-Identifier: MIT
"""What the programs of a border cost each packet, with few prefixes and with many.

    python -m tests.border.cost

Needs root, and an idle machine.
"""

import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from noid.constants import BORDER_PREFIXES_MAX
from noid.flows.border import Choice, Site, SitePrefix
from noid.locators import Locator, format_locator, parse_locator
from tests.border.packets import FIXED, REWRITABLE
from tests.border.play import ETHERNET, LOOPBACK, Programs
from tests.border.test_law import packet
from tests.namespaces import in_network_namespace

ROUNDS, RUNS, PACKETS = 9, 10_000, 64
"""Each round takes many packets and tables of its own: what one packet costs depends on where the
table, whose order is drawn when it is made, has its prefixes."""


class Case(NamedTuple):
    """A program, and the packets that it gets.

    Attributes:
        program: its name.
        few: the least number of prefixes with which it does so.
        is_rewritten: whether the packets may be, and are where there are two prefixes.
        is_inside: whether their sources are in the first prefix of the site.
    """

    program: str
    few: int
    is_rewritten: bool
    is_inside: bool


CASES = {
    "from a LAN, rewriting": Case("border_leaving", 2, True, True),
    "from a LAN, unchanged": Case("border_leaving", 1, False, True),
    "to an uplink": Case("border_departing", 1, True, True),
    "from an uplink": Case("border_arriving", 1, True, False),
}


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
    rows = (1, 0, *range(2, prefixes)) if prefixes > 1 else (0,)
    made.tables.put_choice(site, Choice(rows, (1 << prefixes) - 1))
    return made


def packets(case: Case, chance: random.Random) -> list[bytes]:
    """Frames between the site and hosts anywhere."""
    number = REWRITABLE[0] if case.is_rewritten else FIXED[0]
    inside = parse_locator("2001:db8:1::a")
    found = []
    for _ in range(PACKETS):
        other = Locator(b"\x24" + chance.randbytes(15))
        source, to = (inside, other) if case.is_inside else (other, inside)
        found.append(ETHERNET + packet(number, format_locator(source), to))
    return found


def measured(case: Case, directory: Path, chance: random.Random) -> list[float]:
    """The mean costs of a packet in one round, in ns: with few prefixes, and with many."""
    made = [prepared(directory, count) for count in (case.few, BORDER_PREFIXES_MAX)]
    sums = [0.0, 0.0]
    for frame in packets(case, chance):
        for number, programs in enumerate(made):
            sums[number] += programs.loaded.cost_ns(case.program, frame, runs=RUNS)
    for programs in made:
        programs.loaded.close()
    return [total / PACKETS for total in sums]


def shown(values: list[float], digits: int = 1) -> str:
    """The median and the range of some values."""
    low, middle, high = (f"{one(values):.{digits}f}" for one in (min, statistics.median, max))
    return f"{middle} ({low}-{high})"


def main() -> int:
    """Prints the median and the range of each program's cost, and of many prefixes to few."""
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as directory:
        for name, case in CASES.items():
            rounds = [measured(case, Path(directory), chance) for _ in range(ROUNDS)]
            few, many = map(list, zip(*rounds, strict=True))
            ratios = [after / before for before, after in rounds]
            print(
                f"{name}: {case.few} prefixes {shown(few)} ns, "
                f"{BORDER_PREFIXES_MAX} {shown(many)} ns, ratio {shown(ratios, 3)}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(in_network_namespace(main))
