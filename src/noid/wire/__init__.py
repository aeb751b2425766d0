# SPDX-License-Identifier: MIT
"""Encodes and decodes the M6 wire formats. Pure."""
