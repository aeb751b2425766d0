# SPDX-License-Identifier: MIT
"""The kernel plane: eBPF programs, and the code that loads, attaches and feeds them."""
