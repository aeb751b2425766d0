# SPDX-License-Identifier: MIT
"""Loads a compiled object into the kernel, and runs its programs on test packets."""

import contextlib
import ctypes
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from noid.errors import PlatformError
from noid.planes.bpf.libbpf import failure, library
from noid.planes.privileges import advice, lacking

SUMMED_UP = 1 << 2
"""BPF_F_TEST_SKB_CHECKSUM_COMPLETE: the device has summed up the packet; checked afterwards."""
VERIFIER = "BEGIN PROG LOAD LOG"
"""In what libbpf says, where the words of the verifier are."""
PRINT_DEBUG = 2
"""LIBBPF_DEBUG: what libbpf says about itself, all the time."""
LOG_LINES_MAX = 1000
LOG_OCTETS_MAX = 16 << 20
"""Of one thing it says; the whole log of the verifier is one, its reason at the end."""

PrintCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class _TestRun(ctypes.Structure):
    """struct bpf_test_run_opts of libbpf 1."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


def other_version() -> PlatformError:
    """An installation whose programs were compiled before the rest was replaced."""
    return PlatformError("the BPF object", 0, "is of another version of noid; install noid again")


class Programs:
    """A compiled object, loaded: its programs and maps by name, as file descriptors.

    Args:
        code: the ELF object.
        sizes: how many entries a map may have, where not as many as the object says.
        constants: the octets of its read-only data.
        log_path: where the verifier's words go when the kernel refuses.

    Raises:
        Unsupported: libbpf is missing.
        PlatformError: the object cannot be loaded.
    """

    def __init__(
        self, code: bytes, *, sizes: Mapping[str, int], constants: bytes, log_path: Path
    ) -> None:
        self.bpf = library()
        self.maps: dict[str, int] = {}
        self.programs: dict[str, int] = {}
        with _collected_log(self.bpf) as log:
            self._object = self.bpf.bpf_object__open_mem(code, len(code), None)
            if not self._object:
                raise PlatformError("the BPF object", ctypes.get_errno(), "is not one; reinstall")
            try:
                self._prepare(sizes, constants)
                if self.bpf.bpf_object__load(self._object) < 0:
                    raise _refused_load(ctypes.get_errno(), log, log_path)
                self.maps = {name: self.bpf.bpf_map__fd(one) for name, one in self._maps()}
                self.programs = dict(self._programs())
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Closes all descriptors; pinned or attached objects stay."""
        self.bpf.bpf_object__close(self._object)
        self._object = None

    def _prepare(self, sizes: Mapping[str, int], constants: bytes) -> None:
        for name, one in self._maps():
            if name in sizes:
                self.bpf.bpf_map__set_max_entries(one, sizes[name])
            elif name.endswith(".rodata") and self.bpf.bpf_map__set_initial_value(
                one, constants, len(constants)
            ):
                raise other_version()

    def _maps(self) -> Iterator[tuple[str, int]]:
        one = self.bpf.bpf_object__next_map(self._object, None)
        while one:
            yield self.bpf.bpf_map__name(one).decode(), one
            one = self.bpf.bpf_object__next_map(self._object, one)

    def _programs(self) -> Iterator[tuple[str, int]]:
        one = self.bpf.bpf_object__next_program(self._object, None)
        while one:
            yield self.bpf.bpf_program__name(one).decode(), self.bpf.bpf_program__fd(one)
            one = self.bpf.bpf_object__next_program(self._object, one)

    def try_out(
        self, program: str, packet: bytes, context: bytes = b"", *, flags: int = 0
    ) -> tuple[int, bytes]:
        """Runs a program on a test packet (BPF_PROG_TEST_RUN).

        Args:
            program: its name.
            packet: with its link-layer header.
            context: the head of a ``struct __sk_buff``, of which the kernel takes some fields.
            flags: SUMMED_UP, or none.

        Returns:
            The verdict, and the packet afterwards.

        Raises:
            PlatformError: the kernel refuses, or the sum is wrong afterwards.
        """
        return self._try_out(program, packet, context, flags, is_whole=False)[:2]

    def try_out_whole(
        self, program: str, packet: bytes, context: bytes, *, flags: int = 0
    ) -> tuple[int, bytes, bytes]:
        """See ``try_out``, with a whole ``struct __sk_buff``, which is returned as the third."""
        return self._try_out(program, packet, context, flags, is_whole=True)

    def cost_ns(self, program: str, packet: bytes, *, runs: int) -> float:
        """The mean processor time of a program per packet over many runs, in ns.

        The kernel itself says whole nanoseconds, too coarse where a program takes some tens.

        Raises:
            PlatformError: the kernel refuses.
        """
        taken = ctypes.create_string_buffer(packet, len(packet))
        options = _TestRun(
            sz=ctypes.sizeof(_TestRun),
            data_in=ctypes.addressof(taken),
            data_size_in=len(packet),
            repeat=runs,
        )
        before_ns = time.thread_time_ns()
        if self.bpf.bpf_prog_test_run_opts(self.programs[program], ctypes.byref(options)) < 0:
            raise failure(f"try out {program}")
        return (time.thread_time_ns() - before_ns) / runs

    def _try_out(
        self, program: str, packet: bytes, context: bytes, flags: int, *, is_whole: bool
    ) -> tuple[int, bytes, bytes]:
        room = ctypes.create_string_buffer(len(packet) + 256)
        taken = ctypes.create_string_buffer(packet, len(packet))
        given = ctypes.create_string_buffer(context, len(context)) if context else None
        options = _TestRun(
            sz=ctypes.sizeof(_TestRun),
            data_in=ctypes.addressof(taken),
            data_size_in=len(packet),
            data_out=ctypes.addressof(room),
            data_size_out=len(room),
            ctx_in=ctypes.addressof(given) if given is not None else None,
            ctx_out=ctypes.addressof(given) if given is not None and is_whole else None,
            ctx_size_in=len(context),
            ctx_size_out=len(context) if is_whole else 0,
            flags=flags,
        )
        if self.bpf.bpf_prog_test_run_opts(self.programs[program], ctypes.byref(options)) < 0:
            raise failure(f"try out {program}")
        after = given.raw if given is not None else b""
        return options.retval, room.raw[: options.data_size_out], after


def _refused_load(number: int, log: list[str], log_path: Path) -> PlatformError:
    """Why the programs could not be loaded, with the verifier's words in a file."""
    words = advice(number)
    if any(VERIFIER in line for line in log):
        if not lacking():
            words = "the verifier refuses them"
        with contextlib.suppress(OSError):
            log_path.write_text("".join(log), encoding="utf-8")
            words += f"; its log is {log_path}"
    return PlatformError("load the BPF programs", number, words)


@contextlib.contextmanager
def _collected_log(bpf: ctypes.CDLL) -> Iterator[list[str]]:
    """Collects the messages of libbpf while the block runs, instead of standard error."""
    lines: list[str] = []
    libc = ctypes.CDLL(None)
    room = ctypes.create_string_buffer(LOG_OCTETS_MAX)

    def say(level: int, template: bytes, arguments: int) -> int:
        if level < PRINT_DEBUG and len(lines) < LOG_LINES_MAX:
            libc.vsnprintf(room, len(room), template, ctypes.c_void_p(arguments))
            lines.append(room.value.decode(errors="replace"))
        return 0

    callback = PrintCallback(say)
    bpf.libbpf_set_print.restype = ctypes.c_void_p
    previous = bpf.libbpf_set_print(callback)
    try:
        yield lines
    finally:
        bpf.libbpf_set_print(ctypes.c_void_p(previous))
