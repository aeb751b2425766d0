# SPDX-License-Identifier: MIT
"""What a context notes of long packets that its stack does not send."""

from typing import NamedTuple

from noid.identifiers import NO_NONCE, Nonce


class Narrowed(NamedTuple):
    """The stack sends shorter packets to the peer, because a long one was lost or refused.

    Attributes:
        since_ns: when ``asked`` was first counted.
        octets: the length to ask about: of the last of these; 0 once a request has passed.
        told: the length that the stack was told to send at most.
        asked: long requests since then, or since the last switch.
        nonce: of the last of them; 0 if its answer or an error about it shows nothing.
    """

    since_ns: int
    octets: int = 0
    told: int = 0
    asked: int = 0
    nonce: Nonce = NO_NONCE
