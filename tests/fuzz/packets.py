# SPDX-License-Identifier: MIT
"""Whole packets from the network: two parsers that share nothing judge them alike."""

from noid.flows.software import SoftwareDatapath
from noid.flows.verdict import Outcome
from tests.differential.packets import CODEPOINTS, Frame, Generator, flows
from tests.differential.play import body_of
from tests.differential.players import Law, Second
from tests.fuzz.choices import Choices, altered

LAW, SECOND = Law(), Second()


def packet(octets: bytes) -> None:
    """Any octets, and a generated packet with some of its octets changed."""
    choices = Choices(octets)
    made = Generator(choices.number(1 << 24)).frame().packet
    for one in (octets, altered(choices, made)):
        law = LAW.play(Frame(one))
        assert SECOND.play(Frame(one)) == (law.outcome, body_of(law)), one.hex()
        if law.outcome != Outcome.NOT_M6.value:
            path = SoftwareDatapath(CODEPOINTS)
            for flow in flows():
                path.install(flow)
            path.from_network(one, 1)
