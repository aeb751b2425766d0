# SPDX-License-Identifier: MIT
"""The raw sockets for sending: few, for any number of remote addresses.

Packets of contexts use one socket for each address of this host, so that the queue of one uplink
does not delay another [D50]. Answers to strangers (CC and UC) share one socket. Long messages use
another: they ask whether their length passes the path, so the size that an error said does not
apply to them.
"""

import errno
import socket
from collections import OrderedDict

from noid.constants import MTU_MIN
from noid.locators import Locator, format_locator
from noid.wire import ipv6
from noid.wire.control import Code

IPV6_MTU_DISCOVER = 23
IPV6_MTU = 24
IPV6_FREEBIND = 78
IPV6_PMTUDISC_PROBE = 3
SO_SNDBUFFORCE = 32

SENDERS_MAX = 32
"""Sockets at one time; the least recently used is closed."""
SEND_BUFFER_OCTETS = 8 << 20
"""More than neighbours that do not answer and the queue of an uplink hold of one socket's packets,
by default 208 KiB each and 1,000 packets."""
STRANGERS = b""
"""The source of the socket of the answers to strangers."""
CODE_AT = slice(ipv6.HEADER_OCTETS + 1, ipv6.HEADER_OCTETS + 2)
TO_STRANGERS = frozenset({bytes((Code.CC,)), bytes((Code.UC,))})


class Senders:
    """The sockets of one host.

    Args:
        mark: firewall mark of the packets.
    """

    def __init__(self, mark: int) -> None:
        self.mark = mark
        self._sockets: OrderedDict[tuple[bytes, bool], socket.socket] = OrderedDict()

    def __len__(self) -> int:
        """The number of open sockets."""
        return len(self._sockets)

    def send(self, packet: bytes, *, is_control: bool = False) -> int:
        """Sends a packet through the uplink that policy routing selects for its source.

        Args:
            packet: a whole IPv6 packet.
            is_control: whether it is a control message, which may be an answer to a stranger.

        Returns:
            0, or the path's MTU where the packet is longer than that.

        Raises:
            OSError: it cannot be sent.
        """
        source, to = packet[8:24], (format_locator(Locator(packet[24:40])), 0)
        try:
            if is_control and packet[CODE_AT] in TO_STRANGERS:
                information = source + bytes(4)  # struct in6_pktinfo: by any interface
                ancillary = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, information)]
                self._socket(STRANGERS).sendmsg([packet], ancillary, 0, to)
            else:
                is_long = is_control and len(packet) > MTU_MIN
                # A third quicker than sendmsg:
                self._socket(source, is_long=is_long).sendto(packet, to)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            return self._path_mtu(packet)
        return 0

    def close(self) -> None:
        """Closes every socket."""
        while self._sockets:
            self._sockets.popitem()[1].close()

    def _socket(self, source: bytes, *, is_long: bool = False) -> socket.socket:
        key = source, is_long
        sender = self._sockets.get(key)
        if sender is None:
            sender = open_sender(self.mark, source)
            if is_long:
                sender.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
            self._sockets[key] = sender
            if len(self._sockets) > SENDERS_MAX:
                self._sockets.popitem(last=False)[1].close()
        else:
            self._sockets.move_to_end(key)
        return sender

    def _path_mtu(self, packet: bytes) -> int:
        """The MTU of the path that a packet takes; only a connected socket knows it."""
        source, destination = packet[8:24], Locator(packet[24:40])
        with open_sender(self.mark, source) as one:
            one.connect((format_locator(destination), 0))
            return one.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)


def open_sender(mark: int, source: bytes = STRANGERS) -> socket.socket:
    """A raw socket that sends complete packets with a firewall mark.

    Args:
        mark: the mark.
        source: the source address, which selects the route; empty for any.

    Raises:
        OSError: the system refuses.
    """
    sender = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    try:
        sender.setblocking(False)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER_OCTETS)
        sender.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        if source:
            sender.bind((format_locator(Locator(source)), 0))
    except OSError:
        sender.close()
        raise
    return sender
