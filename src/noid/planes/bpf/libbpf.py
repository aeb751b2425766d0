# SPDX-License-Identifier: MIT
"""The few calls of libbpf and of bpf(2) that the plane needs, through ctypes: tables, links, pins.

A refusal of the kernel raises PlatformError; a missing feature raises Unsupported. File descriptors
are plain integers that belong to the caller.
"""

import contextlib
import ctypes
import errno
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from noid.errors import PlatformError, Unsupported
from noid.planes.bpf.bpffs import is_own
from noid.planes.privileges import advice

LIBRARY = "libbpf.so.1"
PACKAGE = "libbpf1"
ANY = 0
TCX_INGRESS = 46
TCX_EGRESS = 47
XDP = 37
CONNECT = 11
"""BPF_CGROUP_INET6_CONNECT."""
XDP_NATIVE = 1 << 2
"""XDP_FLAGS_DRV_MODE: by the driver itself, before the stack has a packet."""
ATTACHED_MAX = 64
"""Programs on one hook: the kernel takes no more (BPF_MPROG_MAX)."""
RUN_TIME = 0
"""BPF_STATS_RUN_TIME."""
SampleCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class _LinkOptions(ctypes.Structure):
    """The head of struct bpf_link_create_opts: as much as every libbpf 1 has."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("iter_info", ctypes.c_void_p),
        ("iter_info_len", ctypes.c_uint32),
        ("target_btf_id", ctypes.c_uint32),
    )


class _LinkInfo(ctypes.Structure):
    """The head of struct bpf_link_info, as links to devices have it: those of tcx and XDP."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),  # a union with octets that are aligned to 8
        ("ifindex", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
    )


@functools.cache
def library() -> ctypes.CDLL:
    """The library, with the types of the functions that do not take and return plain ints.

    Raises:
        Unsupported: it is not installed.
    """
    try:
        found = ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError:
        raise Unsupported("libbpf", f"install the Debian package {PACKAGE}") from None
    pointer, octets = ctypes.c_void_p, ctypes.c_char_p
    for name, returned, arguments in (
        ("bpf_object__open_mem", pointer, [octets, ctypes.c_size_t, pointer]),
        ("bpf_object__load", ctypes.c_int, [pointer]),
        ("bpf_object__close", None, [pointer]),
        ("bpf_object__next_map", pointer, [pointer, pointer]),
        ("bpf_object__next_program", pointer, [pointer, pointer]),
        ("bpf_map__name", octets, [pointer]),
        ("bpf_map__fd", ctypes.c_int, [pointer]),
        ("bpf_map__set_max_entries", ctypes.c_int, [pointer, ctypes.c_uint32]),
        ("bpf_map__set_initial_value", ctypes.c_int, [pointer, octets, ctypes.c_size_t]),
        ("bpf_program__name", octets, [pointer]),
        ("bpf_program__fd", ctypes.c_int, [pointer]),
        ("bpf_map_update_elem", ctypes.c_int, [ctypes.c_int, octets, octets, ctypes.c_uint64]),
        ("bpf_map_lookup_elem", ctypes.c_int, [ctypes.c_int, octets, octets]),
        ("bpf_map_delete_elem", ctypes.c_int, [ctypes.c_int, octets]),
        ("bpf_map_get_next_key", ctypes.c_int, [ctypes.c_int, octets, octets]),
        ("bpf_map_update_batch", ctypes.c_int, [ctypes.c_int, octets, octets, pointer, pointer]),
        ("bpf_obj_pin", ctypes.c_int, [ctypes.c_int, octets]),
        ("bpf_obj_get", ctypes.c_int, [octets]),
        ("bpf_obj_get_info_by_fd", ctypes.c_int, [ctypes.c_int, pointer, pointer]),
        ("bpf_link_create", ctypes.c_int, [ctypes.c_int, ctypes.c_int, ctypes.c_int, pointer]),
        ("bpf_link_update", ctypes.c_int, [ctypes.c_int, ctypes.c_int, pointer]),
        ("bpf_prog_test_run_opts", ctypes.c_int, [ctypes.c_int, pointer]),
        ("ring_buffer__new", pointer, [ctypes.c_int, SampleCallback, pointer, pointer]),
        ("ring_buffer__consume", ctypes.c_int, [pointer]),
        ("ring_buffer__epoll_fd", ctypes.c_int, [pointer]),
        ("ring_buffer__free", None, [pointer]),
    ):
        function = getattr(found, name)
        function.restype, function.argtypes = returned, arguments
    return found


class Table:
    """A map of the kernel's: octets to octets.

    Args:
        descriptor: of the map.
        key_octets: of each key.
        value_octets: of each value.
    """

    def __init__(self, descriptor: int, key_octets: int, value_octets: int) -> None:
        self.bpf = library()
        self.descriptor = descriptor
        self.key_octets = key_octets
        self.value_octets = value_octets
        self._room = ctypes.create_string_buffer(value_octets)

    def put(self, key: bytes, value: bytes) -> bool:
        """Sets an entry; returns whether there was room for it."""
        assert (len(key), len(value)) == (self.key_octets, self.value_octets)
        return bool(self.bpf.bpf_map_update_elem(self.descriptor, key, value, ANY) == 0)

    def put_all(self, keys: bytes, values: bytes) -> int:
        """Sets many entries with one call; returns how many there was room for."""
        wanted = len(keys) // self.key_octets
        count = ctypes.c_uint32(wanted)
        update = self.bpf.bpf_map_update_batch
        if not wanted or update(self.descriptor, keys, values, ctypes.byref(count), None) == 0:
            return wanted
        # The kernel says how many it took, but not where it could not even begin.
        return count.value if count.value < wanted else 0

    def find(self, key: bytes) -> bytes | None:
        """The value under a key, or None."""
        if self.bpf.bpf_map_lookup_elem(self.descriptor, key, self._room) != 0:
            return None
        return self._room.raw

    def remove(self, key: bytes) -> None:
        """Removes an entry, if it is there."""
        self.bpf.bpf_map_delete_elem(self.descriptor, key)

    def keys(self) -> Iterator[bytes]:
        """Every key; if a key is deleted during the iteration, it may start again."""
        room = ctypes.create_string_buffer(self.key_octets)
        last: bytes | None = None
        while self.bpf.bpf_map_get_next_key(self.descriptor, last, room) == 0:
            last = room.raw
            yield last


class Reports:
    """The ring buffer by which the programs report.

    Args:
        descriptor: of the map.
        take: is given each report, as octets.
        at_once: reports read in one batch, before other events; 0: all.
    """

    def __init__(self, descriptor: int, take: Callable[[bytes], None], at_once: int = 0) -> None:
        self._at_once = at_once
        self._left = 0
        self.bpf = library()
        # The callback must live as long as the ring does.
        self._callback = SampleCallback(lambda _, at, octets: self._taken(at, octets))
        self._take = take
        self._ring = self.bpf.ring_buffer__new(descriptor, self._callback, None, None)
        if not self._ring:
            raise failure("the ring of reports")

    def fileno(self) -> int:
        """Becomes readable when there are reports."""
        return int(self.bpf.ring_buffer__epoll_fd(self._ring))

    def consume(self) -> None:
        """Reads a batch of the available reports."""
        self._left = self._at_once
        self.bpf.ring_buffer__consume(self._ring)

    def close(self) -> None:
        """Lets go of the ring."""
        self.bpf.ring_buffer__free(self._ring)

    def _taken(self, at: int, octets: int) -> int:
        self._take(ctypes.string_at(at, octets))
        self._left -= 1
        return -1 if self._left == 0 else 0  # a negative number ends the turn


def processors() -> int:
    """How many processors there may be, each of which has its own value in a per-processor map."""
    return int(library().libbpf_num_possible_cpus())


def knows_map(kind: int) -> bool:
    """Whether the kernel has a type of maps, by its number; asking takes privileges."""
    return bool(library().libbpf_probe_bpf_map_type(kind, None) == 1)


def knows_function(program_kind: int, number: int) -> bool:
    """Whether programs of a type may call a function of the kernel's; asking takes privileges."""
    return bool(library().libbpf_probe_bpf_helper(program_kind, number, None) == 1)


def has_tcx(ifindex: int) -> bool:
    """Whether the kernel has the hook tcx; asks who hangs there on a device, and changes nothing.

    Raises:
        PlatformError: it does not say.
    """
    count = ctypes.c_uint32(0)
    if library().bpf_prog_query(ifindex, TCX_INGRESS, 0, None, None, ctypes.byref(count)) == 0:
        return True
    if ctypes.get_errno() in (errno.EPERM, errno.EACCES):
        raise failure("look at the hooks")
    return False


def attached(ifindex: int, kind: int) -> frozenset[int]:
    """The numbers of the programs on a hook of a device.

    Raises:
        PlatformError: the kernel does not say.
    """
    numbers = (ctypes.c_uint32 * ATTACHED_MAX)()
    count = ctypes.c_uint32(ATTACHED_MAX)
    if library().bpf_prog_query(ifindex, kind, 0, None, numbers, ctypes.byref(count)) != 0:
        raise failure("look at the hooks")
    return frozenset(numbers[: count.value])


def program_id(program: int) -> int:
    """The number by which the kernel knows a program."""
    return int(_described(program)["prog_id"])


def no_tcx() -> Unsupported:
    """What to say where there is no tcx."""
    return Unsupported("the hook tcx", "Linux 6.6 has it")


def target(link: int) -> tuple[int, int]:
    """The program of a link, by its number, and the index of its device; 0 if that has none.

    Raises:
        PlatformError: the kernel does not say.
    """
    found, octets = _LinkInfo(), ctypes.c_uint32(ctypes.sizeof(_LinkInfo))
    if library().bpf_obj_get_info_by_fd(link, ctypes.byref(found), ctypes.byref(octets)) != 0:
        raise failure("describe a BPF link")
    return found.prog_id, found.ifindex


def attach(program: int, ifindex: int, kind: int, *, flags: int = 0) -> int:
    """Attaches a program to a device by a link, which detaches it when its last descriptor goes.

    Returns:
        The descriptor of the link.

    Raises:
        Unsupported: this kernel, or the device's driver, has no such hook.
        PlatformError: the kernel refuses.
    """
    options = _LinkOptions(sz=ctypes.sizeof(_LinkOptions), flags=flags)
    link = library().bpf_link_create(program, ifindex, kind, ctypes.byref(options))
    if link < 0:
        number = -link
        if number in (errno.EINVAL, errno.EOPNOTSUPP) and kind != CONNECT:
            raise Unsupported("native XDP", "its driver has none") if kind == XDP else no_tcx()
        raise PlatformError("attach the BPF programs", number, advice(number))
    return int(link)


def attach_to_group(program: int, directory: Path) -> int:
    """Attaches a program for connections to a control group, as ``attach``.

    Args:
        program: its descriptor.
        directory: of the control group.

    Raises:
        PlatformError: the kernel refuses.
    """
    try:
        group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PlatformError(f"open {directory}", error.errno or 0, str(error.strerror)) from None
    try:
        return attach(program, group, CONNECT)
    finally:
        os.close(group)


def replace(link: int, program: int) -> None:
    """Puts another program in the place of the one a link attaches, between two packets.

    Raises:
        PlatformError: the kernel refuses.
    """
    if library().bpf_link_update(link, program, None) < 0:
        raise failure("replace the BPF programs")


def drop(path: Path, link: int | None = None) -> None:
    """Detaches what a link attaches, and removes its pin.

    The pin alone would leave it attached for a moment.

    Args:
        path: of the pin, if there is one.
        link: the descriptor of the link, if it is open; it is closed.
    """
    link = pinned(path) if link is None else link
    if link is not None:
        library().bpf_link_detach(link)
        os.close(link)
    unpin(path)


def pin(descriptor: int, path: Path) -> None:
    """Keeps a map or link alive under a name, in the place of what had it.

    Raises:
        PlatformError: the kernel refuses.
    """
    unpin(path)
    if library().bpf_obj_pin(descriptor, os.fsencode(path)) < 0:
        raise failure(f"pin {path}")


def unpin(path: Path) -> None:
    """Removes a pin, as far as it is there and can be removed."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def pinned(path: Path) -> int | None:
    """A descriptor of what this user has pinned there, or None."""
    if not is_own(path):
        return None
    descriptor = library().bpf_obj_get(os.fsencode(path))
    return None if descriptor < 0 else int(descriptor)


@contextlib.contextmanager
def statistics() -> Iterator[None]:
    """Makes the kernel measure every program while the block runs; each run costs a little more.

    Raises:
        PlatformError: the kernel refuses.
    """
    descriptor = library().bpf_enable_stats(RUN_TIME)
    if descriptor < 0:
        raise failure("bpf statistics")
    try:
        yield
    finally:
        os.close(descriptor)


def run_time_ns(program: int) -> int:
    """How long a program has run in all, while the kernel measured."""
    return int(_described(program)["run_time_ns"])


def run_count(program: int) -> int:
    """How often a program has run, while the kernel measured."""
    return int(_described(program)["run_cnt"])


def memory_octets(table: int) -> int:
    """What the kernel has allocated for a map."""
    return int(_described(table)["memlock"])


def _described(descriptor: int) -> dict[str, str]:
    """What the kernel says of a descriptor of ours.

    Raises:
        PlatformError: it does not say.
    """
    path = f"/proc/self/fdinfo/{descriptor}"
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise PlatformError(f"read {path}", error.errno or 0, str(error.strerror)) from None
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def failure(operation: str) -> PlatformError:
    """What the kernel or libbpf has just refused, and what to do."""
    number = ctypes.get_errno()
    return PlatformError(operation, number, advice(number))
