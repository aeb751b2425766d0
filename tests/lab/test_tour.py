# SPDX-License-Identifier: MIT
"""What the tutorial does by hand: look into a host of a lab, let a provider die, look again."""

import json
import subprocess
import sys
from typing import Any

from noid.lab.lab import Lab
from noid.lab.topology import locators
from tests.lab.conversations import establish_context, restart_daemons

NOID = (sys.executable, "-m", "noid")


def _noid(*words: str) -> str:
    done = subprocess.run([*NOID, *words], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def _on_a(lab: Lab, *words: str) -> str:
    """What one of noid's own commands says on a, told neither of a socket nor of a file."""
    return _noid("lab", "exec", "--name", lab.name, "a", "--", *NOID, *words)


def test_the_daemon_of_a_lab_is_found(lab: Lab) -> None:
    restart_daemons(lab)
    establish_context(lab)
    (context,) = json.loads(_on_a(lab, "contexts", "--json"))
    line = _on_a(lab, "contexts").splitlines()[1]
    assert line.split()[:2] == [context["local_aid"], context["peer_aid"]]
    assert line.split()[-1] == "b.example"
    assert "a.example. 300 IN TYPE65286 \\# 0" in _on_a(lab, "zone").splitlines()


def test_the_dns_is_asked_by_the_provider_that_lives(lab: Lab) -> None:
    peer = locators("b")[0]
    _noid("lab", "cut", "--name", lab.name, "1")
    try:
        findings: list[dict[str, Any]] = json.loads(_on_a(lab, "doctor", "--json"))
        steps = _on_a(lab, "lookup", "b.example")
    finally:
        _noid("lab", "heal", "--name", lab.name, "1")
    assert {one["health"] for one in findings} == {"ok"}
    assert f"{peer}: verified" in steps.splitlines()
