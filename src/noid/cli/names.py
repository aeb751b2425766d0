# SPDX-License-Identifier: MIT
"""``noid zone``, ``noid lookup``, ``noid resolver``: DNS commands for the administrator."""

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from noid.cli.leaves import add_command, add_json
from noid.cli.output import say
from noid.cli.places import RESOLVER_HELP, add_config, address, configuration, port
from noid.config import RESOLV_CONF, Config, upstream_resolvers
from noid.control.asked import ASK_AGAIN, HELD, SEE_UNITS, Answering, answering
from noid.dns.records import Answer, Kind, Question, Status, canonical_name
from noid.dns.responses import TTL_MAX
from noid.dns.zone import (
    HOST_NAME,
    forward_records,
    is_host_name,
    reverse_records,
    text_record,
)
from noid.errors import ConfigError, ShimError, UsageError
from noid.host import resolver_managers
from noid.host.netlink import HostNetwork
from noid.host.resolvconf import (
    asked,
    is_asked,
    is_in_force,
    is_on,
    resolvers_before,
    turn_off,
    turn_on,
)
from noid.host.resolver_managers import MANAGERS, RESOLVED, in_charge
from noid.locators import Locator, chosen, format_locator, parse_locator
from noid.planes.bpf.pins import own_devices
from noid.resolver.inquiry import Findings, look_up, look_up_address
from noid.resolver.upstream import Upstream
from noid.text import json_line

DNS_PORT: Final = 53
TTL_SECONDS: Final = 300
ADVICE: Final = {
    Answering.ANOTHER: "another program answers there, not noid: set dns.listen to another address",
    Answering.NOTHING: "nothing answers there: noid does not run",
    Answering.HELD: f"{HELD}: {SEE_UNITS}",
    Answering.UNKNOWN: f"who answers there is not known: {ASK_AGAIN}",
}
"""What to say of a file that names the address of the stub, if noid is not known to answer."""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the commands ``zone``, ``lookup`` and ``resolver``."""
    zone = _add(commands, "zone", print_zone, "noid zone a.example")
    zone.add_argument("name", metavar="NAME", nargs="?", help="default: host.name")
    zone.add_argument("--ttl", type=int, default=TTL_SECONDS, help="default: %(default)s s")
    zone.add_argument(
        "--locator",
        action="append",
        default=[],
        help="use this instead of the addresses of this host; can be repeated",
    )
    examples = ("noid lookup b.example", "noid lookup 2001:db8:1:b::b")
    lookup = _add(commands, "lookup", print_lookup, *examples)
    lookup.add_argument("peer", metavar="NAME|ADDRESS", help="of the peer")
    lookup.add_argument("--resolver", type=address, metavar="ADDRESS", help=RESOLVER_HELP)
    lookup.add_argument(
        "--port", type=port, default=DNS_PORT, help="its port; default: %(default)s"
    )
    examples = ("noid resolver on", "noid resolver off")
    resolver = _add(commands, "resolver", set_resolver, *examples)
    resolver.add_argument(
        "wanted",
        choices=("on", "off", "status"),
        metavar="on|off|status",
        help="on: programs ask noid first; off: restore the file; status: print which it is",
    )
    resolver.add_argument(
        "--resolv-conf", type=Path, default=RESOLV_CONF, help="default: %(default)s"
    )


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    handler: Callable[[argparse.Namespace], int],
    *examples: str,
) -> argparse.ArgumentParser:
    parser = add_command(commands, name, handler, *examples)
    add_config(parser)
    add_json(parser)
    return parser


def own_locators(config: Config) -> tuple[Locator, ...]:
    """The locators of this host, as the daemon would select them."""
    if config.host.locators:
        return tuple(parse_locator(text) for text in config.host.locators)
    network = HostNetwork()
    try:
        excluded = own_devices(config.plane.device)
        found = network.survey(config.host.interfaces, excluded=excluded).locators
    finally:
        network.close()
    return chosen({one.locator: one.interface for one in found}, ())


def check_host_name(name: str) -> None:
    """Raises UsageError for a canonical name that is not a valid host name in a zone file."""
    if not is_host_name(name):
        raise UsageError(f"{name!r} is not a host name; {HOST_NAME}")


def print_zone(arguments: argparse.Namespace) -> int:
    """Prints the records to add."""
    config = configuration(arguments)
    name = canonical_name(arguments.name or config.host.name)
    if not name:
        raise ConfigError("host.name", "is empty; name the host: noid zone a.example")
    check_host_name(name)
    if not 0 <= arguments.ttl <= TTL_MAX:
        raise UsageError(f"--ttl {arguments.ttl} is not from 0 to {TTL_MAX} seconds")
    locators = tuple(map(parse_locator, arguments.locator)) or own_locators(config)
    if not locators:
        raise UsageError("this host has no address that can be a locator; name them: --locator")
    forward = forward_records(name, locators, config.codepoints.m6_rrtype)
    reverse = reverse_records(name, locators)
    text = text_record(name)
    if arguments.json:
        sections = {"forward": forward, "reverse": reverse, "instead_of_m6": [text]}
        lines = {key: [one.line(arguments.ttl) for one in these] for key, these in sections.items()}
        say(json_line({"name": name, **lines}))
        return 0
    say(f"; in the zone of {name}")
    say(*(record.line(arguments.ttl) for record in forward))
    say(f"; instead of the TYPE{config.codepoints.m6_rrtype} record, if it is not accepted:")
    say(f"; {text.line(arguments.ttl)}")
    say("; in the reverse zone of each provider's prefix")
    say(*(record.line(arguments.ttl) for record in reverse))
    return 0


def print_lookup(arguments: argparse.Namespace) -> int:
    """Prints how the shim verifies a peer; 0 if the shim would send M6 packets to it."""
    if not _is_address(arguments.peer):
        check_host_name(canonical_name(arguments.peer))
    config = configuration(arguments)
    findings = asyncio.run(_look_up(arguments, config))
    well = bool(findings.verified and findings.speaks_m6)
    if arguments.json:
        say(json_line(_as_json(findings)))
        return 0 if well else 1
    for question, answer in findings.steps:
        say(f"{question.kind.value:5} {question.name}", f"      {_answer_text(answer)}")
    for locator in findings.remote:
        proven = "verified" if locator in findings.verified else "not verified, not used"
        say(f"{format_locator(locator)}: {proven}")
    say(_verdict(findings))
    return 0 if well else 1


async def _look_up(arguments: argparse.Namespace, config: Config) -> Findings:
    if arguments.resolver is not None:
        servers = [(arguments.resolver, arguments.port)]
    else:
        found = upstream_resolvers(config, resolvers_before(RESOLV_CONF))
        servers = [(address, arguments.port) for address in found]
    trusted = frozenset(server for server in servers if server[0] in config.dns.trusted)
    sources = own_locators(config)
    upstream = Upstream(
        servers,
        config.code_points(),
        lambda: sources,
        0,
        trusted=trusted if config.dns.require_dnssec else None,
    )
    try:
        if _is_address(arguments.peer):
            return await look_up_address(upstream, parse_locator(arguments.peer))
        return await look_up(upstream, canonical_name(arguments.peer))
    finally:
        await upstream.close()


def _is_address(text: str) -> bool:
    """Whether a text is an IPv6 or IPv4 address rather than a name."""
    return ":" in text or all(part.isdecimal() for part in text.split("."))


def _answer_text(answer: Answer) -> str:
    found = [*map(format_locator, answer.locators), *answer.names]
    return f"{answer.status.value}, {answer.ttl_seconds} s{': ' * bool(found)}{' '.join(found)}"


def _verdict(findings: Findings) -> str:
    if findings.aid is None:
        unanswered = findings.steps[0][1].status is Status.UNREACHABLE
        return "the DNS gives no answer" if unanswered else "no address"
    if findings.speaks_m6 is None:
        return "unknown whether it speaks M6, the DNS gives no answer: plain IPv6"
    if not findings.speaks_m6:
        return "does not speak M6, there is no M6 record: plain IPv6"
    if not findings.verified:
        return "speaks M6, but no locator is verified: only the AID is used"
    return f"speaks M6, {len(findings.verified)} of {len(findings.remote)} locators verified"


def _as_json(findings: Findings) -> dict[str, object]:
    return {
        "name": findings.name,
        "aid": None if findings.aid is None else format_locator(findings.aid),
        "speaks_m6": findings.speaks_m6,
        "remote": [format_locator(locator) for locator in findings.remote],
        "verified": [format_locator(locator) for locator in findings.verified],
        "steps": [_step_as_json(question, answer) for question, answer in findings.steps],
    }


def _step_as_json(question: Question, answer: Answer) -> dict[str, object]:
    found = answer.names if question.kind is Kind.NAMES else map(format_locator, answer.locators)
    return {
        "kind": question.kind.value,
        "name": question.name,
        "status": answer.status.value,
        "ttl_seconds": answer.ttl_seconds,
        "found": list(found),
    }


def set_resolver(arguments: argparse.Namespace) -> int:
    """Turns it on or off, or prints its state; 1 if the state was asked for and is off."""
    path: Path = arguments.resolv_conf
    try:
        config = configuration(arguments)
    except ConfigError:
        if arguments.wanted != "off":
            raise
        config = Config()  # off always works: what is put back does not depend on the file
    listen = config.dns.listen
    notes: list[str] = []
    if arguments.wanted == "on":
        if config.dns.port != DNS_PORT:
            raise ConfigError("dns.port", f"is not {DNS_PORT}, and resolv.conf names no other port")
        notes = _turn_on(path, listen)
    elif arguments.wanted == "off":
        notes = _turn_off(path, listen)
    on, manager = is_in_force(path), in_charge(path)
    by_itself = not on and is_asked(path, listen)
    who = answering(listen, Path(config.control.socket)) if by_itself else None
    if arguments.json:
        name = manager.name if manager is not None else ""
        found = {"resolv_conf": str(path), "on": on, "by_itself": by_itself, "manager": name}
        say(json_line(found | {"answers": who.value if who else "", "notes": notes}))
    elif who is Answering.NOID:
        say(f"{path}: programs ask noid; the file was not written by noid resolver on")
    elif who is not None:
        say(f"{path}: programs ask {listen}; {ADVICE[who]}")
    elif on and manager is RESOLVED:
        behind = ", ".join(RESOLVED.behind) or "none: nothing named another"
        say(f"{manager.drop_in}: systemd-resolved asks noid; while noid is not running: {behind}")
        if resolver_managers.has_failed(manager):
            say("systemd-resolved has failed, and answers no program: repeat noid resolver on")
    elif on:
        behind = ", ".join(asked(path)[1:]) or "none: the file named no other"
        say(f"{path}: programs ask noid; resolvers while noid is not running: {behind}")
    else:
        say(f"{path}: programs do not ask noid")
    if not arguments.json:
        say(*notes)
    if who is Answering.ANOTHER:
        return int(arguments.wanted != "off")
    return int(arguments.wanted == "status" and not on and who is not Answering.NOID)


def _turn_on(path: Path, listen: str) -> list[str]:
    """Names the stub first, by way of what decides about it; returns what is left to do."""
    manager = in_charge(path)
    is_new = manager is not None and resolver_managers.set_up(manager, listen)
    note = ""
    if manager is not None and (is_new or resolver_managers.has_failed(manager)):
        note = resolver_managers.take_in(manager)
    try:
        if manager is not RESOLVED and (is_on(path) or not is_asked(path, listen)):
            turn_on(path, listen)
    except ShimError:
        if manager is not None and is_new and resolver_managers.take_back(manager):
            resolver_managers.take_in(manager)
        raise
    return [note] if note else []


def _turn_off(path: Path, listen: str) -> list[str]:
    """Reverts what ``on`` did, for each resolver manager; returns what is left to do."""
    turn_off(path, listen)
    changed = [one for one in MANAGERS if resolver_managers.take_back(one)]
    return [note for one in changed if (note := resolver_managers.take_in(one))]
