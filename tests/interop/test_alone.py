# SPDX-License-Identifier: MIT
"""noid and a second implementation that acts by itself: set-up, the DNS, updates, failures.

On host b of a lab runs noid, on each of its planes in turn, on host a ``alone``, which knows §6 to
§9 of docs/protocol.md and nothing of noid. A program on b echoes datagrams.
"""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.topology import NAME_SERVER
from tests.interop.harness import (
    A1,
    A2,
    B1,
    B2,
    Program,
    backward,
    context_of,
    forward,
    name_server,
    ping,
    running,
    verified,
)
from tests.interop.octets import IN_LSL
from tests.interop.ulp import ECHO_PORT, MARK, OWN_PORT, SINK_PORT

pytestmark = [
    pytest.mark.lab,
    pytest.mark.parametrize("lab", ["tun", "bpf"], indirect=True, scope="module"),
]

REPEATED_WITHIN_S = 60.0
"""In which a message of 4 s times 0.5 to 1.5 is repeated, and answered, on a busy machine."""
SOON_S = 60.0
VERY_MANY = 10_000
"""Datagrams: more than are sent until a test says that it is enough."""


@pytest.fixture(scope="module")
def echoing(lab: Lab) -> Lab:
    """The lab, with programs on b that echo and that take datagrams."""
    lab.spawn("b", ["socat", f"UDP6-LISTEN:{ECHO_PORT},reuseaddr,fork", "PIPE"], name="echo")
    lab.spawn("b", ["socat", "-u", f"UDP6-RECV:{SINK_PORT}", "/dev/null"], name="sink")
    return lab


@pytest.fixture
def alone(echoing: Lab) -> Iterator[Program]:
    """The second implementation that acts by itself, with the name server of the lab."""
    with running(echoing, "tests.interop.alone", f"{A1},{A2}", NAME_SERVER) as program:
        yield program
        for number in (1, 2):
            echoing.heal_provider(number)


@contextlib.contextmanager
def asking(lab: Lab, directory: Path, records: Sequence[str]) -> Iterator[Program]:
    """The same, with a name server that knows these records alone."""
    with (
        name_server(lab, directory, records) as server,
        running(lab, "tests.interop.alone", f"{A1},{A2}", server) as program,
    ):
        yield program


def talk(
    alone: Program,
    *,
    name: str = "b.example",
    every_ms: int = 50,
    count: int = 10,
    port: int = ECHO_PORT,
) -> None:
    """Has the second implementation send datagrams."""
    alone.do("talk", name=name, every_ms=every_ms, count=count, port=port)


def reported(alone: Program) -> dict[str, Any]:
    """How the datagrams of the second implementation fare."""
    alone.do("report")
    return alone.expect("report")


def report_with_answers(lab: Lab, alone: Program, count: int) -> dict[str, Any]:
    """The same, once so many have been answered: the last ones may still be under way."""

    def look() -> dict[str, Any] | None:
        found = reported(alone)
        return found if found["answered"] >= count else None

    found = lab.wait_for(f"{count} are answered", look, SOON_S)
    assert found is not None
    return found


# --- setting up -----------------------------------------------------------------------------------


def test_the_second_resolves_sets_up_and_verifies(lab: Lab, alone: Program) -> None:
    talk(alone)
    assert alone.expect("resolved")["locators"] == [B1, B2]
    assert alone.expect("established")["pair"] == [A1, B1]
    assert alone.expect("verified") == {
        "event": "verified", "name": "b.example", "lsr": [B1, B2], "lsv": [B1, B2],
    }  # fmt: skip
    verified(lab)
    report = report_with_answers(lab, alone, 10)
    assert (report["answered"], report["twice"]) == (10, 0)
    assert set(report["arrived"]) == {f"{B1} {A1}"}


def test_noid_sets_up_a_context_with_the_second(lab: Lab, alone: Program) -> None:
    with ping(lab, "-c", "5") as program:
        alone.expect("established", probation="")
        assert alone.expect("verified")["lsv"] == [B1, B2]
        assert program.wait(SOON_S) == 0, "all were answered"
    verified(lab)


@pytest.mark.parametrize("message", ["INIT", "CCR"])
def test_the_second_repeats_what_is_lost(lab: Lab, alone: Program, message: str) -> None:
    alone.do("lose", messages={message: 1})
    talk(alone, count=100, port=SINK_PORT)
    alone.expect("lost", message=message)
    alone.expect("established", within_s=REPEATED_WITHIN_S)
    verified(lab)


@pytest.mark.parametrize("message", ["CC", "CONF"])
def test_the_second_repeats_what_is_not_answered(lab: Lab, alone: Program, message: str) -> None:
    alone.do("ignore", messages={message: 1})
    talk(alone, count=100, port=SINK_PORT)
    alone.expect("ignored", message=message)
    alone.expect("established", within_s=REPEATED_WITHIN_S)
    verified(lab, within_s=REPEATED_WITHIN_S)


@pytest.mark.parametrize("message", ["CC", "CONF"])
def test_noid_repeats_what_the_second_does_not_answer(
    lab: Lab, alone: Program, message: str
) -> None:
    alone.do("lose", messages={message: 1})
    with ping(lab):
        alone.expect("lost", message=message)
        alone.expect("established", within_s=REPEATED_WITHIN_S)
        verified(lab, within_s=REPEATED_WITHIN_S)


def test_two_lost_replies_begin_the_exchange_anew(lab: Lab, alone: Program) -> None:
    alone.do("lose", messages={"CCR": 2})
    talk(alone, count=200, port=SINK_PORT)
    alone.expect("lost", message="CCR")
    first = alone.expect("CC", within_s=REPEATED_WITHIN_S)
    alone.expect("lost", message="CCR", within_s=REPEATED_WITHIN_S)
    second = alone.expect("CC", within_s=2 * REPEATED_WITHIN_S)
    assert first["nonce"] != second["nonce"]
    assert first["own_label"] == second["own_label"]
    alone.expect("established", within_s=REPEATED_WITHIN_S)
    verified(lab)


def test_an_initiator_whose_aid_gets_no_answer_sets_up_from_its_other_locator(
    echoing: Lab, tmp_path: Path
) -> None:
    records = [
        *forward("b.example", B1, B2),
        *backward(B1, "b.example"),
        *backward(B2, "b.example"),
    ]
    echoing.cut(1, Fault.ONE_WAY, "a")
    try:
        with asking(echoing, tmp_path, records) as alone:
            talk(alone, count=200, port=SINK_PORT)
            alone.expect("CC", source=B1, destination=A2)
            assert alone.expect("established")["pair"][0] == A2
            context_of(echoing, peer_aid=A1, lsv_peer=[A1, A2], peer_locator=A2)
    finally:
        echoing.heal(1, "a", how=Fault.ONE_WAY)


def test_a_context_whose_aid_does_not_answer_is_provisional_until_the_dns_proves_it(
    lab: Lab, alone: Program
) -> None:
    lab.cut(1, Fault.ONE_WAY, "b")
    try:
        with ping(lab):
            alone.expect("established", probation=B2)
            assert alone.expect("proven")["source"] == B2
            context_of(lab, local_aid=B1, local_locator=B2)
    finally:
        lab.heal(1, "b", how=Fault.ONE_WAY)


# --- the DNS --------------------------------------------------------------------------------------


def test_a_locator_without_a_reverse_record_is_not_used_and_reported(
    echoing: Lab, tmp_path: Path
) -> None:
    records = [*forward("b.example", B1, B2), *backward(B1, "b.example")]
    with asking(echoing, tmp_path, records) as alone:
        talk(alone)
        found = alone.expect("verified")
        assert (found["lsr"], found["lsv"]) == ([B1], [B1])
        alone.expect("told")
        context_of(echoing, ls_local=[B1])


def test_of_several_names_the_one_that_lists_most_is_the_peers(
    echoing: Lab, tmp_path: Path
) -> None:
    records = [
        *forward("a-first.example", B1),
        *forward("b.example", B1, B2),
        *forward("z.example", B2),
        *backward(B1, "z.example", "a-first.example", "b.example"),
        *backward(B2, "b.example", "z.example"),
    ]
    with asking(echoing, tmp_path, records) as alone:
        with ping(echoing, "-c", "2"):
            found = alone.expect("verified")
        assert (found["name"], found["lsv"]) == ("b.example", [B1, B2])


def test_a_name_that_lists_an_address_of_another_host_does_not_get_its_traffic(
    echoing: Lab, tmp_path: Path
) -> None:
    records = [
        *forward("other.example", B1, A2),
        *forward("b.example", B1, B2),
        *backward(B1, "b.example"),
        *backward(B2, "b.example"),
        *backward(A2, "other.example"),
    ]
    with asking(echoing, tmp_path, records) as alone:
        talk(alone, name="other.example")
        found = alone.expect("verified")
        assert (found["name"], found["lsv"]) == ("b.example", [B1, B2])


# --- updates --------------------------------------------------------------------------------------


def test_the_second_tells_its_sets_until_that_is_acknowledged(lab: Lab, alone: Program) -> None:
    talk(alone)
    alone.expect("established")
    verified(lab)
    alone.do("lose", messages={"UR": 1})
    alone.do("have", locators={A1: IN_LSL})
    alone.expect("lost", message="UR")
    alone.expect("told", within_s=REPEATED_WITHIN_S)
    context_of(lab, lsl_peer=[A1], lsv_peer=[A1])


# --- failures -------------------------------------------------------------------------------------


def test_the_second_implementation_and_noid_leave_a_dead_provider(lab: Lab, alone: Program) -> None:
    talk(alone, every_ms=20, count=VERY_MANY)
    alone.expect("verified")
    verified(lab)
    lab.cut_provider(1)
    switched = alone.expect("switched")
    assert switched["new"] == [A2, B2]
    context_of(lab, local_locator=B2, peer_locator=A2)

    lab.wait_for(
        "data arrives over provider 2",
        lambda: reported(alone)["arrived"].get(f"{B2} {A2}", 0) > 100,
        2 * SOON_S,
    )
    alone.do("hush")
    assert reported(alone)["twice"] == 0


@pytest.mark.parametrize(
    ("up", "down"), [(1, 2), (2, 1)], ids=["the second is heard by 2", "the second is heard by 1"]
)
def test_the_second_and_noid_find_pairs_that_work_in_opposite_directions(
    lab: Lab, alone: Program, up: int, down: int
) -> None:
    talk(alone, every_ms=20, count=VERY_MANY)
    alone.expect("verified")
    verified(lab)
    lab.cut(up, Fault.ONE_WAY_UP, "a")
    lab.cut(down, Fault.ONE_WAY, "a")
    try:
        own = {1: A1, 2: A2}

        def crosses() -> bool:
            source, _ = reported(alone)["pair"]
            (context,) = lab.contexts("b")
            return bool(source == own[down] and context["peer_locator"] == own[up])

        lab.wait_for("each host uses the way that works for it", crosses, SOON_S)
    finally:
        lab.heal(up, "a", how=Fault.ONE_WAY_UP)
        lab.heal(down, "a", how=Fault.ONE_WAY)
        alone.do("hush")


DATA_ALONE = "{ 224-229, 231-237, 239 }"
"""The next headers of data; messages in its form have 230 and 238."""


def test_the_second_and_noid_send_plainly_where_data_alone_is_lost(
    lab: Lab, alone: Program
) -> None:
    talk(alone, every_ms=20, count=400)
    alone.expect("verified")
    verified(lab)
    rules = [
        "add table ip6 lossy",
        "add chain ip6 lossy forward { type filter hook forward priority 0; }",
        f"add rule ip6 lossy forward ip6 nexthdr {DATA_ALONE} drop",
    ]
    try:
        for router in ("isp1", "isp2"):
            for rule in rules:
                assert lab.run(router, ["nft", *rule.split()]).returncode == 0
        alone.expect("lost data", everywhere=True, within_s=SOON_S)
        before = reported(alone)["answered"]
        report_with_answers(lab, alone, before + 1)
    finally:
        for router in ("isp1", "isp2"):
            lab.run(router, ["nft", "delete", "table", "ip6", "lossy"])


# --- one-way data ---------------------------------------------------------------------------------


def test_noid_sends_keepalives_for_data_that_goes_one_way(lab: Lab, alone: Program) -> None:
    began_s = time.monotonic()
    talk(alone, every_ms=20, count=200, port=SINK_PORT)
    alone.expect("verified")
    alone.expect("sent", within_s=SOON_S)
    lasted_s = time.monotonic() - began_s
    keepalives = [event for event in alone.events if event["event"] == "KEEPALIVE"]
    assert 10 < len(keepalives) <= 25 * lasted_s
    assert all(event["authentic"] and event["rewritable"] for event in keepalives)
    nonces = [event["nonce"] for event in keepalives]
    assert nonces == sorted(set(nonces))
    assert not [event for event in alone.events if event["event"] in ("switched", "searching")]


@pytest.mark.alone  # no datagram may be lost in four seconds
def test_the_second_sends_keepalives_for_data_that_goes_one_way(lab: Lab, alone: Program) -> None:
    talk(alone)
    alone.expect("verified")
    verified(lab)
    alone.expect("sent")
    program = (
        "import socket, time\n"
        "with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:\n"
        f"    one.bind(({B1!r}, 0))\n"
        "    for number in range(1000, 1200):\n"
        f"        one.sendto({MARK!r} + number.to_bytes(8, 'big'), ({A1!r}, {OWN_PORT}))\n"
        "        time.sleep(0.02)\n"
    )
    lab.run("b", [sys.executable, "-c", program])
    report = report_with_answers(lab, alone, 210)
    assert (report["answered"], report["twice"]) == (210, 0)
    assert "probe started" not in lab.log("b").rsplit("locators verified", 1)[-1]
    context_of(lab, local_locator=B1, peer_locator=A1)
