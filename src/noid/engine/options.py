# SPDX-License-Identifier: MIT
"""What a host is given when it starts."""

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import NamedTuple

from noid.constants import CONTEXTS_MAX, MEASURE_AFTER, MTU_MIN, Codepoints
from noid.locators import Locator


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Peers that the operator names: to reach them as without M6, or over one uplink.

    Attributes:
        prefixes: of their AIDs.
        names: their names, canonical.
        domains: names whose subdomains are included, canonical.
    """

    prefixes: tuple[IPv6Network, ...] = ()
    names: frozenset[str] = frozenset()
    domains: tuple[str, ...] = ()

    def covers(self, aid: Locator) -> bool:
        """Whether a peer with this AID is included."""
        if not self.prefixes:
            return False
        address = IPv6Address(aid)
        return any(address in prefix for prefix in self.prefixes)

    def names_it(self, name: str) -> bool:
        """Whether a peer with this canonical name is included."""
        return name in self.names or any(name.endswith(f".{one}") for one in self.domains)


class Pin(NamedTuple):
    """Peers that are reached over one uplink while it works.

    Attributes:
        peers: the peers.
        locators: ours on that uplink.
    """

    peers: Policy
    locators: frozenset[Locator]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """What does not change while a host runs.

    Attributes:
        codepoints: the numbers in use.
        birthday: the birthday counter, 32 bits, one more than when state was last lost [D35].
        reset_key: 32 octets in stable storage, for the reset tokens [D39].
        mtu: the least MTU of the uplinks; what is piggybacked must fit it.
        on_switch: whether packets are plain while the locators in use are the AIDs [D28].
        never_looked_up: prefixes of unknown hosts that are never looked up [D34].
        contexts_max: contexts the data plane has room for.
        policy: which peers are reached as without M6, until ``PolicyChanged``.
        is_verifiable: whether forward and reverse DNS tie the locators to one name; if not, a
            context has only its AID [draft §7.2, §7.3, §7.13].
        measure_after_ns: how long after its set-up a context measures the round trip once more,
            times 0.5 to 1.5; CONTEXT_IDLE_TIME: never.
    """

    codepoints: Codepoints
    birthday: int
    reset_key: bytes
    mtu: int = 1500
    on_switch: bool = False
    never_looked_up: tuple[IPv6Network, ...] = ()
    contexts_max: int = CONTEXTS_MAX
    policy: Policy = Policy()
    is_verifiable: bool = True
    measure_after_ns: int = MEASURE_AFTER

    def __post_init__(self) -> None:
        assert 0 < self.contexts_max <= CONTEXTS_MAX
        assert 0 <= self.birthday < 1 << 32
        assert self.mtu >= MTU_MIN

    def excludes(self, aid: Locator) -> bool:
        """Whether the operator wants no lookup of an address [D34]."""
        address = IPv6Address(aid)
        return any(address in network for network in self.never_looked_up)
