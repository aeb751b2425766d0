# SPDX-License-Identifier: MIT
"""Whatever the octets, nothing raises and nothing grows: each target of ``make fuzz``, in short."""

import signal
import subprocess
import sys
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from noid.engine.state import State
from tests.fuzz import decoders, engine, names, packets, servers, state
from tests.fuzz.situations import SITUATIONS
from tests.fuzz.targets import TARGETS

octets = st.binary(max_size=400)
stories = octets | st.builds(lambda seed: Random(seed).randbytes(600), st.integers(0, 1 << 32))
deeply = settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
lightly = settings(max_examples=200, deadline=None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["message", "options", "headers", "data", "packet", "query", "answer"]
)
@deeply
@given(octets=octets)
def test_any_octets_are_a_value_or_refused(name: str, octets: bytes) -> None:
    TARGETS[name](octets)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["birthday", "record", "contexts"])
@settings(max_examples=60, deadline=None)
@given(octets=octets)
def test_a_daemon_starts_with_any_state_file(name: str, octets: bytes) -> None:
    TARGETS[name](octets)


@pytest.mark.slow
@lightly
@given(octets)
@example(b"\x00" * 11)
def test_a_program_may_ask_the_stub_anything(octets: bytes) -> None:
    servers.question(octets)


@pytest.mark.slow
@lightly
@given(octets)
def test_a_resolver_may_answer_anything(octets: bytes) -> None:
    servers.response(octets)


@pytest.mark.slow
@lightly
@given(octets | octets.map(lambda one: b'{"command":"status"}\n' + one))
@example(b'{"command":"monitor"}\n')
@example(b'{"command":' + b"[" * 2000)
@example(bytes(10_000))
def test_a_client_may_say_anything_to_the_control_socket(octets: bytes) -> None:
    servers.control(octets)


@pytest.mark.slow
@deeply
@given(stories)
def test_anything_may_happen_to_a_host(octets: bytes) -> None:
    engine.host(octets)


def test_there_is_a_situation_for_every_state() -> None:
    contexts = [one for each in SITUATIONS for one in each()[1].host.contexts]
    assert {one.state for one in contexts} == set(State) - {State.IDLE}
    assert any(one.is_provisional for one in contexts)
    assert any(one.update is not None for one in contexts)
    assert any(one.search is not None for one in contexts)
    assert any(one.state is State.INIT_SENT and one.is_known_to_peer for one in contexts)
    assert any(one.is_settled and not one.peer_verified for one in contexts)


LIMITED = """
import time
from tests.fuzz.limits import limited

def spend(octets):
    clock = getattr(time, octets.decode())
    end = clock() + 0.5
    while clock() < end:
        if octets == b"monotonic":
            time.sleep(0.05)

limited(spend, 0.2)(b"%s")
"""


@pytest.mark.parametrize(("spent", "code"), [("process_time", -signal.SIGABRT), ("monotonic", 0)])
def test_the_limit_of_an_input_is_processor_time(spent: str, code: int) -> None:
    """An input that waits, for the processor of a busy machine for example, goes on."""
    run = subprocess.run(
        [sys.executable, "-c", LIMITED % spent], capture_output=True, text=True, check=False
    )
    assert run.returncode == code
    assert ("in spend" in run.stderr) is (code != 0)


def test_every_target_is_run_here_too() -> None:
    assert set(TARGETS.values()) == {
        *(decoders.message, decoders.options, decoders.headers, decoders.data),
        *(packets.packet, state.birthday, state.record, state.contexts),
        *(names.query, names.answer),
        *(servers.question, servers.response, servers.control, engine.host),
    }
