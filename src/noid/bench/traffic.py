# SPDX-License-Identifier: MIT
"""The sender and the receiver of benches with a lab: a program for inside a namespace.

    python -m noid.bench.traffic client bulk in --address ADDRESS --port PORT --record FILE

A receiver writes a record of each arrival at once, so that the bench can read the file while the
traffic runs. It uses no part of noid: it is an ordinary program, which mptcpize can run too.
"""

import argparse
import contextlib
import gc
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

RECORD: Final = struct.Struct("<qq")
"""When something arrived or was sent, in ns of the monotonic clock; its octets or its number."""
SEQUENCE: Final = struct.Struct("!Q")
READ_OCTETS: Final = 2**18
CONNECT_TIMEOUT_S: Final = 10.0
RETRY_S: Final = 0.02
NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of traffic.

    Attributes:
        chunk_octets: what the sender writes at once.
        interval_ns: from one write to the next; 0: as fast as the connection takes them.
        datagrams: UDP in both directions; otherwise one TCP connection, data in one direction.
        is_one_way: of datagrams, whether the client alone sends.
    """

    chunk_octets: int
    interval_ns: int
    datagrams: bool = False
    is_one_way: bool = False


KINDS: Final = {
    "bulk": Kind(chunk_octets=12_500, interval_ns=1_000_000),
    "paced": Kind(chunk_octets=1_000, interval_ns=1_000_000),
    "unlimited": Kind(chunk_octets=2**16, interval_ns=0),
    "udp": Kind(chunk_octets=200, interval_ns=20_000_000, datagrams=True),
}
"""100 Mbit/s, 8 Mbit/s, no limit, and 50 packets each second."""
ONE_WAY: Final = {
    rate: Kind(chunk_octets=200, interval_ns=NS_PER_S // rate, datagrams=True, is_one_way=True)
    for rate in (20, 50, 100, 1_000)
}
"""By packets each second."""
EVERY: Final = KINDS | {f"one-way-{rate}": kind for rate, kind in ONE_WAY.items()}


def main() -> int:
    """Runs one end until the other end closes, or until it is terminated."""
    arguments = _parser().parse_args()
    gc.disable()  # a collection is a pause of ours, not of the network
    kind = EVERY[arguments.kind]
    try:
        if arguments.role == "connect":
            print(_connect_ms(arguments))
        elif kind.datagrams:
            _exchange_datagrams(arguments, kind)
        else:
            with _stream(arguments) as stream:
                if arguments.data == "in":
                    _receive(stream, arguments.record)
                else:
                    _send(stream, kind)
    except OSError as error:
        print(f"{arguments.role}: {error.strerror or error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="noid.bench.traffic", description=__doc__)
    parser.add_argument("role", choices=("client", "server", "connect"))
    parser.add_argument("kind", choices=EVERY)
    parser.add_argument("data", choices=("in", "out"), help="whether this end receives or sends")
    parser.add_argument("--address", required=True, help="of the server")
    parser.add_argument("--port", required=True, type=int, help="of the server")
    parser.add_argument("--record", default=os.devnull, help="file for the arrivals")
    parser.add_argument("--sent", default=os.devnull, help="file for the datagrams sent")
    parser.add_argument("--name", help="of the server; the client looks it up first")
    return parser


@contextlib.contextmanager
def _stream(arguments: argparse.Namespace) -> Iterator[socket.socket]:
    """A TCP connection; a client tries until the server listens.

    A server listens on every address and does not stop: MPTCP's further subflows need that.

    Raises:
        OSError: there is none in time.
    """
    with contextlib.ExitStack() as stack:
        if arguments.role == "server":
            place = ("::", arguments.port)
            listening = stack.enter_context(socket.create_server(place, family=socket.AF_INET6))
            stream, _ = listening.accept()
        else:
            _look_up(arguments.name)
            stream = _connected((arguments.address, arguments.port))
        stack.enter_context(stream)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield stream


def _look_up(name: str | None) -> None:
    """Asks for a name, as programs do before they connect."""
    if name:
        socket.getaddrinfo(name, None, socket.AF_INET6, socket.SOCK_STREAM)


def _connected(place: tuple[str, int]) -> socket.socket:
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    while True:
        try:
            stream = socket.create_connection(place, timeout=CONNECT_TIMEOUT_S)
        except ConnectionRefusedError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(RETRY_S)
        else:
            stream.settimeout(None)
            return stream


def _connect_ms(arguments: argparse.Namespace) -> float:
    """How long a program waits for a new connection, the look-up of the name included.

    Raises:
        OSError: no address of the name answers in time.
    """
    began_ns = time.monotonic_ns()
    socket.create_connection((arguments.name, arguments.port), CONNECT_TIMEOUT_S).close()
    return (time.monotonic_ns() - began_ns) / 1e6


def _receive(stream: socket.socket, path: str) -> None:
    """Records each read of a stream until its end."""
    buffer = bytearray(READ_OCTETS)
    with _recorder(path) as record:
        while octets := stream.recv_into(buffer):
            os.write(record, RECORD.pack(time.monotonic_ns(), octets))


def _send(stream: socket.socket, kind: Kind) -> None:
    """Writes without end; late data follows as fast as the connection takes it."""
    chunk = bytes(kind.chunk_octets)
    for _ in _ticks(kind.interval_ns):
        stream.sendall(chunk)


def _ticks(interval_ns: int) -> Iterator[int]:
    """Counts, one number each interval; late ones follow at once."""
    due_ns, count = time.monotonic_ns(), 0
    while True:
        if interval_ns and (early_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(early_ns / NS_PER_S)
        yield count
        due_ns += interval_ns
        count += 1


def _exchange_datagrams(arguments: argparse.Namespace, kind: Kind) -> None:
    """Sends numbered datagrams and records those of the other end, until it is terminated.

    A datagram that the kernel refuses is recorded as sent: for the application it is lost.
    """
    place = (arguments.address, arguments.port)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        if arguments.role == "server":
            one.bind(place)
            if kind.is_one_way:
                _record_datagrams(one, arguments.record)
            _, client = one.recvfrom(READ_OCTETS)
            one.connect(client)
        else:
            _look_up(arguments.name)
            one.connect(place)
        threading.Thread(
            target=_record_datagrams, args=(one, arguments.record), daemon=True
        ).start()
        padding = bytes(kind.chunk_octets - SEQUENCE.size)
        with _recorder(arguments.sent) as sent:
            for number in _ticks(kind.interval_ns):
                os.write(sent, RECORD.pack(time.monotonic_ns(), number))
                with contextlib.suppress(OSError):
                    one.send(SEQUENCE.pack(number) + padding)


def _record_datagrams(one: socket.socket, path: str) -> None:
    with _recorder(path) as record:
        while True:
            # An ICMPv6 error about an earlier datagram is reported here, and ends nothing.
            with contextlib.suppress(OSError):
                (number,) = SEQUENCE.unpack_from(one.recv(READ_OCTETS))
                os.write(record, RECORD.pack(time.monotonic_ns(), number))


@contextlib.contextmanager
def _recorder(path: str) -> Iterator[int]:
    """A file without a buffer: what is recorded can be read at once."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
