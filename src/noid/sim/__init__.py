# SPDX-License-Identifier: MIT
"""Many hosts, a bad network and its attackers, in virtual time and out of one seed. Pure.

Nothing here imports asyncio, socket or time; ``random`` is the one exception, and every source of
it is seeded, so that a run is a function of its seed and scenario alone.
"""
