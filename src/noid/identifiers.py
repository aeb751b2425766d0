# SPDX-License-Identifier: MIT
"""The numbers of contexts and messages, as types that the type checker keeps apart.

A value gets its type where it is created: in a decoder, from entropy, or from stored state.
"""

from typing import Final, NewType

Label = NewType("Label", int)
"""A flow label of 20 bits; F(local) and F(peer) of contexts are such [draft §3.2]."""

NO_LABEL: Final = Label(0)
"""None: no context has this label; control messages in a slot have it [D6]."""
