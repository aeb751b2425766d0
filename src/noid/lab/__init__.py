# SPDX-License-Identifier: MIT
"""Networks of real hosts in network namespaces, and faults of them."""
