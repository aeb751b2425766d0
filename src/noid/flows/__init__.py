# SPDX-License-Identifier: MIT
"""The packet path of a host in software, without any input or output of its own. Pure."""
