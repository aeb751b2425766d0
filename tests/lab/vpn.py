# SPDX-License-Identifier: MIT
"""A VPN of everything on host a, as wg-quick makes one of AllowedIPs = ::/0.

All packets but its own, which have a mark, take the VPN. Nothing is at its other end.
"""

from typing import Final

from noid.lab.lab import Lab
from tests.lab.conversations import PATIENCE_S

IN_VPN: Final = "fd77::2"
VPN_MARK: Final = 51820
PRIORITIES: Final = {"began later": 59, "began before noid": 1000}
"""Priorities of its rule: wg-quick puts it before all others that there are."""


def run(lab: Lab, *commands: str) -> None:
    """Runs commands on host a."""
    for command in commands:
        done = lab.run("a", command.split())
        assert done.returncode == 0, f"{command}: {done.stderr}"


def rules(lab: Lab) -> str:
    """The rules of host a."""
    return lab.run("a", ["ip", "-6", "rule"]).stdout


def make_vpn(lab: Lab) -> None:
    """Makes the device of the VPN, which no packet takes yet."""
    run(
        lab,
        "ip tuntap add vpn0 mode tun",
        "ip link set vpn0 up",
        f"ip -6 addr add {IN_VPN}/128 dev vpn0 nodad",
        f"ip -6 route add default dev vpn0 table {VPN_MARK}",
    )


def lead_into_vpn(lab: Lab, priority: int) -> None:
    """Leads packets into the VPN."""
    run(
        lab,
        f"ip -6 rule add priority {priority} not fwmark {VPN_MARK} table {VPN_MARK}",
        f"ip -6 rule add priority {priority - 1} table main suppress_prefixlength 0",
    )


def lead_past_vpn(lab: Lab, priority: int) -> None:
    """Undoes ``lead_into_vpn``."""
    run(lab, *(f"ip -6 rule del priority {one}" for one in (priority, priority - 1)))


def await_heeded(lab: Lab) -> None:
    """Waits until noid has noticed that packets take the VPN."""
    lab.wait_for("noid has seen it", lambda: "ipproto ipproto-255" in rules(lab), PATIENCE_S)
