# SPDX-License-Identifier: MIT
"""The records a host needs in the DNS, as lines of a zone file. Pure."""

import re
from dataclasses import dataclass
from typing import Final

from noid.dns.records import reverse_name
from noid.locators import Locator, format_locator

HOST_NAME: Final = "labels of 1 to 63 letters, digits, hyphens or underscores; 253 octets in all"
_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.ASCII)


def is_host_name(name: str) -> bool:
    """Whether a canonical name may stand in a zone file as it is: ``HOST_NAME`` [RFC 1123 §2.1].

    The underscore is not of a host name, but of names that are in use.
    """
    return _HOST_NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class ZoneRecord:
    """One record to add.

    Attributes:
        owner: absolute name, with the final dot.
        kind: type as a zone file writes it.
        data: the rest of the line.
    """

    owner: str
    kind: str
    data: str

    def line(self, ttl_seconds: int) -> str:
        """The record as a line of a zone file."""
        return f"{self.owner} {ttl_seconds} IN {self.kind} {self.data}"


def forward_records(name: str, locators: tuple[Locator, ...], m6_rrtype: int) -> list[ZoneRecord]:
    """What belongs in the zone of the name: every locator, and that the host speaks M6 [D3]."""
    owner = f"{name}."
    addresses = [ZoneRecord(owner, "AAAA", format_locator(locator)) for locator in locators]
    return [*addresses, ZoneRecord(owner, f"TYPE{m6_rrtype}", r"\# 0")]


def text_record(name: str) -> ZoneRecord:
    """What says the same as the M6 record where a DNS host does not take it [D3]."""
    return ZoneRecord(f"_m6.{name}.", "TXT", '"v=m6"')


def reverse_records(name: str, locators: tuple[Locator, ...]) -> list[ZoneRecord]:
    """What belongs in the reverse zone of each provider's prefix [draft §3.1]."""
    return [ZoneRecord(f"{reverse_name(locator)}.", "PTR", f"{name}.") for locator in locators]
