# SPDX-License-Identifier: MIT
"""The sockets that the service manager has opened for the stub, where it has."""

import logging
import socket

from noid.host.activation import passed_sockets

logger = logging.getLogger("noid")


def stub_sockets() -> tuple[socket.socket, socket.socket] | None:
    """The stub's sockets, where the service manager has opened one of each kind."""
    by_kind = {one.type: one for one in passed_sockets()}
    datagrams, stream = map(by_kind.get, (socket.SOCK_DGRAM, socket.SOCK_STREAM))
    if datagrams is not None and stream is not None:
        return datagrams, stream
    for one in by_kind.values():
        logger.warning("a passed socket is not used: the stub takes one for UDP and one for TCP")
        one.close()
    return None
