# SPDX-License-Identifier: MIT
"""``router-renumber``: provider 2 delegates another prefix, and then provider 1 dies.

The steps are those of D25: the DNS has listed the new address for a while; the host gets it and
tells its peer, which verifies it; then the old prefix goes. The border rewrites to the new one.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv6Network
from typing import Final

import dns.message
import dns.query

from noid.errors import PlatformError
from noid.lab import configuration, namespaces, servers
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.passing import Passing
from noid.lab.site_play import INSIDE, PEER, READY_S, SECOND_UPLINK, Moved, Play
from noid.lab.topology import BORDER, NAME_SERVER, locators, site, topology
from noid.lab.transfer import STALL_AFTER_S

RENUMBER = "router-renumber"
OLD: Final = site(2, INSIDE)
NEW: Final = "2001:db8:2:e::/64"
OLD_ADDRESS: Final = locators(INSIDE)[1]
NEW_ADDRESS: Final = NEW.removesuffix("/64") + INSIDE
ANSWER_S: Final = 1.0
PATIENCE_S: Final = 60.0

ADDED: Final = {
    "isp2": f"ip -6 route add {NEW} via 2001:db8:2:fa::2",
    BORDER: "ip addr add 2001:db8:2:e::1/64 dev lan0 nodad",
    INSIDE: f"""
ip addr add {NEW_ADDRESS}/64 dev up0 nodad
ip -6 rule add priority 1003 from {NEW} lookup 102
ip -6 route replace default via 2001:db8:2:e::1 src {NEW_ADDRESS} table 102
""",
}
"""What comes with the new prefix: routes, addresses, and the host's route by source."""
REMOVED: Final = {
    INSIDE: f"""
ip -6 route add default via 2001:db8:2:e::1 src {NEW_ADDRESS} metric 201
ip -6 rule del from {OLD} lookup 102
ip addr del {OLD_ADDRESS}/64 dev up0
""",
    BORDER: "ip addr del 2001:db8:2:a::1/64 dev lan0",
    "isp2": f"ip -6 route del {OLD} via 2001:db8:2:fa::2",
}
"""What goes with the old one."""


@dataclass(frozen=True, kw_only=True)
class Renumbered(Moved):
    """The result of the scenario.

    Attributes:
        by_new_prefix: packets of the connection that left with the new prefix in their source.
        by_old_prefix: the same with the old one, after it was gone.
    """

    by_new_prefix: int
    by_old_prefix: int

    @property
    def good(self) -> bool:
        """Whether the connection left with the new prefix, and not with the old one."""
        return super().good and self.by_new_prefix > 0 and self.by_old_prefix == 0

    @property
    def figures(self) -> dict[str, str]:
        """The outcome as texts, by their labels."""
        return super().figures | {
            "left with the new prefix": str(self.by_new_prefix),
            "left with the old prefix": str(self.by_old_prefix),
        }


def run_renumber(lab: Lab, *, stall_after_s: float = STALL_AFTER_S) -> Renumbered:
    """Plays ``router-renumber`` in a lab that is up.

    Raises:
        UsageError: there is no noid in this lab, or it is another network.
        PlatformError: it does not come as far as the fault.
    """
    _publish(lab)
    play = Play(lab, RENUMBER, stall_after_s)
    text = play.border.config.read_text(encoding="utf-8")
    with play.streams:
        play.begin()
        began_ns = time.monotonic_ns()
        _change(lab, ADDED)
        play.border.reload(text.replace(f'"{OLD}"', f'"{OLD}", "{NEW}"'))
        lab.wait_for("the peer verifies the new locator", _peer_has(lab, NEW_ADDRESS), PATIENCE_S)
        lab.wait_for("the border puts it into packets", play.border.is_settled, PATIENCE_S)
        play.border.reload(text.replace(OLD, NEW))
        _change(lab, REMOVED)
        gone = _peer_has(lab, OLD_ADDRESS)
        lab.wait_for("the peer forgets the old one", lambda: not gone(), PATIENCE_S)
        survived = play.goes_on()
        with Passing(lab, BORDER, SECOND_UPLINK) as watch:
            lab.cut(1, Fault.CARRIER)
            survived &= play.goes_on()
            new, old = (watch.from_prefix(IPv6Network(one), outgoing=True) for one in (NEW, OLD))
        figures = play.figures(began_ns, survived=survived, rewritten=play.rewritten())
    return Renumbered(**figures, by_new_prefix=new, by_old_prefix=old)


def _change(lab: Lab, scripts: dict[str, str]) -> None:
    for node, script in scripts.items():
        done = lab.run(node, ["sh", "-e", "-c", script])
        if done.returncode != 0:
            raise PlatformError(f"{RENUMBER} on {node}", done.returncode, done.stderr.strip())


def _peer_has(lab: Lab, address: str) -> Callable[[], bool]:
    """A condition: the peer has verified a locator of the host, which lists it."""
    return lambda: any(address in one["lsv_peer"] for one in lab.contexts(PEER))


def _publish(lab: Lab) -> None:
    """Adds the new address to the two that the DNS lists."""
    names = tuple(
        replace(name, addresses=(*name.addresses, NEW_ADDRESS))
        if name.text == f"{INSIDE}.{configuration.ZONE}"
        else name
        for name in topology().names
    )
    directory = lab.directory / "dns"
    for zone in configuration.zone_names():
        text = configuration.zone_file(zone, names).replace(" 1 3600 ", " 2 3600 ")
        configuration.zone_path(directory, zone).write_text(text, encoding="utf-8")
    os.kill(int((directory / "nsd.pid").read_text(encoding="utf-8")), signal.SIGHUP)
    node = namespaces.namespace(lab.name, "dns")
    lab.wait_for("the DNS has it", lambda: servers.succeeds(node, _is_published), READY_S)


def _is_published() -> bool:
    query = dns.message.make_query(f"{INSIDE}.{configuration.ZONE}.", "AAAA")
    response = dns.query.udp(query, NAME_SERVER, timeout=ANSWER_S)
    return NEW_ADDRESS in response.to_text()
