# SPDX-License-Identifier: MIT
"""Attacks that once worked, and what is left of them."""
