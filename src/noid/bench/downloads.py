# SPDX-License-Identifier: MIT
"""Many downloads at a time: a program for inside a namespace.

    python -m noid.bench.downloads --name b.example --path /content --count 100

It opens the connections, each after a look-up of the name, prints as JSON how many have each local
and each remote address, and reads until it is terminated. It uses no part of noid.
"""

import argparse
import json
import selectors
import socket
import sys
from collections import Counter
from typing import Final

READ_OCTETS: Final = 2**18
TIMEOUT_S: Final = 20.0
PORT: Final = 80


def main() -> int:
    """Opens the connections, and reads from all of them."""
    parser = argparse.ArgumentParser(prog="noid.bench.downloads", description=__doc__)
    parser.add_argument("--name", required=True, help="of the server")
    parser.add_argument("--path", required=True, help="what is asked for")
    parser.add_argument("--count", required=True, type=int, help="of connections")
    arguments = parser.parse_args()
    request = f"GET {arguments.path} HTTP/1.0\r\n\r\n".encode()
    try:
        opened = [_opened(arguments.name, request) for _ in range(arguments.count)]
    except OSError as error:
        print(f"{arguments.name}: {error.strerror or error}", file=sys.stderr)
        return 1
    counts = {
        "local": Counter(one.getsockname()[0] for one in opened),
        "remote": Counter(one.getpeername()[0] for one in opened),
    }
    print(json.dumps(counts), flush=True)
    _read(opened)
    return 0


def _opened(name: str, request: bytes) -> socket.socket:
    stream = socket.create_connection((name, PORT), TIMEOUT_S)
    stream.sendall(request)
    stream.setblocking(False)
    return stream


def _read(opened: list[socket.socket]) -> None:
    """Reads until every connection has ended."""
    room = bytearray(READ_OCTETS)
    with selectors.DefaultSelector() as ready:
        for one in opened:
            ready.register(one, selectors.EVENT_READ, one)
        while ready.get_map():
            for key, _ in ready.select():
                if not key.data.recv_into(room):
                    ready.unregister(key.data)


if __name__ == "__main__":
    sys.exit(main())
