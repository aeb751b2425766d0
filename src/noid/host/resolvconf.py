# SPDX-License-Identifier: MIT
"""Makes the host's programs ask the stub first, and takes it back so that nothing is left of it.

The file that says where programs ask is replaced in one step. It names the stub, and behind it
those that were asked before: a query that the stub refuses, because noid does not run, goes to the
next at once. What stood in its place, a file or a symlink, is kept under a name of its own beside
it, and is later renamed back: content, owner, mode, times and target are those that were there.

A DHCP client, or a reboot, may write the file anew. That file is then the one that is kept, and the
resolvers it names are the ones behind the stub. While something is kept, programs are to ask noid.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from noid.errors import PlatformError
from noid.host.kept import aside, lines_of, put, servers_in, system_errors, text_of
from noid.host.resolver_managers import HEADER, NETWORK_MANAGER, RESOLVED, in_charge
from noid.locators import is_same_address

MOUNTS: Final = Path("/proc/self/mountinfo")
MOUNT_POINT_FIELD: Final = 4
KEPT_WORDS: Final = ("search", "domain", "sortlist")
SERVERS_MAX: Final = 3
"""The C library reads no more of them (MAXNS)."""
LOCAL: Final = "127.0.0.1"
"""Whom the C library asks where the file names no server."""
TIMEOUT_DEFAULT_S: Final = 5
TIMEOUT_S: Final = 1
"""How long programs wait for a server that is silent: also where the file had more."""
ATTEMPTS: Final = 5
"""How often they ask each at least, if they waited longer before; glibc allows no more."""
ROTATE: Final = "rotate"
"""The option by which every other query would pass the stub by."""


def is_on(path: Path) -> bool:
    """Whether the file is the one that ``turn_on`` wrote."""
    try:
        return not path.is_symlink() and text_of(path).startswith(HEADER)
    except OSError:
        return False


def is_wanted(path: Path) -> bool:
    """Whether programs are to ask noid, also if the file says otherwise now."""
    return os.path.lexists(aside(path))


def asked(path: Path) -> list[str]:
    """Whom programs ask, in order.

    Raises:
        OSError: the file cannot be read.
    """
    return servers_in(text_of(path).splitlines())


def turn_on(path: Path, listen: str) -> bool:
    """Makes programs ask the stub, then those they asked before; search list and options stay.

    Args:
        path: the file; /etc/resolv.conf.
        listen: address of the stub.

    Returns:
        Whether anything had to be changed.

    Raises:
        PlatformError: it could not be undone exactly, or the system refuses.
    """
    kept = aside(path)
    is_ours = is_on(path)
    with system_errors(path):
        if is_ours and not is_wanted(path):  # others deleted what was kept
            put(kept, _without_us(path, listen))
        if not is_ours:
            _refuse_what_cannot_be_undone(path)
        before = lines_of(kept if is_ours or not os.path.lexists(path) else path)
        if NETWORK_MANAGER.is_set and NETWORK_MANAGER.servers:
            others = [line for line in before if not line.startswith("nameserver")]
            before = [*others, *(f"nameserver {one}" for one in NETWORK_MANAGER.servers)]
        text = HEADER + "".join(f"{line}\n" for line in _ours(before, listen))
        if is_ours and text.encode() == path.read_bytes():
            return False
        put(path, text, kept_as=None if is_ours or not os.path.lexists(path) else kept)
    return True


def turn_off(path: Path, listen: str) -> bool:
    """Puts back what was there; of a file that others have written since, that is the file itself.

    Returns:
        Whether anything had to be changed.

    Raises:
        PlatformError: the system refuses, or another file is mounted there, as for one name space.
    """
    kept = aside(path)
    with system_errors(path):
        if is_wanted(path) and _is_mounted(path):  # what is kept belongs to the file below
            raise PlatformError(f"{path}", 0, "is mounted over the file to restore; unmount it")
        if is_wanted(path):
            if is_on(path) or not os.path.lexists(path):
                os.replace(kept, path)
            else:
                kept.unlink()
            return True
        if is_on(path):  # others deleted what was kept
            put(path, _without_us(path, listen))
            return True
    return False


def resolvers_before(path: Path) -> Path:
    """The file that names the resolvers to ask: those of before ``turn_on``.

    Where systemd-resolved answers programs, it asks the stub: what it has of the networks counts.
    """
    manager = in_charge(path)
    if manager is RESOLVED or (manager is NETWORK_MANAGER and manager.is_set and manager.servers):
        return manager.names
    return path if not is_wanted(path) or not is_on(path) else aside(path)


def is_asked(path: Path, listen: str) -> bool:
    """Whether programs ask the stub first, by the file or by way of systemd-resolved."""
    try:
        servers = asked(path)
    except OSError:
        return False
    if any(is_same_address(one, listen) for one in servers[:1]):
        return True
    return in_charge(path) is RESOLVED and RESOLVED.servers[:1] == [listen]


def is_in_force(path: Path) -> bool:
    """Whether ``noid resolver on`` is what makes programs ask the stub."""
    return is_on(path) or (RESOLVED.is_set and in_charge(path) is RESOLVED)


def state_of(path: Path) -> tuple[object, ...]:
    """What differs once others have written the file, or what is kept, anew."""
    return tuple(map(_stamp, (path, aside(path), RESOLVED.names, NETWORK_MANAGER.names)))


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _ours(before: list[str], listen: str) -> Iterator[str]:
    """The lines of a file that names the stub first."""
    servers = servers_in(before) or [LOCAL]
    others = [one for one in servers if not is_same_address(one, listen)]
    yield from (f"nameserver {one}" for one in (listen, *others[: SERVERS_MAX - 1]))
    yield from (line for line in before if line.startswith(KEPT_WORDS))
    words = [word for line in before if line.startswith("options") for word in line.split()[1:]]
    kept = [one for one in words if one != ROTATE and not one.startswith(("timeout:", "attempts:"))]
    attempts = _number(words, "attempts:", ATTEMPTS)
    if _number(words, "timeout:", TIMEOUT_DEFAULT_S) > TIMEOUT_S:  # or a slow server is not heard
        attempts = max(attempts, ATTEMPTS)
    yield " ".join(["options", *kept, f"timeout:{TIMEOUT_S}", f"attempts:{attempts}"])


def _number(words: list[str], option: str, default: int) -> int:
    """The value of an option of the file, of which the last counts."""
    values = [one.removeprefix(option) for one in words if one.startswith(option)]
    return int(values[-1]) if re.fullmatch("[0-9]{1,9}", "".join(values[-1:])) else default


def _without_us(path: Path, listen: str) -> str:
    """Our file without the stub: what is known of what was there, where that is lost."""
    stub = re.compile(rf"nameserver\s+{re.escape(listen)}\s*$")
    lines = [line for line in lines_of(path) if not stub.match(line)]
    return "".join(f"{line}\n" for line in lines if f"{line}\n" != HEADER)


def _refuse_what_cannot_be_undone(path: Path) -> None:
    if not os.path.lexists(path):
        if not is_wanted(path):
            why = "is not there, so nothing names the resolvers noid asks"
            raise PlatformError(f"{path}", 0, why)
    elif not (path.is_symlink() or (path.is_file() and not _is_mounted(path))):
        raise PlatformError(f"{path}", 0, "is no file that can be replaced and put back")


def _is_mounted(path: Path) -> bool:
    """Whether another file is mounted over it.

    The device number does not say: on overlayfs a file and its directory may have different ones.
    """
    place = str(path.parent.resolve() / path.name).replace(" ", r"\040")
    return any(line.split()[MOUNT_POINT_FIELD] == place for line in lines_of(MOUNTS))
