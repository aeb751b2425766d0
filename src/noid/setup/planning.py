# SPDX-License-Identifier: MIT
"""The plan: all steps of ``noid setup`` on a host, as a list; executes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from noid.setup.detection import Routing, Uplink
from noid.setup.managers import Managers, files_for
from noid.setup.plan import (
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
    """

    steps: tuple[Step, ...]
    tables: dict[str, int]
    notes: tuple[str, ...]


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
    if not is_routing:
        return Plan(tuple(steps), {}, tuple(notes))
    tables = tables_for(found, uplinks, ours)
    wanted = []
    for uplink in uplinks:
        table = tables[uplink.device]
        prefixes = routes_by_source(found, uplink, table, ours)
        if prefixes:
            wanted.append((uplink, prefixes, table))
            steps += ip_commands(uplink, prefixes, table)
        else:
            notes.append(f"{uplink.device} already has routes by source")
    if managers is not None:
        files, more = files_for(managers, wanted, read)
        steps += files
        notes += more
    return Plan(tuple(steps), {one.device: table for one, _, table in wanted}, tuple(notes))
