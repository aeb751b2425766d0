# SPDX-License-Identifier: MIT
"""The configuration file: one TOML file, read once, accepted or rejected as a whole.

A host only needs an upstream resolver, which is taken from /etc/resolv.conf if
the file names none. Every error names the key and the reason.
"""

import fnmatch
import re
import tomllib
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from ipaddress import IPv6Network
from pathlib import Path
from typing import Annotated, Literal, assert_never, get_args

import msgspec

from noid.config_parts import parts, whole
from noid.config_text import read_text
from noid.config_values import SOCKET_OCTETS_MAX, is_address, is_address_and_port, wrong_with_path
from noid.constants import CONTEXTS_MAX, LOCATORS_MAX, Codepoints
from noid.errors import ConfigError, UsageError
from noid.locators import is_global_unicast, is_same_address, parse_locator
from noid.policy_config import (
    PolicySection,
    UplinkSection,
    policy_problems,
    unmatched_uplinks,
    uplink_problems,
)

DEFAULT_SOCKET = Path("/run/noid/noid.sock")
DEFAULT_STATE_DIRECTORY = Path("/var/lib/noid")
DEFAULT_PINS = Path("/sys/fs/bpf/noid")
DEFAULT_EVENTS_DIRECTORY = Path("/etc/noid/events.d")
DNS_PORT = 53
"""Where the resolvers are asked."""
RESOLV_CONF = Path("/etc/resolv.conf")
NEXT_HEADERS_UNASSIGNED = range(146, 253)
"""Next headers 146-252 are unassigned (RFC 5237 and IANA's register); 253 and 254 are for tests."""

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Plane = Literal["bpf", "tun"]
PlaneKind = Literal["auto", Plane]
Hook = Literal["auto", "tcx", "clsact"]
Encapsulation = Literal["always", "on-switch"]


class HostSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[host]``: the identity and the locators of this host.

    Attributes:
        name: its FQDN; connections start from addresses that it has in the DNS, if an uplink
            has several.
        interfaces: globs of the interfaces whose addresses may be locators [D23].
        locators: exactly these locators, instead of the addresses of the interfaces.
        backup: interfaces (globs) and addresses to be used only if no other works [D22].
        encapsulation: ``on-switch``: packets are plain while the AIDs work as locators [D28].
        verifiable: whether peers find the addresses of this host in forward and reverse DNS under
            one name; if not, each context lists its AID only [draft §7.2].
    """

    name: str = ""
    interfaces: list[str] = msgspec.field(default_factory=lambda: ["*"])
    locators: list[str] = msgspec.field(default_factory=list)
    backup: list[str] = msgspec.field(default_factory=list)
    encapsulation: Encapsulation = "always"
    verifiable: bool = True


class DnsSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[dns]``: the stub resolver for programs of this host, and its upstream resolvers.

    Attributes:
        listen: address the stub answers on, IPv4 or IPv6, as are those of ``upstream``.
        port: its port, for UDP and TCP.
        upstream: addresses of the resolvers it asks; those of /etc/resolv.conf if empty.
        never_look_up: prefixes of addresses that are not looked up when a program sends
            to them without having resolved a name [D34].
        policy: which locator of a peer programs get: the first, or each in rotation [D24].
        probe: whether an INIT is sent to hosts without the M6 record, when a program sends to
            them, to find out whether they speak M6 [draft §15.1, D3].
        require_dnssec: whether the protocol accepts only signed data [D32].
        trusted: the upstream resolvers that validate and cannot be impersonated on the
            path, because they run on this host or are reached through a tunnel [D32].
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
    """``[plane]``: the data plane, which rewrites packets.

    Attributes:
        kind: the data plane; ``auto`` is ``bpf`` if the kernel supports it, else ``tun``.
        device: name of the TUN device, and prefix of the names of the other devices of noid.
        mark: firewall mark of packets that noid sends, so that they bypass the shim.
        table: number of the first routing table of M6 peers.
        rule_priority: priority of the first routing rule of noid.
        hook: how the programs are attached; ``auto`` is ``tcx`` if the kernel has it.
        pins: directory on a BPF file system; its pins keep the programs without a daemon [D36].
        contexts: maximum number of contexts, and size of the kernel's tables.
    """

    kind: PlaneKind = "auto"
    device: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,11}$")] = "noid0"
    mark: Annotated[int, msgspec.Meta(ge=1, le=0xFFFFFFFF)] = 0x6D36
    table: Annotated[int, msgspec.Meta(ge=256, le=0xFFFFFFFE)] = 0x6D36
    rule_priority: Annotated[int, msgspec.Meta(ge=1, le=32765)] = 60
    hook: Hook = "auto"
    pins: str = str(DEFAULT_PINS)
    contexts: Annotated[int, msgspec.Meta(ge=16, le=CONTEXTS_MAX)] = 65_536

    @property
    def may_be_in_kernel(self) -> bool:
        """Whether the plane may be one that stays in the kernel when the daemon ends."""
        match self.kind:
            case "auto" | "bpf":
                return True
            case "tun":
                return False
            case _:
                assert_never(self.kind)


class ControlSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[control]``: the control socket.

    Attributes:
        socket: path of the socket of ``noid status`` and its like.
    """

    socket: str = str(DEFAULT_SOCKET)


class StateSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[state]``: stable storage [draft §7.14, D35].

    Attributes:
        directory: where the identity of the host and its contexts are kept.
    """

    directory: str = str(DEFAULT_STATE_DIRECTORY)


class EventsSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[events]``: what is run when an uplink changes.

    Attributes:
        directory: every executable in it is run, with the event as JSON on its standard input.
    """

    directory: str = str(DEFAULT_EVENTS_DIRECTORY)


class MetricsSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[metrics]``: OpenMetrics over HTTP.

    Attributes:
        listen: address and port, such as ``[::1]:9469``; nothing is served if it is empty.
    """

    listen: str = ""


class CodepointsSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[codepoints]``: numbers that are not IANA's yet; both ends must agree [D1, D2, D3].

    Attributes:
        icmpv6_type: type of control messages.
        rewritable_first: first of eight next headers of packets with a rewritable source.
        fixed_first: first of eight next headers of packets with a fixed source.
        m6_rrtype: number of the DNS record that says that a host speaks M6.
    """

    icmpv6_type: Annotated[int, msgspec.Meta(ge=128, le=255)] = 200
    rewritable_first: int = 224
    fixed_first: int = 232
    m6_rrtype: Annotated[int, msgspec.Meta(ge=256, le=65534)] = 65286

    def code_points(self) -> Codepoints:
        """The numbers as the rest of the program takes them."""
        return Codepoints(
            icmpv6_type=self.icmpv6_type,
            rewritable_first=self.rewritable_first,
            fixed_first=self.fixed_first,
            m6_rrtype=self.m6_rrtype,
        )


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The whole file."""

    host: HostSection = msgspec.field(default_factory=HostSection)
    dns: DnsSection = msgspec.field(default_factory=DnsSection)
    policy: PolicySection = msgspec.field(default_factory=PolicySection)
    uplinks: dict[str, UplinkSection] = msgspec.field(default_factory=dict)
    plane: PlaneSection = msgspec.field(default_factory=PlaneSection)
    control: ControlSection = msgspec.field(default_factory=ControlSection)
    state: StateSection = msgspec.field(default_factory=StateSection)
    events: EventsSection = msgspec.field(default_factory=EventsSection)
    metrics: MetricsSection = msgspec.field(default_factory=MetricsSection)
    codepoints: CodepointsSection = msgspec.field(default_factory=CodepointsSection)

    def code_points(self) -> Codepoints:
        """The ``[codepoints]`` table as the rest of the program takes it."""
        return self.codepoints.code_points()


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
    return parse_config(read_text(path), origin=str(path))


def parse_config(text: str, *, origin: str = "configuration") -> Config:
    """A configuration from its text; ``origin`` names it where no key can be blamed.

    Raises:
        ConfigError: with the key and the reason.
    """
    problems, config = examine(text, origin=origin)
    if problems:
        raise problems[0]
    return config


def examine(text: str, *, origin: str = "configuration") -> tuple[list[ConfigError], Config]:
    """Everything for which a configuration is refused, and the configuration without that."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of long numbers and deep lists
        why = f"is not TOML: {error}"
        return [ConfigError(origin, why, "correct the line it names")], Config()
    accepted = []
    refused: dict[str, ConfigError] = {}  # by its text: a value may be wrong more than once
    keys = set()
    for part in parts(data):
        try:
            msgspec.convert(part.content, Config)
            accepted.append(part)
        except msgspec.ValidationError as error:
            problem = _refusal(part.located(str(error)), origin)
            refused[str(problem)] = problem
            keys.add(".".join(part.path[:2]))
    config = msgspec.convert(whole(accepted), Config)
    others = (one for one in _contradictions(config) if one.other not in keys)
    return [*refused.values(), *others], config


def unmatched_globs(config: Config, interfaces: Iterable[str]) -> Iterator[ConfigError]:
    """Globs that match no interface there is now, which may be meant so.

    Args:
        config: whose globs.
        interfaces: the names of the interfaces of this host.
    """
    names = sorted(interfaces)
    for key, globs in (("interfaces", config.host.interfaces), ("backup", config.host.backup)):
        for glob in globs:
            if ":" not in glob and not fnmatch.filter(names, glob):
                why = f"{glob!r} matches no interface; there are {', '.join(names)}"
                yield ConfigError(
                    f"host.{key}", why, "correct it, or ignore this until it is there"
                )
    yield from unmatched_uplinks(config.policy, config.uplinks, names)


def upstream_resolvers(config: Config, resolv_conf: Path = RESOLV_CONF) -> tuple[str, ...]:
    """The resolvers the stub asks: the configured ones, else the system's own.

    Raises:
        ConfigError: there is none but the stub itself.
    """
    if config.dns.upstream:
        return tuple(config.dns.upstream)
    found: list[str] = []
    try:
        is_file = resolv_conf.is_file()  # a FIFO would be waited for
        text = resolv_conf.read_text(encoding="utf-8", errors="replace") if is_file else ""
    except OSError:
        text = ""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            found += [words[1]] * (not is_same_address(words[1], config.dns.listen))
    if not found:
        raise ConfigError("dns.upstream", f"is empty and {resolv_conf} names no other resolver")
    return tuple(found)


def _refusal(message: str, origin: str) -> ConfigError:
    """The one-line error of msgspec, with its ``$.section.key`` path turned into a key of ours."""
    why, _, where = message.partition(" - at `$")
    key = where.rstrip("`").lstrip(".")
    unknown = re.search(r"unknown field `(.*)`", why)
    if unknown is not None:
        is_uplink = key.startswith("uplinks.")
        section = UplinkSection if is_uplink else getattr(Config(), key, Config())
        known = section.__struct_fields__
        name = f"{key}.{unknown[1]}" if key else unknown[1]
        close = get_close_matches(unknown[1], known, 1)
        remedy = f"did you mean {close[0]}?" if close else "delete it"
        return ConfigError(name, f"is no known key; here are {', '.join(known)}", remedy)
    if key == "plane.kind":
        why = f"must be one of {', '.join(get_args(PlaneKind))}"
    return ConfigError(key or origin, why[:1].lower() + why[1:], _usual(key))


def _usual(key: str) -> str:
    """What may stand for a key, by its default."""
    section, _, name = key.partition("[")[0].partition(".")
    value = getattr(getattr(Config(), section, None), name, None) if name else None
    if value is None:
        return "see the configuration in docs/operating.md"
    return f"such as: {name} = {msgspec.json.encode(value).decode()}"


def _contradictions(config: Config) -> Iterator[ConfigError]:
    """What a type cannot say."""
    yield from _host_problems(config.host)
    yield from _dns_problems(config.dns)
    yield from policy_problems(config.policy)
    yield from codepoint_problems(config.codepoints)
    yield from uplink_problems(config.uplinks)
    yield from _path_problems(config)
    yield from metrics_problems(config.metrics)


def _path_problems(config: Config) -> Iterator[ConfigError]:
    """Paths that cannot be, and one that depends on where the daemon starts."""
    events, socket = config.events.directory, config.control.socket
    paths = {
        "control.socket": wrong_with_path(socket, octets_max=SOCKET_OCTETS_MAX),
        "state.directory": wrong_with_path(config.state.directory),
        "plane.pins": wrong_with_path(config.plane.pins),
        "events.directory": wrong_with_path(events)
        or f"{events!r} is not an absolute path" * (not Path(events).is_absolute()),
    }
    for name, why in paths.items():
        if why:
            yield ConfigError(name, why, _usual(name))


def metrics_problems(metrics: MetricsSection) -> Iterator[ConfigError]:
    """An address or a port that is none."""
    listen = metrics.listen
    if listen and not is_address_and_port(listen):
        why = f"{listen!r} is not an address and a port other than 0"
        yield ConfigError("metrics.listen", why, 'for example: listen = "[::1]:9469"')


def codepoint_problems(codepoints: CodepointsSection) -> Iterator[ConfigError]:
    """Next headers that are in use or overlap."""
    first, second = codepoints.rewritable_first, codepoints.fixed_first
    for key, value in (("rewritable_first", first), ("fixed_first", second)):
        if value not in NEXT_HEADERS_UNASSIGNED or value + 7 not in NEXT_HEADERS_UNASSIGNED:
            low, high = NEXT_HEADERS_UNASSIGNED.start, NEXT_HEADERS_UNASSIGNED.stop - 8
            name = f"codepoints.{key}"
            yield ConfigError(name, f"must be {low} to {high}, not {value}", _usual(name))
    if abs(first - second) < 8:
        name, why = "codepoints.fixed_first", "overlaps the eight of rewritable_first"
        yield ConfigError(name, why, _usual(name), other="codepoints.rewritable_first")


def _dns_problems(dns: DnsSection) -> Iterator[ConfigError]:
    for key, texts in (("listen", [dns.listen]), ("upstream", dns.upstream)):
        for text in texts:
            if not is_address(text):
                why = f"{text!r} is not an IPv4 or IPv6 address"
                yield ConfigError(f"dns.{key}", why, 'such as: "2001:db8::53"')
    if dns.port == DNS_PORT and any(is_same_address(one, dns.listen) for one in dns.upstream):
        why = f"has {dns.listen}, where noid itself answers"
        yield ConfigError("dns.upstream", why, "delete it there", other="dns.listen")
    for text in dns.trusted:
        if text not in dns.upstream:
            why = f"{text} is not in dns.upstream"
            yield ConfigError("dns.trusted", why, "add it there", other="dns.upstream")
    if dns.require_dnssec and dns.probe:
        why = "sends without the DNS; it cannot be combined with require_dnssec"
        yield ConfigError("dns.probe", why, "probe = false")
    if dns.require_dnssec and not dns.trusted:
        why, remedy = "needs dns.trusted: resolvers that validate", "list them there"
        yield ConfigError("dns.require_dnssec", why, remedy, other="dns.trusted")
    for text in dns.never_look_up:
        try:
            IPv6Network(text)
        except ValueError as error:
            why = f"has no IPv6 prefix there: {error}"
            yield ConfigError("dns.never_look_up", why, 'such as: "fd00::/8"')


def _host_problems(host: HostSection) -> Iterator[ConfigError]:
    if len(host.locators) > LOCATORS_MAX:
        yield ConfigError("host.locators", f"has more than {LOCATORS_MAX} entries", "delete some")
    if not host.interfaces:
        why = 'is empty; ["*"] means every interface'
        yield ConfigError("host.interfaces", why, 'interfaces = ["*"]')
    for text in host.locators:
        problem = _not_a_locator("host.locators", text)
        if problem is None and not is_global_unicast(parse_locator(text)):
            why = f"{text} is not a global unicast address"
            problem = ConfigError("host.locators", why, "delete it")
        if problem is not None:
            yield problem
    for text in host.backup:
        if ":" in text and (problem := _not_a_locator("host.backup", text)):
            yield problem


def _not_a_locator(key: str, text: str) -> ConfigError | None:
    try:
        parse_locator(text)
    except UsageError as error:
        return ConfigError(key, str(error), 'such as: "2001:db8:1::1"')
    return None
