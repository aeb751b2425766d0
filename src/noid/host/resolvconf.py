# SPDX-License-Identifier: MIT
"""Makes the host's programs ask the stub, and takes it back so that nothing is left of it.

The file that says where programs ask is replaced in one step. What stood in its place, a file or a
symlink, is first put aside under a name of its own beside it and is later renamed back: content,
owner, mode, times and target are the very ones that were there. Where that cannot be promised, it
is refused.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from noid.errors import PlatformError

SUFFIX = ".before-noid"
"""Of the file or symlink put aside."""
HEADER = "# Written by `noid resolver on`; `noid resolver off` puts back what was here.\n"
KEPT_WORDS = ("search", "domain", "options", "sortlist")


def is_on(path: Path) -> bool:
    """Whether the file is the one that ``turn_on`` wrote."""
    try:
        return not path.is_symlink() and path.read_text(errors="replace").startswith(HEADER)
    except OSError:
        return False


def asked(path: Path) -> list[str]:
    """Whom programs ask, in order.

    Raises:
        OSError: the file cannot be read.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    words = [line.split() for line in lines]
    return [one[1] for one in words if len(one) > 1 and one[0] == "nameserver"]


def turn_on(path: Path, listen: str) -> None:
    """Makes programs ask the stub; its search list and options stay.

    Args:
        path: the file; /etc/resolv.conf.
        listen: address of the stub.

    Raises:
        PlatformError: it is on already, or could not be undone exactly, or the system refuses.
    """
    aside = _aside(path)
    if is_on(path):
        raise PlatformError(f"{path}", 0, "asks noid already")
    if os.path.lexists(aside) and not _is_same(aside, path):
        raise PlatformError(f"{path}", 0, f"{aside} is in the way; noid resolver off, or remove it")
    if not os.path.lexists(path):
        raise PlatformError(f"{path}", 0, "is not there, so nothing names the resolvers noid asks")
    if not (path.is_symlink() or (path.is_file() and not os.path.ismount(path))):
        raise PlatformError(f"{path}", 0, "is no file that can be replaced and put back")
    with _system_errors(path):
        kept = [line for line in _lines(path) if line.startswith(KEPT_WORDS)]
        text = HEADER + f"nameserver {listen}\n" + "".join(f"{line}\n" for line in kept)
        made = path.with_name(f"{path.name}.noid-{os.getpid()}")
        try:
            made.write_text(text, encoding="utf-8")
            made.chmod(0o644)
            aside.unlink(missing_ok=True)  # of an earlier run that ended here
            # A second name for the very file, or for the symlink itself: nothing is copied.
            os.link(path, aside, follow_symlinks=False)
            os.replace(made, path)
        except OSError:
            for one in (made, aside):
                one.unlink(missing_ok=True)
            raise


def turn_off(path: Path) -> None:
    """Puts back what was there.

    Raises:
        PlatformError: it is not on, somebody else has changed the file, or the system refuses.
    """
    aside = _aside(path)
    if not os.path.lexists(aside):
        raise PlatformError(f"{path}", 0, "does not ask noid; nothing to undo")
    if not is_on(path):
        raise PlatformError(
            f"{path}", 0, f"was changed by somebody else; what was there before noid is {aside}"
        )
    with _system_errors(path):
        os.replace(aside, path)


def resolvers_before(path: Path) -> Path:
    """The file that names the resolvers to ask: what was put aside, where something was."""
    aside = _aside(path)
    return aside if os.path.lexists(aside) else path


def _is_same(path: Path, other: Path) -> bool:
    """Whether both names are of the same file; a symlink is a file of its own here."""
    return os.path.lexists(other) and os.path.samestat(os.lstat(path), os.lstat(other))


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
