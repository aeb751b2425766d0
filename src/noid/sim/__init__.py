# SPDX-License-Identifier: MIT
"""Many hosts, a bad network and attackers, in virtual time. Pure.

Nothing here imports asyncio, socket or time. ``random`` is the only exception, and every source of
random numbers has a seed, so that a run depends only on its seed and scenario.
"""
