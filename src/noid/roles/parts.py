# SPDX-License-Identifier: MIT
"""Makes the parts of a host's daemon from its configuration: engine, data plane, resolver, stub."""

import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from noid.config import RESOLV_CONF, Config, never_looked_up, upstream_resolvers
from noid.constants import MTU_MIN
from noid.engine.host import Host
from noid.engine.options import HostOptions
from noid.errors import ShimError
from noid.host import descriptors
from noid.host.resolvconf import resolvers_before
from noid.locators import Locator
from noid.planes.base import DataPlane
from noid.planes.bpf.plane import BpfPlane
from noid.planes.slow_path import PlaneDependencies
from noid.planes.tun import TunPlane
from noid.resolver.port import Server
from noid.resolver.stub import Stub
from noid.resolver.upstream import Upstream
from noid.roles.driver import EngineDriver
from noid.roles.local_locators import LocalLocators
from noid.roles.reloading import policy_of
from noid.state.identity import Birth

DNS_PORT = 53

logger = logging.getLogger("noid")


def resolvers_of(config: Config) -> tuple[str, ...]:
    """The resolvers of the configuration, else those of before ``noid resolver on``.

    Raises:
        ConfigError: none is named anywhere.
    """
    return upstream_resolvers(config, resolvers_before(RESOLV_CONF))


def named_servers(config: Config) -> tuple[Server, ...]:
    """See ``resolvers_of``, with the port of each."""
    return tuple((address, DNS_PORT) for address in resolvers_of(config))


def make_host(config: Config, birth: Birth, mtu: int) -> Host:
    """The engine.

    Args:
        config: what the operator wants.
        birth: who the host is in this life.
        mtu: the smallest of its uplinks, in octets.
    """
    options = HostOptions(
        codepoints=config.code_points(),
        birthday=birth.birthday,
        reset_key=birth.reset_key,
        mtu=max(mtu, MTU_MIN),
        on_switch=config.host.encapsulation == "on-switch",
        never_looked_up=never_looked_up(config, resolvers_of(config)),
        contexts_max=config.plane.contexts,
        policy=policy_of(config),
        is_verifiable=config.host.verifiable,
    )
    return Host(options, secrets.token_bytes)


def make_upstream(
    config: Config,
    servers: tuple[Server, ...],
    locators: Callable[[], tuple[Locator, ...]],
    descriptors_max: int,
) -> Upstream:
    """What asks the resolvers.

    Args:
        config: what the operator wants.
        servers: the resolvers.
        locators: the host's own, at any time.
        descriptors_max: how many files and sockets this process may have open.
    """
    dns = config.dns
    trusted = frozenset((address, DNS_PORT) for address in dns.trusted)
    return Upstream(
        servers,
        config.code_points(),
        locators,
        config.plane.mark,
        trusted=trusted if dns.require_dnssec else None,
        sockets_max=descriptors.for_resolvers(descriptors_max),
    )


def make_stub(config: Config, upstream: Upstream, driver: EngineDriver, own: LocalLocators) -> Stub:
    """The stub, which answers the DNS queries of programs."""
    dns = config.dns
    return Stub(
        dns.listen,
        dns.port,
        upstream,
        driver.peer_resolved,
        lambda: own.everything,
        policy=dns.policy,
        probe=dns.probe,
        working=driver.host.working,
        answering=driver.host.answering,
    )


def open_plane(config: Config, dependencies: PlaneDependencies) -> tuple[DataPlane, str]:
    """The plane that is configured, open; for "auto" the kernel plane if it is available.

    Returns:
        The plane, and why it is the one in user space where another was preferred.

    Raises:
        ShimError: the plane is not available.
    """
    kind = config.plane.kind
    match kind:
        case "tun":
            return _opened(TunPlane(dependencies)), ""
        case "bpf":
            return _opened(_plane_in_kernel(config, dependencies)), ""
        case "auto":
            try:
                return _opened(_plane_in_kernel(config, dependencies)), ""
            except ShimError as error:
                logger.warning("no data plane in the kernel, so in user space: %s", error)
                return _opened(TunPlane(dependencies)), str(error)
        case _:
            assert_never(kind)


def _opened(plane: DataPlane) -> DataPlane:
    plane.open()
    return plane


def _plane_in_kernel(config: Config, dependencies: PlaneDependencies) -> BpfPlane:
    return BpfPlane(
        dependencies,
        interfaces=config.host.interfaces,
        directory=Path(config.state.directory),
        referrals=True,
    )
