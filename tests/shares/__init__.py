# SPDX-License-Identifier: MIT
"""The shares of sources, apart from what they are shares of."""
