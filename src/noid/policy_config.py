# SPDX-License-Identifier: MIT
"""The configuration of peers and of uplinks: ``[policy]`` and ``[uplinks]``."""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Network
from typing import Annotated, Final

import msgspec

from noid.errors import ConfigError

PRIORITY_MAX: Final = 255
WEIGHT_MAX: Final = 8

HOST_PATTERN: Final = re.compile(r"(\*\.)?(?=.*[a-z])([a-z0-9_-]{1,63}\.?)+", re.IGNORECASE)
"""A name, or ``*.`` and a name for all names below it; not an IPv4 address."""


class PolicySection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[policy]``: the peers that the shim is used for, and the uplinks that it uses for them.

    Attributes:
        plain: addresses, prefixes and names (``*.example`` for all below) of peers that are reached
            as without noid: no context is set up with them, and their INITs are not answered.
        pin: table of such entries, each with the uplink that these peers use while it works.
    """

    plain: list[str] = msgspec.field(default_factory=list)
    pin: dict[str, str] = msgspec.field(default_factory=dict)


class UplinkSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[uplinks.NAME]``: how one uplink is used. NAME is as in ``noid paths``, or a glob.

    Attributes:
        priority: of the uplinks that work, those of the lowest priority are used; the others are
            backups.
        weight: the share of new connections that start at this uplink, relative to the others in
            use. Without any weight in the file the routes of the host decide.
        backup: whether it is used only if no other works, as with ``host.backup`` [D22].
    """

    priority: Annotated[int, msgspec.Meta(ge=1, le=PRIORITY_MAX)] = 1
    weight: Annotated[int, msgspec.Meta(ge=1, le=WEIGHT_MAX)] | None = None
    backup: bool = False


USUAL: Final = UplinkSection()
"""Of an uplink that the file does not name."""
UplinkSections = Mapping[str, UplinkSection]


def section_of(sections: UplinkSections, *names: str) -> UplinkSection:
    """The section of an uplink: that of one of its names, else of the first glob that matches.

    Args:
        sections: by the names in the file.
        names: of the uplink, and of its interface.
    """
    for name in names:
        if name in sections:
            return sections[name]
    globs = (glob for glob in sections if any(fnmatch.fnmatchcase(name, glob) for name in names))
    return sections.get(next(globs, ""), USUAL)


def is_prefix(text: str) -> bool:
    """Whether a text is an IPv6 prefix or address."""
    try:
        IPv6Network(text)
    except ValueError:
        return False
    return True


def policy_problems(policy: PolicySection) -> Iterator[ConfigError]:
    """Entries that name no peer, and pins that name no uplink."""
    for key, texts in (("plain", policy.plain), ("pin", policy.pin)):
        for text in texts:
            if not (is_prefix(text) or HOST_PATTERN.fullmatch(text)):
                why = f"{text!r} is no IPv6 address, prefix or name"
                remedy = 'such as: "2001:db8::/32" or "*.example"'
                yield ConfigError(f"policy.{key}", why, remedy)
    for text, uplink in policy.pin.items():
        if not uplink:
            yield ConfigError("policy.pin", f"{text!r} has no uplink", f'"{text}" = "eth0"')


def uplink_problems(sections: UplinkSections) -> Iterator[ConfigError]:
    """A section that names no uplink."""
    if "" in sections:
        yield ConfigError("uplinks", "has a section without a name", "[uplinks.eth0]")


def unmatched_uplinks(
    policy: PolicySection, sections: UplinkSections, interfaces: Iterable[str]
) -> Iterator[ConfigError]:
    """Uplinks that are named in the file, and that are on no interface of this host.

    Args:
        policy: of the file.
        sections: its ``[uplinks]``.
        interfaces: the names of the interfaces of this host.
    """
    names = sorted(interfaces)
    for key, texts in (("uplinks", list(sections)), ("policy.pin", list(policy.pin.values()))):
        for text in dict.fromkeys(filter(None, texts)):
            if not fnmatch.filter(names, text.partition("/")[0]):
                why = f"{text!r} matches no interface; there are {', '.join(names)}"
                yield ConfigError(key, why, "correct it, or ignore this until it is there")
