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
    """The records for the zone of the name: every locator, and the M6 record [D3]."""
    owner = f"{name}."
    addresses = [ZoneRecord(owner, "AAAA", format_locator(locator)) for locator in locators]
    return [*addresses, ZoneRecord(owner, f"TYPE{m6_rrtype}", r"\# 0")]


def text_record(name: str) -> ZoneRecord:
    """The text record that replaces the M6 record where its type is not accepted [D3]."""
    return ZoneRecord(f"_m6.{name}.", "TXT", '"v=m6"')


def reverse_records(name: str, locators: tuple[Locator, ...]) -> list[ZoneRecord]:
    """The records for the reverse zone of each provider's prefix [draft §3.1]."""
    return [ZoneRecord(f"{reverse_name(locator)}.", "PTR", f"{name}.") for locator in locators]
