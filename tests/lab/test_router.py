# SPDX-License-Identifier: MIT
"""A router that runs noid for itself, on the way between two hosts that do."""

import sys

from noid.control.client import answers, ask
from noid.counters import PlaneCounter, counters_of
from noid.lab import configuration
from noid.lab.lab import Lab
from tests.lab.conversations import (
    PATIENCE_S,
    establish_context,
    restart_daemons,
    serve_echoes,
    tcp,
)

ROUTER = "isp1"


def test_a_router_passes_on_what_is_for_others(lab_machine: None) -> None:
    with Lab.create(plane="bpf") as lab:
        serve_echoes(lab)
        path, control = lab.directory / f"{ROUTER}.toml", lab.directory / f"{ROUTER}.sock"
        text = configuration.noid_toml(ROUTER, lab.directory, "bpf")
        path.write_text(text.replace('"up*"', '"cust*"'), encoding="utf-8")
        lab.spawn(ROUTER, [sys.executable, "-m", "noid", "run", "--config", str(path)])
        lab.wait_for("noid answers on the router", lambda: answers(control), PATIENCE_S)
        restart_daemons(lab)
        establish_context(lab)
        with tcp(lab, "a") as conversation:
            for _ in range(10):
                conversation.echoes()
        status = ask(control, "status")
        assert set(status["plane"]["uplinks"]) == {"custa", "custb"}
        counters = counters_of(PlaneCounter, status["plane"]["counters"])
        assert counters[PlaneCounter.PACKETS_TO_SLOW_PATH] == 0
        assert counters[PlaneCounter.REFUSED_UNKNOWN_LABEL] == 0
        assert status["contexts"] == {}
