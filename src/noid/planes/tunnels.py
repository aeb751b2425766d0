# SPDX-License-Identifier: MIT
"""Rules by which noid's own packets do not enter a VPN of everything.

Such a VPN has a rule V for all packets without its mark, as wg-quick adds. noid's own packets
leave as the packets of the VPN do, which may be those of a flow:

    V-1    from all fwmark MARK ipproto 255 goto W    what noid sends by raw sockets
    V-1    from all fwmark MARK oif UPLINK goto W     packets for which a program finds the next hop

W is P if V comes before our rules, and otherwise the rule after V. Other packets with the mark are
those of sockets: of ``noid plain``, and to resolvers. These enter the VPN.
"""

import socket
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from noid.config import PlaneSection
from noid.host.rules import GOTO, Rule
from noid.planes.uplink import UPLINKS_MAX

RAW = socket.IPPROTO_RAW
"""The protocol by which the kernel selects a route for a socket that sends complete packets."""


def past_tunnels(
    section: PlaneSection, last: int, others: Sequence[Rule], uplinks: Iterable[str]
) -> Iterator[Rule]:
    """The rules that lead noid's own packets past the rules of VPNs.

    Args:
        section: the ``[plane]`` of the configuration.
        last: the last priority of our other rules.
        others: the rules of others.
        uplinks: the names of the devices by which programs of ours redirect packets.
    """
    first = section.rule_priority
    tunnels = [one.priority for one in others if one.is_all_but(section.mark)]
    before = [one for one in tunnels if 1 < one < first]
    behind = [one for one in tunnels if one > last]
    after = [one.priority for one in others if behind and one.priority > max(behind)]
    for some, targets in ((before, [first]), (behind, after)):
        if some and targets:
            usual = Rule(min(some) - 1, GOTO, target=min(targets), mark=section.mark)
            yield usual._replace(protocol=RAW)
            yield from (usual._replace(device=name) for name in islice(uplinks, UPLINKS_MAX))


def leads_past(section: PlaneSection, rule: Rule) -> bool:
    """Whether a rule is one of these, for any VPN and any uplink."""
    is_past = rule.protocol == RAW or bool(rule.device)
    return rule.action == GOTO and rule.mark == section.mark and is_past
