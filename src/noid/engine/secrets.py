"""Keyed hashes: the stateless cookie, the authentication of updates, the reset token [D8, D10].

All are BLAKE2b with a key and 16 octets of digest, from the standard library. Keys come from the
entropy the engine was given.
"""

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from noid.constants import COOKIE_KEY_LIFETIME, COOKIE_LIFETIME
from noid.locators import Locator
from noid.wire.options import HASH_OCTETS, TOKENS, Cookie, Entries, encode_entries

Entropy = Callable[[int], bytes]
"""So many random octets."""

KEY_OCTETS = 32
COOKIE_END = struct.Struct(">16sIIQ")


def keyed_hash(key: bytes, octets: bytes) -> bytes:
    """16 octets that only a holder of ``key`` can make."""
    return hashlib.blake2b(octets, key=key, digest_size=HASH_OCTETS).digest()


def equal(one: bytes, other: bytes) -> bool:
    """Whether two hashes are the same, in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)


def authentication(sender_token: int, receiver_token: int, blanked: bytes) -> bytes:
    """The keyed hash of a message, made from both ends' tokens [draft §13, D10].

    The key is the sender's token and then the receiver's, so that a message turned round proves
    nothing.

    Args:
        sender_token: of the end that sends the message.
        receiver_token: of the other.
        blanked: the message as ``wire.control.blank_authentication`` leaves it.
    """
    return keyed_hash(TOKENS.pack(sender_token, receiver_token), blanked)


def reset_token(reset_key: bytes, label: int, peer: Locator) -> bytes:
    """What proves that a UC about ``label`` comes from the host that allocated it [D10].

    Args:
        reset_key: this host's key, in stable storage.
        label: F(local) of the context.
        peer: the peer's AID; in a UC, where that is lost with the context, the source locator of
            the packet in question, which is the AID more often than not.
    """
    return keyed_hash(reset_key, label.to_bytes(4, "big") + peer)


class CookieEnd(NamedTuple):
    """What a cookie covers of one end of the context to be."""

    aid: Locator
    label: int
    birthday: int
    token: int
    locators: Entries


def cookie_state(initiator: CookieEnd, responder: CookieEnd) -> bytes:
    """The state that a CC carries and its CCR returns [draft §3.3.2]."""
    return b"".join(
        [
            COOKIE_END.pack(end.aid, end.label, end.birthday, end.token)
            + encode_entries(end.locators)
            for end in (initiator, responder)
        ]
    )


@dataclass(slots=True)
class CookieKeys:
    """The keys of the stateless cookie: the one that signs, and the one before it [D8].

    Args:
        entropy: where keys come from.
    """

    entropy: Entropy
    current: bytes = b""
    previous: bytes = b""
    made_ns: int = 0

    def seal(self, state: bytes, locator: Locator, now_ns: int) -> Cookie:
        """The cookie of a CC that goes to ``locator``."""
        self._rotate(now_ns)
        return Cookie(
            timestamp=now_ns,
            locator=locator,
            keyed_hash=_cookie_hash(self.current, state, locator, now_ns),
        )

    def opens(self, cookie: Cookie, state: bytes, now_ns: int) -> bool:
        """Whether we made this cookie for this state, no longer than COOKIE_LIFETIME ago."""
        self._rotate(now_ns)
        if not 0 <= now_ns - cookie.timestamp <= COOKIE_LIFETIME:
            return False
        key = self.current if cookie.timestamp >= self.made_ns else self.previous
        if not key:
            return False
        expected = _cookie_hash(key, state, cookie.locator, cookie.timestamp)
        return equal(expected, cookie.keyed_hash)

    def _rotate(self, now_ns: int) -> None:
        age = now_ns - self.made_ns
        if not self.current or age >= COOKIE_KEY_LIFETIME:
            # A key older than two lifetimes signed nothing that could still be accepted.
            self.previous = self.current if age < 2 * COOKIE_KEY_LIFETIME else b""
            self.current = self.entropy(KEY_OCTETS)
            self.made_ns = now_ns


def _cookie_hash(key: bytes, state: bytes, locator: Locator, timestamp: int) -> bytes:
    return keyed_hash(key, timestamp.to_bytes(8, "big") + locator + state)
