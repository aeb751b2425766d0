# SPDX-License-Identifier: MIT
"""Routing by source in the connection profiles of NetworkManager: nm-settings-keyfile(5)."""

import re
from collections.abc import Iterator
from ipaddress import IPv6Network
from typing import Final

from noid.errors import PlatformError, Unsupported
from noid.setup.detection import MAIN, Uplink, run
from noid.setup.plan import MAIN_PRIORITY, PRIORITY, WRITTEN, File, Read

ACTIVE: Final = (
    *("nmcli", "--terse", "--escape", "no", "--fields", "DEVICE,FILENAME"),
    *("connection", "show", "--active"),
)
STATES: Final = ("nmcli", "--terse", "--escape", "no", "--fields", "DEVICE,STATE", "device")
WAITING: Final = ("unavailable", "disconnected", "connecting")
"""Beginnings of the states of a device that has no active profile: no carrier, or not yet."""
UNSAVED: Final = ("/run/", "/usr/")
"""Directories of profiles that last until the next boot, or that belong to packages."""
SECTION: Final = "[ipv6]"
NUMBERED: Final = re.compile(r"^rout(?:es?|ing-rule)(\d+)\s*=")
"""A key of a route or of a rule."""


def active_profiles() -> dict[str, str]:
    """The file of the active profile of each device; empty if NetworkManager does not run."""
    return {device: path for device, path in _ask(ACTIVE) if device and path}


def waiting_devices() -> frozenset[str]:
    """The devices that NetworkManager manages, and that have no active profile."""
    return frozenset(device for device, state in _ask(STATES) if state.startswith(WAITING))


def _ask(command: tuple[str, ...]) -> list[tuple[str, str]]:
    """The two columns of an answer; empty if NetworkManager does not run."""
    try:
        lines = run(command).splitlines()
    except (PlatformError, Unsupported):
        return []
    return [(line.partition(":")[0], line.partition(":")[2]) for line in lines]


def why_unsaved(path: str, device: str) -> str:
    """Why a profile cannot be added to, and the remedy; empty if it can."""
    if not path.startswith(UNSAVED):
        return ""
    name = f'"$(nmcli -g GENERAL.CON-UUID device show {device})"'
    remedy = f"nmcli connection modify {name} connection.autoconnect yes"
    return f"{path} is no file of yours; make it one: {remedy}; then run noid setup again"


def profile_step(
    path: str, uplink: Uplink, prefixes: tuple[IPv6Network, ...], table: int, read: Read
) -> File:
    """The step that adds the routing by source of an uplink to its profile."""
    before = read(path)
    lines = (before or "").split("\n")
    if SECTION not in lines:
        lines += [SECTION, "method=auto", ""]  # the default of NetworkManager
    start = lines.index(SECTION) + 1
    section = [*lines[start:]]
    section = section[: next((n for n, one in enumerate(section) if one[:1] == "["), None)]
    while section and not section[-1].strip():
        section.pop()
    numbers = [int(found[1]) for found in map(NUMBERED.match, section) if found]
    end = start + len(section)
    lines[end:end] = _keys(uplink, prefixes, table, 1 + max(numbers, default=0))
    load = ("nmcli", "connection", "load", path)
    # Otherwise the rules appear again at the next change of any connection.
    apply = ("nmcli", "device", "reapply", uplink.device)
    return File(path, before, "\n".join(lines), load, apply, uplink.device)


def _keys(
    uplink: Uplink, prefixes: tuple[IPv6Network, ...], table: int, number: int
) -> Iterator[str]:
    """The lines of a profile.

    Args:
        uplink: of the profile.
        prefixes: to route by source.
        table: routing table of the uplink.
        number: the first number that is free for keys.
    """
    yield WRITTEN.strip()
    yield f"route{number}=::/0" + f",{uplink.gateway}" * bool(uplink.gateway)
    yield f"route{number}_options=table={table}" + ",onlink=true" * bool(uplink.gateway)
    for prefix in prefixes:
        for priority, end in (
            (MAIN_PRIORITY, f"suppress_prefixlength 0 table {MAIN}"),
            (PRIORITY, f"table {table}"),
        ):
            yield f"routing-rule{number}=priority {priority} from {prefix} {end}"
            number += 1
