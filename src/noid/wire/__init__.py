# SPDX-License-Identifier: MIT
"""The M6 wire formats: octets to values and back. Pure."""
