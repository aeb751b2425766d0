# SPDX-License-Identifier: MIT
"""What a program can learn of its connections, and ask for: the context, the path, a switch.

After the API for Shim6 and HIP of RFC 6316, with functions in the place of socket options. They ask
the daemon on its control socket, so a program needs access to that: it runs as the user of the
daemon or as root. A socket whose peer has no context has no path here; it works as without noid.
"""

import contextlib
import socket
import time
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Final

from noid.config_places import configuration_in, control_socket, named_config
from noid.control.client import ask, stream_events
from noid.errors import PlatformError, UsageError

IP_BIND_ADDRESS_NO_PORT: Final = 24
"""linux/in.h: a port is chosen when the socket connects, not when it is bound."""


@dataclass(frozen=True, slots=True)
class Route:
    """The pair of locators that packets of a context use now.

    Attributes:
        local: the locator of this host.
        peer: the locator of the peer.
        uplink: the name of the uplink that has the local one; empty if none has it now.
    """

    local: IPv6Address
    peer: IPv6Address
    uplink: str


@dataclass(frozen=True, slots=True)
class Context:
    """The context that carries a socket's packets.

    Attributes:
        state: its state, such as ``established``.
        local_aid: the address of this host that the program sees.
        peer_aid: the address of the peer that the program sees.
        peer_name: the name that the locators of the peer are proven under, or empty.
        peer_locators: the locators of the peer that are proven.
        round_trip_s: of its messages, smoothed, in seconds; 0 if it is not measured yet.
        route: the pair in use.
    """

    state: str
    local_aid: IPv6Address
    peer_aid: IPv6Address
    peer_name: str
    peer_locators: tuple[IPv6Address, ...]
    round_trip_s: float
    route: Route


def context(connection: socket.socket, *, control: Path | None = None) -> Context | None:
    """The context of a connected socket (RFC 6316 §6.1, SHIM_ASSOCIATED); None if it has none.

    Args:
        connection: a socket of IPv6 that is connected.
        control: the control socket; if None, $NOID_SOCKET or that of the configuration, which is
            $NOID_CONFIG or /etc/noid.toml.

    Raises:
        UsageError: the socket is of another kind, or not connected.
        PlatformError: no daemon answers.
    """
    local, peer = _ends(connection)
    ends = {"local_aid": str(local), "peer_aid": str(peer)}
    answer = ask(_control(control), "context", ends)
    row = answer["context"]
    if row is None:
        return None
    return Context(
        state=row["state"],
        local_aid=local,
        peer_aid=peer,
        peer_name=row["peer_name"],
        peer_locators=tuple(map(IPv6Address, row["lsv_peer"])),
        round_trip_s=row["round_trip_us"] / 1e6,
        route=Route(
            IPv6Address(row["local_locator"]), IPv6Address(row["peer_locator"]), answer["uplink"]
        ),
    )


def route(connection: socket.socket, *, control: Path | None = None) -> Route | None:
    """The pair of locators that a connected socket uses now (§6.3 and §6.4); as ``context``."""
    found = context(connection, control=control)
    return None if found is None else found.route


def wait_for_switch(
    connection: socket.socket,
    before: Route | None,
    *,
    timeout_s: float,
    control: Path | None = None,
) -> Route | None:
    """Waits until a connected socket uses another pair than before.

    Args:
        connection: the socket, as ``context`` takes it.
        before: the pair that the caller knows of; a switch since then ends the wait at once.
        timeout_s: how long; at most twice as long while other contexts switch.
        control: as ``context`` takes it.

    Returns:
        The pair that it uses now; None if there was no switch in this time.

    Raises:
        UsageError, PlatformError: as ``context``.
    """
    local, peer = _ends(connection)
    path, end_s = _control(control), time.monotonic() + timeout_s
    events = stream_events(path, timeout_s=timeout_s)
    with contextlib.closing(events), contextlib.suppress(TimeoutError):
        for event in events:
            if event["event"] == "monitoring" or _is_between(event, local, peer):
                now = route(connection, control=path)
                if now is not None and now != before:
                    return now
            if time.monotonic() > end_s:
                break
    return None


def prefer(connection: socket.socket, uplink: str, *, control: Path | None = None) -> IPv6Address:
    """Lets a socket begin over an uplink, before it connects: it is bound to a locator there.

    The address is the AID of the connection; it stays when the context switches to another uplink.

    Args:
        connection: a socket of IPv6 that is neither bound nor connected.
        uplink: its name, as ``noid paths`` shows it, or the name of its interface.
        control: as ``context`` takes it.

    Returns:
        The address.

    Raises:
        UsageError: there is no such uplink, or it is down.
        PlatformError: no daemon answers, or the system refuses.
    """
    uplinks = ask(_control(control), "paths")["uplinks"]
    named = [one for one in uplinks if uplink in (one["uplink"], one["interface"])]
    usable = [one for one in named if one["state"] != "down" and one["locators"]]
    if not usable:
        there = ", ".join(one["uplink"] for one in uplinks) or "none"
        why = "is down" if named else f"does not exist; there are: {there}"
        raise UsageError(f"uplink {uplink} {why}")
    address = str(usable[0]["locators"][0])
    try:
        connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        connection.bind((address, 0))
    except OSError as error:
        raise PlatformError(f"bind to {address}", error.errno or 0, str(error.strerror)) from None
    return IPv6Address(address)


def opt_out(connection: socket.socket, *, mark: int | None = None) -> None:
    """Lets a socket bypass the shim (SHIM_DONTSHIM), before it connects.

    Args:
        connection: the socket.
        mark: that of ``noid plain``; ``plane.mark`` of the configuration, if None.

    Raises:
        ConfigError: the configuration cannot be read.
        PlatformError: setting a mark takes CAP_NET_ADMIN.
    """
    if mark is None:
        mark = configuration_in(named_config()).plane.mark
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    except PermissionError as error:
        why = "permission denied (lacking: CAP_NET_ADMIN); or run the program with noid plain"
        raise PlatformError("bypass the shim", error.errno or 0, why) from None


def _control(control: Path | None) -> Path:
    return control or control_socket()


def _ends(connection: socket.socket) -> tuple[IPv6Address, IPv6Address]:
    """The AIDs of a connected socket, ours first."""
    refusal = UsageError("the socket is not a connected socket of IPv6")
    if connection.family != socket.AF_INET6:
        raise refusal
    try:
        local, peer = connection.getsockname()[0], connection.getpeername()[0]
    except OSError:
        raise refusal from None
    return IPv6Address(local.partition("%")[0]), IPv6Address(peer.partition("%")[0])


def _is_between(row: dict[str, Any], local: IPv6Address, peer: IPv6Address) -> bool:
    """Whether an event is about a pair of AIDs."""
    return (row.get("local_aid"), row.get("peer_aid")) == (str(local), str(peer))
