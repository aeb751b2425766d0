"""The configuration file: one TOML file, read once, refused as a whole or taken as a whole.

A host needs no more than an upstream resolver, and even that is taken from /etc/resolv.conf where
the file names none. Every refusal names the key and the reason.
"""

import re
import tomllib
from collections.abc import Iterable
from ipaddress import IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec

from noid.constants import CONTEXTS_MAX, LOCATORS_MAX, Codepoints
from noid.errors import ConfigError, UsageError
from noid.locators import Locator, is_global_unicast, parse_locator

DEFAULT_SOCKET = Path("/run/noid/noid.sock")
DEFAULT_STATE_DIRECTORY = Path("/var/lib/noid")
DEFAULT_PINS = Path("/sys/fs/bpf/noid")
RESOLV_CONF = Path("/etc/resolv.conf")
NEXT_HEADERS_UNASSIGNED = range(146, 253)
"""Next headers 146-252 are unassigned (RFC 5237 and IANA's register); 253 and 254 are for tests."""

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
PlaneKind = Literal["auto", "bpf", "tun"]
Hook = Literal["auto", "tcx", "clsact"]
Encapsulation = Literal["always", "on-switch"]


class HostSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[host]``: who this host is.

    Attributes:
        name: its FQDN, for people; the protocol needs none.
        interfaces: globs of the interfaces whose addresses may be locators [D23].
        locators: the locators themselves, where the addresses of the interfaces are not meant.
        backup: interfaces (globs) and addresses to be used only where no other works [D22].
        encapsulation: whether packets between AIDs that work go plainly, as on-switch says [D28].
    """

    name: str = ""
    interfaces: list[str] = msgspec.field(default_factory=lambda: ["*"])
    locators: list[str] = msgspec.field(default_factory=list)
    backup: list[str] = msgspec.field(default_factory=list)
    encapsulation: Encapsulation = "always"


class DnsSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[dns]``: the stub resolver for this host's programs and where it asks.

    Attributes:
        listen: address the stub answers on, IPv4 or IPv6, as are those of ``upstream``.
        port: its port, for UDP and TCP.
        upstream: addresses of the resolvers it asks; those of /etc/resolv.conf if empty.
        never_look_up: prefixes of addresses about which nothing is asked because a program sends
            there without having asked for a name [D34].
        policy: which locator of a peer programs get: the first, or each in its turn [D24].
        probe: whether hosts of which the DNS does not say that they speak M6 are sent an INIT to
            find out, once a program sends to them [draft §15.1, D3].
        require_dnssec: whether the protocol believes only what is signed [D32].
        trusted: those of the upstream resolvers that validate and cannot be impersonated on the
            way, because they run on this host or behind a tunnel [D32].
    """

    listen: str = "::1"
    port: Port = 53
    upstream: list[str] = msgspec.field(default_factory=list)
    policy: Literal["first", "rotate"] = "first"
    probe: bool = False
    require_dnssec: bool = False
    trusted: list[str] = msgspec.field(default_factory=list)
    never_look_up: list[str] = msgspec.field(default_factory=list)


class PlaneSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[plane]``: what rewrites packets.

    Attributes:
        kind: the data plane; ``auto`` is ``bpf`` where the kernel can, else ``tun``.
        device: name of the TUN device; the names of the other devices of ours begin like it.
        mark: firewall mark of noid's own packets, which must not come back in.
        table: number of the routing table that leads known AIDs into the shim.
        rule_priority: preference of the routing rule that consults it.
        hook: how the programs are attached; ``auto`` is ``tcx`` where the kernel has it.
        pins: directory on a BPF file system, where the programs outlive the daemon [D36].
        contexts: as many as this host has at most, and the kernel's tables have room for.
    """

    kind: PlaneKind = "auto"
    device: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,11}$")] = "noid0"
    mark: Annotated[int, msgspec.Meta(ge=1, le=0xFFFFFFFF)] = 0x6D36
    table: Annotated[int, msgspec.Meta(ge=256, le=0xFFFFFFFE)] = 0x6D36
    rule_priority: Annotated[int, msgspec.Meta(ge=1, le=32765)] = 60
    hook: Hook = "auto"
    pins: str = str(DEFAULT_PINS)
    contexts: Annotated[int, msgspec.Meta(ge=16, le=CONTEXTS_MAX)] = 65_536


class ControlSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[control]``: the socket of ``noid status`` and its like."""

    socket: str = str(DEFAULT_SOCKET)


class StateSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[state]``: stable storage [draft §7.14, D35]."""

    directory: str = str(DEFAULT_STATE_DIRECTORY)


class CodepointsSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[codepoints]``: numbers that are not IANA's yet; both ends must agree [D1, D2, D3]."""

    icmpv6_type: Annotated[int, msgspec.Meta(ge=128, le=255)] = 200
    rewritable_first: int = 224
    fixed_first: int = 232
    m6_rrtype: Annotated[int, msgspec.Meta(ge=256, le=65534)] = 65286


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The whole file."""

    host: HostSection = msgspec.field(default_factory=HostSection)
    dns: DnsSection = msgspec.field(default_factory=DnsSection)
    plane: PlaneSection = msgspec.field(default_factory=PlaneSection)
    control: ControlSection = msgspec.field(default_factory=ControlSection)
    state: StateSection = msgspec.field(default_factory=StateSection)
    codepoints: CodepointsSection = msgspec.field(default_factory=CodepointsSection)

    def code_points(self) -> Codepoints:
        """The ``[codepoints]`` table as the rest of the program takes it."""
        return Codepoints(
            icmpv6_type=self.codepoints.icmpv6_type,
            rewritable_first=self.codepoints.rewritable_first,
            fixed_first=self.codepoints.fixed_first,
            m6_rrtype=self.codepoints.m6_rrtype,
        )


def never_looked_up(config: Config, resolvers: Iterable[str]) -> tuple[IPv6Network, ...]:
    """The prefixes about which nothing is asked: the configured ones, and the resolvers."""
    prefixes = [IPv6Network(text) for text in config.dns.never_look_up]
    addresses = [text.partition("%")[0] for text in resolvers if ":" in text]
    return (*prefixes, *map(IPv6Network, addresses))


def load_config(path: Path) -> Config:
    """Reads and checks a configuration file.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or holds something that cannot be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), "is not UTF-8 text") from None
    return parse_config(text, origin=str(path))


def parse_config(text: str, *, origin: str = "configuration") -> Config:
    """A configuration from its text; ``origin`` names it where no key can be blamed.

    Raises:
        ConfigError: with the key and the reason.
    """
    try:
        config = msgspec.convert(tomllib.loads(text), Config)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(origin, f"is not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise _refusal(str(error), origin) from None
    _check(config)
    return config


def upstream_resolvers(config: Config, resolv_conf: Path = RESOLV_CONF) -> tuple[str, ...]:
    """The resolvers the stub asks: the configured ones, else the system's own.

    Raises:
        ConfigError: there is none but the stub itself.
    """
    if config.dns.upstream:
        return tuple(config.dns.upstream)
    found: list[str] = []
    try:
        lines = resolv_conf.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver" and words[1] != config.dns.listen:
            found.append(words[1])
    if not found:
        raise ConfigError("dns.upstream", f"is empty and {resolv_conf} names no other resolver")
    return tuple(found)


def _refusal(message: str, origin: str) -> ConfigError:
    """The one-line error of msgspec, with its ``$.section.key`` path turned into a key of ours."""
    why, _, where = message.partition(" - at `$")
    key = where.rstrip("`").lstrip(".")
    unknown = re.search(r"unknown field `(.*)`", why)
    if unknown is not None:
        known = getattr(Config(), key, Config()).__struct_fields__
        name = f"{key}.{unknown[1]}" if key else unknown[1]
        return ConfigError(name, f"is no known key; here are {', '.join(known)}")
    if key == "plane.kind":
        why = f"must be one of {', '.join(get_args(PlaneKind))}"
    return ConfigError(key or origin, why[:1].lower() + why[1:])


def _check(config: Config) -> None:
    """What a type cannot say."""
    _check_host(config.host)
    for key, texts in (("listen", [config.dns.listen]), ("upstream", config.dns.upstream)):
        for text in texts:
            _check_address(f"dns.{key}", text)
    for text in config.dns.trusted:
        if text not in config.dns.upstream:
            raise ConfigError("dns.trusted", f"{text} is not in dns.upstream")
    if config.dns.require_dnssec and config.dns.probe:
        raise ConfigError("dns.probe", "goes without the DNS; it cannot be had with require_dnssec")
    if config.dns.require_dnssec and not config.dns.trusted:
        raise ConfigError("dns.require_dnssec", "needs dns.trusted: resolvers that validate")
    for text in config.dns.never_look_up:
        try:
            IPv6Network(text)
        except ValueError as error:
            raise ConfigError("dns.never_look_up", f"has no IPv6 prefix there: {error}") from None
    first = config.codepoints.rewritable_first
    second = config.codepoints.fixed_first
    for key, value in (("rewritable_first", first), ("fixed_first", second)):
        if value not in NEXT_HEADERS_UNASSIGNED or value + 7 not in NEXT_HEADERS_UNASSIGNED:
            low, high = NEXT_HEADERS_UNASSIGNED.start, NEXT_HEADERS_UNASSIGNED.stop - 8
            raise ConfigError(f"codepoints.{key}", f"must be {low} to {high}, not {value}")
    if abs(first - second) < 8:
        raise ConfigError("codepoints.fixed_first", "overlaps the eight of rewritable_first")


def _check_host(host: HostSection) -> None:
    if len(host.locators) > LOCATORS_MAX:
        raise ConfigError("host.locators", f"has more than {LOCATORS_MAX} entries")
    if not host.interfaces:
        raise ConfigError("host.interfaces", 'is empty; ["*"] means every interface')
    for text in host.locators:
        if not is_global_unicast(_locator("host.locators", text)):
            raise ConfigError("host.locators", f"{text} is not a global unicast address")
    for text in host.backup:
        if ":" in text:
            _locator("host.backup", text)


def _check_address(key: str, text: str) -> None:
    """Of a resolver: programs and noid may ask over IPv4, whatever they ask for."""
    try:
        ip_address(text)
    except ValueError:
        raise ConfigError(key, f"{text!r} is not an IPv4 or IPv6 address") from None


def _locator(key: str, text: str) -> Locator:
    try:
        return parse_locator(text)
    except UsageError as error:
        raise ConfigError(key, str(error)) from None
