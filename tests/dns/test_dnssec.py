# SPDX-License-Identifier: MIT
"""``require_dnssec`` [D32]: a signed zone in NSD, and Unbound, which validates with our anchor."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest

from noid.dns.records import Kind, Question, Status
from noid.lab.resolution import Resolution, serving
from noid.resolver.port import Server
from noid.resolver.upstream import Upstream
from tests.dns.conftest import Peer, Program, addresses, as_program, with_upstream

ZONE = r"""$TTL 300
@ SOA ns root 1 3600 600 86400 120
@ NS ns
ns AAAA ::1
m6 AAAA 2001:db8:1::1
m6 AAAA 2001:db8:2::1
m6 TYPE65286 \# 0
"""
EXPIRED = ["-i", "20200101000000", "-e", "20200201000000"]
ZONES = {"good.test": [], "bogus.test": [], "expired.test": EXPIRED}
"""Signed zones, and what their signer is told."""


def sign(directory: Path, zone: str, options: list[str]) -> tuple[str, str]:
    """A zone signed, and its DS record."""
    subprocess.run(["ldns-keygen", "-a", "ECDSAP256SHA256", "-k", zone], cwd=directory, check=True)
    (key,) = directory.glob(f"K{zone}.*.key")
    (directory / zone).write_text(f"$ORIGIN {zone}.\n{ZONE}")
    arguments = ["ldns-signzone", *options, "-o", zone, zone, key.stem]
    subprocess.run(arguments, cwd=directory, check=True)
    return (directory / f"{zone}.signed").read_text(), key.with_suffix(".ds").read_text().strip()


@pytest.fixture(scope="module")
def resolution(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resolution]:
    if shutil.which("ldns-signzone") is None:
        pytest.skip("ldns-signzone is not installed (Debian package ldnsutils)")
    directory = tmp_path_factory.mktemp("dnssec")
    zones, anchors = {"unsigned.test": ZONE}, []
    for zone, options in ZONES.items():
        zones[zone], anchor = sign(directory, zone, options)
        anchors.append(anchor)
    zones["bogus.test"] = zones["bogus.test"].replace("2001:db8:2::1", "2001:db8:2::bad")
    with serving(directory, zones, anchors=anchors) as places:
        yield places


def asked(resolution: Resolution, zone: str, kind: Kind, *, trusted: bool = True) -> Status:
    server = resolution.resolver

    async def scenario(client: Upstream) -> Status:
        client.lookup.trusted = frozenset({server}) if trusted else None
        return (await client.ask(Question(kind, f"m6.{zone}"))).status

    return with_upstream(scenario, server, total_s=4)


@pytest.mark.parametrize(
    ("zone", "required", "anyway"),
    [
        ("good.test", Status.FOUND, Status.FOUND),
        ("unsigned.test", Status.UNREACHABLE, Status.FOUND),
        ("bogus.test", Status.UNREACHABLE, Status.UNREACHABLE),
        ("expired.test", Status.UNREACHABLE, Status.UNREACHABLE),
    ],
)
def test_only_what_is_signed_is_believed(
    resolution: Resolution, zone: str, required: Status, anyway: Status
) -> None:
    assert asked(resolution, zone, Kind.LOCATORS) is required
    assert asked(resolution, zone, Kind.LOCATORS, trusted=False) is anyway


@pytest.mark.parametrize(
    ("name", "status"), [("good.test", Status.FOUND), ("unsigned.test", Status.UNREACHABLE)]
)
def test_so_is_whether_a_name_speaks_m6(resolution: Resolution, name: str, status: Status) -> None:
    assert asked(resolution, name, Kind.CAPABILITY) is status


def test_a_signed_absence_is_believed(resolution: Resolution) -> None:
    assert asked(resolution, "nobody.good.test", Kind.LOCATORS) is Status.ABSENT


def resolved(server: Server, zone: str) -> tuple[dns.message.Message, list[Peer]]:
    async def scenario(program: Program) -> tuple[dns.message.Message, list[Peer]]:
        program.stub.upstream.lookup.trusted = frozenset({server})
        query = dns.message.make_query(f"m6.{zone}", "AAAA")
        return await program.resolve(query), program.peers

    return as_program(scenario, server, total_s=4, grace_s=2)


def test_a_program_gets_one_address_of_a_peer_that_is_signed(resolution: Resolution) -> None:
    message, peers = resolved(resolution.resolver, "good.test")
    assert len(addresses(message)) == 1
    assert len(peers) == 1


def test_a_program_gets_every_address_of_a_peer_that_is_not_signed(
    resolution: Resolution,
) -> None:
    message, peers = resolved(resolution.resolver, "unsigned.test")
    assert len(addresses(message)) == 2
    assert peers == []


def test_what_is_bogus_is_servfail_and_the_program_that_wants_it_gets_it(
    resolution: Resolution,
) -> None:
    async def scenario(program: Program) -> list[dns.message.Message]:
        whole = dns.message.make_query("m6.bogus.test", "AAAA")
        unchecked = dns.message.make_query("m6.bogus.test", "AAAA")
        unchecked.flags |= dns.flags.CD
        return [await program.resolve(query) for query in (whole, unchecked)]

    checked, unchecked = as_program(scenario, resolution.resolver, total_s=4)
    assert checked.rcode() == dns.rcode.SERVFAIL
    assert len(addresses(unchecked)) == 2
