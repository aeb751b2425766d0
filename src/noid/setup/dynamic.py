# SPDX-License-Identifier: MIT
"""Dynamic DNS updates (RFC 2136), signed with TSIG (RFC 8945)."""

import os
import re
import stat
from pathlib import Path
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update

from noid.dns.zone import ZoneRecord
from noid.errors import ConfigError, PlatformError
from noid.setup.plan import Record

LIMIT_S: Final = 10.0
"""Time limit of an answer."""
WITH_ZONE: Final = {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
WITHOUT_ZONE: Final = {dns.rcode.REFUSED, dns.rcode.NOTAUTH}
KEY: Final = re.compile(r'key\s+"?([^"\s{]+)"?\s*\{(.*?)\}', re.DOTALL)
FIELD: Final = re.compile(r'(algorithm|secret)\s+"?([^";\s]+)"?\s*;')


class RefusedError(PlatformError):
    """A name server has refused a change; it has not changed anything."""


def read_key(path: str) -> dns.tsig.Key:
    """The first key of a file in the format of ``tsig-keygen``.

    Raises:
        ConfigError: the file cannot be read, or has no key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        found = KEY.search(text)
        if found is None:
            raise ValueError("no key there")
        fields = dict(FIELD.findall(found[2]))
        key = dns.tsig.Key(found[1], fields["secret"], fields.get("algorithm", "hmac-sha256"))
        if key.algorithm not in dns.tsig.mac_sizes:
            raise ValueError(f"unknown algorithm {key.algorithm}")
        return key
    except OSError as error:
        raise ConfigError(path, f"{error.strerror}; name the key file: --tsig-key") from None
    except (ValueError, KeyError, dns.exception.DNSException):
        why = "has no TSIG key that can be used; write one: tsig-keygen a.example"
        raise ConfigError(path, why) from None


def readable_by_others(path: str) -> list[str]:
    """A note if every user of this host can read a key file, and so change the records."""
    if not os.stat(path).st_mode & stat.S_IROTH:
        return []
    return [f"every user of this host can read the key: chmod o-r {path}"]


def records_to_send(
    records: list[ZoneRecord], server: tuple[str, int], key: str, ttl: int, ours: list[Record]
) -> tuple[list[Record], list[str]]:
    """The records that a server lacks or that we have sent; notes about those without a zone.

    Raises:
        PlatformError: the server does not answer.
    """
    wanted, notes = [], []
    for one in records:
        zone = zone_of(server, one.owner)
        if not zone:
            missing = f"{server[0]} does not have the zone of a record"
            notes.append(f"{missing}; add it to its zone: {one.line(ttl)}")
            continue
        new = Record(server[0], server[1], key, zone, one.owner, one.kind, one.data, ttl)
        if new.identity() in {other.identity() for other in ours} or not _is_there(new):
            wanted.append(new)
    return wanted, notes


def zone_of(server: tuple[str, int], owner: str) -> str:
    """The zone of a name that a server is authoritative for; empty if it has none.

    Raises:
        PlatformError: it does not answer.
    """
    answer = _ask(server, dns.message.make_query(owner, dns.rdatatype.SOA))
    if answer.rcode() not in WITH_ZONE | WITHOUT_ZONE:
        why = f"{dns.rcode.to_text(answer.rcode())} for {owner}; retry when it has loaded its zones"
        raise PlatformError(f"name server {server[0]} port {server[1]}", 0, why)
    if answer.rcode() in WITHOUT_ZONE or not answer.flags & dns.flags.AA:
        return ""
    for rrset in (*answer.answer, *answer.authority):
        if rrset.rdtype == dns.rdatatype.SOA:
            return rrset.name.to_text()
    return ""


def send(record: Record, *, add: bool) -> None:
    """Adds or deletes one record.

    Raises:
        ConfigError: the key cannot be read.
        RefusedError: the server refuses.
        PlatformError: it does not answer.
    """
    key = read_key(record.key)
    update = dns.update.UpdateMessage(record.zone, keyring={key.name: key}, keyname=key.name)
    data = _data(record)
    if add:
        update.add(record.owner, record.ttl, data)
    else:
        update.delete(record.owner, data)
    try:
        answer = _ask((record.server, record.port), update)
        said = dns.rcode.to_text(answer.rcode())
    except dns.tsig.PeerError as error:
        said = str(error)
    if said != dns.rcode.to_text(dns.rcode.NOERROR):
        advice = f"{said}; permit the key {key.name} to update this zone on the server"
        raise RefusedError(f"update of {record.zone} at {record.server}", 0, advice)


def _is_there(record: Record) -> bool:
    kind = dns.rdatatype.from_text(record.kind)
    answer = _ask((record.server, record.port), dns.message.make_query(record.owner, kind))
    return any(_data(record) in rrset for rrset in answer.answer if rrset.rdtype == kind)


def _data(record: Record) -> dns.rdata.Rdata:
    kind = dns.rdatatype.from_text(record.kind)
    return dns.rdata.from_text(dns.rdataclass.IN, kind, record.data)


def _ask(server: tuple[str, int], message: dns.message.Message) -> dns.message.Message:
    try:
        return dns.query.tcp(message, server[0], timeout=LIMIT_S, port=server[1])
    except dns.tsig.PeerError:
        raise
    except (OSError, EOFError, dns.exception.DNSException) as error:
        why = str(error) or type(error).__name__
        advice = f"{why}; name a server that accepts updates, and its key"
        raise PlatformError(f"name server {server[0]} port {server[1]}", 0, advice) from None
