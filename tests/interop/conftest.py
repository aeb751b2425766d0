# SPDX-License-Identifier: MIT
"""A lab with noid on b, and the second implementation on a."""

from collections.abc import Iterator

import pytest

from noid.errors import ShimError
from noid.lab import machine
from noid.lab.inventory import Plane
from noid.lab.lab import Lab
from tests.interop.harness import A1, A2, B1, B2, Program, running


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab with noid on b and nothing on a, on the plane that a module asks for."""
    try:
        machine.check_machine("ip", "nsd", "nginx")
    except ShimError as error:
        pytest.skip(str(error))
    plane: Plane = getattr(request, "param", "tun")
    with Lab.create(plane=plane) as lab:
        if plane == "bpf":
            lab.take_noid_down("a")  # its programs go on without a daemon
        else:
            lab.stop_daemon("a")
        yield lab
        log = lab.log("b")
        assert " ERROR " not in log, log
        assert "Traceback" not in log, log


@pytest.fixture
def second(lab: Lab) -> Iterator[Program]:
    """The second implementation that does what the test says, on a."""
    with running(lab, "tests.interop.second", f"{A1},{A2}", f"{B1},{B2}") as program:
        yield program
