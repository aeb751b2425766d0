# SPDX-License-Identifier: MIT
"""Servers that answer as a test says."""

from tests.dns.conftest import pretend

__all__ = ["pretend"]
