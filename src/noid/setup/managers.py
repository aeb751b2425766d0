# SPDX-License-Identifier: MIT
"""Routing by source that survives a reboot: files of the network manager of each uplink."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Network
from pathlib import Path
from typing import Final

from noid.setup.detection import MAIN, Uplink
from noid.setup.network_manager import (
    active_profiles,
    profile_step,
    waiting_devices,
    why_unsaved,
)
from noid.setup.plan import (
    MAIN_PRIORITY,
    PRIORITY,
    WRITTEN,
    File,
    Read,
    ip_commands,
)

INTERFACES: Final = "/etc/network/interfaces"
OTHERS: Final = Path("/etc/network/interfaces.d")
STANZAS: Final = "/etc/network/interfaces.noid"
"""Ours, named at the end of INTERFACES: other stanzas make devices such as bridges before."""
NETWORKD_LINKS: Final = Path("/run/systemd/netif/links")
NETWORKD_FILES: Final = "/etc/systemd/network"
DROP_IN: Final = "50-noid.conf"


@dataclass(frozen=True, slots=True)
class Managers:
    """The network managers of the devices.

    Attributes:
        ifupdown: the devices that have a stanza in its files.
        networkd: the ``.network`` file of each device that systemd-networkd configures.
        network_manager: the file of the active profile of each device of NetworkManager.
        waiting: the devices that NetworkManager manages, and that have no active profile.
    """

    ifupdown: frozenset[str] = frozenset()
    networkd: Mapping[str, str] = field(default_factory=dict)
    network_manager: Mapping[str, str] = field(default_factory=dict)
    waiting: frozenset[str] = frozenset()

    @property
    def devices(self) -> set[str]:
        """The devices that a network manager configures, or is to configure."""
        return {*self.ifupdown, *self.networkd, *self.network_manager, *self.waiting}


def find_managers(numbers: Mapping[str, int]) -> Managers:
    """Reads which network manager configures each device.

    Args:
        numbers: index of each device.
    """
    texts = [_text(path) for path in (Path(INTERFACES), *sorted(OTHERS.glob("*")))]
    files = {name: _network_file(number) for name, number in numbers.items()}
    return Managers(
        frozenset(name for text in texts for name in stanzas(text)),
        {name: path for name, path in files.items() if path},
        active_profiles(),
        waiting_devices(),
    )


def stanzas(text: str) -> Iterator[str]:
    """The devices that have stanzas in a file of ifupdown; the file of noid is ignored."""
    if not text.startswith(WRITTEN):
        yield from re.findall(r"^\s*iface\s+(\S+)\s+inet6?\s", text, re.MULTILINE)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _network_file(number: int) -> str:
    """The ``.network`` file of a device, from the file that ``networkctl status`` reads too."""
    found = re.search(r"^NETWORK_FILE=(.+)$", _text(NETWORKD_LINKS / str(number)), re.MULTILINE)
    return found[1] if found else ""


Wanted = tuple[Uplink, tuple[IPv6Network, ...], int]
"""An uplink, the prefixes to route by source, and its routing table."""


def files_for(
    managers: Managers, wanted: Iterable[Wanted], read: Read
) -> tuple[list[File], list[str]]:
    """The files that restore the routing after a reboot, and notes for the operator."""
    files: list[File] = []
    notes: list[str] = []
    by_ifupdown: list[Wanted] = []
    for one in wanted:
        device = one[0].device
        if why := _why_lost(managers, device):
            notes.append(f"the routing of {device} is lost at the next boot: {why}")
        elif device in managers.networkd:
            files.append(_drop_in(managers.networkd[device], one, read))
        elif device in managers.ifupdown:
            by_ifupdown.append(one)
        else:
            files.append(profile_step(managers.network_manager[device], *one, read))
    if by_ifupdown:
        files += _stanza_files(by_ifupdown, read)
    return files, notes


def _why_lost(managers: Managers, device: str) -> str:
    """Why no file restores the routing of a device after a reboot; empty if one does."""
    path = managers.networkd.get(device, "")
    if not path and device in managers.ifupdown:
        return ""
    path = path or managers.network_manager.get(device, "")
    if not path:
        return "neither ifupdown, systemd-networkd nor NetworkManager configures it"
    files = (*managers.networkd.items(), *managers.network_manager.items())
    sharing = {name for name, other in files if other == path}
    if sharing != {device}:
        return f"{path} configures {', '.join(sorted(sharing))}; give {device} its own"
    return "" if device in managers.networkd else why_unsaved(path, device)


def _stanza_files(wanted: list[Wanted], read: Read) -> Iterator[File]:
    """Additional stanzas: ifupdown executes those of the operator, then these."""
    lines = [line for one in wanted for line in _stanza(*one)]
    yield _added(STANZAS, read, WRITTEN + "\n".join(lines))
    yield _added(INTERFACES, read, f"source {STANZAS}")


def _stanza(uplink: Uplink, prefixes: tuple[IPv6Network, ...], table: int) -> Iterator[str]:
    """A stanza; ``ifup`` and ``ifdown`` do not fail if the object exists or is missing already."""
    yield f"iface {uplink.device} inet6 manual"
    for command in ip_commands(uplink, prefixes, table):
        yield f"    post-up {shlex.join(command.do)} || true"
        yield f"    pre-down {shlex.join(command.undo)} || true"


def _drop_in(path: str, wanted: Wanted, read: Read) -> File:
    uplink, prefixes, table = wanted
    lines = ["[Route]", "Destination=::/0"]
    if uplink.gateway:
        lines += [f"Gateway={uplink.gateway}", "GatewayOnLink=yes"]
    lines.append(f"Table={table}")
    for prefix in prefixes:
        rule = ["", "[RoutingPolicyRule]", f"From={prefix}"]
        main = [f"Priority={MAIN_PRIORITY}", f"Table={MAIN}", "SuppressPrefixLength=0"]
        lines += [*rule, *main, *rule, f"Priority={PRIORITY}", f"Table={table}"]
    where = f"{NETWORKD_FILES}/{Path(path).name}.d/{DROP_IN}"
    added = _added(where, read, WRITTEN + "\n".join(lines))
    return replace(added, device=uplink.device)


def _added(path: str, read: Read, text: str) -> File:
    """A file with a text appended to the content of the operator."""
    before = read(path)
    gap = "\n" if before and not before.endswith("\n") else ""
    return File(path, before, f"{before or ''}{gap}{text}\n")
