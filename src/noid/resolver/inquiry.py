# SPDX-License-Identifier: MIT
"""Looks a peer up and verifies it step by step, as the shim does, for ``noid lookup``.

Forward lookup, capability, then the ``Verification`` of the engine, with its questions in their
order [draft §3.1, §7.13; D29].
"""

from dataclasses import dataclass, field

from noid.dns.records import Answer, Kind, Question, Status
from noid.dns.verification import Verification
from noid.locators import Locator
from noid.resolver.upstream import Upstream


@dataclass(slots=True)
class Findings:
    """The result of an inquiry.

    Attributes:
        steps: questions and their answers, in order.
        name: FQDN(peer); empty if there is none.
        aid: AID(peer); None if the name has no address.
        remote: Lsr(peer), the AID first.
        verified: those of them that may be destinations.
        speaks_m6: whether the name says so; None if that is not known.
    """

    steps: list[tuple[Question, Answer]] = field(default_factory=list)
    name: str = ""
    aid: Locator | None = None
    remote: tuple[Locator, ...] = ()
    verified: tuple[Locator, ...] = ()
    speaks_m6: bool | None = None


async def look_up(upstream: Upstream, name: str) -> Findings:
    """The findings of an initiator that starts with a name."""
    findings = Findings(name=name)
    forward = await _ask(upstream, findings, Question(Kind.LOCATORS, name))
    capability = await _ask(upstream, findings, Question(Kind.CAPABILITY, name))
    findings.speaks_m6 = _known(capability)
    if forward.locators:
        findings.aid = forward.locators[0]
        await _verify(upstream, findings, Verification(findings.aid, name, forward.locators))
    return findings


async def look_up_address(upstream: Upstream, aid: Locator) -> Findings:
    """The findings of a responder that starts with an address."""
    findings = Findings(aid=aid)
    await _verify(upstream, findings, Verification(aid, None))
    if findings.name:
        question = Question(Kind.CAPABILITY, findings.name)
        findings.speaks_m6 = _known(await _ask(upstream, findings, question))
    return findings


async def _verify(upstream: Upstream, findings: Findings, verification: Verification) -> None:
    waiting = verification.begin()
    while waiting:
        question = waiting.pop(0)
        waiting += verification.receive(question, await _ask(upstream, findings, question))
    findings.name = verification.name
    findings.remote = verification.remote
    findings.verified = tuple(
        locator for locator in verification.remote if locator in verification.verified
    )


async def _ask(upstream: Upstream, findings: Findings, question: Question) -> Answer:
    answer = await upstream.ask(question)
    findings.steps.append((question, answer))
    return answer


def _known(capability: Answer) -> bool | None:
    return None if capability.status is Status.UNREACHABLE else capability.status is Status.FOUND
