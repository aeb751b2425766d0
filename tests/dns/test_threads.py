# SPDX-License-Identifier: MIT
"""What a thread of a test raises is reported as such."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.dns.conftest import NOBODY
from tests.namespaces import in_network_namespace

ROOT = Path(__file__).parent.parent.parent


class Fault(Exception):
    """Raised on purpose."""


def test_an_exception_in_a_network_namespace_is_raised_as_it_is() -> None:
    def scenario() -> None:
        raise Fault("in the thread")

    with pytest.raises(Fault, match="in the thread") as caught:
        in_network_namespace(scenario)
    assert "scenario" in [entry.name for entry in caught.traceback]


def test_a_failed_assertion_in_a_network_namespace_is_raised_as_it_is() -> None:
    def scenario() -> None:
        assert NOBODY[1] == 1, "nobody is one"

    with pytest.raises(AssertionError, match="nobody is one"):
        in_network_namespace(scenario)


def test_what_a_function_in_a_network_namespace_returns_is_returned() -> None:
    assert in_network_namespace(lambda: 42) == 42


FAULTY = """
import asyncio
from tests.dns.conftest import HOST, pretend, with_upstream
from tests.waiting import until

__all__ = ["pretend"]

def test_faulty(pretend):
    asked = []

    def handle(query, stream):
        asked.append(query)
        raise ZeroDivisionError("in a server")

    async def scenario(client):
        task = asyncio.create_task(client.ask(HOST))
        await until(lambda: bool(asked))
        await client.close()
        await task

    with_upstream(scenario, pretend(handle))
"""


@pytest.mark.slow
def test_what_a_server_of_a_test_raises_fails_the_test(tmp_path: Path) -> None:
    (tmp_path / "test_faulty.py").write_text(FAULTY)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert "ZeroDivisionError: in a server" in done.stdout
    assert "1 passed, 1 error" in done.stdout
