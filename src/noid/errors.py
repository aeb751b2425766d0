# SPDX-License-Identifier: MIT
"""Every error noid raises, on one screen.

Three kinds of fault are never mixed. What a remote host does wrong is not an exception at all but a
counted drop; what our caller, the operator or the machine does wrong is one of the classes below;
what we ourselves do wrong is an assertion.
"""

from noid.counters import Drop


class ShimError(Exception):
    """Anything noid raises on purpose; its text is one line that says what to do."""


class WireError(ShimError):
    """Octets that are not what they claim to be.

    Attributes:
        offset: where in the octets being decoded, counted from 0.
        drop: what counts it.
        reason: what is wrong there, in a few words; those of ``drop`` unless there are better ones.
    """

    def __init__(self, offset: int, drop: Drop, reason: str = "") -> None:
        self.offset = offset
        self.drop = drop
        self.reason = reason or drop.description
        super().__init__(f"{self.reason} at octet {offset}")


class UsageError(ShimError):
    """Our caller asked for something that cannot be."""


class ConfigError(ShimError):
    """A configuration that is refused.

    Attributes:
        key: the dotted key, such as ``dns.upstream``, or the file's name.
        why: what is wrong with it.
        remedy: what would be right, for ``noid check``.
        other: the other key that it contradicts; empty if it contradicts none.
    """

    def __init__(self, key: str, why: str, remedy: str = "", *, other: str = "") -> None:
        super().__init__(f"{key}: {why}")
        self.key = key
        self.why = why
        self.remedy = remedy
        self.other = other


class Unsupported(ShimError):
    """This machine lacks something noid needs.

    Attributes:
        feature: what is missing.
        needs: what the operator can do about it.
    """

    def __init__(self, feature: str, needs: str) -> None:
        super().__init__(f"{feature} is not available: {needs}")
        self.feature = feature
        self.needs = needs


class PlatformError(ShimError):
    """The operating system refused an operation.

    Attributes:
        operation: what was tried, with its object.
        errno: the system's error number, or 0 where there is none.
    """

    def __init__(self, operation: str, errno: int, advice: str) -> None:
        super().__init__(f"{operation}: {advice}")
        self.operation = operation
        self.errno = errno
