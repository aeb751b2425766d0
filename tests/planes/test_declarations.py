# SPDX-License-Identifier: MIT
"""Every constant of the programs in the kernel: the same in Python, or of the kernel alone.

A new constant of a header is added to SAME, with what it equals in Python, or to KERNEL_ALONE.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from noid import constants
from noid.counters import KERNEL_COUNTERS, BorderCounter
from noid.planes import bpf, steering, uplink
from noid.planes.bpf import border_tables, connecting, layout
from noid.shares import policy
from noid.wire import control, icmpv6, ipv6, options, peek, slots

PROGRAMS = Path(bpf.__path__[0]) / "programs"
ENUMERATOR = re.compile(r"^\s*([A-Z]\w+)\s*(?:=\s*(.+))?$")
DEFINE = re.compile(r"^#define ([A-Z]\w+)[ \t]+([^\n]+)", re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)

SAME: dict[str, int] = {
    **{one.name: index for index, one in enumerate(KERNEL_COUNTERS)},
    "COUNTS": len(KERNEL_COUNTERS),
    **{one.name: index for index, one in enumerate(BorderCounter)},
    "BORDER_COUNTS": len(BorderCounter),
    "PREFIXES_MAX": constants.BORDER_PREFIXES_MAX,
    "INSIDE_MAX": constants.BORDER_INSIDE_MAX,
    "NAME_OCTETS": border_tables.NAME_OCTETS,
    "PROVIDERS_MAX": constants.BORDER_PROVIDERS_MAX,
    "LINK_OCTETS": border_tables.LINK_OCTETS,
    "FROM_HOSTS": 0,  # in the order of border_tables.CHOICE
    "FROM_OTHERS": 1,
    "SENDERS": 2,
    "SIGNS": len(border_tables.SIGNS),
    **{one.name: one.value for one in layout.ReportKind},
    "IN_HOLDS": layout.HOLDS,
    "IN_FAR": layout.FAR,
    "NOWHERE": layout.NOT_ONE_OF_THEM,
    "LOCATORS_NEAR": layout.LOCATORS_NEAR,
    "LOCATORS_FAR": layout.LOCATORS_FAR,
    "REPORT_OCTETS": layout.REPORTED_OCTETS_MAX,
    "SEGMENT_OCTETS": layout.SEGMENT_OCTETS_MAX,
    "OUT_CUT_TCP": uplink.CUT_TCP,
    "OUT_CUT_UDP": uplink.CUT_UDP,
    "OUT_SUM": uplink.SUM,
    "OUT_ANY": uplink.CUT_TCP | uplink.CUT_UDP | uplink.SUM,
    "UPLINK_ETHERNET": uplink.ETHERNET,
    "UPLINK_SENDS": uplink.SENDS,
    "UPLINK_RECEIVES": uplink.RECEIVES,
    "UPLINKS_MAX": uplink.UPLINKS_MAX,
    "OWN_ROW": uplink.OWN_ROW,
    "SHARES": policy.SHARES,
    "UNKNOWN_LABELS_PER_SECOND": policy.UNKNOWN.limit,
    "CONTROLS_PER_SECOND": policy.CONTROL.limit,
    "NAMED_PER_SECOND": policy.NAMED.each,
    "NAMING_AT": control.SENDER_AT,
    "NAMING_OCTETS": peek.NAMING.size - control.SENDER_AT,
    "CONTEXT_OPTION": options.OptionType.CONTEXT | options.CRITICAL,
    "CONTEXT_OCTETS": options.CONTEXT.octets,
    "SECOND": constants.SECOND,
    "FOLLOW_INTERVAL": constants.FOLLOW_INTERVAL,
    "FOLLOW_SILENCE_MIN": constants.FOLLOW_SILENCE_MIN,
    "KEEPALIVE_INTERVAL": constants.KEEPALIVE_INTERVAL,
    "MANY": constants.UNANSWERED_MANY,
    "FEW_PATIENCE": constants.UNANSWERED_PATIENCE,
    "MANY_PATIENCE": constants.MANY_PATIENCE,
    "GAP_MAX": constants.GAP_MAX,
    "GAPS_USUAL": constants.GAPS_USUAL,
    "GAP_UNUSUAL": constants.UNANSWERED_PATIENCE,
    "UNPROVEN_MAX": constants.UNPROVEN_TIME // constants.SECOND,
    "LONG_OCTETS": constants.MTU_MIN,
    "LABEL_MASK": constants.FLOW_LABEL_MASK,
    "IPV6_OCTETS": ipv6.HEADER_OCTETS,
    "HOP_BY_HOP": ipv6.HOP_BY_HOP,
    "TCP": ipv6.TCP,
    "UDP": ipv6.UDP,
    "FRAGMENT": ipv6.FRAGMENT,
    "ESP": ipv6.ESP,
    "ICMPV6": ipv6.ICMPV6,
    "SCTP": ipv6.SCTP,
    "ROUTER_SOLICITATION": min(icmpv6.NEIGHBOUR_DISCOVERY),
    "LINK_REDIRECT": max(icmpv6.NEIGHBOUR_DISCOVERY),
    "GATEWAY_FIRST": int.from_bytes(steering.GATEWAY[:4]),
    "GATEWAY_LAST": int.from_bytes(steering.GATEWAY[-4:]),
    "SLOT_RESERVED": slots.SLOT_RESERVED,
    "SLOT_ICMPV6": slots.SLOT_ICMPV6,
    "SLOT_ESCAPE": slots.SLOT_ESCAPE,
    "SLOTS": slots.SLOTS,
    "SOURCE_SLOTS": connecting.SOURCE_SLOTS,
    "FORMER": border_tables.FORMER,
}
KERNEL_ALONE = {
    "BUCKETS_EACH",
    *("REPORTS_OCTETS", "SET_UPS_OCTETS", "USERS_MAX", "STRANGERS_MAX", "ACTIVITIES_MAX"),
    "SEGMENTS_MAX",
    *("LONG_TIMES", "LONG_INTERVAL", "LONG_WAIT"),
    *("SUPERS_LOST", "SUPER_WAIT", "CUT_TIME", "CUT_DOUBLED_MAX"),
    *("NAMED_MAX", "WHOLE", "TICK_USUAL", "MORE_MAX", "RANKS", "NONE_COUNTED"),
    *("REPORTS_PER_SECOND", "REPORT_HEAD_OCTETS", "OPTIONS_PER_SECOND", "STRANGERS_PER_SECOND"),
    "ESCAPES_PER_SECOND",
    *("LINK_TICKS", "PLAIN_INTERVAL", "STRANGER_INTERVAL", "ACK_DELAY", "NEVER"),
    *("GLOBAL_UNICAST", "TCP_SYN_FIN", "NO_SLOT", "ECHO_REQUEST", "UNREACHABLE"),
    *("TCP_FLAGS_AT", "TCP_HEADER_MAX", "TCP_SYN", "TCP_RST", "TCP_ACK"),
    *("VERSION_MASK", "VERSION_6", "VLAN_NUMBER"),
    *("ON_UPLINK", "ON_OURS", "CUT"),
    *("SPREAD_MAX", "AF_INET6", "CONTINUE"),
}
"""Sizes and rates of maps that only the programs have, and numbers of Linux and of headers."""

OPERATORS: dict[type[ast.AST], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.floordiv,
    ast.LShift: operator.lshift,
    ast.BitOr: operator.or_,
}


def headers() -> Iterator[str]:
    """The text of each header and program, without its comments."""
    for path in sorted(PROGRAMS.glob("*.[ch]")):
        if path.name != "kernel.h":  # declarations of Linux alone
            yield COMMENT.sub("", path.read_text())


def expressions() -> dict[str, str]:
    """Every constant that the headers declare, as C expressions."""
    found: dict[str, str] = {}
    for text in headers():
        found |= {name: value.strip() for name, value in DEFINE.findall(text)}
        for body in re.findall(r"enum\s*\w*\s*\{(.*?)\}", text, re.DOTALL):
            previous = "-1"
            for one in filter(None, map(str.strip, body.split(","))):
                declared = ENUMERATOR.match(one)
                assert declared, one
                previous = declared[2] or f"({previous}) + 1"
                found[declared[1]] = previous
    return found


def value_of(expression: str, known: dict[str, str]) -> int:
    """The value of a C expression of whole numbers."""

    def of(node: ast.AST) -> int:
        match node:
            case ast.Constant(value=int(value)):
                return value
            case ast.Name(id=name):
                return value_of(known[name], known)
            case ast.BinOp():
                return OPERATORS[type(node.op)](of(node.left), of(node.right))
            case ast.UnaryOp(op=ast.USub()):
                return -of(node.operand)
            case ast.Call(args=[inner]):  # bpf_htonl: the number before it
                return of(inner)
        raise AssertionError(f"{expression}: {ast.dump(node)}")

    return of(ast.parse(re.sub(r"\b(\d\w*?)(?:U?LL|U)\b", r"\1", expression), mode="eval").body)


def test_a_constant_of_the_programs_is_that_of_python() -> None:
    found = expressions()
    assert {name: value_of(found[name], found) for name in SAME} == SAME


def test_every_constant_of_the_programs_is_compared_or_theirs_alone() -> None:
    assert not SAME.keys() & KERNEL_ALONE
    assert set(expressions()) == SAME.keys() | KERNEL_ALONE


def cases(function: str) -> dict[str, str]:
    """What a function of parse.h returns for each case of its switch."""
    text = (PROGRAMS / "parse.h").read_text()
    body = re.search(rf"u8 {function}\(u8 \w+\)\n\{{(.*?)\n\}}", text, re.DOTALL)
    assert body
    return dict(re.findall(r"case (\w+):\s*return (\w+);", body[1]))


def test_the_programs_have_the_slots_of_the_table() -> None:
    known = expressions()
    found = {
        value_of(protocol, known): value_of(slot, known)
        for protocol, slot in cases("slot_of").items()
    }
    assert found == slots.SLOT_OF_PROTOCOL
    back = {int(slot): value_of(protocol, known) for slot, protocol in cases("protocol_of").items()}
    assert back == {
        slot: one for slot, one in slots.PROTOCOL_OF_SLOT.items() if slot != slots.SLOT_ICMPV6
    }
