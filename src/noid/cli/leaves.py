# SPDX-License-Identifier: MIT
"""How a command below another is declared, such as ``noid border use``."""

import argparse
from collections.abc import Callable


def add_leaf(
    leaves: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    handler: Callable[[argparse.Namespace], int],
    summary: str,
    *examples: str,
) -> argparse.ArgumentParser:
    """Adds a command with a summary and examples.

    Args:
        leaves: the commands beside it.
        name: its name.
        handler: runs it; returns the exit status.
        summary: what it does, without a capital and a full stop.
        examples: each as typed; the last may have more text below.
    """
    made = leaves.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog="\n  ".join(("example:", *examples)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(handler=handler)
    return made
