# SPDX-License-Identifier: MIT
"""Servers that answer as a test says, and labs that are attacked."""

import contextlib
from collections.abc import Iterator

import pytest

from noid.lab.lab import Lab
from tests.dns.conftest import pretend
from tests.lab.conftest import lab_machine
from tests.lab.conversations import assert_no_errors

__all__ = ["lab_machine", "pretend"]


@contextlib.contextmanager
def attacked_lab() -> Iterator[Lab]:
    """A lab with noid in the kernel on both hosts, whose daemons report no error."""
    with Lab.create(plane="bpf") as made:
        yield made
        assert_no_errors(made)


@pytest.fixture(scope="module")
def lab(lab_machine: None) -> Iterator[Lab]:
    with attacked_lab() as made:
        yield made
