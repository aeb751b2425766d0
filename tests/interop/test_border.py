# SPDX-License-Identifier: MIT
"""A second implementation in a site behind noid's border: what the border does, §15 says it.

On host b of a lab runs noid, on host a nothing but ``second``, which knows the protocol from
docs/protocol.md alone, and between them the border of a's site.
"""

import contextlib
from collections.abc import Iterator

import pytest

from noid.counters import BorderCounter
from noid.errors import ShimError
from noid.lab import machine
from noid.lab.borders import BorderDaemon, start_borders
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from tests.interop.harness import A1, A2, B1, B2, Program, context_of, running, verified
from tests.interop.octets import ICMPV6, REWRITE_OK
from tests.interop.test_second import echo_reply, echo_request

pytestmark = pytest.mark.lab

REWRITTEN, REFUSED = BorderCounter.PACKETS_REWRITTEN, BorderCounter.REFUSED_NO_UPLINK


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Noid on b and on the border, nothing on a."""
    try:
        machine.check_machine("ip", "nsd", "nginx")
    except ShimError as error:
        pytest.skip(str(error))
    with Lab.create(plane="bpf", sites="one") as lab:
        lab.take_noid_down("a")
        yield lab
        for name in ("b", "border"):
            assert " ERROR " not in lab.log(name)
            assert "Traceback" not in lab.log(name)


@pytest.fixture(scope="module")
def border(lab: Lab) -> BorderDaemon:
    (border,) = start_borders(lab)
    return border


@pytest.fixture
def second(lab: Lab, border: BorderDaemon) -> Iterator[Program]:
    """The second implementation on a; when it ends every line works and nothing is rewritten."""
    with running(lab, "tests.interop.second", f"{A1},{A2}", f"{B1},{B2}") as program:
        try:
            yield program
        finally:
            border.use("auto")
            lab.heal(1)
            border.await_leaves_by("isp1", "isp2")


def test_a_set_up_whose_messages_are_rewritten_completes(
    lab: Lab, border: BorderDaemon, second: Program
) -> None:
    border.use("isp2")
    before = border.count(REWRITTEN)
    second.do("initiate", rewritable=True)
    second.expect("CC", source=B1, destination=A2, rewritable=True)
    second.expect("CONF", source=B1)
    context = context_of(lab, lsl_peer=[A1, A2], lsv_peer=[A1, A2])
    assert (context["local_aid"], context["peer_aid"]) == (B1, A1), "the AIDs stay"
    assert border.count(REWRITTEN) > before


def test_data_that_is_rewritten_moves_noid_to_the_line_that_works(
    lab: Lab, border: BorderDaemon, second: Program
) -> None:
    second.initiate()
    verified(lab)
    second.do("data", protocol=ICMPV6, payload=echo_request(1))
    second.expect("data", payload=echo_reply(1), source=B1, destination=A1)
    lab.cut(1, Fault.CARRIER)
    border.await_leaves_by("isp2", "isp2")
    before = border.count(REWRITTEN)
    # It still sends from the locator of the dead line, and its checksum is over the AIDs.
    second.do("data", protocol=ICMPV6, payload=echo_request(2))
    # If the dead line was in use a moment ago, noid asks both before it moves.
    context_of(lab, local_locator=B1, peer_locator=A2)
    second.do("data", protocol=ICMPV6, payload=echo_request(6))
    reply = second.expect("data", payload=echo_reply(6), known=True, checksum_ok=True)
    assert (reply["source"], reply["destination"]) == (B1, A2)
    assert reply["next_header"] == REWRITE_OK + 6
    assert border.count(REWRITTEN) > before


def test_a_packet_that_may_not_be_rewritten_is_refused_if_its_uplink_is_dead(
    lab: Lab, border: BorderDaemon
) -> None:
    with running(lab, "tests.interop.second", A1, f"{B1},{B2}") as second:
        second.initiate()
        second.do("data", protocol=ICMPV6, payload=echo_request(3))
        second.expect("data", payload=echo_reply(3), source=B1, destination=A1)
        lab.cut(1, Fault.CARRIER)
        border.await_leaves_by("isp2", "isp2")
        rewritten, refused = border.count(REWRITTEN), border.count(REFUSED)
        second.do("data", protocol=ICMPV6, payload=echo_request(4))
        lab.wait_for("it is refused", lambda: border.count(REFUSED) > refused, 60)
        assert border.count(REWRITTEN) == rewritten
        lab.heal(1)
        border.await_leaves_by("isp1", "isp2")
        lab.wait_for("noid answers in the form of data", lambda: is_answered(second, 5), 60)


def is_answered(second: Program, number: int) -> bool:
    """Whether noid answers in the form of data; plain, if it still searches for a pair (§9)."""
    second.do("data", protocol=ICMPV6, payload=echo_request(number))
    with contextlib.suppress(AssertionError):
        second.expect("data", within_s=1.0, payload=echo_reply(number), source=B1, destination=A1)
        return True
    return False
