# SPDX-License-Identifier: MIT
"""nftables rules by libnftables, in the network namespace of the calling thread.

The library is called in this process: a fault takes effect about a millisecond after its time was
taken. Starting the program ``nft`` takes ten times as long, which would add to every silence that
is measured from that time.
"""

import ctypes
import functools
import time
from typing import Final

from noid.errors import PlatformError, Unsupported

LIBRARY: Final = "libnftables.so.1"


def run(commands: str) -> int:
    """Runs commands in the syntax of ``nft -f``, all of them or none.

    Returns:
        The monotonic time in ns just before the kernel was asked.

    Raises:
        Unsupported: the library is not installed.
        PlatformError: a command is wrong, or the kernel refuses it.
    """
    library = _library()
    context = library.nft_ctx_new(0)
    try:
        library.nft_ctx_buffer_error(context)
        began_ns = time.monotonic_ns()
        if library.nft_run_cmd_from_buffer(context, commands.encode()) != 0:
            complaint = (library.nft_ctx_get_error_buffer(context) or b"").decode()
            first_line = complaint.strip().partition("\n")[0]
            raise PlatformError("nftables rules", 0, first_line or "refused without a reason")
        return began_ns
    finally:
        library.nft_ctx_free(context)


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        raise Unsupported(LIBRARY, "install the Debian package nftables") from None
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_buffer_error.argtypes = [ctypes.c_void_p]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_ctx_get_error_buffer.argtypes = [ctypes.c_void_p]
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    return library
