# SPDX-License-Identifier: MIT
"""The configuration file of a border: one TOML file of its own, refused or taken as a whole.

Every refusal names the key and the reason.
"""

import contextlib
import re
import tomllib
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from noid.config import (
    CodepointsSection,
    Hook,
    MetricsSection,
    codepoint_problems,
    metrics_problems,
)
from noid.config_text import read_text
from noid.config_values import SOCKET_OCTETS_MAX, wrong_with_path
from noid.constants import (
    BORDER_INSIDE_MAX,
    BORDER_LANS_MAX,
    BORDER_PREFIX_BITS_MAX,
    BORDER_PREFIX_BITS_MIN,
    BORDER_PREFIXES_MAX,
    BORDER_PROVIDERS_MAX,
    Codepoints,
)
from noid.errors import ConfigError, UsageError
from noid.flows.bfd_authentication import KEY_OCTETS_MAX as BFD_KEY_OCTETS_MAX
from noid.locators import Locator, parse_locator

DEFAULT_SOCKET: Final = Path("/run/noid-border/border.sock")
DEFAULT_PINS: Final = Path("/sys/fs/bpf/noid-border")
EVENTS_MAX: Final = 200
"""Events that a border keeps; older ones are forgotten."""
GATEWAY: Final = "gateway"
"""The target of an active check that is the provider's router, with any address."""
AUTOMATIC: Final = "auto"
"""What ``noid border use`` calls the daemon's own choice; no provider has this name."""

NO_SITE: Final = tuple(map(IPv6Network, ("::/16", "fe80::/10", "ff00::/8")))
"""Unspecified, loopback and mapped addresses, links, and groups: never prefixes of a site."""

Device = Annotated[str, msgspec.Meta(min_length=1, max_length=15, pattern=r"^[^/\s]+$")]
BfdAuthentication = Literal["none", "keyed-sha1", "meticulous-keyed-sha1"]
Refuse = Callable[[ConfigError], None]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,16}$")]


class ProviderTable(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[[border.providers]]``: a provider of the site.

    Attributes:
        name: what people call it.
        uplink: the device that leads to it; a LAN if another border there has its uplink; empty
            if another router has it.
        prefixes: what it has delegated to the site; the first is put into packets that are
            rewritten.
        prefixes_file: a file with further ones, one a line, as the hook of a DHCPv6 client writes
            it; where it is missing there are none yet.
        gateway: the address of its router on the uplink; empty: that of the kernel's routes.
        priority: the smaller, the better.
        weight: its share among providers of the same priority.
        check: what has to answer by the uplink: an address, or ``gateway``; empty: nothing.
        check_interval_s: seconds between two requests.
        check_down: so many in a row without an answer are a failure.
        check_up: so many in a row with an answer end it.
        bfd: whether there is a session of BFD with its router.
        bfd_peer: the other end of that session, several hops away; empty: the router on the
            uplink, one hop away.
        bfd_hop_limit_min: packets of ``bfd_peer`` with a smaller hop limit are ignored.
        bfd_authentication: how packets of the session are authenticated [RFC 5880 §6.7].
        bfd_key: the key for that, as text.
        bfd_key_id: the number of the key.
        bfd_interval_s: how often a packet is sent and expected.
        bfd_multiplier: the router takes us as dead after so many intervals.
    """

    name: Name
    uplink: Annotated[str, msgspec.Meta(max_length=15)] = ""
    prefixes: list[str] = msgspec.field(default_factory=list)
    prefixes_file: str = ""
    gateway: str = ""
    priority: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 100
    weight: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    check: str = ""
    check_interval_s: Annotated[float, msgspec.Meta(ge=0.02, le=3600)] = 1.0
    check_down: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3
    check_up: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3
    bfd: bool = False
    bfd_peer: str = ""
    bfd_hop_limit_min: Annotated[int, msgspec.Meta(ge=1, le=255)] = 1
    bfd_authentication: BfdAuthentication = "none"
    bfd_key: str = ""
    bfd_key_id: Annotated[int, msgspec.Meta(ge=0, le=255)] = 1
    bfd_interval_s: Annotated[float, msgspec.Meta(ge=0.01, le=10)] = 0.1
    bfd_multiplier: Annotated[int, msgspec.Meta(ge=1, le=255)] = 3


class BorderSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[border]``: a router of the site.

    Attributes:
        lans: the devices behind which the hosts of the site are.
        providers: one or more.
        inside: prefixes to which packets need no uplink, besides those of the site.
        hold_s: seconds that an uplink has to be good before it is used again.
        new_prefix_s: seconds until a prefix that is new to the site is put into packets.
        mark: firewall mark of packets that are answered and not forwarded.
        table: number of the routing table with the routes by source.
        rule_priority: preference of the first of three kinds of rules that lead to it.
        hook: how the programs are attached; ``auto`` is ``tcx`` where the kernel has it.
        pins: directory on a BPF file system, where the programs outlive the daemon.
        socket: of ``noid border status`` and its like.
    """

    lans: list[Device]
    providers: list[ProviderTable]
    inside: list[str] = msgspec.field(default_factory=lambda: ["fc00::/7"])
    hold_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 3.0
    new_prefix_s: Annotated[int, msgspec.Meta(ge=0, le=30 * 86400)] = 3600
    mark: Annotated[int, msgspec.Meta(ge=1, le=0xFFFFFFFF)] = 0x6D37
    table: Annotated[int, msgspec.Meta(ge=256, le=0xFFFFFF00)] = 0x6D3700
    rule_priority: Annotated[int, msgspec.Meta(ge=1, le=32763)] = 50
    hook: Hook = "auto"
    pins: str = str(DEFAULT_PINS)
    socket: str = str(DEFAULT_SOCKET)


class BorderConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The whole file."""

    border: BorderSection
    metrics: MetricsSection = msgspec.field(default_factory=MetricsSection)
    codepoints: CodepointsSection = msgspec.field(default_factory=CodepointsSection)

    def code_points(self) -> Codepoints:
        """The ``[codepoints]`` table as the rest of the program takes it."""
        return self.codepoints.code_points()

    def inside(self) -> tuple[IPv6Network, ...]:
        """The destination prefixes that need no uplink, in addition to those of the site."""
        return tuple(IPv6Network(text) for text in self.border.inside)

    def gateway_of(self, provider: ProviderTable) -> Locator | None:
        """The address that is configured as a provider's router; None: the kernel's routes say."""
        return parse_locator(provider.gateway) if provider.gateway else None

    def check_of(self, provider: ProviderTable, gateway: Locator | None) -> Locator | None:
        """What is asked for an answer; None: nothing, or it is not known.

        Args:
            provider: by whose uplink.
            gateway: the address of its router there, if it is known.
        """
        return gateway if provider.check == GATEWAY else parse_locator(provider.check)

    def bfd_peer_of(self, provider: ProviderTable, gateway: Locator | None) -> Locator | None:
        """The other end of the session of BFD; None: it is not known.

        Args:
            provider: by whose uplink.
            gateway: the address of its router there, if it is known.
        """
        return parse_locator(provider.bfd_peer) if provider.bfd_peer else gateway

    def is_behind_lan(self, provider: ProviderTable) -> bool:
        """Whether another border, in a LAN, has the uplink to a provider."""
        return provider.uplink in self.border.lans


def _raise(error: ConfigError) -> None:
    raise error


def load_border_config(
    path: Path, refuse: Refuse = _raise, *, is_checked: bool = True
) -> BorderConfig:
    """Reads and checks a configuration file.

    Args:
        path: the file.
        refuse: is given what is wrong with a line of a ``prefixes_file``; if it does not raise, the
            line is left out.
        is_checked: or only the types of the keys count, and no ``prefixes_file`` is read.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or holds something that cannot be.
    """
    text = read_text(path)
    if not is_checked:
        return _converted(text, str(path))
    return parse_border_config(text, origin=str(path), refuse=refuse)


def parse_border_config(
    text: str, *, origin: str = "configuration", refuse: Refuse = _raise
) -> BorderConfig:
    """A configuration from its text; ``origin`` names it where no key can be blamed.

    Raises:
        ConfigError: with the key and the reason.
    """
    config = _converted(text, origin)
    _check(config.border)
    for problem in (*codepoint_problems(config.codepoints), *metrics_problems(config.metrics)):
        raise problem
    config = _with_files(config, refuse)
    if not any(one.prefixes for one in config.border.providers):
        why = "have no prefix yet; their files are missing, or hold none that can be"
        raise ConfigError("border.providers", why)
    return config


def _converted(text: str, origin: str) -> BorderConfig:
    try:
        return msgspec.convert(tomllib.loads(text), BorderConfig)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), origin) from None
    except (ValueError, RecursionError) as error:  # also of long numbers and deep lists
        raise ConfigError(origin, f"is not TOML: {error}") from None


def _with_files(config: BorderConfig, refuse: Refuse) -> BorderConfig:
    """A configuration with the prefixes that stand in files of their own."""
    for number, one in enumerate(config.border.providers):
        key, file = f"border.providers[{number}].prefixes_file", one.prefixes_file
        try:
            listed = Path(file).read_text(encoding="utf-8").splitlines() if file else []
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            listed = []
            refuse(ConfigError(key, f"{file} cannot be read: {error}"))
        for text in filter(None, map(str.strip, listed)):
            try:
                config = _with_prefix(config, number, text)
            except ConfigError as error:
                refuse(ConfigError(key, f"{file} has {text!r}: {error.why}"))
    return config


def _with_prefix(config: BorderConfig, number: int, text: str) -> BorderConfig:
    """A configuration with a prefix of a provider, which may have it already."""
    providers = list(config.border.providers)
    prefixes = providers[number].prefixes
    with contextlib.suppress(ValueError):
        if IPv6Network(text) in map(IPv6Network, prefixes):
            return config
    providers[number] = msgspec.structs.replace(providers[number], prefixes=[*prefixes, text])
    border = msgspec.structs.replace(config.border, providers=providers)
    _check(border)
    return msgspec.structs.replace(config, border=border)


def _refusal(message: str, origin: str) -> ConfigError:
    """The one-line error of msgspec, with its ``$.section.key`` path turned into a key of ours."""
    why, _, where = message.partition(" - at `$")
    key = where.rstrip("`").lstrip(".")
    missing = re.search(r"missing required field `(.*)`", why)
    if missing is not None:
        return ConfigError(f"{key}.{missing[1]}".lstrip("."), "is missing")
    unknown = re.search(r"unknown field `(.*)`", why)
    if unknown is not None:
        known = {
            "": BorderConfig,
            "border": BorderSection,
            "codepoints": CodepointsSection,
            "metrics": MetricsSection,
        }.get(key, ProviderTable)
        name = f"{key}.{unknown[1]}".lstrip(".")
        fields = ", ".join(known.__struct_fields__)
        return ConfigError(name, f"is no known key; here are {fields}")
    return ConfigError(key or origin, why[:1].lower() + why[1:])


def _check(border: BorderSection) -> None:
    """What a type cannot say."""
    for key, path, octets_max in (
        ("socket", border.socket, SOCKET_OCTETS_MAX),
        ("pins", border.pins, None),
    ):
        if why := wrong_with_path(path, octets_max=octets_max):
            raise ConfigError(f"border.{key}", why)
    _check_devices(border)
    if not border.providers:
        raise ConfigError("border.providers", "is empty; each provider is one entry")
    if len(border.providers) > BORDER_PROVIDERS_MAX:
        raise ConfigError("border.providers", f"has more than {BORDER_PROVIDERS_MAX} entries")
    names = [one.name for one in border.providers]
    for number, one in enumerate(border.providers):
        if one.name in names[:number]:
            raise ConfigError(f"border.providers[{number}].name", f"{one.name} is there twice")
        if one.name == AUTOMATIC:
            raise ConfigError(
                f"border.providers[{number}].name", f'"{AUTOMATIC}" names no provider'
            )
    _check_prefixes(border)
    site = [IPv6Network(text) for one in border.providers for text in one.prefixes]
    for number, one in enumerate(border.providers):
        key = f"border.providers[{number}]"
        _check_address(f"{key}.gateway", one.gateway, one)
        _check_bfd(key, one)
        # Any address will do in place of the gateway's: that there is an uplink is what is checked.
        _check_address(f"{key}.check", "fe80::1" if one.check == GATEWAY else one.check, one)
        _check_outside(key, one, site, is_behind_lan=one.uplink in border.lans)
    if len(border.inside) > BORDER_INSIDE_MAX:
        raise ConfigError("border.inside", f"has more than {BORDER_INSIDE_MAX} entries")
    for text in border.inside:
        _network("border.inside", text)


def _check_bfd(key: str, provider: ProviderTable) -> None:
    if provider.bfd and not provider.uplink:
        raise ConfigError(f"{key}.bfd", "needs the uplink on which the router is")
    is_authenticated = provider.bfd_authentication != "none"
    if is_authenticated != (0 < len(provider.bfd_key.encode()) <= BFD_KEY_OCTETS_MAX):
        why = f"is 1 to {BFD_KEY_OCTETS_MAX} octets with bfd_authentication, and empty without"
        raise ConfigError(f"{key}.bfd_key", why)
    if not provider.bfd_peer:
        return
    _check_address(f"{key}.bfd_peer", provider.bfd_peer, provider)
    if not provider.bfd:
        raise ConfigError(f"{key}.bfd_peer", "needs bfd = true")
    if IPv6Address(provider.bfd_peer).is_link_local:
        raise ConfigError(
            f"{key}.bfd_peer", "is on the link; a session with the router there needs no bfd_peer"
        )


def _check_devices(border: BorderSection) -> None:
    if not border.lans:
        raise ConfigError("border.lans", "is empty; name the devices behind which the hosts are")
    if len(border.lans) > BORDER_LANS_MAX:
        raise ConfigError("border.lans", f"has more than {BORDER_LANS_MAX} entries")
    used: set[str] = set(border.lans)
    if len(used) < len(border.lans):
        raise ConfigError("border.lans", "has a device twice")
    for number, one in enumerate(border.providers):
        if one.uplink in border.lans:
            _check_other_border(f"border.providers[{number}]", one)
            continue
        if one.uplink in used:
            raise ConfigError(
                f"border.providers[{number}].uplink", f"{one.uplink} is another uplink too"
            )
        used |= {one.uplink} - {""}


def _check_other_border(key: str, provider: ProviderTable) -> None:
    """A provider by a LAN: another border there has its uplink."""
    if not provider.gateway:
        raise ConfigError(
            f"{key}.uplink",
            f"{provider.uplink} is a LAN; if another border there has the uplink to this provider, "
            "gateway says its address",
        )
    if provider.check in ("", GATEWAY):
        raise ConfigError(
            f"{key}.check",
            "is to be an address beyond the other border, which tells whether its uplink works",
        )


def _check_prefixes(border: BorderSection) -> None:
    first: IPv6Network | None = None
    seen: set[IPv6Network] = set()
    for number, one in enumerate(border.providers):
        key = f"border.providers[{number}].prefixes"
        if not one.prefixes and not one.prefixes_file:
            raise ConfigError(key, "is empty; name what the provider has delegated")
        for text in one.prefixes:
            network = _network(key, text)
            first = first or network
            if any(network.overlaps(one) for one in NO_SITE):
                raise ConfigError(key, f"{text} is no prefix that a provider delegates")
            if not BORDER_PREFIX_BITS_MIN <= network.prefixlen <= BORDER_PREFIX_BITS_MAX:
                low, high = BORDER_PREFIX_BITS_MIN, BORDER_PREFIX_BITS_MAX
                raise ConfigError(key, f"{text} is not of length {low} to {high}")
            if network.prefixlen != first.prefixlen:
                raise ConfigError(key, f"{text} has not the length of {first}, as all must")
            if network in seen:
                raise ConfigError(key, f"{text} is there twice")
            seen.add(network)
    if len(seen) > BORDER_PREFIXES_MAX:
        raise ConfigError("border.providers", f"have more than {BORDER_PREFIXES_MAX} prefixes")


def _check_outside(
    key: str, provider: ProviderTable, site: list[IPv6Network], *, is_behind_lan: bool
) -> None:
    """Packets from an uplink with a source of the site are dropped: none of them is an answer."""
    asked = {"check": provider.check, "bfd_peer": provider.bfd_peer}
    if not is_behind_lan:
        asked["gateway"] = provider.gateway
    for name, text in asked.items():
        if text not in ("", GATEWAY) and any(IPv6Address(text) in one for one in site):
            why = f"{text} has a prefix of the site, whose packets may not come by an uplink"
            raise ConfigError(f"{key}.{name}", why)


def _check_address(key: str, text: str, provider: ProviderTable) -> None:
    if not text:
        return
    if not provider.uplink:
        raise ConfigError(key, "needs the uplink on which it is")
    try:
        address = IPv6Address(parse_locator(text))
    except UsageError as error:
        raise ConfigError(key, str(error)) from None
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise ConfigError(key, f"{text} is no address of a router or host beyond the uplink")


def _network(key: str, text: str) -> IPv6Network:
    try:
        return IPv6Network(text)
    except ValueError as error:
        raise ConfigError(key, f"has no IPv6 prefix there: {error}") from None
