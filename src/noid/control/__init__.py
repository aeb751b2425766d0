# SPDX-License-Identifier: MIT
"""The interfaces by which operators and programs observe and control a running daemon."""
