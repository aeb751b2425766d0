# SPDX-License-Identifier: MIT
"""An uplink as data planes see it. Pure."""

from typing import NamedTuple

CUT_TCP, CUT_UDP, SUM = 1, 2, 4
"""What an uplink cannot do to packets with an M6 next header, so that it is done before."""
ETHERNET, SENDS, RECEIVES = 8, 16, 32
"""Whether an uplink has a link-layer header, whether packets can leave by it, and appear on it."""
UPLINKS_MAX = 256
"""Rows of the table of uplinks; row 0 stands for none, the last for the device of ours."""
OWN_ROW = UPLINKS_MAX - 1
LINK_OCTETS = 6


class Uplink(NamedTuple):
    """An uplink, as the programs see it.

    Attributes:
        ifindex: its device; 0 where there is none.
        mtu: octets of IPv6 it carries.
        link: its link-layer address, 6 octets; zeros where it has none.
        flags: CUT_TCP, CUT_UDP and SUM, as far as it cannot do these; ETHERNET, SENDS, RECEIVES.
        metrics: the route metrics (RTA_METRICS) of its default route, which routes by it copy.
    """

    ifindex: int
    mtu: int
    link: bytes
    flags: int
    metrics: bytes = b""


NO_UPLINK = Uplink(0, 0, bytes(LINK_OCTETS), 0)
