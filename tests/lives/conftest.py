# SPDX-License-Identifier: MIT
"""The place where a plane in the kernel pins, as for the tests of the planes themselves."""

from tests.planes.conftest import pins

__all__ = ["pins"]
