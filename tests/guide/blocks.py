# SPDX-License-Identifier: MIT
"""What a page of the documentation tells people to type, and where."""

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs"
FENCE = re.compile(r"^```sh\n# on (a|b|both)(, in a terminal of its own)?\n(.*?)^```$", re.M | re.S)
MACHINES = {"a": ("a",), "b": ("b",), "both": ("a", "b")}


@dataclass(frozen=True)
class Block:
    """Commands that are typed at once.

    Attributes:
        machines: the machines.
        stays: whether its last command goes on while others are typed elsewhere.
        text: the commands.
    """

    machines: tuple[str, ...]
    stays: bool
    text: str


def blocks(page: str) -> list[Block]:
    """The blocks of a page in order; every fenced block has to be one of them."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = [
        Block(MACHINES[where], bool(stays), body) for where, stays, body in FENCE.findall(text)
    ]
    assert len(found) * 2 == len(re.findall(r"^```", text, re.M)), f"{page}: a block without '# on'"
    return found
