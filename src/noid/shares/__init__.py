# SPDX-License-Identifier: MIT
"""The shares of sources in everything that they compete for [D46]."""
