# SPDX-License-Identifier: MIT
"""A download of a host in a site whose line to provider 1 dies: with noid, and with NPTv6.

With noid the border of the site rewrites. With NPTv6 (RFC 6296) the hosts have addresses of prefix
1 alone, and the router, with nftables, puts prefix 2 into what leaves by provider 2 and takes it
out of what comes back, without any state.
"""

from dataclasses import asdict, dataclass
from typing import Final

from noid.constants import MILLISECOND, SECOND
from noid.errors import PlatformError
from noid.lab import namespaces, nft
from noid.lab.borders import start_borders
from noid.lab.configuration import ZONE
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.topology import BORDER, locators, site
from noid.lab.transfer import DOWNLOADER, SERVER, Outcome, Transfer, Watch

NAME: Final = "site-failover"
CUT_TEXT: Final = "the site's line to provider 1 loses its carrier"
ATTEMPT_S: Final = 5
ALL_BUT_PREFIX: Final = "::ffff:ffff:ffff:ffff"


@dataclass(frozen=True, kw_only=True)
class SiteOutcome(Outcome):
    """The result of the scenario.

    Attributes:
        reset: whether the download was broken off, and not given up for want of octets.
        new_connection: whether a connection could be opened afterwards.
    """

    reset: bool
    new_connection: bool

    @property
    def figures(self) -> dict[str, str]:
        """The outcome as texts, by their labels."""
        broken = {"longest silence": "broken off"} if self.reset else {}
        new = "yes" if self.new_connection else "no"
        return super().figures | broken | {"new connection works": new}


def translation() -> str:
    """The rules of NPTv6 on the site's router, in the syntax of ``nft -f``."""
    inner, outer = site(1, DOWNLOADER), site(2, DOWNLOADER)
    to_outer, to_inner = (f"{ALL_BUT_PREFIX} | {one.removesuffix('/64')}" for one in (outer, inner))
    return f"""\
table ip6 npt {{
  chain out {{
    type filter hook postrouting priority 0;
    oifname "up2" ip6 saddr {inner} ip6 saddr set ip6 saddr & {to_outer}
  }}
  chain in {{
    type filter hook prerouting priority -300;
    iifname "up2" ip6 daddr {outer} ip6 daddr set ip6 daddr & {to_inner}
  }}
}}
"""


def translate(lab: Lab) -> None:
    """Makes the router of a lab with a site one with NPTv6, in which there is no noid.

    Raises:
        ShimError: nftables is not installed, or something is refused.
    """
    namespaces.inside(namespaces.namespace(lab.name, BORDER), lambda: nft.run(translation()))
    second = f"{locators(DOWNLOADER)[1]}/64"
    for node, command in (
        # A route by a line without carrier is none.
        (BORDER, "sysctl -qw net.ipv6.conf.all.ignore_routes_with_linkdown=1"),
        (BORDER, "sysctl -qw net.ipv6.conf.up1.ignore_routes_with_linkdown=1"),
        (DOWNLOADER, f"ip addr del {second} dev up0"),
    ):
        done = lab.run(node, command.split())
        if done.returncode != 0:
            raise PlatformError(f"{command} on {node}", done.returncode, done.stderr.strip())


def prepare(lab: Lab) -> None:
    """Gives the site its border with noid, or its router with NPTv6 where there is no noid.

    Raises:
        ShimError: one cannot be started.
    """
    if lab.plane == "none":
        translate(lab)
    else:
        start_borders(lab)


def run(lab: Lab, *, stall_after_s: float, watch: Watch = lambda run: None) -> SiteOutcome:
    """Plays it in a lab with ``--sites one`` that is prepared.

    Args:
        lab: the lab.
        stall_after_s: how long without a byte until the download is given up.
        watch: called every few milliseconds.

    Raises:
        PlatformError: it does not come as far as the cut, or not over provider 1.
    """
    with Transfer(lab, NAME, stall_after_s, watch) as transfer:
        transfer.state.cut_text = CUT_TEXT
        transfer.await_part(0.5, transfer.is_protected)
        transfer.cut(Fault.CARRIER)
        outcome = transfer.finish()
    reset = not outcome.survived and outcome.gap_ms < stall_after_s * SECOND / MILLISECOND
    return SiteOutcome(**asdict(outcome), reset=reset, new_connection=_connects(lab))


def _connects(lab: Lab) -> bool:
    """Whether host a gets an answer of the web server of b by a new connection."""
    url = f"http://{SERVER}.{ZONE}/"
    done = lab.run(DOWNLOADER, ["curl", "-s", "-o", "/dev/null", "-m", str(ATTEMPT_S), url])
    return done.returncode == 0
