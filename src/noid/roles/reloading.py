# SPDX-License-Identifier: MIT
"""What a changed configuration file means for a daemon that runs: applied, or for the next start.

A value is applied or kept as a whole, key by key. Those that name what is open or shared with peers
(sockets, devices, tables, files, code points) are kept until the daemon starts again.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Network

import msgspec

from noid.config import Config, unmatched_globs
from noid.dns.records import canonical_name
from noid.engine.options import Policy
from noid.policy_config import is_prefix

BELOW = "*."
"""Begins an entry that means all names below one."""

LIVE = frozenset(
    {
        "host.name",
        "host.interfaces",
        "host.locators",
        "host.backup",
        "dns.upstream",
        "dns.policy",
        "dns.probe",
        "policy.plain",
        "policy.pin",
    }
)
"""Keys that a running daemon applies, besides all of ``[uplinks]``."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a file that was read again comes to.

    Attributes:
        config: what the daemon goes by from now on.
        applied: keys whose new value is in it.
        restart: keys whose new value needs a restart.
    """

    config: Config
    applied: tuple[str, ...]
    restart: tuple[str, ...]

    def __str__(self) -> str:
        """As the log says it."""
        applied = f"applied {' '.join(self.applied)}" if self.applied else ""
        restart = f"a restart is needed for {' '.join(self.restart)}" if self.restart else ""
        return "; ".join(filter(None, (applied, restart))) or "nothing has changed"


def reloaded(old: Config, new: Config) -> Reloaded:
    """Takes of a new configuration what can be applied."""
    applied: list[str] = []
    restart: list[str] = []
    sections = {}
    for section in old.__struct_fields__:
        before, after = getattr(old, section), getattr(new, section)
        if isinstance(before, dict):  # of tables that the operator has named
            applied += [section] * (before != after)
            sections[section] = after
            continue
        changed = [
            name
            for name in before.__struct_fields__
            if getattr(before, name) != getattr(after, name)
        ]
        live = [name for name in changed if f"{section}.{name}" in LIVE]
        applied += [f"{section}.{name}" for name in live]
        restart += [f"{section}.{name}" for name in changed if name not in live]
        taken = {name: getattr(after, name) for name in live}
        sections[section] = msgspec.structs.replace(before, **taken)
    return Reloaded(Config(**sections), tuple(applied), tuple(restart))


def policy_of(config: Config) -> Policy:
    """``policy.plain`` as the engine takes it."""
    return peers_named(config.policy.plain)


def pins_of(config: Config) -> list[tuple[Policy, str]]:
    """``policy.pin``: peers, and the name of the uplink of each."""
    return [(peers_named([entry]), uplink) for entry, uplink in config.policy.pin.items()]


def peers_named(entries: Sequence[str]) -> Policy:
    """The peers that entries of ``[policy]`` name."""
    names = [text for text in entries if not is_prefix(text)]
    return Policy(
        prefixes=tuple(IPv6Network(text) for text in entries if is_prefix(text)),
        names=frozenset(canonical_name(text) for text in names if not text.startswith(BELOW)),
        domains=tuple(
            canonical_name(text.removeprefix(BELOW)) for text in names if text.startswith(BELOW)
        ),
    )


def warnings_of(config: Config) -> list[str]:
    """What is taken, and may still not be meant."""
    names = [name for _, name in socket.if_nameindex()]
    return [str(one) for one in unmatched_globs(config, names)]
