# SPDX-License-Identifier: MIT
"""A lab for each module of field cases, made whole before each test."""

from collections.abc import Iterator

import pytest

from noid.lab.lab import Lab
from tests.lab.field.situations import made_whole


@pytest.fixture
def lab(kernel_lab: Lab) -> Iterator[Lab]:
    with made_whole(kernel_lab) as lab:
        yield lab
