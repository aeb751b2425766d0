# SPDX-License-Identifier: MIT
"""Key agreement, and keyed hashes: messages, the stateless cookie, the reset token [D8, D39, D40].

The hashes are BLAKE2b with 16 octets of digest, from the standard library. The agreement is X25519
(RFC 7748). Keys come from the entropy the engine was given.
"""

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from noid.constants import COOKIE_LIFETIME, KEYS_KEPT, KEYS_LIFETIME
from noid.identifiers import Label, Token
from noid.locators import Locator
from noid.wire.options import HASH_OCTETS, Cookie, Entries, encode_entries

Entropy = Callable[[int], bytes]
"""Returns as many random octets as asked for."""

KEY_OCTETS = 32
KEY_VERSION = b"noid key 1"
"""Version of the way in which keys are made."""
SIDE = struct.Struct(">16sIQ32s")
COOKIE_END = struct.Struct(">16sIIQ")
RESET = struct.Struct(">II")
BIRTHDAYS = 1 << 32


class KeyPair:
    """An X25519 key pair.

    Args:
        private: 32 random octets.

    Attributes:
        public: the public key, 32 octets.
    """

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()

    def __reduce__(self) -> tuple[type["KeyPair"], tuple[bytes]]:
        return KeyPair, (self._private.private_bytes_raw(),)

    def agree(self, public: bytes) -> bytes:
        """The secret shared with the owner of a public key, 32 octets; empty if it is zero."""
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            return b""


class Side(NamedTuple):
    """What one end of a context puts into its key; all of it is public.

    Attributes:
        aid: its AID.
        label: the label that it allocated.
        token: its random token.
        key: its public key, 32 octets.
    """

    aid: Locator
    label: Label
    token: Token
    key: bytes


def context_key(shared: bytes, one: Side, other: Side) -> bytes:
    """K, 32 octets: what authenticates the messages of a context [D40].

    Args:
        shared: the secret of the two key pairs.
        one: what one end has said of itself.
        other: the same of the other; which is which does not matter.
    """
    sides = b"".join([SIDE.pack(*side) for side in sorted((one, other))])
    return hashlib.blake2b(shared + KEY_VERSION + sides, digest_size=KEY_OCTETS).digest()


def keyed_hash(key: bytes, octets: bytes) -> bytes:
    """16 octets that only a holder of ``key`` can make."""
    return hashlib.blake2b(octets, key=key, digest_size=HASH_OCTETS).digest()


def equal(one: bytes, other: bytes) -> bool:
    """Whether two hashes are equal; the time it takes does not reveal where they differ."""
    return hmac.compare_digest(one, other)


def reset_token(reset_key: bytes, birthday: int, label: Label) -> bytes:
    """Proves that the host that allocated a label has restarted since [D39].

    Args:
        reset_key: the host's key, in stable storage.
        birthday: its birthday counter when it created the context.
        label: F(local) of the context.
    """
    return keyed_hash(reset_key, RESET.pack(birthday % BIRTHDAYS, label))


def reset_hash(token: bytes) -> bytes:
    """The hash that the peer stores, to recognize the reset token when a UC discloses it."""
    return hashlib.blake2b(token, digest_size=HASH_OCTETS).digest()


class CookieEnd(NamedTuple):
    """What a cookie covers of one end of the future context."""

    aid: Locator
    label: Label
    birthday: int
    token: Token
    locators: Entries


def cookie_state(initiator: CookieEnd, responder: CookieEnd, key: bytes) -> bytes:
    """The state that a CC carries and its CCR returns [draft §3.3.2].

    Args:
        initiator: what INIT said.
        responder: what CC says.
        key: the initiator's public key; the responder's is added by ``HostKeys``.
    """
    ends = [
        COOKIE_END.pack(end.aid, end.label, end.birthday, end.token) + encode_entries(end.locators)
        for end in (initiator, responder)
    ]
    return b"".join([*ends, key])


class Epoch(NamedTuple):
    """The secrets of one period: the key of the cookie, and the key pair."""

    began_ns: int
    cookie_key: bytes
    pair: KeyPair


class Opened(NamedTuple):
    """What a valid cookie says: our key pair in its CC, and when that was made."""

    pair: KeyPair
    made_ns: int


@dataclass(slots=True)
class HostKeys:
    """The secrets of the present period and of the one before [D8, D40].

    An exchange keeps the key pair it began with. So the former secrets are kept here only while a
    cookie of that period may be returned, and a little longer.

    Args:
        entropy: where keys come from.
    """

    entropy: Entropy
    current: Epoch | None = None
    previous: Epoch | None = None

    def pair(self, now_ns: int) -> KeyPair:
        """The key pair of an exchange that begins now."""
        return self._epoch(now_ns).pair

    def seal(self, state: bytes, locator: Locator, now_ns: int) -> Cookie:
        """The cookie of a CC to ``locator`` with the present public key.

        Its time counts from the beginning of the period: the clock of the host would tell anyone
        how long the host has been up, and which addresses belong to one host.
        """
        epoch = self._epoch(now_ns)
        timestamp = now_ns - epoch.began_ns
        keyed = _cookie_hash(epoch, state, locator, timestamp)
        return Cookie(timestamp=timestamp, locator=locator, keyed_hash=keyed)

    def opens(self, cookie: Cookie, state: bytes, now_ns: int) -> Opened | None:
        """The key pair that a cookie of ours belongs to, and its time.

        None if the cookie is not ours, not for this state, or older than COOKIE_LIFETIME.
        """
        for epoch in (self.current, self.previous):
            if epoch is None:
                continue
            made_ns = epoch.began_ns + cookie.timestamp
            if 0 <= now_ns - made_ns <= COOKIE_LIFETIME:
                expected = _cookie_hash(epoch, state, cookie.locator, cookie.timestamp)
                if equal(expected, cookie.keyed_hash):
                    return Opened(epoch.pair, made_ns)
        return None

    def forget(self, now_ns: int) -> None:
        """Removes what no exchange can need any more."""
        if self.current is not None and now_ns - self.current.began_ns >= KEYS_KEPT:
            self.previous = None
            if now_ns - self.current.began_ns >= KEYS_LIFETIME + KEYS_KEPT:
                self.current = None

    def _epoch(self, now_ns: int) -> Epoch:
        self.forget(now_ns)
        if self.current is None or now_ns - self.current.began_ns >= KEYS_LIFETIME:
            self.previous = self.current
            pair = KeyPair(self.entropy(KEY_OCTETS))
            self.current = Epoch(now_ns, self.entropy(KEY_OCTETS), pair)
        return self.current


def _cookie_hash(epoch: Epoch, state: bytes, locator: Locator, timestamp: int) -> bytes:
    octets = timestamp.to_bytes(8, "big") + locator + epoch.pair.public + state
    return keyed_hash(epoch.cookie_key, octets)
