# SPDX-License-Identifier: MIT
"""Policy routing rules of ours, as values: what is wanted, and what the kernel has.

The kernel tries rules in the order of their priorities. A rule leads a packet to a routing table,
or past other rules.
"""

import socket
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from noid.host.messages import REFUSING
from noid.host.routes import EVERYWHERE, Prefix
from noid.locators import Locator, format_locator, parse_locator

TO_TABLE: Final = 1
GOTO: Final = 2
NOTHING: Final = 3
"""FR_ACT_TO_TBL, FR_ACT_GOTO and FR_ACT_NOP of linux/fib_rules.h."""
LOOPBACK: Final = "lo"
ADDRESS_BITS: Final = 128
EVERY_BIT: Final = 0xFFFFFFFF
INVERTED: Final = 0x2
"""FIB_RULE_INVERT: the rule is for all packets that it does not describe."""

Range = tuple[int, int]
"""The first and the last."""


class Rule(NamedTuple):
    """One rule for IPv6.

    Attributes:
        priority: the smaller, the earlier it is tried.
        action: TO_TABLE, GOTO or NOTHING.
        table: the routing table, for TO_TABLE.
        target: priority of the rule to go on with, for GOTO.
        source: the source address it is for; None for any.
        source_bits: how many of its first bits matter.
        mark: the firewall mark it is for; 0 for any.
        is_unmarked: whether it is only for packets without a mark.
        is_local: whether it is only for packets of this host's own programs.
        is_passing: whether it is only for packets that arrive on a certain device.
        destination: the destination it is for; None for any.
        destination_bits: how many of its first bits matter.
        mask: the bits of the firewall mark that matter.
        uids: the users it is for; None for any.
        protocol: the protocol it is for; 0 for any.
        source_ports: the source ports it is for; None for any.
        destination_ports: the same of the destination.
        is_inverted: whether it is for all other packets instead.
        device: name of the device that packets have to leave by; empty for any, or for none.
    """

    priority: int
    action: int = TO_TABLE
    table: int = 0
    target: int = 0
    source: Locator | None = None
    source_bits: int = ADDRESS_BITS
    mark: int = 0
    is_local: bool = False
    is_unmarked: bool = False
    is_passing: bool = False
    destination: Locator | None = None
    destination_bits: int = ADDRESS_BITS
    mask: int = EVERY_BIT
    uids: Range | None = None
    protocol: int = 0
    source_ports: Range | None = None
    destination_ports: Range | None = None
    is_inverted: bool = False
    device: str = ""

    @property
    def is_by_program(self) -> bool:
        """Whether the rule distinguishes packets of this host by user, protocol or port."""
        ports = self.source_ports, self.destination_ports
        return not self.is_passing and any((self.uids, self.protocol, *ports))

    def is_for(self, uid: int) -> bool:
        """Whether the rule is for a user, and not for every user."""
        return self.uids is not None and (self.uids[0] <= uid <= self.uids[1]) != self.is_inverted

    def is_for_mark(self, mark: int) -> bool:
        """Whether the rule is for a firewall mark, and not for every mark."""
        return bool(self.mark) and (mark & self.mask == self.mark) != self.is_inverted

    def is_all_but(self, mark: int) -> bool:
        """Whether the rule is for all packets but those with a mark that is not this one."""
        is_any = self.source is None and self.destination is None and not self.is_passing
        return is_any and self.is_inverted and self.is_for_mark(mark)

    def arguments(self) -> dict[str, Any]:
        """The rule as the netlink library takes it."""
        found: dict[str, Any] = {
            "family": socket.AF_INET6,
            "priority": self.priority,
            "action": self.action,
        }
        if self.action == TO_TABLE:
            found["table"] = self.table
        if self.action == GOTO:
            found["goto"] = self.target
        if self.source is not None:
            found |= {"src": format_locator(self.source), "src_len": self.source_bits}
        if self.destination is not None:
            found |= {"dst": format_locator(self.destination), "dst_len": self.destination_bits}
        if self.mark:
            found |= {"fwmark": self.mark, "fwmask": self.mask}
        if self.is_unmarked:
            found |= {"fwmark": 0, "fwmask": EVERY_BIT}
        if self.is_local:
            found["iifname"] = LOOPBACK
        if self.device:
            found["oifname"] = self.device
        if self.protocol:
            found["ip_proto"] = self.protocol
        if self.is_inverted:
            found["flags"] = INVERTED
        ranges = {
            "uid_range": self.uids,
            "sport_range": self.source_ports,
            "dport_range": self.destination_ports,
        }
        return found | {key: f"{one[0]}:{one[1]}" for key, one in ranges.items() if one}


def refusals_changed(before: Iterable[Rule], now: Iterable[Rule]) -> set[Prefix]:
    """The destinations of rules that refuse packets, and that came or went."""
    changed = (rule for rule in {*before} ^ {*now} if rule.action in REFUSING)
    return {
        Prefix(rule.destination, rule.destination_bits) if rule.destination else EVERYWHERE
        for rule in changed
    }


def read_rule(message: Any) -> Rule:
    """A rule as the kernel lists it, without what noid does not use."""
    source, destination = message.get("src"), message.get("dst")
    device, mark = message.get("iifname"), message.get("fwmark") or 0
    mask = message.get("fwmask") or 0
    return Rule(
        priority=message.get("priority") or 0,
        action=message["action"],
        table=message.get("table") or 0 if message["action"] == TO_TABLE else 0,
        target=message.get("goto") or 0,
        source=parse_locator(str(source)) if source is not None else None,
        source_bits=message["src_len"] if source is not None else ADDRESS_BITS,
        mark=mark,
        is_local=device == LOOPBACK,
        is_unmarked=not mark and mask == EVERY_BIT,
        is_passing=device not in (None, LOOPBACK),
        destination=parse_locator(str(destination)) if destination is not None else None,
        destination_bits=message["dst_len"] if destination is not None else ADDRESS_BITS,
        mask=mask if mark else EVERY_BIT,
        uids=_range(message.get("uid_range")),
        protocol=message.get("ip_proto") or 0,
        source_ports=_range(message.get("sport_range")),
        destination_ports=_range(message.get("dport_range")),
        is_inverted=bool(message["flags"] & INVERTED),
        device=message.get("oifname") or "",
    )


def _range(text: str | None) -> Range | None:
    if text is None:
        return None
    first, _, last = text.partition(":")
    return int(first), int(last)
