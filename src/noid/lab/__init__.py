# SPDX-License-Identifier: MIT
"""Networks of real hosts in network namespaces, and what happens to them."""
