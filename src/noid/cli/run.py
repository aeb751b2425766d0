"""``noid run``: the daemon in the foreground, as systemd likes it."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from noid.config import Config, load_config

EXAMPLE = """\
example:
  noid run --config /etc/noid.toml

A complete configuration needs no more than this, and often not even this:
  [host]
  interfaces = ["eth*"]
  [dns]
  upstream = ["2001:db8::53"]
"""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``run``."""
    run = commands.add_parser(
        "run",
        help="run the shim on this host, in the foreground",
        description="Runs the M6 shim on this host until SIGINT or SIGTERM.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("--config", type=Path, required=True, metavar="FILE", help="TOML file")
    run.add_argument("--verbose", action="store_true", help="also log what single packets cause")
    run.set_defaults(handler=run_daemon)


def run_daemon(arguments: argparse.Namespace) -> int:
    """Runs the daemon to its end."""
    config = load_config(arguments.config)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    asyncio.run(_run(config))
    return 0


async def _run(config: Config) -> None:
    # Here, because it brings in what only a daemon needs: half a second of every other command.
    from noid.daemon import Daemon

    await Daemon(config).run()
