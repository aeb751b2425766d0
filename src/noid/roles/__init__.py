# SPDX-License-Identifier: MIT
"""The daemons, which connect the other parts."""
