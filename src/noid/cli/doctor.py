# SPDX-License-Identifier: MIT
"""``noid doctor``: checks everything that a host needs, and prints a fix for each problem."""

import argparse
import asyncio
from pathlib import Path

from noid.border_config import load_border_config
from noid.cli.leaves import add_command, add_json
from noid.cli.names import DNS_PORT, check_host_name
from noid.cli.output import say
from noid.cli.places import RESOLVER_HELP, add_config, address, configuration, port
from noid.config import RESOLV_CONF
from noid.dns.records import canonical_name
from noid.doctor.border import examine_border
from noid.doctor.checks import Doctor
from noid.doctor.findings import Finding, Health
from noid.text import json_line

EXAMPLES = ("noid doctor", "noid doctor --fix", "noid doctor --border /etc/noid-border.toml")
AGAIN = "Firewall: run noid doctor again after a change, or run noid doctor --fix."


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command ``doctor``."""
    doctor = add_command(
        commands,
        "doctor",
        examine,
        *EXAMPLES,
        description=(
            "Checks addresses, routes, DNS (as a peer sees it), resolver, firewall and kernel.\n"
            "M6 packets are sent through the rules of this host; none of them leaves the host.\n"
            "Exit status 0 if there is no problem, else 1."
        ),
    )
    add_config(doctor)
    doctor.add_argument("--name", default="", help="of this host; default: host.name")
    doctor.add_argument("--resolver", type=address, metavar="ADDRESS", help=RESOLVER_HELP)
    doctor.add_argument(
        "--port", type=port, default=DNS_PORT, help="its port; default: %(default)s"
    )
    doctor.add_argument(
        "--resolv-conf", type=Path, default=RESOLV_CONF, help="default: %(default)s"
    )
    doctor.add_argument(
        "--fix",
        action="store_true",
        help="insert the nftables rules that M6 needs, test again, delete those that do not help",
    )
    doctor.add_argument(
        "--border",
        type=Path,
        metavar="FILE",
        help="check the border with this configuration in place of a host",
    )
    add_json(doctor)


def examine(arguments: argparse.Namespace) -> int:
    """Prints a line for each check."""
    found = findings(arguments, resolv_conf=arguments.resolv_conf, fix=arguments.fix)
    if arguments.json:
        say(json_line([as_json(finding) for finding in found]))
    else:
        for finding in found:
            show(finding)
        if not arguments.fix and any(_is_wrong_firewall(one) for one in found):
            say(AGAIN)
    return int(any(finding.health is Health.WRONG for finding in found))


def findings(
    arguments: argparse.Namespace, *, resolv_conf: Path = RESOLV_CONF, fix: bool = False
) -> list[Finding]:
    """The findings on this host, or on the border that it is."""
    if getattr(arguments, "border", None) is not None:
        return examine_border(load_border_config(arguments.border))
    config = configuration(arguments)
    name = canonical_name(arguments.name or config.host.name)
    if name:
        check_host_name(name)
    doctor = Doctor(
        config,
        name,
        servers=[(arguments.resolver, arguments.port)] if arguments.resolver else None,
        resolv_conf=resolv_conf,
        fix=fix,
        options="" if arguments.config is None else f"--config {arguments.config}",
    )
    return asyncio.run(doctor.examine())


def show(finding: Finding) -> None:
    """Prints a line for a finding, and one for its fix."""
    say(f"{finding.health.value:8}{finding.check}: {finding.text}")
    if finding.fix and finding.health is not Health.OK:
        say(f"        fix: {finding.fix}")


def _is_wrong_firewall(finding: Finding) -> bool:
    return finding.check == "firewall" and finding.health is Health.WRONG


def as_json(finding: Finding) -> dict[str, str]:
    """The entry of a finding in ``--json``; programs know the fix under an older key."""
    return {
        "check": finding.check,
        "health": finding.health.value,
        "text": finding.text,
        "mend": finding.fix,
    }
