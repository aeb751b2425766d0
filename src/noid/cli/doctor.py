"""``noid doctor``: everything a host needs, checked, and how to mend what is wrong."""

import argparse
import asyncio
import json
from pathlib import Path

from noid.cli.names import DNS_PORT, configuration
from noid.cli.places import CONFIG_HELP, NAMED_CONFIG
from noid.config import RESOLV_CONF
from noid.doctor import Doctor, Finding, Health

EXAMPLE = "example:\n  noid doctor --config /etc/noid.toml"


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``doctor``."""
    doctor = commands.add_parser(
        "doctor",
        help="checks everything this host needs, and says how to mend what is wrong",
        description=(
            "Looks at addresses, routes, DNS, resolver, firewall and kernel, the DNS as a peer\n"
            "would see it. Exit status 0 if nothing is wrong, else 1."
        ),
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.add_argument(
        "--config", type=Path, metavar="FILE", default=NAMED_CONFIG, help=CONFIG_HELP
    )
    doctor.add_argument("--name", default="", help="of this host; default: host.name")
    doctor.add_argument("--resolver", metavar="ADDRESS", help="default: those of the configuration")
    doctor.add_argument("--port", type=int, default=DNS_PORT, help="its port; default: %(default)s")
    doctor.add_argument(
        "--resolv-conf", type=Path, default=RESOLV_CONF, help="default: %(default)s"
    )
    doctor.add_argument("--json", action="store_true", help="JSON, for programs")
    doctor.set_defaults(handler=examine)


def examine(arguments: argparse.Namespace) -> int:
    """Prints a line for each thing looked at."""
    config = configuration(arguments)
    doctor = Doctor(
        config,
        arguments.name or config.host.name,
        servers=[(arguments.resolver, arguments.port)] if arguments.resolver else None,
        resolv_conf=arguments.resolv_conf,
    )
    findings = asyncio.run(doctor.examine())
    if arguments.json:
        print(json.dumps([_as_json(finding) for finding in findings]))
    else:
        for finding in findings:
            print(f"{finding.health.value:8}{finding.check}: {finding.text}")
            if finding.mend and finding.health is not Health.OK:
                print(f"        mend: {finding.mend}")
    return int(any(finding.health is Health.WRONG for finding in findings))


def _as_json(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.check,
        "health": finding.health.value,
        "text": finding.text,
        "mend": finding.mend,
    }
