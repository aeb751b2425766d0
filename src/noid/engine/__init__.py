# SPDX-License-Identifier: MIT
"""The M6 protocol: events in, outputs out. Pure."""
