# SPDX-License-Identifier: MIT
"""Makes the host's programs ask the stub first, and takes it back so that nothing is left of it.

The file that says where programs ask is replaced in one step. It names the stub, and behind it
those that were asked before: a query that the stub refuses, because noid does not run, goes to the
next at once. What stood in its place, a file or a symlink, is kept under a name of its own beside
it, and is later renamed back: content, owner, mode, times and target are those that were there.

A DHCP client, or a reboot, may write the file anew. That file is then the one that is kept, and the
resolvers it names are the ones behind the stub. While something is kept, programs are to ask noid.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from noid.errors import PlatformError
from noid.host.replacement import made_beside, replace_file

FILE_MODE: Final = 0o644
SUFFIX: Final = ".before-noid"
"""Of the file or symlink that is kept."""
MOUNTS: Final = Path("/proc/self/mountinfo")
MOUNT_POINT_FIELD: Final = 4
HEADER: Final = "# Written by `noid resolver on`; `noid resolver off` puts back what was here.\n"
KEPT_WORDS: Final = ("search", "domain", "sortlist")
SERVERS_MAX: Final = 3
"""The C library reads no more of them (MAXNS)."""
OPTIONS: Final = {"timeout": 1, "attempts": 5}
"""What programs wait for a server that is silent, in seconds, and how often they ask each. As long
in total as without us, but the next server is asked sooner."""
ROTATE: Final = "rotate"
"""The option by which every other query would pass the stub by."""


def is_on(path: Path) -> bool:
    """Whether the file is the one that ``turn_on`` wrote."""
    try:
        return not path.is_symlink() and path.read_text(errors="replace").startswith(HEADER)
    except OSError:
        return False


def is_wanted(path: Path) -> bool:
    """Whether programs are to ask noid, whatever the file says now."""
    return os.path.lexists(_aside(path))


def asked(path: Path) -> list[str]:
    """Whom programs ask, in order.

    Raises:
        OSError: the file cannot be read.
    """
    return _servers(path.read_text(encoding="utf-8", errors="replace").splitlines())


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
    aside = _aside(path)
    is_ours = is_on(path)
    with _system_errors(path):
        if is_ours and not is_wanted(path):  # somebody deleted what was kept
            _put(aside, _without_us(path, listen))
        if not is_ours:
            _refuse_what_cannot_be_undone(path)
        before = _lines(aside if is_ours or not os.path.lexists(path) else path)
        text = HEADER + "".join(f"{line}\n" for line in _ours(before, listen))
        if is_ours and text.encode() == path.read_bytes():
            return False
        _put(path, text, kept_as=None if is_ours or not os.path.lexists(path) else aside)
    return True


def turn_off(path: Path, listen: str) -> bool:
    """Puts back what was there; of a file that others have written since, that is the file itself.

    Returns:
        Whether anything had to be changed.

    Raises:
        PlatformError: the system refuses.
    """
    aside = _aside(path)
    with _system_errors(path):
        if is_wanted(path):
            if is_on(path) or not os.path.lexists(path):
                os.replace(aside, path)
            else:
                aside.unlink()
            return True
        if is_on(path):  # somebody deleted what was kept
            _put(path, _without_us(path, listen))
            return True
    return False


def resolvers_before(path: Path) -> Path:
    """The file that names the resolvers to ask: what is kept, where something is."""
    return path if not is_wanted(path) or not is_on(path) else _aside(path)


def state_of(path: Path) -> tuple[object, ...]:
    """What differs once somebody has written the file, or what is kept, anew."""
    return tuple(map(_stamp, (path, _aside(path))))


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _ours(before: list[str], listen: str) -> Iterator[str]:
    """The lines of a file that names the stub first."""
    others = [one for one in _servers(before) if one != listen]
    yield from (f"nameserver {one}" for one in (listen, *others[: SERVERS_MAX - 1]))
    yield from (line for line in before if line.startswith(KEPT_WORDS))
    words = [word for line in before if line.startswith("options") for word in line.split()[1:]]
    named = {word.partition(":")[0] for word in words}
    added = [f"{key}:{value}" for key, value in OPTIONS.items() if key not in named]
    yield " ".join(["options", *(word for word in words if word != ROTATE), *added])


def _servers(lines: list[str]) -> list[str]:
    words = [line.split() for line in lines]
    return [one[1] for one in words if len(one) > 1 and one[0] == "nameserver"]


def _without_us(path: Path, listen: str) -> str:
    """Our file without the stub: what is known of what was there, where that is lost."""
    stub = re.compile(rf"nameserver\s+{re.escape(listen)}\s*$")
    lines = [line for line in _lines(path) if not stub.match(line)]
    return "".join(f"{line}\n" for line in lines if f"{line}\n" != HEADER)


def _refuse_what_cannot_be_undone(path: Path) -> None:
    if not os.path.lexists(path):
        if not is_wanted(path):
            why = "is not there, so nothing names the resolvers noid asks"
            raise PlatformError(f"{path}", 0, why)
    elif not (path.is_symlink() or (path.is_file() and not _is_mounted(path))):
        raise PlatformError(f"{path}", 0, "is no file that can be replaced and put back")


def _put(path: Path, text: str, *, kept_as: Path | None = None) -> None:
    """Puts a file in the place of another, in one step; on a full disk nothing is changed.

    Args:
        path: where.
        text: what is in it.
        kept_as: a second name for what was there, a file or a symlink; nothing is copied.
    """
    if kept_as is None:
        replace_file(path, text.encode(), mode=FILE_MODE)
        return
    with made_beside(path, text.encode(), mode=FILE_MODE) as made:
        was_kept = os.path.lexists(kept_as)
        second = made.with_suffix(".second")
        try:
            os.link(path, second, follow_symlinks=False)
            os.replace(second, kept_as)
        finally:
            second.unlink(missing_ok=True)  # it is left where both are names of one file
        try:
            os.replace(made, path)
        except OSError:
            if not was_kept:
                kept_as.unlink()
            raise


def _aside(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _lines(path: Path) -> list[str]:
    """The lines of what the path leads to; none where a symlink leads nowhere."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PlatformError(f"change {path}", error.errno or 0, str(error.strerror)) from None


def _is_mounted(path: Path) -> bool:
    """Whether another file is mounted over it.

    The device number does not say: on overlayfs a file and its directory may have different ones.
    """
    place = str(path.parent.resolve() / path.name).replace(" ", r"\040")
    return any(line.split()[MOUNT_POINT_FIELD] == place for line in _lines(MOUNTS))
