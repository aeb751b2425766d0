# SPDX-License-Identifier: MIT
"""What a border does not let pass: packets that nothing can carry, and sources that are not right.

``router-plain``: host a lists its AID alone, so that none of its packets may be rewritten, and
provider 1 loses its carrier for a while. ``router-filter``: a host of the site and the routers of
the providers send packets with sources that they do not have.
"""

import contextlib
import errno
import functools
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Network
from typing import Final, NamedTuple

from noid.counters import BorderCounter
from noid.lab import namespaces
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.passing import TCP_OF_CONTEXTS, Passing
from noid.lab.site_play import FIRST_UPLINK, INSIDE, READY_S, SECOND_UPLINK, Moved, Play
from noid.lab.sites import LAN_DEVICE
from noid.lab.topology import BORDER, NAME_SERVER, locators, site
from noid.lab.transfer import STALL_AFTER_S

PLAIN, FILTER = "router-plain", "router-filter"
CODE_5: Final = "EACCES"
"""What Linux makes of ICMPv6 destination unreachable with code 5."""
DISCARD: Final = 9
ATTEMPT_S: Final = 3.0
ATTEMPTS: Final = 8
IPV6_FREEBIND: Final = 78
OUTSIDE: Final = ("2001:db8:99::1", "fd00::1")
"""Sources that are none of the site."""
EACH: Final = 20
WRONG_TABLE, WRONG_PRIORITY = 101, 10
"""A rule of the border's operator that leads the second prefix to provider 1."""
DROPPED: Final = (
    BorderCounter.DROPPED_SOURCE_OUTSIDE,
    BorderCounter.DROPPED_SOURCE_OF_OTHER_UPLINK,
    BorderCounter.DROPPED_SOURCE_OF_SITE,
)


@dataclass(frozen=True, kw_only=True)
class Refused(Moved):
    """The result of ``router-plain``: the connection waits, and goes on when provider 1 is back.

    Attributes:
        refused: packets for which no uplink worked.
        plain_heard: what a plain connection attempt by provider 1 failed with; EACCES is code 5.
    """

    refused: int
    plain_heard: str

    @property
    def good(self) -> bool:
        """Whether no packet was rewritten, and senders heard of it."""
        heard = self.plain_heard == CODE_5 and self.refused > 0
        return heard and self.survived and self.intact and self.rewritten == 0

    @property
    def figures(self) -> dict[str, str]:
        """The outcome as texts, by their labels."""
        return super().figures | {
            "packets refused": str(self.refused),
            "a plain sender heard": self.plain_heard,
        }


@dataclass(frozen=True, kw_only=True)
class Filtered(Moved):
    """The result of ``router-filter``.

    Attributes:
        tried_out: packets with a wrong source that came from the site to the border.
        left: how many of these left by an uplink.
        tried_in: packets with a source of the site that came from a provider to the border.
        came_in: how many of these reached the host.
        dropped: what the border counted, by its counter.
    """

    tried_out: int
    left: int
    tried_in: int
    came_in: int
    dropped: dict[str, int]

    @property
    def good(self) -> bool:
        """Whether nothing with a wrong source passed, and each kind was counted."""
        kept = self.tried_out > 0 and self.tried_in > 0 and not self.left and not self.came_in
        return kept and all(self.dropped.values()) and self.survived and self.intact

    @property
    def figures(self) -> dict[str, str]:
        """The outcome as texts, by their labels."""
        return super().figures | {
            "wrong sources from inside": f"{self.tried_out}, {self.left} left",
            "wrong sources from outside": f"{self.tried_in}, {self.came_in} came in",
        }


def run_plain(lab: Lab, *, stall_after_s: float = STALL_AFTER_S) -> Refused:
    """Plays ``router-plain`` in a lab that is up.

    Raises:
        UsageError: there is no noid in this lab, or it is another network.
        PlatformError: it does not come as far as the fault.
    """
    play = Play(lab, PLAIN, stall_after_s, listed=1)
    with play.streams:
        play.begin()
        fault_ns = lab.cut(1, Fault.CARRIER)
        refused = BorderCounter.REFUSED_NO_UPLINK
        lab.wait_for("packets are refused", play.border.counts(refused), READY_S)
        heard = _plain_attempt(lab)
        count, rewritten = play.border.count(refused), play.rewritten()
        lab.heal(1)
        survived = play.goes_on()
        figures = play.figures(fault_ns, survived=survived, rewritten=rewritten)
    return Refused(**figures, refused=count, plain_heard=heard)


def _plain_attempt(lab: Lab) -> str:
    """What a plain connection from provider 1's address fails with.

    The kernel of the border limits its errors for each host: an attempt may hear nothing.
    """

    def attempt() -> str:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as plain:
            plain.bind((locators(INSIDE)[0], 0))
            plain.settimeout(ATTEMPT_S)
            code = plain.connect_ex((NAME_SERVER, DISCARD))
        return errno.errorcode.get(code, "")

    node = namespaces.namespace(lab.name, INSIDE)
    found = ""
    for _ in range(ATTEMPTS):
        found = namespaces.inside(node, attempt)
        if found == CODE_5:
            break
    return found


class _Spoof(NamedTuple):
    """A packet with a source that its sender does not have, or that is led to a wrong uplink."""

    node: str
    source: str
    destination: str
    protocol: int = socket.IPPROTO_UDP


def _spoofs() -> Iterator[_Spoof]:
    for source in OUTSIDE:
        for protocol in (socket.IPPROTO_UDP, TCP_OF_CONTEXTS):
            yield _Spoof(INSIDE, source, NAME_SERVER, protocol)
    first, second = locators(INSIDE)
    yield _Spoof(INSIDE, second, NAME_SERVER)  # led to provider 1 by a rule
    yield _Spoof("isp1", _other_host(2), first)
    yield _Spoof("isp2", _other_host(1), second)


def _other_host(number: int) -> str:
    return site(number, INSIDE).removesuffix("/64") + "66"


def run_filter(lab: Lab, *, stall_after_s: float = STALL_AFTER_S) -> Filtered:
    """Plays ``router-filter`` in a lab that is up.

    Raises:
        UsageError: there is no noid in this lab, or it is another network.
        PlatformError: it does not come as far as the fault.
    """
    play = Play(lab, FILTER, stall_after_s)
    with contextlib.ExitStack() as stack:
        stack.enter_context(play.streams)
        play.begin()
        lan, first, second, host = (
            stack.enter_context(Passing(lab, node, interface))
            for node, interface in (
                (BORDER, LAN_DEVICE),
                (BORDER, FIRST_UPLINK),
                (BORDER, SECOND_UPLINK),
                (INSIDE, "up0"),
            )
        )
        stack.enter_context(_wrong_rule(lab))
        began_ns = time.monotonic_ns()
        for one in _spoofs():
            node = namespaces.namespace(lab.name, one.node)
            namespaces.inside(node, functools.partial(_send, one))
        lab.wait_for("wrong sources are dropped", play.border.counts(*DROPPED), READY_S)
        survived = play.goes_on()
        own = [IPv6Network(site(number, INSIDE)) for number in (1, 2)]
        foreign = [IPv6Network(source) for source in OUTSIDE]
        others = [IPv6Network(_other_host(number)) for number in (1, 2)]
        return Filtered(
            **play.figures(began_ns, survived=survived, rewritten=play.rewritten()),
            tried_out=sum(lan.from_prefix(one, outgoing=False) for one in (*foreign, own[1])),
            left=first.from_prefix(own[1], outgoing=True)
            + second.from_prefix(own[0], outgoing=True)
            + sum(up.from_prefix(one, outgoing=True) for up in (first, second) for one in foreign),
            tried_in=sum(
                up.from_prefix(one, outgoing=False) for up in (first, second) for one in others
            ),
            came_in=sum(host.from_prefix(one, outgoing=False) for one in others),
            dropped={one.identifier: play.border.count(one) for one in DROPPED},
        )


@contextlib.contextmanager
def _wrong_rule(lab: Lab) -> Iterator[None]:
    """The border leads the second prefix to provider 1, for one destination."""
    where = ["from", site(2, INSIDE), "to", NAME_SERVER, "lookup", str(WRONG_TABLE)]
    rule = ["priority", str(WRONG_PRIORITY), *where]
    lab.run(BORDER, ["ip", "-6", "rule", "add", *rule])
    try:
        yield
    finally:
        lab.run(BORDER, ["ip", "-6", "rule", "del", *rule])


def _send(spoof: _Spoof) -> None:
    is_udp = spoof.protocol == socket.IPPROTO_UDP
    kind, port = (socket.SOCK_DGRAM, DISCARD) if is_udp else (socket.SOCK_RAW, 0)
    with socket.socket(socket.AF_INET6, kind, spoof.protocol) as sender:
        sender.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        sender.bind((spoof.source, 0))
        for _ in range(EACH):
            sender.sendto(b"spoofed", (spoof.destination, port))
