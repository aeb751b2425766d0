# SPDX-License-Identifier: MIT
"""The kernel features that the programs need, each probed [D36].

The kernel version is not used: kernels of distributions have backported features.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from noid.errors import PlatformError, Unsupported
from noid.planes.bpf import libbpf
from noid.planes.privileges import lacking

SCHED_CLS: Final = 3
"""The type of the programs on tcx and clsact."""


class Feature(NamedTuple):
    """A kernel feature that the programs need.

    Attributes:
        name: its name in the kernel.
        number: of a type of maps, or of a function programs may call.
        since: the first Linux version with it.
    """

    name: str
    number: int
    since: str


MAPS: Final = (
    Feature("hash maps", 1, "4.1"),
    Feature("array maps", 2, "4.1"),
    Feature("per-CPU array maps", 6, "4.6"),
    Feature("LRU hash maps", 9, "4.10"),
    Feature("ring buffers", 27, "5.8"),
)
FUNCTIONS: Final = (
    Feature("bpf_map_lookup_elem", 1, "4.1"),
    Feature("bpf_map_update_elem", 2, "4.1"),
    Feature("bpf_ktime_get_ns", 5, "4.1"),
    Feature("bpf_get_prandom_u32", 7, "4.1"),
    Feature("bpf_skb_store_bytes", 9, "4.1"),
    Feature("bpf_skb_vlan_pop", 19, "4.3"),
    Feature("bpf_redirect", 23, "4.4"),
    Feature("bpf_skb_load_bytes", 26, "4.5"),
    Feature("bpf_csum_diff", 28, "4.6"),
    Feature("bpf_skb_pull_data", 39, "4.9"),
    Feature("bpf_csum_update", 40, "4.9"),
    Feature("bpf_skb_change_head", 43, "4.10"),
    Feature("bpf_get_socket_uid", 47, "4.12"),
    Feature("bpf_skb_load_bytes_relative", 68, "4.18"),
    Feature("bpf_sk_lookup_tcp", 84, "4.20"),
    Feature("bpf_sk_release", 86, "4.20"),
    Feature("bpf_sk_fullsock", 95, "5.1"),
    Feature("bpf_tcp_sock", 96, "5.1"),
    Feature("bpf_jiffies64", 118, "5.6"),
    Feature("bpf_ringbuf_output", 130, "5.8"),
    Feature("bpf_ringbuf_reserve", 131, "5.8"),
    Feature("bpf_ringbuf_submit", 132, "5.8"),
    Feature("bpf_ringbuf_discard", 133, "5.8"),
    Feature("bpf_redirect_neigh", 152, "5.10"),
)
TIMERS: Final = (
    Feature("bpf_timer_init", 169, "5.15"),
    Feature("bpf_timer_set_callback", 170, "5.15"),
    Feature("bpf_timer_start", 171, "5.15"),
)
"""Without these the daemon looks for silent flows itself."""


def missing(
    maps: Sequence[Feature] = MAPS, functions: Sequence[Feature] = FUNCTIONS
) -> list[Feature]:
    """The features that this kernel lacks; needs the privileges of loading.

    Args:
        maps: the types of maps that are needed.
        functions: the functions that are needed.

    Raises:
        Unsupported: libbpf is missing.
    """
    lacked = [one for one in maps if not libbpf.knows_map(one.number)]
    # A function that works on maps cannot be tried without one, but is not what is missing then.
    return lacked or [one for one in functions if not libbpf.knows_function(SCHED_CLS, one.number)]


@contextlib.contextmanager
def explained(functions: Sequence[Feature] = FUNCTIONS) -> Iterator[None]:
    """Names the missing feature if the kernel refuses the programs because of it.

    Args:
        functions: the functions that are needed.

    Raises:
        Unsupported: it lacks something.
    """
    try:
        yield
    except PlatformError as error:
        lacked = [] if lacking() else missing(functions=functions)
        if not lacked:
            raise
        latest = max(lacked, key=lambda one: tuple(map(int, one.since.split("."))))
        what = ", ".join(one.name for one in lacked)
        raise Unsupported(
            f"{what} of the kernel", f"Linux {latest.since} or newer has it ({error})"
        ) from None
