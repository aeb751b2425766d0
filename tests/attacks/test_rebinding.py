# SPDX-License-Identifier: MIT
"""A name that lists an address of this host, or of no host, makes no peer (DNS rebinding) [D23].

The program gets what it would get without noid; what it does with such addresses is its affair.
"""

import dns.rrset
import pytest

from noid.config import HostSection
from noid.dns.records import Answer, Kind, Question, Status, reverse_name
from noid.dns.verification import Verification
from noid.host.survey import OwnAddress, Survey
from noid.locators import is_global_unicast, parse_locator
from noid.roles.local_locators import LocalLocators
from tests.dns.conftest import (
    NAME,
    Pretend,
    aaaa,
    addresses,
    m6_host,
    resolved,
)

GLOBAL = "2001:db8:bad::1"
OWN = "2001:db8:1:a::a"
NOWHERE = ["::1", "::", "fe80::1", "ff02::1", "::ffff:127.0.0.1", "::127.0.0.1", "::ffff:10.0.0.1"]


def lists(*texts: str) -> dns.rrset.RRset:
    return dns.rrset.from_text(f"{NAME}.", 60, "IN", "AAAA", *texts)


@pytest.mark.parametrize("address", [*NOWHERE, OWN])
@pytest.mark.parametrize("first", [True, False])
def test_the_program_gets_the_set_as_it_is_and_the_shim_hears_of_no_peer(
    pretend: Pretend, address: str, first: bool
) -> None:
    listed = [address, GLOBAL] if first else [GLOBAL, address]
    message, peers = resolved(aaaa("host"), pretend(m6_host(lists(*listed))), own=[OWN])
    assert addresses(message) == listed
    assert peers == []


@pytest.mark.parametrize("address", NOWHERE)
def test_such_an_address_is_never_a_locator_of_a_peer(address: str) -> None:
    """Not even if the reverse tree of this host's resolver names the attacker's host."""
    aid, inner = parse_locator(GLOBAL), parse_locator(address)
    inquiry = Verification(aid, None)
    waiting = inquiry.begin()
    asked = []
    while waiting:
        question = waiting.pop()
        asked.append(question)
        answer = (
            Answer(status=Status.FOUND, locators=(aid, inner))
            if question.kind is Kind.LOCATORS
            else Answer(status=Status.FOUND, names=("evil.example",))
        )
        waiting += inquiry.receive(question, answer, (aid, inner))
    assert inquiry.proven == inquiry.remote == (aid,)
    assert Question(Kind.NAMES, reverse_name(inner)) not in asked


@pytest.mark.parametrize("address", NOWHERE)
def test_such_an_address_is_not_global(address: str) -> None:
    assert not is_global_unicast(parse_locator(address))


def test_every_address_of_this_host_is_its_own_on_any_device() -> None:
    locator, excluded = parse_locator(OWN), parse_locator("fd00::1")
    own = LocalLocators(HostSection())
    address = OwnAddress(locator, "eth0", deprecated=False, broken=False, leads_out=True)
    survey = Survey(
        devices=(),
        locators=(address,),
        addresses=frozenset({locator, excluded}),
        rules=(),
        mtu=1500,
        ours={},
    )
    own.look(survey)
    assert own.locators == (locator,)
    assert own.everything == {locator, excluded}
