# SPDX-License-Identifier: MIT
"""What a context notes of long packets that its stack does not send."""

from typing import NamedTuple


class Narrowed(NamedTuple):
    """The stack sends shorter packets to the peer, because a long one was lost or refused.

    Attributes:
        octets: the length of the longest of these; 0 once one of this length has passed.
        asked: requests of this length over the pair in use so far.
        nonce: of the last of them; 0 if it is about another pair.
    """

    octets: int
    asked: int = 0
    nonce: int = 0
