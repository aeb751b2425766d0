# SPDX-License-Identifier: MIT
"""A flow: the part of a host-pair context that a data plane needs. Pure."""

from dataclasses import dataclass

from noid.constants import FLOW_LABEL_MASK
from noid.identifiers import Label
from noid.locators import Locator

NO_LOCATOR = Locator(b"")


@dataclass(slots=True, kw_only=True, eq=False)
class Flow:
    """One host-pair context as a data plane needs it [draft §3.2].

    The engine replaces a flow as a whole. The plane itself moves only ``peer_locator``, to the
    source of a packet, and with it ``peer_source`` and ``follow_ns`` [draft §7.11 3c, D41].

    Attributes:
        local_aid: AID(local).
        peer_aid: AID(peer).
        local_label: F(local), which packets for us carry; unique on this host.
        peer_label: F(peer), which packets for the peer carry; 0 until the peer has said it.
        local_locator: Lp(local), source of what is sent.
        peer_locator: Lp(peer), destination of what is sent.
        local_locators: Lsl(local), destinations that are ours.
        peer_locators: Lsl(peer), sources that are the peer's.
        verified_locators: of Lsv(peer), the sources that may become destinations.
        rewritable: whether data says "rewrite ok" [D4].
        transmits: whether data may leave by this flow; otherwise it goes plainly [D15].
        aside: whether the flow only receives, and leaves the AID pair to another: it is closing
            [draft App. A], not proven yet [D37], or not yet complete [D48].
        holds: whether what arrives goes to the engine, and not to the ULP [D37, D48].
        silence_ns: T, how long a packet may stay unanswered before that is reported [D20].
        peer_source: where the peer sends from, as far as is known; empty for Lp(peer). What comes
            from these two counts as heard.
        follow_ns: before this, data does not move Lp(peer).
        usable_locators: Ls(local), which the peer may use as destinations.
    """

    local_aid: Locator
    peer_aid: Locator
    local_label: Label
    peer_label: Label
    local_locator: Locator
    peer_locator: Locator
    local_locators: frozenset[Locator]
    peer_locators: frozenset[Locator]
    verified_locators: frozenset[Locator]
    rewritable: bool
    transmits: bool
    silence_ns: int
    aside: bool = False
    holds: bool = False
    peer_source: Locator = NO_LOCATOR
    follow_ns: int = 0
    usable_locators: frozenset[Locator] = frozenset()

    def __post_init__(self) -> None:
        self.peer_source = self.peer_source or self.peer_locator
        assert 0 < self.local_label <= FLOW_LABEL_MASK
        assert 0 <= self.peer_label <= FLOW_LABEL_MASK
        assert self.peer_label or not self.transmits
        assert self.local_locator in self.local_locators
        assert not (self.transmits and self.aside)
        assert self.aside or not self.holds
        assert not self.transmits or self.peer_locator in self.verified_locators
