# SPDX-License-Identifier: MIT
"""The limit of descriptors of this process, and how they are divided.

What others can make grow has a share. The rest is for the stub's clients, the control socket,
netlink, devices, programs and files: they work while a share is used up.
"""

import resource
from typing import Final

WANTED: Final = 16_384
"""The limit that is asked for; the system may allow less."""
RESERVED: Final = 512
"""Descriptors of everything but the questions to resolvers; the largest parts are 2 x 64 clients of
the stub, 2 x 32 of the control socket, 2 for each uplink and 32 senders."""
NEEDED: Final = 1_024
"""With a limit below this the shares are smaller than one host needs."""
RESOLVERS_MAX: Final = 4_096
RESOLVERS_MIN: Final = 16


def raise_limit(wanted: int = WANTED) -> int:
    """Raises the limit of this process as far as the system allows; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return min(soft, WANTED) if soft != resource.RLIM_INFINITY else WANTED


def for_resolvers(limit: int) -> int:
    """The sockets that may be open to resolvers at one time."""
    return min(RESOLVERS_MAX, max(RESOLVERS_MIN, limit - RESERVED))
