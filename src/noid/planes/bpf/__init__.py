# SPDX-License-Identifier: MIT
"""The data plane in the kernel: eBPF programs and everything that handles them."""
