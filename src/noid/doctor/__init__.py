# SPDX-License-Identifier: MIT
"""Checks of what a host needs to be reached by M6, and a fix for each problem."""
