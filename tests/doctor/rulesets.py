# SPDX-License-Identifier: MIT
"""Links, rule sets of firewalls, and what of noid's packets each drops."""

from typing import get_args

from noid.config import Plane
from noid.doctor.firewall import ROUNDS_MAX
from noid.locators import parse_locator

UPLINKS = """\
link set lo up
link add up1 type veth peer name provider1
link add up2 type veth peer name provider2
link set up1 up
link set up2 up
link set provider1 up
link set provider2 up
address add 2001:db8:1:a::a/64 dev up1 nodad
address add 2001:db8:2:a::a/64 dev up2 nodad
route add default via 2001:db8:1:a::1 dev up1
"""
SECOND_PROVIDER = """\
route add default via 2001:db8:2:a::1 dev up2 table 102
rule add from 2001:db8:2:a::a lookup 102
"""
LINKS = f"""\
{UPLINKS}{SECOND_PROVIDER}rule add from 2001:db8:1:a::a lookup 101
route add default via 2001:db8:1:a::1 dev up1 table 101
"""


A_1, A_2 = parse_locator("2001:db8:1:a::a"), parse_locator("2001:db8:2:a::a")


PLACES = {A_1: "up1", A_2: "up2"}


AIDS = "2001:db8:1:a::a 2001:db8:2:a::a"


PLANES = get_args(Plane)


BASE = "table inet house {{\nchain c {{\ntype filter hook {hook} priority 0;\n{rules}\n}}\n}}\n"


ONLY_KNOWN = "policy drop\niif lo accept\nicmpv6 type { 135, 136 } accept"


IN_OUTAGE = f"on noid0-try for {AIDS} while its own uplink is down"


DROPPED: list[tuple[Plane, str, str, list[str]]] = [
    ("tun", "input", "meta l4proto 224-239 drop", ["inbound next headers 224-239 on up1 up2"]),
    ("bpf", "input", "meta l4proto 224-239 drop", []),
    ("bpf", "input", "icmpv6 type 200 drop", ["inbound ICMPv6 type 200 on up1 up2"]),
    ("tun", "prerouting", "meta l4proto 224 drop", ["inbound next headers 224 on up1 up2"]),
    (
        "bpf",
        "output",
        "meta l4proto { 225, 232-239 } drop",
        ["outbound next headers 225, 232-239 on up1 up2"],
    ),
    ("bpf", "output", "icmpv6 type 200 reject", ["outbound ICMPv6 type 200 on up1 up2"]),
    ("bpf", "postrouting", "meta l4proto 230 drop", ["outbound next headers 230 on up1 up2"]),
    (
        "bpf",
        "input",
        'iifname "up2" icmpv6 type 200 drop',
        ["inbound ICMPv6 type 200 on up2"],
    ),
    (
        "bpf",
        "output",
        'oifname "up1" meta l4proto 224 drop',
        ["outbound next headers 224 on up1"],
    ),
    (
        "bpf",
        "input",
        ONLY_KNOWN,
        [
            "inbound ICMPv6 type 200 on up1 up2",
            "inbound restored packets (TCP, UDP) on up1 up2",
            f"inbound restored packets (TCP, UDP) {IN_OUTAGE}",
        ],
    ),
    (
        "tun",
        "input",
        ONLY_KNOWN,
        [
            "inbound ICMPv6 type 200 on up1 up2",
            "inbound next headers 224-239 on up1 up2",
            "inbound plain packets (TCP, UDP) on up1 up2",
            "inbound restored packets (TCP, UDP) on noid0-try",
        ],
    ),
    (
        "bpf",
        "input",
        'iifname "noid0*" drop',
        [f"inbound restored packets (TCP, UDP) {IN_OUTAGE}"],
    ),
    ("tun", "input", 'iifname "noid0*" drop', ["inbound restored packets (TCP, UDP) on noid0-try"]),
    (
        "bpf",
        "output",
        'policy drop\noifname { "up1", "up2", "lo" } accept',
        [f"outbound plain packets (TCP, UDP) {IN_OUTAGE}"],
    ),
    ("tun", "output", 'oifname "noid0*" drop', ["outbound plain packets (TCP, UDP) on noid0-try"]),
    (
        "tun",
        "prerouting",
        "meta nfproto ipv6 fib daddr . iif type != { local, multicast } drop",
        ["inbound restored packets (TCP, UDP) on noid0-try"],
    ),
    (
        "bpf",
        "prerouting",
        "meta nfproto ipv6 fib daddr . iif type != { local, multicast } drop",
        [],
    ),
]
"""A plane, a hook, the rules there, and what is lost by them."""


ZONES = """\
table inet zones {
    chain filter_INPUT {
        type filter hook input priority 10; policy accept;
        ct state { established, related } accept
        ct state invalid drop
        iifname "lo" accept
        jump filter_INPUT_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_INPUT_ZONES {
        iifname "up1" goto filter_IN_public
        iifname "up2" goto filter_IN_external
    }
    chain filter_IN_public {
        icmpv6 type { 1, 2, 3, 4, 135, 136 } accept
        reject with icmpx admin-prohibited
    }
    chain filter_IN_external {
        meta l4proto 224-239 accept
        drop
    }
}
"""
"""Zones by interface as firewalld makes them. Connection tracking calls ICMPv6 type 200 invalid."""


STRICT = """\
table inet fw {
    chain pre {
        type filter hook prerouting priority -145; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing counter drop
    }
    chain input {
        type filter hook input priority 0; policy drop;
        icmpv6 type 200 accept
        ct state established,related accept
        ct state invalid counter drop
        iif lo accept
        meta l4proto 224-239 accept
    }
}
"""


LOOSE = STRICT.replace("saddr . mark . iif oif", "saddr . mark oif")


BY_THE_OTHER = f"""\
rule del from {AIDS.split()[1]} lookup 102
rule add from {AIDS.split()[1]} lookup 101
"""
"""What the second address sends leaves by the first uplink."""


BEFORE_NFTABLES = """\
table netdev early {
    chain up1 {
        type filter hook ingress device "up1" priority 0;
        icmpv6 type 200 drop
    }
}
"""


CHAINS_IN_A_ROW = "table inet row {\n" + "".join(
    f"chain c{one} {{\ntype filter hook input priority {one};\nicmpv6 type 200 drop\n}}\n"
    for one in range(ROUNDS_MAX)
)


TOO_MANY = f"{CHAINS_IN_A_ROW}chain last {{\ntype filter hook input priority 99;\n"
