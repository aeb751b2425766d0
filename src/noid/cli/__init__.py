# SPDX-License-Identifier: MIT
"""The noid command."""
