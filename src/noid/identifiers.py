# SPDX-License-Identifier: MIT
"""The numbers of contexts and messages, as types that the type checker keeps apart.

A value gets its type where it is created: in a decoder, from entropy, or from stored state.
"""

from typing import Final, NewType

Label = NewType("Label", int)
"""A flow label of 20 bits; F(local) and F(peer) of contexts are such [draft §3.2]."""

NO_LABEL: Final = Label(0)
"""None: no context has this label; control messages in a slot have it [D6]."""

Nonce = NewType("Nonce", int)
"""64 bits in a control message, by which an answer names it [draft §3.3]."""

NO_NONCE: Final = Nonce(0)
"""None: no message of noid has this nonce."""

Token = NewType("Token", int)
"""64 random bits of a host, which make the key of each context unique [D40]."""

NO_TOKEN: Final = Token(0)
"""None: in an INIT, the sender does not know the token of the receiver."""
