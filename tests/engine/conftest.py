# SPDX-License-Identifier: MIT
"""What tests of the engine look at in the ``network`` of their file: host a, and its context."""

import pytest

from noid.engine.context import Context
from noid.engine.core import Core
from tests.engine.network import Network


@pytest.fixture
def core(network: Network) -> Core:
    return network.a.host.core


@pytest.fixture
def context(network: Network) -> Context:
    return network.a.context
