# SPDX-License-Identifier: MIT
"""The daemons: what runs, and how its parts are connected."""
