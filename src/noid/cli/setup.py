# SPDX-License-Identifier: MIT
"""``noid setup``: configures a host so that noid can run on it, and undoes that."""

import argparse
import asyncio
import contextlib
import fnmatch
import shlex
import socket
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from noid.cli import doctor
from noid.cli.leaves import add_command, add_json
from noid.cli.names import DNS_PORT, TTL_SECONDS, check_host_name
from noid.cli.output import say
from noid.cli.places import RESOLVER_HELP, add_config, address, configuration, port
from noid.config import RESOLV_CONF, Config, parse_config, upstream_resolvers
from noid.config_places import USUAL_CONFIG
from noid.dns.records import Kind, Question, canonical_name, reverse_name
from noid.dns.zone import ZoneRecord, forward_records, reverse_records
from noid.errors import ConfigError, UsageError
from noid.host.netlink import HostNetwork
from noid.host.resolvconf import resolvers_before
from noid.host.rules import LOOPBACK
from noid.locators import Locator, format_locator, parse_locator
from noid.planes.bpf.pins import own_devices
from noid.resolver.upstream import Upstream
from noid.setup.detection import (
    Routing,
    Uplink,
    read_routing,
    uplinks,
    why_unusable,
    with_address,
)
from noid.setup.dynamic import read_key, readable_by_others, records_to_send
from noid.setup.journal import DEFAULT_DIRECTORY, Entry, Journal, Ran, Sent, check_root
from noid.setup.known import Known, to_keep, together
from noid.setup.managers import Managers, find_managers
from noid.setup.plan import Record
from noid.setup.planning import make_plan
from noid.text import json_line


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command ``setup``."""
    setup = add_command(
        commands,
        "setup",
        set_up,
        "noid setup --dry-run",
        "noid setup --name a.example",
        "noid setup --undo",
        description=(
            "Detects the uplinks of this host, their gateways and the host's name; writes the\n"
            "configuration and routes by source, prints the DNS records, and runs noid doctor.\n"
            "After a change, run it again: it does the steps that have become necessary. Exit\n"
            "status 0 if every step was done, regardless of the findings of the doctor."
        ),
    )
    add_config(setup)
    setup.add_argument("--dry-run", action="store_true", help="only print the steps")
    setup.add_argument("--undo", action="store_true", help="undo all steps of noid setup")
    setup.add_argument(
        "--keep-changed",
        action="store_true",
        help="with --undo: keep files that were changed since noid setup wrote them; without it, "
        "--undo refuses",
    )
    setup.add_argument("--name", default="", help="of this host; default: from the reverse DNS")
    setup.add_argument(
        "--routing",
        choices=("auto", "now", "none"),
        default="auto",
        help="routes by source. auto: now and after a reboot, with ifupdown, systemd-networkd or "
        "NetworkManager, whichever configures the uplink; now: until the next reboot; none: no "
        "routes; "
        "default: %(default)s",
    )
    setup.add_argument(
        "--update",
        type=address,
        metavar="ADDRESS",
        help="send the records to this name server, by RFC 2136 on port 53; needs --tsig-key",
    )
    setup.add_argument(
        "--tsig-key",
        metavar="FILE",
        help="the key, as tsig-keygen writes it; with --undo: instead of the file at that time",
    )
    setup.add_argument("--resolver", type=address, metavar="ADDRESS", help=RESOLVER_HELP)
    setup.add_argument("--port", type=port, default=DNS_PORT, help="its port; default: %(default)s")
    setup.add_argument(
        "--journal",
        type=Path,
        metavar="DIRECTORY",
        default=DEFAULT_DIRECTORY,
        help="of the journal, which stores the previous state; default: %(default)s",
    )
    setup.add_argument("--no-doctor", action="store_true", help="do not run noid doctor at the end")
    add_json(setup)


def set_up(arguments: argparse.Namespace) -> int:
    """Sets this host up, or undoes that."""
    journal = Journal(arguments.journal)
    if arguments.dry_run:
        journal.load()
        return _undo(arguments, journal) if arguments.undo else _change(arguments, journal)
    check_root()
    with journal.held(), _interruptible(arguments, journal):
        return _undo(arguments, journal) if arguments.undo else _change(arguments, journal)


@contextlib.contextmanager
def _interruptible(arguments: argparse.Namespace, journal: Journal) -> Iterator[None]:
    """Prints at Ctrl-C which steps are done, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        entries = journal.record.entries
        if not entries:
            lines = ["nothing is changed" if not arguments.undo else "everything is undone"]
        elif arguments.undo:
            steps = [line for entry in reversed(entries) for line in _backwards(entry)]
            lines = ["not undone yet:", *steps, "noid setup --undo undoes this"]
        else:
            steps = list(map(_forwards, entries))
            remedy = "noid setup does the rest; noid setup --undo undoes this"
            lines = ["done, perhaps but for the last step:", *steps, remedy]
        say(f"noid: interrupted; {lines[0]}", *lines[1:], is_error=True)
        raise


def _undo(arguments: argparse.Namespace, journal: Journal) -> int:
    if arguments.tsig_key is not None:
        journal.use_key(_key(arguments))
    kept = journal.edited() if arguments.keep_changed else []
    steps = [line for entry in reversed(journal.record.entries) for line in _backwards(entry, kept)]
    if not arguments.dry_run:
        journal.undo(keep_changed=arguments.keep_changed)
    if arguments.json:
        say(json_line({"done": not arguments.dry_run, "steps": steps}))
    else:
        say(*(steps or ["nothing to undo"]))
    return 0


def _forwards(entry: Entry) -> str:
    """The line that names a step that was done."""
    if isinstance(entry, Ran):
        return shlex.join(entry.do)
    if isinstance(entry, Sent):
        return entry.record.lines()[0]
    return f"write {entry.path}"


def _backwards(entry: Entry, kept: Collection[str] = ()) -> list[str]:
    """The lines that say how a step is undone; the files in ``kept`` are not."""
    if isinstance(entry, Ran):
        return [shlex.join(entry.undo)]
    if isinstance(entry, Sent):
        one = entry.record
        return [f"update delete {one.owner} IN {one.kind} {one.data}"]
    if entry.path in kept:
        return [f"keep {entry.path}, which was changed since noid setup wrote it"]
    line = f"{'delete' if entry.before is None else 'restore'} {entry.path}"
    return [line, *map(shlex.join, filter(None, (entry.load, entry.apply)))]


def _change(arguments: argparse.Namespace, journal: Journal) -> int:
    path = arguments.config or USUAL_CONFIG
    arguments.config = path if path.exists() else None
    config = configuration(arguments)
    # Not by the interfaces that an earlier set-up has written: others may have become uplinks.
    before = parse_config(journal.read(str(path.absolute())) or "", origin=str(path))
    routing = read_routing()
    ours = {str(number) for number in journal.record.tables.values()}
    found = _uplinks(before, routing, ours)
    kept = to_keep(journal.record.uplinks, found)
    every = together(found, kept, journal.record.uplinks)
    locators = _locators(every)
    managers = find_managers({name: number for number, name in socket.if_nameindex()})
    name = canonical_name(arguments.name or config.host.name)
    name = name or asyncio.run(_name(arguments, config, _locators(found)))
    if name:
        check_host_name(name)
    records = _records(name, locators, config)
    sending, unsent = _to_send(arguments, journal, records)
    plan = make_plan(
        routing,
        every,
        config=str(path.absolute()),
        name=name,
        is_routing=arguments.routing != "none",
        managers=managers if arguments.routing == "auto" else None,
        read=journal.read,
        ours=journal.record.tables,
        kept=kept,
        records=tuple(sending),
    )
    steps = [line for one in journal.obsolete(plan) for line in _backwards(one)]
    steps += [line for step in journal.to_do(plan) for line in step.lines()]
    notes = unsent + [
        f"{one} has been changed since noid setup wrote it, and is kept" for one in journal.edited()
    ]
    notes += [*plan.notes, *_unusable(before, routing, every, kept, managers, ours)]
    lines = [one.line(TTL_SECONDS) for one in records]
    if not arguments.json:
        _show(every, steps, lines, notes)
    if not arguments.dry_run:
        journal.apply(plan)
        arguments.config = path if path.exists() else None
    return _finish(arguments, every, steps, lines, notes)


def _uplinks(config: Config, routing: Routing, ours: Collection[str]) -> tuple[Uplink, ...]:
    """The uplinks of this host, by its locators as the daemon selects them.

    The static addresses of a device that has no carrier yet are included.
    """
    network = HostNetwork()
    try:
        excluded = own_devices(config.plane.device)
        survey = network.survey(config.host.interfaces, excluded=excluded)
    finally:
        network.close()
    devices = {one.name for one in survey.devices}
    places = [(one.locator, one.interface) for one in survey.locators]
    places += [(parse_locator(one), where) for one, where in routing.untested if where in devices]
    wanted = {parse_locator(text) for text in config.host.locators}
    chosen = [(format_locator(one), where) for one, where in places if not wanted or one in wanted]
    found = uplinks(routing, chosen, ours)
    if not found:
        why = "none has a global IPv6 address and a default route; ip -6 route show default"
        raise ConfigError("uplinks", why)
    return found


def _locators(every: tuple[Uplink, ...]) -> tuple[Locator, ...]:
    return tuple(parse_locator(text) for one in every for text in one.locators)


def _unusable(
    config: Config,
    routing: Routing,
    every: tuple[Uplink, ...],
    kept: Mapping[str, Known],
    managers: Managers,
    ours: Collection[str],
) -> Iterator[str]:
    """Notes about uplinks that cannot be used now, and about devices that may become uplinks."""
    again = "run noid setup again when it works"
    for device in (one.device for one in every):
        why = why_unusable(routing, device, ours)
        if device in kept:
            yield f"{device} {why or 'is no uplink'}: what was set up for it is kept; {again}"
        elif why:
            yield f"{device} {why}"
    left_out = {*with_address(routing), *managers.devices} - {one.device for one in every}
    left_out -= {LOOPBACK, *own_devices(config.plane.device)}
    for device in sorted(left_out & routing.links.keys()):
        link, why = routing.links[device], why_unusable(routing, device)
        is_meant = any(fnmatch.fnmatchcase(device, one) for one in config.host.interfaces)
        if is_meant and why and not link.is_port and (link.idle or len(every) < 2):
            yield f"{device} {why} and is left out; if it is an uplink, {again}"


async def _name(
    arguments: argparse.Namespace, config: Config, locators: tuple[Locator, ...]
) -> str:
    """The most frequent name of the locators in the reverse DNS; empty if there is none."""
    servers = []
    if arguments.resolver:
        servers = [(arguments.resolver, arguments.port)]
    else:
        with contextlib.suppress(ConfigError):
            asked = upstream_resolvers(config, resolvers_before(RESOLV_CONF))
            servers = [(one, arguments.port) for one in asked]
    if not servers:
        return ""
    upstream = Upstream(servers, config.code_points(), lambda: locators, 0)
    try:
        questions = [Question(Kind.NAMES, reverse_name(one)) for one in locators]
        answers = await asyncio.gather(*map(upstream.ask, questions))
    finally:
        await upstream.close()
    names = [name for answer in answers for name in answer.names]
    return max(sorted(set(names)), key=names.count, default="")


def _records(name: str, locators: tuple[Locator, ...], config: Config) -> list[ZoneRecord]:
    if not name:
        return []
    forward = forward_records(name, locators, config.codepoints.m6_rrtype)
    return [*forward, *reverse_records(name, locators)]


def _to_send(
    arguments: argparse.Namespace, journal: Journal, records: list[ZoneRecord]
) -> tuple[list[Record], list[str]]:
    """The records for the name server of this set-up, or of an earlier one."""
    ours = journal.sent()
    if arguments.update is None and not ours:
        return [], []
    if arguments.update is None:
        server, key = (ours[0].server, ours[0].port), ours[0].key
    elif arguments.tsig_key is None:
        raise UsageError("--update needs the key that signs: --tsig-key FILE")
    else:
        server, key = (arguments.update, DNS_PORT), _key(arguments)
    read_key(key)
    wanted, notes = records_to_send(records, server, key, TTL_SECONDS, ours)
    return wanted, [*notes, *readable_by_others(key)]


def _key(arguments: argparse.Namespace) -> str:
    return str(Path(arguments.tsig_key).absolute())


def _show(
    found: tuple[Uplink, ...], steps: list[str], records: list[str], notes: list[str]
) -> None:
    for one in found:
        via = f" via {one.gateway}" if one.gateway else ""
        say(f"# uplink {one.device}{via}: {' '.join(one.locators)}")
    say(*(steps or ["# nothing to do"]))
    if records:
        say("# records for the DNS", *records)
    say(*(f"# {note}" for note in notes))


def _finish(
    arguments: argparse.Namespace,
    found: tuple[Uplink, ...],
    steps: list[str],
    records: list[str],
    notes: list[str],
) -> int:
    """Runs the doctor, and prints the findings or the JSON."""
    findings = [] if arguments.dry_run or arguments.no_doctor else doctor.findings(arguments)
    if not arguments.json:
        for finding in findings:
            doctor.show(finding)
        return 0
    answer = {
        "done": not arguments.dry_run,
        "uplinks": [
            {"device": one.device, "gateway": one.gateway, "locators": list(one.locators)}
            for one in found
        ],
        "steps": steps,
        "records": records,
        "notes": notes,
        "doctor": [doctor.as_json(one) for one in findings],
    }
    say(json_line(answer))
    return 0
