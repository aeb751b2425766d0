# SPDX-License-Identifier: MIT
"""The objects of a border on its host besides the programs: routes by source, and error messages.

Each is compared with the kernel's state, and restored if others have removed it.
"""

import contextlib
import re
import time
from collections.abc import Collection, Mapping
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from noid.border_config import BorderConfig, BorderSection
from noid.constants import BORDER_LANS_MAX
from noid.errors import PlatformError, ShimError, Unsupported
from noid.flows.border import HIGH_OCTETS, Site
from noid.host import gateways, nftables
from noid.host.gateways import Gateway, SourceRule
from noid.host.messages import MAIN_TABLE
from noid.locators import Locator
from noid.roles.border_placed import Place

NFT_TABLE: Final = "noid_border"
NFT_PRIORITY: Final = -350
"""Before connections are tracked: what is refused makes no entry."""
MESSAGES_PER_SECOND: Final = 1000
"""The kernel's own limit of ICMPv6 errors to all hosts (net.ipv4.icmp_msgs_per_sec)."""
LAN_SHARE: Final = MESSAGES_PER_SECOND // 8
"""Of that, what senders of one LAN may use up, with any source addresses."""
SENDER_SHARE: Final = 8
"""And one sender, who otherwise would use up what its LAN may."""
SENDERS_MAX: Final = 65_535
SENDERS_KEPT_S: Final = 10
PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.@-]+")
"""Names of devices that can be in rules of nftables."""
NO_NFT: Final = (
    "senders whose uplink does not work get no code 5, but code 0 from the routes: "
    "install the package nftables"
)


def tables_of(config: BorderConfig, found: Collection[SourceRule]) -> dict[str, int]:
    """The routing table of each provider, by name.

    A provider keeps the table to which the rules of its prefixes lead, wherever it is in the
    configuration: as long as there are rules to a table, no other provider may have it.

    Args:
        config: the configuration.
        found: the rules that an earlier daemon has left.
    """
    providers = config.border.providers
    owners = {IPv6Network(text): one.name for one in providers for text in one.prefixes}
    users: dict[int, set[str]] = {}
    for rule in found:
        if rule.source is not None:
            users.setdefault(rule.table, set()).add(owners.get(rule.source, ""))
    tables: dict[str, int] = {}
    free = []
    for table in Place.of(config.border).tables:
        names = sorted(users.get(table, set()) - {""})
        if len(names) == 1 and names[0] not in tables:
            tables[names[0]] = table
        else:
            free.append((len(names), table in users, table))
    free.sort()
    others = [one.name for one in providers if one.name not in tables]
    return tables | {name: table for name, (_, _, table) in zip(others, free, strict=False)}


def wanted_rules(config: BorderConfig, site: Site, tables: Mapping[str, int]) -> set[SourceRule]:
    """The rules: packets to the inside use the main table, others that of their provider.

    What is sent to a former prefix of the site, such as code 5, uses the route that a LAN may have.

    Args:
        config: the configuration.
        site: the prefixes.
        tables: the routing table of each provider, by name.
    """
    section = config.border
    own = [IPv6Network(text) for one in section.providers for text in one.prefixes]
    former = (one.high + bytes(HIGH_OCTETS) for one in site.prefixes if one.gone_s)
    rules = {
        SourceRule(section.rule_priority, MAIN_TABLE, destination=one)
        for one in (*own, *config.inside())
    } | {
        SourceRule(
            section.rule_priority,
            MAIN_TABLE,
            destination=IPv6Network((one, site.bits)),
            without_default=True,
        )
        for one in former
    }
    for one in section.providers:
        for text in one.prefixes:
            source, table = IPv6Network(text), tables[one.name]
            rules.add(SourceRule(section.rule_priority + 1, table, source=source))
    return rules


def keep_rules(config: BorderConfig, site: Site, tables: Mapping[str, int]) -> int:
    """Adds missing rules, and deletes other rules with our priorities; see ``wanted_rules``.

    Returns:
        How many were not as wanted, without those of former prefixes, whose time ends.

    Raises:
        PlatformError: the kernel refuses.
    """
    wanted = wanted_rules(config, site, tables)
    found = gateways.rules(Place.of(config.border).priorities)
    for rule in sorted(wanted - found, key=lambda one: one.priority):
        gateways.add_rule(rule)
    for rule in found - wanted:
        gateways.delete_rule(rule)
    return sum(not rule.without_default for rule in wanted ^ found)


def keep_routes(wanted: Mapping[int, tuple[int, Gateway | None]]) -> None:
    """Keeps one default route in the table of each provider, and a fallback that answers.

    Args:
        wanted: for each table the device and the gateway of its provider; None: it has none.

    Raises:
        PlatformError: the kernel refuses.
    """
    for table, (device, gateway) in wanted.items():
        found = gateways.defaults(table)
        if 0 not in found:
            gateways.put_unreachable(table)
        if gateway is not None and found.get(device) != gateway:
            gateways.put_default(table, device, gateway)
        for other, through in found.items():
            if other not in (0, device) and through is not None:
                gateways.delete_default(table, other, through)


def source_in(device: int, prefixes: list[str]) -> Locator | None:
    """An address of a device that is in one of some prefixes; None: there is none.

    Raises:
        PlatformError: the kernel does not say.
    """
    networks = [IPv6Network(one) for one in prefixes]
    for address in gateways.addresses(device):
        if any(IPv6Address(address) in one for one in networks):
            return address
    return None


def seconds_since_boot() -> float:
    """The time of the prefixes: what is pinned ends with the boot, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def keep_answer(section: BorderSection) -> bool:
    """Adds the rules that answer packets with our mark by ICMPv6 type 1, code 5 (RFC 4443 §3.1).

    The kernel limits the rate of its errors for each host and for all together. So that a flood
    does not use that up, a LAN has a share, and a sender one of that.

    Returns:
        Whether the rule was missing.

    Raises:
        ShimError: nftables is not installed, or refuses.
    """
    tables = (entry.get("table", {}) for entry in nftables.listed("list tables ip6"))
    if any(table.get("name") == NFT_TABLE for table in tables):
        return False
    _put_answer(section)
    return True


def begin_answer(section: BorderSection) -> str:
    """See ``keep_answer``, at the start: replaces the rules of an earlier daemon.

    Returns:
        What is wrong if it cannot be done; empty if nothing is.
    """
    try:
        _put_answer(section)
    except Unsupported:
        return NO_NFT
    except ShimError as error:
        return f"senders get code 0 instead of code 5: {error}"
    return ""


def end_answer() -> list[str]:
    """Removes the rules that answer; returns a description of what there was."""
    with contextlib.suppress(ShimError):
        nftables.run(f"delete table ip6 {NFT_TABLE}\n")
        return [f"nftables table {NFT_TABLE}"]
    return []


def _put_answer(section: BorderSection) -> None:
    """Puts the rules; without one that not every kernel has, if this one refuses it."""
    names = {one.uplink for one in section.providers} - {*section.lans, ""}
    known = ", ".join(f'"{one}"' for one in sorted(filter(PLAIN_NAME.fullmatch, names)))
    # An answer to a former prefix that no LAN has would go to its next owner.
    outside = f"fib saddr oifname {{ {known} }} drop" if known else ""
    try:
        _run_answer(section.mark, outside)
    except PlatformError:
        _run_answer(section.mark, "")


def _run_answer(mark: int, outside: str) -> None:
    lan, sender = (
        f"limit rate over {share}/second burst {share} packets"
        for share in (LAN_SHARE, 2 * SENDER_SHARE)
    )
    # What is over the share of its sender, if that is known, costs its LAN nothing. What is not
    # counts twice: where it is looked up, and where the sender is added.
    nftables.run(f"""\
add table ip6 {NFT_TABLE}
delete table ip6 {NFT_TABLE}
table ip6 {NFT_TABLE} {{
  set senders {{
    type iface_index . ipv6_addr; flags dynamic,timeout
    size {SENDERS_MAX}; timeout {SENDERS_KEPT_S}s
  }}
  set lans {{
    type iface_index; flags dynamic
    size {BORDER_LANS_MAX}
  }}
  chain refused {{
    type filter hook prerouting priority {NFT_PRIORITY}; policy accept;
    meta mark != {mark} accept
    {outside}
    iif . ip6 saddr @senders drop
    update @lans {{ iif {lan} }} drop
    add @senders {{ iif . ip6 saddr {sender} }} drop
    reject with icmpv6 type policy-fail
  }}
}}
""")
