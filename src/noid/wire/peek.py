# SPDX-License-Identifier: MIT
"""Reads single fields of control messages without decoding the rest."""

import struct
from typing import NamedTuple

from noid.constants import FLOW_LABEL_MASK
from noid.identifiers import Label
from noid.locators import Locator
from noid.wire.control import FIXED_OCTETS
from noid.wire.options import (
    ALIGNMENT,
    CONTEXT,
    CRITICAL,
    HASH_OCTETS,
    HEAD,
    HEAD_OCTETS,
    OptionType,
)

CHECKSUM_AT = 2
CHECKSUM_END = 4
HEADER_LENGTH_AT = 5
NO_CHECKSUM = bytes(CHECKSUM_END - CHECKSUM_AT)
NO_HASH = bytes(HASH_OCTETS)
NAMING = struct.Struct(">16x16s16sHH4xI")
"""The AIDs, and of the context option that follows its head and the receiver's label."""


class Naming(NamedTuple):
    """The context that a message names.

    Attributes:
        label: F(local) of the receiver.
        peer_aid: AID of the sender.
        local_aid: AID of the receiver.
    """

    label: Label
    peer_aid: Locator
    local_aid: Locator


def naming_of(octets: bytes) -> Naming | None:
    """The context that a message names; the rest of the message is not decoded.

    Args:
        octets: from the ICMPv6 type on, as received.

    Returns:
        None if the context is not the first option, where ``encode`` writes it.
    """
    if len(octets) < NAMING.size:
        return None
    peer_aid, local_aid, option, length, label = NAMING.unpack_from(octets)
    if option != OptionType.CONTEXT | CRITICAL or length != CONTEXT.octets:
        return None
    return Naming(Label(label & FLOW_LABEL_MASK), Locator(peer_aid), Locator(local_aid))


def authentication_at(octets: bytes) -> int:
    """The offset of the 16 octets of authentication in a well-formed message; 0 if there is none.

    Args:
        octets: a message that ``encode`` made or ``decode_message`` accepted.
    """
    at = FIXED_OCTETS
    end = octets[HEADER_LENGTH_AT] * ALIGNMENT
    unpack_from = HEAD.unpack_from
    while at < end:
        head, length = unpack_from(octets, at)
        if head & ~CRITICAL == OptionType.AUTHENTICATION:
            return at + HEAD_OCTETS
        # The next multiple of ALIGNMENT, in which the first option begins, too.
        at = at + HEAD_OCTETS + length + ALIGNMENT - 1 & -ALIGNMENT
    return 0


def blank_authentication(octets: bytes) -> bytes:
    """A well-formed message with checksum and authentication set to zero, the input of the hash.

    Args:
        octets: a message that ``encode`` made or ``decode_message`` accepted.
    """
    at = authentication_at(octets)
    head = octets[:CHECKSUM_AT] + NO_CHECKSUM
    if not at:
        return head + octets[CHECKSUM_END:]
    return head + octets[CHECKSUM_END:at] + NO_HASH + octets[at + HASH_OCTETS :]
