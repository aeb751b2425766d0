# SPDX-License-Identifier: MIT
"""The resolver of the host's programs and of the shim; real sockets, queues and limits."""
