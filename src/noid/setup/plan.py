# SPDX-License-Identifier: MIT
"""The kinds of steps of a set-up, and the functions that derive them; executes nothing."""

import difflib
import glob
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv6Network
from typing import Final

from noid.errors import ConfigError
from noid.setup.detection import Routing, Uplink, is_routed

FIRST_TABLE: Final = 101
TABLES_MAX: Final = 100
"""Number of routing tables that are tried, from FIRST_TABLE."""
HEADING: Final = re.compile(r"^\[host\][^\n]*$", re.MULTILINE)
MAIN_PRIORITY: Final = 31_900
PRIORITY: Final = 31_901
"""Priorities of our rules: after those of VPNs and of noid, before the main table."""
WRITTEN: Final = "# Written by noid setup; noid setup --undo takes it away.\n"
"""First line of the file of stanzas, which is recognised by it after an upgrade too."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command, and the command that undoes it.

    Attributes:
        do: the words of the command.
        undo: the words of the command that undoes it.
    """

    do: tuple[str, ...]
    undo: tuple[str, ...]

    def lines(self) -> list[str]:
        """The step as text."""
        return [shlex.join(self.do)]


@dataclass(frozen=True, slots=True)
class File:
    """A file to write.

    Attributes:
        path: its path.
        before: its content now; None if it does not exist.
        after: its new content.
        load: the command that loads it into a running program, also after it was restored;
            empty if no program has to load it.
        apply: the command that then applies a file that was restored.
        device: the device that the file is for, if it is for only one.
    """

    path: str
    before: str | None
    after: str
    load: tuple[str, ...] = ()
    apply: tuple[str, ...] = ()
    device: str = ""

    def lines(self) -> list[str]:
        """The step as text: the changes in the format of ``diff -u``.

        Without context, because the lines around them may contain passwords.
        """
        old = (self.before or "").splitlines()
        changes = difflib.unified_diff(old, self.after.splitlines(), lineterm="", n=0)
        lines = [f"write {self.path}", *(f"    {line}" for line in list(changes)[2:])]
        return [*lines, shlex.join(self.load)] if self.load else lines


@dataclass(frozen=True, slots=True)
class Record:
    """A record to send to a name server.

    Attributes:
        server: its address.
        port: its port.
        key: the file of the key that signs the update.
        zone: the zone it belongs to.
        owner: absolute name.
        kind: type as a zone file writes it.
        data: the rest of the line.
        ttl: in seconds.
    """

    server: str
    port: int
    key: str
    zone: str
    owner: str
    kind: str
    data: str
    ttl: int

    def identity(self) -> "Record":
        """The record without its key, for comparison."""
        return replace(self, key="")

    def lines(self) -> list[str]:
        """The step as text, in the syntax of ``nsupdate``."""
        return [f"update add {self.owner} {self.ttl} IN {self.kind} {self.data}"]


Step = Command | File | Record
Read = Callable[[str], str | None]
"""Reads the content of a file, or that before an earlier set-up; None if it does not exist."""


def tables_for(
    found: Routing, uplinks: tuple[Uplink, ...], ours: Mapping[str, int]
) -> dict[str, int]:
    """A routing table for each uplink: that of an earlier set-up, or a free one.

    Raises:
        ConfigError: no table is free.
    """
    taken = {int(one) for one in found.tables if one.isdecimal()} | set(ours.values())
    free = (n for n in range(FIRST_TABLE, FIRST_TABLE + TABLES_MAX) if n not in taken)
    result: dict[str, int] = {}
    for uplink in uplinks:
        number = ours.get(uplink.device) or next(free, 0)
        if not number:
            last = FIRST_TABLE + TABLES_MAX - 1
            raise ConfigError("routing", f"no free table from {FIRST_TABLE} to {last}; flush one")
        result[uplink.device] = number
    return result


def routes_by_source(
    found: Routing, uplink: Uplink, table: int, ours: Mapping[str, int]
) -> tuple[IPv6Network, ...]:
    """The prefixes of an uplink that no rule of the operator routes through it."""
    numbers = {str(one) for one in ours.values()}
    return tuple(
        prefix
        for prefix in uplink.prefixes
        if not is_routed(found, uplink, prefix, {*numbers, str(table)})
    )


def ip_commands(uplink: Uplink, prefixes: tuple[IPv6Network, ...], table: int) -> Iterator[Command]:
    """Routing by source until the next reboot.

    The main table without its default routes comes first, so that destinations on the link are
    still reached without a router.
    """
    via = ("via", uplink.gateway) if uplink.gateway else ()
    route = ("default", *via, "dev", uplink.device, "table", str(table))
    onlink = ("onlink",) if uplink.gateway else ()
    yield Command(
        ("ip", "-6", "route", "replace", *route, *onlink), ("ip", "-6", "route", "del", *route)
    )
    for prefix in prefixes:
        for priority, end in (
            (MAIN_PRIORITY, ("lookup", "main", "suppress_prefixlength", "0")),
            (PRIORITY, ("lookup", str(table))),
        ):
            words = ("from", str(prefix), "priority", str(priority), *end)
            yield Command(("ip", "-6", "rule", "add", *words), ("ip", "-6", "rule", "del", *words))


def _pattern(device: str) -> str:
    """The pattern of one device as a string of TOML, which has no DEL and no surrogates."""
    return json.dumps(glob.escape(device).replace("\x7f", "?"), ensure_ascii=False)


def config_step(path: str, name: str, uplinks: tuple[Uplink, ...], read: Read) -> File | None:
    """The configuration; None if ``[host]`` already has keys, which noid setup does not change.

    Raises:
        ConfigError: the existing file is not TOML.
    """
    before = read(path)
    try:
        there = tomllib.loads(before or "")
    except (ValueError, RecursionError) as error:  # also of long numbers and deep lists
        raise ConfigError(path, f"is not TOML: {error}; correct the line it names") from None
    if there.get("host"):
        return None
    devices = ", ".join(_pattern(one.device) for one in uplinks)
    keys = f"interfaces = [{devices}]\n"
    if name:
        keys = f"name = {json.dumps(name)}\n{keys}"
    text = before or ""
    if "host" in there:  # the table is empty
        after, count = HEADING.subn(lambda found: f"{found[0]}\n{WRITTEN}{keys}", text, count=1)
        if not count:
            raise ConfigError(path, "has an empty host table; write it as [host] on a line")
        return File(path, before, after)
    if text:
        text += "\n" if text.endswith("\n") else "\n\n"
    return File(path, before, f"{text}{WRITTEN}[host]\n{keys}")
