# SPDX-License-Identifier: MIT
"""The plan: all steps of ``noid setup`` on a host, as a list; executes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from noid.setup.detection import Routing, Uplink
from noid.setup.known import Known, known, networks
from noid.setup.managers import Managers, Wanted, files_for
from noid.setup.plan import (
    Command,
    File,
    Read,
    Record,
    Step,
    config_step,
    ip_commands,
    routes_by_source,
    tables_for,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a set-up.

    Attributes:
        steps: the steps in order.
        tables: the routing table of each uplink.
        notes: notes for the operator.
        kept: the words of each command, and the path of each file, that an earlier set-up has
            done for an uplink that cannot be used now: they are neither done again nor undone.
        known: the uplinks, for the next set-up.
    """

    steps: tuple[Step, ...]
    tables: dict[str, int]
    notes: tuple[str, ...]
    kept: frozenset[object] = frozenset()
    known: Mapping[str, Known] = field(default_factory=dict)


def make_plan(
    found: Routing,
    uplinks: tuple[Uplink, ...],
    *,
    config: str,
    name: str,
    is_routing: bool,
    managers: Managers | None,
    read: Read,
    ours: Mapping[str, int],
    kept: Mapping[str, Known],
    records: tuple[Record, ...] = (),
) -> Plan:
    """The steps for a host.

    Args:
        found: its routing.
        uplinks: its uplinks.
        config: path of the configuration file.
        name: of the host; empty if it is not known.
        is_routing: whether routes by source are wanted.
        managers: the network managers that restore the routes after a reboot; None for none.
        read: reads a file.
        ours: routing tables of an earlier set-up.
        kept: those of the uplinks that cannot be used now.
        records: to be sent to a name server.

    Raises:
        ConfigError: the host cannot be set up.
    """
    steps: list[Step] = [*records]
    notes: list[str] = []
    written = config_step(config, name, uplinks, read)
    if written is None:
        notes.append(f"{config} already has keys in [host] and is not changed")
    else:
        steps.append(written)
    if not name:
        notes.append("this host has no name in the DNS; name it: noid setup --name a.example")
    if len(uplinks) < 2:
        notes.append("noid needs an address and a default route from each of two providers")
    routes, tables = _Routes(), {}
    if is_routing:
        tables = tables_for(found, uplinks, ours)
        routes.add(found, uplinks, tables, ours, kept)
        if managers is not None:
            routes.save(managers, read, kept)
    own = {one.device: one.path for one in routes.files}
    routed = {uplink.device: prefixes for uplink, prefixes, _ in routes.wanted}
    return Plan(
        (*steps, *routes.commands, *routes.files),
        {device: tables[device] for device in routed},
        (*notes, *routes.notes),
        frozenset(routes.kept),
        {
            one.device: known(one, routed.get(one.device, ()), own.get(one.device, ""))
            if one.device not in kept or not is_routing
            else kept[one.device]
            for one in uplinks
        },
    )


@dataclass(slots=True)
class _Routes:
    """The steps of the routing by source; see ``Plan``."""

    commands: list[Command] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    wanted: list[Wanted] = field(default_factory=list)
    kept: set[object] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        found: Routing,
        uplinks: tuple[Uplink, ...],
        tables: Mapping[str, int],
        ours: Mapping[str, int],
        kept: Mapping[str, Known],
    ) -> None:
        """Adds the commands for now."""
        for uplink in uplinks:
            device, table = uplink.device, tables[uplink.device]
            if device in kept:
                prefixes = networks(kept[device].routed)
                self.kept |= {one.do for one in ip_commands(uplink, prefixes, table)}
            elif prefixes := routes_by_source(found, uplink, table, ours):
                self.commands += ip_commands(uplink, prefixes, table)
            else:
                self.notes.append(f"{device} already has routes by source")
            if prefixes:
                self.wanted.append((uplink, prefixes, table))

    def save(self, managers: Managers, read: Read, kept: Mapping[str, Known]) -> None:
        """Adds the files for after a reboot; that of an uplink that is down stays as it is."""
        apart = {
            device for device, one in kept.items() if one.file or device not in managers.ifupdown
        }
        self.kept |= {kept[device].file for device in apart}
        wanted = [one for one in self.wanted if one[0].device not in apart]
        files, notes = files_for(managers, wanted, read)
        self.files += files
        self.notes += notes
