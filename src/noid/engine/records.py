# SPDX-License-Identifier: MIT
"""What is stored of a context for the next daemon [D36]: the engine gives it and takes it back."""

from dataclasses import dataclass
from typing import NamedTuple

from noid.identifiers import Label, Nonce, Token
from noid.locators import Locator
from noid.wire.options import Entries, LocatorEntry


class Former(NamedTuple):
    """The state that authenticates the peer of a context before it was replaced [D39].

    The names are those of ``Context``.
    """

    peer_label: Label
    peer_token: Token
    peer_key: bytes
    local_token: Token
    local_key: bytes
    agreed_key: bytes
    peer_birthday: int
    peer_reset_hash: bytes
    peer_update_nonce: Nonce
    peer_keepalive_nonce: Nonce
    peer_local: tuple[Locator, ...]


class LostData(NamedTuple):
    """A pair over which data was found to be lost; the names are those of ``History`` [D47]."""

    pair: tuple[Locator, Locator]
    losses: int
    lost_ns: int
    lost_nonce: Nonce


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRecord:
    """What is stored of a context for the next daemon; the names are those of ``Context`` [D36].

    Attributes:
        peer_marks: those of Lsl(peer) with flags, and the flags.
        name: FQDN(peer), or empty.
        remote: Lsr(peer).
        proven: those of them that the DNS proved.
        is_plain: no pair passed the form of data, so data was plain [D47].
        former: the peer before the context was replaced.
        lost: pairs over which data was lost, the latest first.
        plain_until_ns: data goes plainly until then, since it was lost over all pairs.
    """

    local_aid: Locator
    peer_aid: Locator
    local_label: Label
    peer_label: Label
    agreed_key: bytes
    peer_birthday: int
    peer_reset_hash: bytes
    local_locator: Locator
    peer_locator: Locator
    own_local: tuple[Locator, ...]
    own_remote: tuple[Locator, ...] | None
    told_remote: tuple[Locator, ...]
    peer_local: tuple[Locator, ...]
    peer_marks: tuple[tuple[Locator, int], ...]
    aid_proven: bool
    name: str
    remote: tuple[Locator, ...]
    proven: tuple[Locator, ...]
    update_nonce: Nonce
    peer_update_nonce: Nonce
    peer_keepalive_nonce: Nonce
    round_trip_ns: int
    began: Locator | None = None
    is_plain: bool = False
    former: Former | None = None
    left_pair: tuple[Locator, Locator] | None = None
    lost: tuple[LostData, ...] = ()
    plain_until_ns: int = 0

    @property
    def peer_entries(self) -> Entries:
        """The marks in the form of messages."""
        return tuple(LocatorEntry(locator, flags) for locator, flags in self.peer_marks)
