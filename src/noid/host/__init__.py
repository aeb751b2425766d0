# SPDX-License-Identifier: MIT
"""This machine: its links, addresses, routes, rules, sockets and resolver configuration."""
