# SPDX-License-Identifier: MIT
"""Tests with packets whether the rules of this host pass M6, and finds the rules to insert if not.

M6 packets pass the rules of a host in three forms. Each is tested on every uplink:

- control messages, ICMPv6, in both directions;
- the M6 next headers: outbound; inbound with the TUN plane only, because the kernel plane restores
  inbound packets at the ingress of the uplink, before any rule sees them;
- plain packets between AIDs: outbound to a peer and, restored, inbound from it. The test uses TCP
  and UDP conversations, so that it includes connection tracking and reverse-path filters.

With the kernel plane, plain packets leave through the uplink of their AID, and restored packets
appear there. While that uplink is down, both pass a device of the shim that has routes to the
peers, and the AID. Both states are tested. With the TUN plane they always pass the shim's device.

Not tested: rules of other hosts and routers; chains of the family netdev at egress; rules on the
exact name of a device of the shim (the trial device has another name); and connections from peers
to servers of this host, whose rules are the same with and without M6.
"""

import contextlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from noid.config import Plane, PlaneSection
from noid.constants import LOCATORS_MAX, Codepoints
from noid.doctor.attempt import Attempt
from noid.doctor.losses import PROTOCOLS, Loss, losses
from noid.doctor.trial import set_up
from noid.errors import ShimError
from noid.host import nftables
from noid.host.netlink import HostNetwork
from noid.locators import Locator

ROUNDS_MAX: Final = 4
"""Attempts with fixes; if more chains drop in sequence, the operator has to fix the rest."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a test.

    Attributes:
        lost: what is lost, grouped by the rule that drops it.
        untried: names of the protocols for which no conversation could be started.
    """

    lost: tuple[Loss, ...]
    untried: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fix:
    """A rule that was inserted.

    Attributes:
        loss: what it was inserted for.
        undo: the command of nft that deletes it.
    """

    loss: Loss
    undo: str

    def helped(self, lost: Iterable[Loss]) -> bool:
        """Whether everything that it was inserted for passes now."""
        still = {probe for loss in lost for probe in loss.probes}
        return still.isdisjoint(self.loss.probes)


class Firewall:
    """The rules of one host.

    Args:
        network: the host's.
        section: the ``[plane]`` of the configuration.
        points: the code points of M6.
        places: the host's locators, and the uplink of each; LOCATORS_MAX of them are tested.
        kind: the data plane.
    """

    def __init__(
        self,
        network: HostNetwork,
        section: PlaneSection,
        points: Codepoints,
        places: Mapping[Locator, str],
        kind: Plane,
    ) -> None:
        self.network = network
        self.section = section
        self.points = points
        self.places = dict(itertools.islice(places.items(), LOCATORS_MAX))
        self.kind = kind

    def try_out(self) -> Outcome:
        """Sends a packet of each form on every uplink, in both directions.

        Raises:
            ShimError, OSError: the test cannot run.
        """
        with set_up(self.network, self.section, self.places, self.kind) as trial:
            attempt = Attempt(trial, self.points, self.section.mark)
            lost = attempt.lost()
            drops = trial.drops() if lost else {}
        named = {probe: drops.get(attempt.traced(probe)) for probe in lost}
        begun = {protocol for _, protocol in attempt.talking}
        untried = tuple(name for number, name in PROTOCOLS.items() if number not in begun)
        return Outcome(tuple(losses(named, self.points, self.section.device)), untried)

    def fix(self) -> tuple[list[Fix], list[Fix], Outcome]:
        """Inserts the missing rules, repeats the test, and keeps the rules that help.

        Returns:
            The fixes that helped, those that were undone because they did not, and the result of
            the last test.

        Raises:
            ShimError, OSError: the test cannot run; inserted rules are deleted.
        """
        fixes: list[Fix] = []
        try:
            for _ in range(ROUNDS_MAX):
                outcome = self.try_out()
                if not _insert(outcome.lost, fixes):
                    break
            else:
                outcome = self.try_out()
            useless = [fix for fix in fixes if not fix.helped(outcome.lost)]
        except BaseException:
            _undo(fixes)
            raise
        _undo(useless)
        helped = [fix for fix in fixes if fix not in useless]
        return helped, useless, self.try_out() if useless else outcome


def _insert(lost: Iterable[Loss], fixes: list[Fix]) -> bool:
    """Inserts the missing rules, each once; returns whether there were any."""
    tried = {fix.loss.rule for fix in fixes}
    before = len(fixes)
    for loss in lost:
        if loss.rule and loss.rule not in tried:
            tried.add(loss.rule)
            with contextlib.suppress(ShimError):  # nft refuses: the packets stay lost
                fixes.append(Fix(loss, nftables.insert(loss.rule)))
    return len(fixes) > before


def _undo(fixes: Sequence[Fix]) -> None:
    for fix in reversed(fixes):
        with contextlib.suppress(ShimError):
            nftables.run(f"{fix.undo}\n")
