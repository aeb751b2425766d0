# SPDX-License-Identifier: MIT
"""The life of a host's daemon: start, reload, answers, stop.

Opening and closing go through one stack, so that what was opened is closed again in reverse order,
after a failure as after a signal. ``driver`` carries events to the engine and its outputs to plane,
DNS and timers.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from noid import __version__
from noid.config import RESOLV_CONF, Config
from noid.control.reports import context_report, shares_report
from noid.control.schema import Handler
from noid.control.server import ControlServer
from noid.counters import Drop, PlaneCounter, StubCounter, UpstreamCounter, counter_report
from noid.engine.events import PolicyChanged
from noid.engine.host import Host
from noid.errors import ConfigError, PlatformError
from noid.host import descriptors
from noid.host.netlink import HostNetwork
from noid.host.notify import notify, ping_watchdog
from noid.host.octets import interface_octets
from noid.host.replacement import remove_unfinished
from noid.host.survey import Survey
from noid.locators import Locator, format_locator
from noid.planes.base import DataPlane
from noid.planes.bpf.pins import own_devices
from noid.planes.bpf.plane import LOG_NAME
from noid.planes.slow_path import PlaneDependencies, check_permission
from noid.resolver.availability import Availability
from noid.resolver.port import Server
from noid.resolver.stub import Stub
from noid.resolver.upstream import Upstream
from noid.roles.collecting import survivors_frozen
from noid.roles.driver import EngineDriver
from noid.roles.expecting import Expecting
from noid.roles.gateway_search import GatewaySearch
from noid.roles.keeping import KeptContexts, take_up
from noid.roles.listing import Listing
from noid.roles.local_locators import LocalLocators
from noid.roles.parts import (
    DNS_PORT,
    make_host,
    make_stub,
    make_upstream,
    named_servers,
    open_plane,
)
from noid.roles.reconciliation import Watching
from noid.roles.reloading import pins_of, policy_of, reloaded, warnings_of
from noid.roles.reporting import Reporter
from noid.roles.resolver_file import ResolverFile
from noid.roles.serving import serve_metrics
from noid.roles.spreading import Spreading
from noid.roles.systemd import stub_sockets
from noid.roles.uplinks import UplinkWatch
from noid.state.contexts import ContextStore
from noid.state.files import DISK_TROUBLE, prepare_directory
from noid.state.identity import Birth, load_identity, take_back
from noid.state.restore import Takeover

DEFAULT_MTU = 1500
STARTING = "noid is starting; ask again in a second"

logger = logging.getLogger("noid")


class Daemon:
    """One host's noid, from start to stop.

    Args:
        config: what the operator wants.
        read_again: reads the file again from which that came.
    """

    def __init__(self, config: Config, read_again: Callable[[], Config] | None = None) -> None:
        self.config = config
        self.read_again = read_again or (lambda: config)
        self.network = HostNetwork()
        self.own = LocalLocators(config.host, config.uplinks, pins_of(config))
        self.memories: ContextStore
        self.kept: KeptContexts
        self.taking_up: Takeover | None = None
        self.is_open = False
        self.may_speak = False
        self.started_ns = time.monotonic_ns()
        self.stopping = asyncio.Event()
        self.host: Host
        self.driver: EngineDriver
        self.uplinks: UplinkWatch
        self.expecting: Expecting
        self.spreading: Spreading
        self.plane: DataPlane
        self.why_tun = ""
        self.descriptors = 0
        self.troubles: list[str] = []
        self.upstream: Upstream
        self.availability: Availability
        self.resolver_file: ResolverFile
        self.stub: Stub
        self.watching: Watching | None = None
        commands = (self.status, self.contexts, self.paths, self.reload)
        named: dict[str, Handler] = {command.__name__: command for command in commands}
        self.control = ControlServer(Path(config.control.socket), named)
        self.reporter = Reporter(self.control.publish, Path(config.events.directory))
        self.control.requests["history"] = self.reporter.history

    async def run(self) -> None:
        """Starts, serves until SIGINT or SIGTERM, and leaves the host as it was.

        Raises:
            ShimError: something is missing or refused; nothing is left behind.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.network.close)
            await self._start(stack)
            if self.stopping.is_set():
                return
            logger.info(
                "ready: locators %s, plane %s",
                " ".join(format_locator(locator) for locator in self.locators) or "none",
                self.plane.kind,
            )
            self.reporter.scripts.examine()
            notify("READY=1")
            self.driver.begin(ping_watchdog())
            await self.stopping.wait()
            notify("STOPPING=1")

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        check_permission(self.config.plane.mark)
        for warning in warnings_of(self.config):
            logger.warning("%s", warning)
        self._raise_descriptors()
        birth, takeover = self._open_state(stack)
        survey = self._survey()
        mtu = survey.mtu or DEFAULT_MTU
        self._make_parts(birth, mtu, stack)
        self._take_locators(survey)
        await self._start_control()
        stack.push_async_callback(self.control.stop)
        self._open_plane(mtu, stack)
        self.driver.begin(self.availability.watch())
        listing = Listing(self.own, lambda: self.config.host.name, self.upstream.ask)
        self.driver.begin(listing.watch())
        if self.config.dns.port == DNS_PORT:
            self.driver.begin(self.resolver_file.watch())
        self.stub = make_stub(self.config, self.upstream, self.driver, self.own)
        await self.stub.start(stub_sockets())
        stack.push_async_callback(self.stub.stop)
        self.is_open = True  # from the next turn of the loop on: by then the plane has started, too
        await self._take_up(takeover)
        if self.stopping.is_set():
            return  # the kernel goes on as it did
        self.watching = watching = self._watching()
        stack.callback(watching.close)
        self.plane.start()
        self.may_speak = True
        watching.take(self._survey())
        for event in takeover.unanswered if takeover is not None else ():
            self.driver.handle(event)
        if self.config.metrics.listen:
            await serve_metrics(self.config.metrics.listen, self.status, self.paths, stack)
        self.driver.begin(watching.watch())
        self.driver.begin(self.uplinks.watch())
        self.driver.begin(self.expecting.watch(lambda: self.config.host))
        self.driver.begin(self.uplinks.gateways.watch())

    def _raise_descriptors(self) -> None:
        self.descriptors = descriptors.raise_limit()
        if self.descriptors < descriptors.NEEDED:
            logger.warning(
                "descriptors: the limit is %d; raise it to %d (ulimit -n, LimitNOFILE=)",
                self.descriptors,
                descriptors.NEEDED,
            )

    def _open_state(self, stack: contextlib.AsyncExitStack) -> tuple[Birth, Takeover | None]:
        """Opens the state directory; returns who the host is, and what there is to take up."""
        directory = Path(self.config.state.directory)
        self.troubles += prepare_directory(directory)
        remove_unfinished(directory)
        self.reporter.open(directory)
        stack.push_async_callback(self.reporter.close)
        self.memories = ContextStore(directory)
        stack.callback(self.memories.close)
        takeover = Takeover(self.memories, Path(self.config.plane.pins))
        stack.callback(takeover.close)
        goes_on = self.config.plane.may_be_in_kernel and takeover.is_worth_it()
        birth = load_identity(directory, goes_on=goes_on)
        stack.callback(lambda: None if self.may_speak else take_back(directory, birth))
        self.troubles += [birth.warning] * bool(birth.warning)
        for trouble in self.troubles:
            logger.warning("%s", trouble)
        if goes_on:
            return birth, takeover
        takeover.close()
        return birth, None

    def _make_parts(self, birth: Birth, mtu: int, stack: contextlib.AsyncExitStack) -> None:
        """Makes everything but the plane and the stub."""
        config = self.config
        self.host = make_host(config, birth, mtu)
        stack.enter_context(survivors_frozen(lambda: self.host.context_count))
        self.kept = KeptContexts(
            self.memories,
            self.host.memory_of,
            lambda: [one.local_label for one in self.host.contexts],
        )
        servers = named_servers(config)
        self.upstream = make_upstream(config, servers, lambda: self.locators, self.descriptors)
        stack.push_async_callback(self.upstream.close)
        self.driver = EngineDriver(
            self.host,
            ask=self.upstream.ask,
            report=self.reporter.report,
            changed=self.kept.changed,
            renewed=self.kept.renewed,
        )
        log_path = Path(config.state.directory) / LOG_NAME
        self.spreading = Spreading(self.own, self.host.pinned, log_path)
        self.driver.uplinks = self.uplinks = self._make_uplinks()
        self.expecting = Expecting(self.uplinks.uplinks, self._compare_soon)
        self.troubles += self.expecting.open(log_path.parent)
        stack.callback(self.uplinks.preferring.close)
        stack.callback(self.spreading.close)
        self.availability = Availability(self.upstream, self._servers)
        self.resolver_file = ResolverFile(
            RESOLV_CONF, config.dns.listen, self.availability.check_soon
        )

    def _open_plane(self, mtu: int, stack: contextlib.AsyncExitStack) -> None:
        self.plane, self.why_tun = open_plane(self.config, self._dependencies(mtu))
        self.driver.plane = self.plane
        stack.callback(self.plane.close)
        stack.callback(self.driver.close)
        stack.callback(self.kept.close)

    async def _take_up(self, takeover: Takeover | None) -> None:
        """Restores the contexts of an earlier daemon, or forgets them where none goes on."""
        if takeover is None:
            self.memories.forget_all()
            return
        self.taking_up = takeover
        await take_up(takeover, self.driver, self.kept, self.stopping)
        self.taking_up = None
        takeover.close()

    async def _start_control(self) -> None:
        """Opens the control socket; a disk that takes nothing is no reason not to run [D49]."""
        try:
            await self.control.start()
        except PlatformError as error:
            if error.errno not in DISK_TROUBLE:
                raise
            logger.warning("%s; noid runs without one", error)

    def _make_uplinks(self) -> UplinkWatch:
        watch = UplinkWatch(
            self.host,
            self.own,
            handle=self.driver.handle,
            compare=self._compare_soon,
            heard_ns=lambda label: self.plane.heard_ns(label),
            changed=self.reporter.uplink_changed,
            switched=self.reporter.switched,
            spread=self.spreading.refresh,
            gateways=GatewaySearch(lambda: self.plane.counted(PlaneCounter.GATEWAYS_REFUSED)),
        )
        self.troubles += watch.preferring.open(Path(self.config.state.directory))
        self.control.requests |= watch.requests
        return watch

    def _dependencies(self, mtu: int) -> PlaneDependencies:
        return PlaneDependencies(
            section=self.config.plane,
            codepoints=self.config.code_points(),
            network=self.network,
            mtu=mtu,
            notify=self.driver.handle,
            locators=lambda: self.locators,
            sources=self.spreading.sources,
            not_left=lambda: self.own.not_left,
            working=lambda: self.own.working(self.own.locators),
            led=self.spreading.led,
        )

    def _servers(self) -> tuple[Server, ...]:
        """The resolvers that are named now; those asked until now where none is."""
        try:
            return named_servers(self.config)
        except ConfigError:
            return self.upstream.resolvers.servers

    def reload(self) -> dict[str, Any]:
        """Reads the file again and applies what can be; one that is refused changes nothing."""
        if not self.is_open:
            return {"error": STARTING}
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            found = reloaded(self.config, self.read_again())
        except ConfigError as error:
            logger.warning("reload: nothing is changed: %s", error)
            return {"error": f"nothing is changed: {error}"}
        finally:
            notify("READY=1")
        self._apply(found.config)
        warnings = warnings_of(found.config)
        for warning in warnings:
            logger.warning("%s", warning)
        logger.info("reloaded: %s", found)
        return {"applied": found.applied, "restart": found.restart, "warnings": warnings}

    def _apply(self, config: Config) -> None:
        """Goes by another configuration from now on, as far as a running daemon can."""
        self.config = config
        self.own.host, self.own.sections = config.host, config.uplinks
        self.own.pins = pins_of(config)
        self.expecting.expect(config.host)
        self.spreading.refresh()
        self.stub.policy, self.stub.probe = config.dns.policy, config.dns.probe
        self.driver.handle(PolicyChanged(policy_of(config)))
        self._compare_soon()
        self.availability.check_soon()

    def _compare_soon(self) -> None:
        if self.watching is not None:
            self.watching.compare_soon()

    # --- own locators -------------------------------------------------------------------------

    @property
    def locators(self) -> tuple[Locator, ...]:
        """This host's locators, the preferred one first."""
        return self.own.locators

    def _survey(self) -> Survey:
        excluded = own_devices(self.config.plane.device)
        return self.network.survey(self.config.host.interfaces, excluded=excluded)

    def _take_locators(self, survey: Survey) -> None:
        """Tells the engine of this host's locators before there is a plane."""
        event = self.own.look(survey)
        if event is not None:
            self.driver.handle(event)
            self.availability.check_soon()
        self.uplinks.surveyed(survey)

    def _watching(self) -> Watching:
        return Watching(
            self.network,
            self.plane,
            self.own,
            survey=self._survey,
            handle=self.driver.handle,
            told=self.availability.check_soon,
            uplinks=self.uplinks,
            in_use=lambda: {context.local_aid for context in self.host.contexts},
        )

    # --- answers on the control socket --------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What ``noid status`` shows."""
        if not self.is_open:
            return {"error": STARTING}
        return {
            "version": __version__,
            "name": self.config.host.name,
            "pid": os.getpid(),
            "uptime_seconds": (time.monotonic_ns() - self.started_ns) // 1_000_000_000,
            "birthday": self.host.options.birthday,
            "descriptors_max": self.descriptors,
            "state": {
                "directory": self.config.state.directory,
                "trouble": [*self.troubles, *self.memories.troubles, *self.reporter.troubles],
            },
            "events_failed": self.reporter.scripts.describe(),
            "locators": [format_locator(locator) for locator in self.locators],
            "sources_not_covered": [format_locator(one) for one in self.host.uncovered],
            "plane": {
                "kind": self.plane.kind,
                "fallback": bool(self.why_tun),
                "why": self.why_tun or f"plane.kind is {self.config.plane.kind}",
                "uplinks": self.plane.modes(),
                "device": self.config.plane.device,
                "counters": counter_report(PlaneCounter, self.plane.counters()),
            },
            "uplinks_down": self.uplinks.down,
            "spread": self.spreading.describe(),
            "preferences": self.uplinks.preferring.describe(),
            "contexts": {one.value: n for one, n in self.host.counts_by_state.items()},
            "codepoints": msgspec.to_builtins(self.config.codepoints),
            "taking_up": self.taking_up and self.taking_up.progress,
            "shares": shares_report(self.host.shares),
            "dropped": counter_report(Drop, self.host.drops),
            "dns": {
                "resolver": self.availability.describe(),
                "resolv_conf": self.resolver_file.describe(),
                "m6_record": "dropped by the resolver" if self.upstream.drops_record else "asked",
                "stub": counter_report(StubCounter, self.stub.counters),
                "upstream": counter_report(UpstreamCounter, self.upstream.counters),
            },
        }

    def contexts(self) -> Iterator[dict[str, Any]]:
        """The rows of ``noid contexts``: the current contexts, each read when it is sent."""
        return map(context_report, self.host.contexts)

    def paths(self) -> dict[str, Any]:
        """What ``noid paths`` shows."""
        return self.uplinks.report(interface_octets()) if self.is_open else {"error": STARTING}
