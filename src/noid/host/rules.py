# SPDX-License-Identifier: MIT
"""Policy routing rules of ours, as values: what is wanted, and what the kernel has.

The kernel tries rules in the order of their priorities. A rule leads a packet to a routing table,
or past other rules.
"""

import socket
from typing import Any, Final, NamedTuple

from noid.locators import Locator, format_locator, parse_locator

TO_TABLE: Final = 1
GOTO: Final = 2
NOTHING: Final = 3
"""FR_ACT_TO_TBL, FR_ACT_GOTO and FR_ACT_NOP of linux/fib_rules.h."""
LOOPBACK: Final = "lo"
ADDRESS_BITS: Final = 128
EVERY_BIT: Final = 0xFFFFFFFF


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
        if self.mark:
            found["fwmark"] = self.mark
        if self.is_unmarked:
            found |= {"fwmark": 0, "fwmask": EVERY_BIT}
        if self.is_local:
            found["iifname"] = LOOPBACK
        return found


def read_rule(message: Any) -> Rule:
    """A rule as the kernel lists it, without what noid does not use."""
    source = message.get("src")
    return Rule(
        priority=message.get("priority") or 0,
        action=message["action"],
        table=message.get("table") or 0 if message["action"] == TO_TABLE else 0,
        target=message.get("goto") or 0,
        source=parse_locator(str(source)) if source is not None else None,
        source_bits=message["src_len"] if source is not None else ADDRESS_BITS,
        mark=message.get("fwmark") or 0,
        is_local=message.get("iifname") == LOOPBACK,
        is_unmarked=not message.get("fwmark") and message.get("fwmask") == EVERY_BIT,
    )
