# SPDX-License-Identifier: MIT
"""The configuration files of a lab's programs: name server, web server, resolver, noid.

Every file says only what the lab needs to be otherwise than the program's own default; every path
is inside the lab's directory, so that nothing of the machine's own servers is touched.
"""

import ipaddress
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from noid.lab import topology
from noid.lab.inventory import PINS
from noid.lab.sites import LAN_DEVICE, NUMBERS, Router, router_in_lan, router_of_line
from noid.lab.topology import NAME_SERVER, Name

ZONE: Final = "example"
TTL_SECONDS: Final = 60
M6_RRTYPE: Final = 65286
METRICS: Final = "[::1]:9469"


def nsd_conf(directory: Path, place: tuple[str, int], zones: Iterable[str]) -> str:
    """NSD: authoritative for zones, writing nowhere else.

    Args:
        directory: where ``zone_path`` has the zones, and everything else goes.
        place: address and port to listen on.
        zones: without the final dot, the root empty.
    """
    entries = "".join(
        f'zone:\n  name: "{zone}."\n  zonefile: "{zone_path(directory, zone)}"\n' for zone in zones
    )
    return f"""\
server:
  ip-address: {place[0]}@{place[1]}
  server-count: 1
  username: ""
  chroot: ""
  database: ""
  zonesdir: "{directory}"
  pidfile: "{directory}/nsd.pid"
  xfrdfile: "{directory}/xfrd.state"
  xfrdir: "{directory}"
  zonelistfile: "{directory}/zone.list"
  cookie-secret-file: "{directory}/cookie.secrets"
  rrl-ratelimit: 0
remote-control:
  control-enable: no
{entries}"""


def zone_path(directory: Path, zone: str) -> Path:
    """The path of a zone's master file."""
    return directory / f"{zone or 'root'}.zone"


def zone_names() -> tuple[str, ...]:
    """The zones: the forward one and the reverse one of each provider."""
    reverse = (reverse_zone(prefix) for prefix in topology.PROVIDER_PREFIXES.values())
    return (ZONE, *reverse)


def reverse_zone(prefix: str) -> str:
    """The name under ip6.arpa of a prefix that ends on a nibble."""
    network = ipaddress.IPv6Network(prefix)
    labels = network.network_address.reverse_pointer.split(".")
    return ".".join(labels[32 - network.prefixlen // 4 :])


def zone_file(zone: str, names: tuple[Name, ...]) -> str:
    """A zone's master file: address and M6 records of the names, or PTR records."""
    lines = [
        f"$ORIGIN {zone}.",
        f"$TTL {TTL_SECONDS}",
        f"@ SOA ns.{ZONE}. hostmaster.{ZONE}. 1 3600 600 86400 {TTL_SECONDS}",
        f"@ NS ns.{ZONE}.",
    ]
    if zone == ZONE:
        lines.append(f"ns.{ZONE}. AAAA {NAME_SERVER}")
    for name in names:
        lines += _forward(name) if zone == ZONE else _reverse(name, zone)
    return "\n".join(lines) + "\n"


def nginx_conf(directory: Path) -> str:
    """nginx: one foreground process that serves ``directory``/content on port 80."""
    temporary = "".join(
        f"  {kind}_temp_path {directory}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
daemon off;
master_process off;
user root;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{
  worker_connections 256;
}}
http {{
{temporary}  access_log {directory}/access.log;
  default_type application/octet-stream;
  sendfile on;
  server {{
    listen [::]:80;
    root {directory}/content;
  }}
}}
"""


def resolv_conf(server: str) -> str:
    """A resolver configuration with one server and a short timeout."""
    return f"nameserver {server}\noptions timeout:2 attempts:2\n"


def nsswitch_conf() -> str:
    """Names come from the DNS alone: no cache or service of the machine answers for it."""
    return "passwd: files\ngroup: files\nhosts: files dns\n"


def noid_toml(host: str, directory: Path, plane: str) -> str:
    """The daemon's configuration on a host, with a data plane."""
    lines = ["[host]", f'name = "{host}.{ZONE}"', 'interfaces = ["up*"]']
    if host == "b":
        # plain.example is an address of b too, of a host that does not speak M6.
        lines.append(f"locators = {json.dumps(topology.locators(host))}")
    lines += [
        "[dns]",
        'listen = "::1"',
        f'upstream = ["{NAME_SERVER}"]',
        "[plane]",
        f'kind = "{plane}"',
        f'pins = "{directory}/{PINS}/{host}"',
        "[control]",
        f'socket = "{directory}/{host}.sock"',
        "[state]",
        f'directory = "{directory}/{host}-state"',
        "[events]",
        f'directory = "{directory}/{host}-events.d"',
        "[metrics]",
        f'listen = "{METRICS}"',
    ]
    return "\n".join(lines) + "\n"


def border_toml(router: Router, directory: Path) -> str:
    """The configuration of a border's daemon."""
    lines = [
        "[border]",
        f'lans = ["{LAN_DEVICE}"]',
        "hold_s = 0.2",
        "new_prefix_s = 1",
        f'pins = "{directory}/{PINS}/{router.node}"',
        f'socket = "{directory}/{router.node}.sock"',
    ]
    for number in NUMBERS:
        lines += [
            "[[border.providers]]",
            f'name = "isp{number}"',
            f'prefixes = ["{topology.site(number, router.host)}"]',
        ]
        if number in router.numbers:
            lines.append(f'uplink = "up{number}"')
        else:
            lines += [
                f'uplink = "{LAN_DEVICE}"',
                f'gateway = "{router_in_lan(number, router.host)}"',
                f'check = "{router_of_line(number, router.host)}"',
                "check_interval_s = 0.5",
                "check_down = 4",
            ]
    lines += ["[metrics]", f'listen = "{METRICS}"']
    return "\n".join(lines) + "\n"


def _forward(name: Name) -> list[str]:
    lines = [f"{name.text}. AAAA {address}" for address in name.addresses]
    if name.m6:
        lines.append(f"{name.text}. TYPE{M6_RRTYPE} \\# 0")
    return lines


def _reverse(name: Name, zone: str) -> list[str]:
    pointers = (ipaddress.IPv6Address(address).reverse_pointer for address in name.addresses)
    return [f"{pointer}. PTR {name.text}." for pointer in pointers if pointer.endswith(f".{zone}")]
