# SPDX-License-Identifier: MIT
"""Nonces of ours that an attacker with the key cannot know, if it does not hear us [D39]."""

from typing import NamedTuple

from noid.identifiers import NO_NONCE, Nonce


class Doubt(NamedTuple):
    """Which nonces of ours only hosts that hear us know, although others know the key [D39].

    Attributes:
        until_ns: until when an answer to one of them counts.
        after: our last nonce before the latest of them.
        earlier: those before that; between them, nonces were skipped at random.
    """

    until_ns: int = 0
    after: Nonce = NO_NONCE
    earlier: tuple[range, ...] = ()

    def covers(self, nonce: Nonce, latest: Nonce) -> bool:
        """Whether a nonce is one of them.

        Args:
            nonce: the nonce.
            latest: our last nonce.
        """
        return self.after < nonce <= latest or any(nonce in one for one in self.earlier)


NO_DOUBT = Doubt()
"""No nonce is one of them."""
