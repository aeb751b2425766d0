# SPDX-License-Identifier: MIT
"""Changes code in one place at a time, and finds out whether tests notice."""
