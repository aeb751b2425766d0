# SPDX-License-Identifier: MIT
"""What a changed configuration file means for a daemon that runs: applied, or for the next start.

A value is applied or kept as a whole, key by key. Those that name what is open or shared with peers
(sockets, devices, tables, files, code points) are kept until the daemon starts again.
"""

import socket
from dataclasses import dataclass
from ipaddress import IPv6Network

import msgspec

from noid.config import Config, is_prefix, unmatched_globs
from noid.dns.records import canonical_name
from noid.engine.options import Policy

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
    }
)
"""Keys that a running daemon applies."""


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


def reloaded(old: Config, new: Config) -> Reloaded:
    """Takes of a new configuration what can be applied."""
    applied: list[str] = []
    restart: list[str] = []
    sections = {}
    for section in old.__struct_fields__:
        before, after = getattr(old, section), getattr(new, section)
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
    """``[policy]`` as the engine takes it."""
    plain = config.policy.plain
    names = [text for text in plain if not is_prefix(text)]
    return Policy(
        prefixes=tuple(IPv6Network(text) for text in plain if is_prefix(text)),
        names=frozenset(canonical_name(text) for text in names if not text.startswith(BELOW)),
        domains=tuple(
            canonical_name(text.removeprefix(BELOW)) for text in names if text.startswith(BELOW)
        ),
    )


def warnings_of(config: Config) -> list[str]:
    """What is taken, and may still not be meant."""
    names = [name for _, name in socket.if_nameindex()]
    return [str(one) for one in unmatched_globs(config, names)]
