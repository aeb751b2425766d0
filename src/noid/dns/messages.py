# SPDX-License-Identifier: MIT
"""DNS messages: the header, the codes, and whole messages as dnspython reads them. Pure.

``queries`` and ``responses`` read what nearly every message needs straight from its octets. What
needs more is read here by dnspython. Nothing here raises, for any octets.
"""

import struct
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype

HEADER_OCTETS: Final = 12
MESSAGE_OCTETS_MAX: Final = 65_535
LABEL_OCTETS_MAX: Final = 63
BELIEVED_RCODES: Final = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})
REFUSALS: Final = frozenset({dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED})
"""A resolver that says one of these is not asked again; another may know better."""
QR, TC, RD, RA, CD = (
    int(flag) for flag in (dns.flags.QR, dns.flags.TC, dns.flags.RD, dns.flags.RA, dns.flags.CD)
)
"""As plain integers: an operation on an enumeration costs twenty times as much."""
OPCODE_MASK: Final = 0x7800
RCODE_MASK: Final = 0x000F

KIND_CLASS: Final = struct.Struct("!HH")
COUNTS: Final = struct.Struct("!4H")


def message_flags(octets: bytes) -> int:
    """The 16 bits after the id of a message with a complete header."""
    return int.from_bytes(octets[2:4])


def response_code(octets: bytes) -> int:
    """The RCODE of a message with a complete header, without the extension by EDNS."""
    return octets[3] & RCODE_MASK


# --- whole messages, read by dnspython ---


def read_message(octets: bytes) -> dns.message.QueryMessage | None:
    """A message of the opcode QUERY with at most one question; None if the octets are not one.

    Args:
        octets: the whole message; a signature on it (TSIG) is for its ends to check, not for us.
    """
    if len(octets) < HEADER_OCTETS or octets[4:6] > b"\x00\x01":
        return None
    try:
        message = dns.message.from_wire(octets, keyring=False)
    except (dns.exception.DNSException, ValueError):
        return None
    return message if isinstance(message, dns.message.QueryMessage) else None
