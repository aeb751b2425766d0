# SPDX-License-Identifier: MIT
"""The data plane for the kernel: C that is compiled when the package is built."""
