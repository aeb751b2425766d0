# SPDX-License-Identifier: MIT
"""How people and programs observe and control a running daemon."""
