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
from noid.host import gateways, nftables, source_routes
from noid.host.gateways import Gateway
from noid.host.messages import MAIN_TABLE, THROW, UNICAST, UNREACHABLE
from noid.host.source_routes import SourceRoute, SourceRule
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


def wanted_rules(config: BorderConfig, site: Site) -> set[SourceRule]:
    """The rules: all packets try the table of the routes by source.

    Those to the inside use the main table, before later rules of others apply: routes to the site
    have as many bits as its prefixes, or more. What is sent to a former prefix, such as code 5,
    uses the route that a LAN may have.
    """
    section = config.border
    former = (one.high + bytes(HIGH_OCTETS) for one in site.prefixes if one.gone_s)
    first = section.rule_priority
    return {
        *(SourceRule(first, MAIN_TABLE, destination=one) for one in config.inside()),
        *(
            SourceRule(first, MAIN_TABLE, destination=IPv6Network((one, site.bits)), longer_than=0)
            for one in former
        ),
        SourceRule(first + 1, section.table),
        SourceRule(first + 2, MAIN_TABLE, longer_than=site.bits - 1),
    }


def keep_rules(config: BorderConfig, site: Site) -> int:
    """Adds missing rules, and deletes other rules with our priorities; see ``wanted_rules``.

    Returns:
        How many were not as wanted, without those of former prefixes, whose time ends.

    Raises:
        PlatformError: the kernel refuses.
    """
    wanted = wanted_rules(config, site)
    priorities = Place.of(config.border).priorities
    found = source_routes.rules(priorities)
    for rule in sorted(wanted - found, key=lambda one: one.priority):
        source_routes.add_rule(rule)
    if found - wanted:
        source_routes.delete_rules(found - wanted)
        for rule in wanted - source_routes.rules(priorities):  # deleted in place of another
            source_routes.add_rule(rule)
    return sum(rule.longer_than != 0 for rule in wanted ^ found)


def keep_routes(config: BorderConfig, through: Mapping[str, tuple[int, Gateway | None]]) -> None:
    """Keeps the routes by source.

    Packets to the site are left to the rules that follow. Others leave by the provider of their
    source, or are answered.

    Args:
        config: the configuration.
        through: by provider, its device and gateway; None: it has none, or keeps that of before.

    Raises:
        PlatformError: the kernel refuses.
    """
    table = config.border.table
    found = source_routes.routes(table)
    owned = {
        IPv6Network(text): one.name for one in config.border.providers for text in one.prefixes
    }
    wanted = {SourceRoute(THROW, destination=one) for one in owned}
    for source, name in owned.items():
        device, gateway = through[name]
        wanted.add(SourceRoute(UNREACHABLE, source))
        if gateway is not None:
            wanted.add(SourceRoute(UNICAST, source, device=device, gateway=gateway))
        else:
            wanted |= {one for one in found if (one.source, one.device) == (source, device)}
    # By what is UNREACHABLE the table is recognised as ours; what leads outside is last.
    for route in sorted(wanted - found, key=lambda one: (one.kind == UNICAST, one.kind == THROW)):
        source_routes.put_route(table, route)
    if found - wanted:
        source_routes.delete_routes(table, found - wanted)


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


def begin_answer(section: BorderSection, former_mark: int = 0) -> str:
    """See ``keep_answer``, at the start: replaces the rules of an earlier daemon.

    Args:
        section: the configuration.
        former_mark: a mark that programs which are still attached may set; 0: there is none.

    Returns:
        What is wrong if it cannot be done; empty if nothing is.
    """
    try:
        _put_answer(section, former_mark)
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


def _put_answer(section: BorderSection, former_mark: int = 0) -> None:
    """Puts the rules; without one that not every kernel has, if this one refuses it."""
    names = {one.uplink for one in section.providers} - {*section.lans, ""}
    known = ", ".join(f'"{one}"' for one in sorted(filter(PLAIN_NAME.fullmatch, names)))
    # An answer to a former prefix that no LAN has would go to its next owner.
    outside = f"fib saddr oifname {{ {known} }} drop" if known else ""
    marks = {section.mark, former_mark or section.mark}
    try:
        _run_answer(marks, outside)
    except PlatformError:
        _run_answer(marks, "")


def _run_answer(marks: Collection[int], outside: str) -> None:
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
    meta mark != {{ {", ".join(map(str, marks))} }} accept
    {outside}
    iif . ip6 saddr @senders drop
    update @lans {{ iif {lan} }} drop
    add @senders {{ iif . ip6 saddr {sender} }} drop
    reject with icmpv6 type policy-fail
  }}
}}
""")
