# SPDX-License-Identifier: MIT
"""Data planes: what rewrites packets, and the law it follows."""
