# SPDX-License-Identifier: MIT
"""The place where a border pins, as for the tests of the planes."""

from tests.planes.conftest import pins

__all__ = ["pins"]
