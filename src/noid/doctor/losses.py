# SPDX-License-Identifier: MIT
"""The M6 packets that rules of a host drop, in one line each, and the rule that accepts them."""

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from noid.constants import TRIAL_SUFFIX, Codepoints
from noid.host import nftables
from noid.host.nftables import Drop
from noid.locators import Locator, format_locator
from noid.wire import ipv6

PROTOCOLS: Final = {ipv6.TCP: "TCP", ipv6.UDP: "UDP"}
"""The protocols of the test conversations."""


class Direction(enum.Enum):
    """The direction of a packet, seen from this host."""

    IN = "inbound"
    OUT = "outbound"


class Form(enum.Enum):
    """The form in which rules see an M6 packet."""

    CONTROL = "control"
    DATA = "data"
    PLAIN = "plain"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class Probe:
    """One packet of the test.

    Attributes:
        form: its form.
        direction: its direction.
        device: the device it arrives on or leaves through.
        locator: of this host: its destination or source.
        protocol: its next header.
        in_outage: whether it passes this device only while the uplink of its AID is down.
    """

    form: Form
    direction: Direction
    device: str
    locator: Locator
    protocol: int
    in_outage: bool = False


@dataclass(frozen=True, slots=True)
class Loss:
    """Probes that are dropped by the same rule.

    Attributes:
        probes: at least one; of one form and direction; all on devices of noid, or none.
        drop: the rule that drops them, or None if no rule of nftables does.
        rule: the rule that accepts them, as ``nft insert rule`` takes it; or empty.
    """

    probes: tuple[Probe, ...]
    drop: Drop | None
    rule: str

    @property
    def command(self) -> str:
        """The command that inserts the rule, or advice if there is none."""
        if not self.rule:
            return "no nftables rule drops it; see ip6tables-legacy -S and tc filter show"
        return f"nft 'insert rule {self.rule}'"


def losses(lost: Mapping[Probe, Drop | None], points: Codepoints, device: str) -> list[Loss]:
    """Groups lost probes that the same rule drops and that one rule accepts.

    Args:
        lost: each probe, and the rule of nftables that dropped it, if one did.
        points: the code points of M6.
        device: name of the shim's device.
    """
    groups: dict[tuple[Drop | None, Form, Direction, bool], list[Probe]] = {}
    for probe, drop in lost.items():
        key = drop, probe.form, probe.direction, _is_ours(probe.device, device)
        groups.setdefault(key, []).append(probe)
    return [
        Loss(tuple(probes), drop, "" if drop is None else _rule(drop, probes, points, device))
        for (drop, *_), probes in groups.items()
    ]


def describe(loss: Loss, points: Codepoints) -> str:
    """One line that says which packets are dropped, and by which rule."""
    first = loss.probes[0]
    match first.form:
        case Form.CONTROL:
            what = f"ICMPv6 type {points.icmpv6_type}"
        case Form.DATA:
            what = f"next headers {', '.join(ranges({one.protocol for one in loss.probes}))}"
        case Form.PLAIN | Form.RESTORED:
            names = (PROTOCOLS[one] for one in sorted({one.protocol for one in loss.probes}))
            what = f"{first.form.value} packets ({', '.join(names)})"
    drop = loss.drop
    by = "something other than nftables" if drop is None else f"{drop.chain} ({drop.rule})"
    places = " ".join(sorted({one.device for one in loss.probes}))
    text = f"{by} drops {first.direction.value} {what} on {places}"
    if first.in_outage:
        aids = " ".join(sorted({format_locator(one.locator) for one in loss.probes}))
        text += f" for {aids} while its own uplink is down"
    return text


def ranges(numbers: Collection[int]) -> list[str]:
    """Numbers as nft writes them, such as 224-231."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return [f"{one[0]}-{one[-1]}" if len(one) > 1 else f"{one[0]}" for one in found]


def _rule(drop: Drop, probes: Sequence[Probe], points: Codepoints, device: str) -> str:
    """The narrowest rule that accepts the probes where they are dropped."""
    first = probes[0]
    match first.form, first.direction:
        case Form.CONTROL, _:
            match = f"icmpv6 type {points.icmpv6_type}"
        case Form.DATA, _:
            match = f"meta l4proto {_set(ranges({one.protocol for one in probes}))}"
        case _, Direction.OUT:
            match = f"oifname {_devices(probes, device)}"
            if not _is_ours(first.device, device):
                match += f" ip6 saddr {_aids(probes)}"
        case _:
            match = f"iifname {_devices(probes, device)} ip6 daddr {_aids(probes)}"
            if nftables.sees_connections(drop.chain):
                match += " ct state established,related"
    return f"{drop.chain} {match} accept"


def _devices(probes: Sequence[Probe], device: str) -> str:
    """The devices of probes as nft writes them; one pattern for the devices of noid."""
    if _is_ours(probes[0].device, device):
        return f'"{device}*"'
    return _set([f'"{one}"' for one in sorted({probe.device for probe in probes})])


def _aids(probes: Sequence[Probe]) -> str:
    return _set(sorted({format_locator(probe.locator) for probe in probes}))


def _is_ours(name: str, device: str) -> bool:
    """Whether a name is that of the trial device, which represents the shim's device."""
    return name == f"{device}{TRIAL_SUFFIX}"


def _set(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{{ {', '.join(values)} }}"
