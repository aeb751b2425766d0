# SPDX-License-Identifier: MIT
"""X25519 of a second implementation, written from RFC 7748 §5 with the standard library alone."""

P = 2**255 - 19
A24 = 121665
BASE = (9).to_bytes(32, "little")


def x25519(private: bytes, public: bytes) -> bytes:
    """The shared secret of a private and a public key, 32 octets each; zeros if there is none."""
    scalar = int.from_bytes(private, "little") & ~7 & (1 << 254) - 1 | 1 << 254
    x1 = int.from_bytes(public, "little") & (1 << 255) - 1
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for place in reversed(range(255)):
        bit = scalar >> place & 1
        if swap ^ bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swap = bit
        plus, minus = x2 + z2, x2 - z2
        square, other = plus * plus % P, minus * minus % P
        difference = square - other
        crossed, straight = (x3 - z3) * plus % P, (x3 + z3) * minus % P
        x3 = (crossed + straight) ** 2 % P
        z3 = x1 * (crossed - straight) ** 2 % P
        x2 = square * other % P
        z2 = difference * (square + A24 * difference) % P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")
