# SPDX-License-Identifier: MIT
"""Persistent state: identity and contexts, and their restoration."""
