# SPDX-License-Identifier: MIT
"""Data planes: they rewrite packets by flows."""
