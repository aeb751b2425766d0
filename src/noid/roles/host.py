# SPDX-License-Identifier: MIT
"""The daemon: carries events to the engine, and its orders to plane, DNS and timers.

It decides nothing. Opening and closing go through one stack, so that whatever was opened is closed
again in reverse, after a failure as after a signal.
"""

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from noid import __version__
from noid.config import RESOLV_CONF, Config, never_looked_up, upstream_resolvers
from noid.constants import MTU_MIN
from noid.control.channel import ControlServer, Handler
from noid.control.reports import context_report, shares_report
from noid.counters import Drop, PlaneCounter, StubCounter, UpstreamCounter, counter_report
from noid.dns.records import Question
from noid.engine.context import Context
from noid.engine.events import (
    AnswerArrived,
    AskDns,
    CheckIdle,
    ContextRestored,
    DeliverToUlp,
    IdleChecked,
    Input,
    InstallFlow,
    NoteHeard,
    Output,
    PairMeasured,
    PeerResolved,
    PolicyChanged,
    ProbeStarted,
    RemoveFlow,
    SendAgain,
    SendControl,
    StateChanged,
    Switched,
    TimePassed,
    UnwatchPeer,
    WatchPeer,
)
from noid.engine.host import Host
from noid.engine.options import HostOptions
from noid.errors import ConfigError, PlatformError, ShimError
from noid.flows.clock import FlowClock
from noid.flows.flow import Flow
from noid.host import descriptors
from noid.host.connections import Connections
from noid.host.netlink import HostNetwork
from noid.host.notify import notify, ping_watchdog
from noid.host.octets import interface_octets
from noid.host.resolvconf import resolvers_before
from noid.host.survey import Survey
from noid.locators import Locator, format_locator
from noid.planes.base import DataPlane
from noid.planes.bpf.pins import own_devices
from noid.planes.bpf.plane import BpfPlane
from noid.planes.slow_path import PlaneDependencies, check_permission
from noid.planes.tun import TunPlane
from noid.resolver.availability import Availability
from noid.resolver.port import Server
from noid.resolver.stub import Stub
from noid.resolver.upstream import Upstream
from noid.roles.local_locators import LocalLocators
from noid.roles.reconciliation import Watching
from noid.roles.reloading import policy_of, reloaded, warnings_of
from noid.roles.reporting import Reporter, serve_metrics
from noid.roles.resolver_file import ResolverFile
from noid.roles.systemd import stub_sockets
from noid.roles.uplinks import UplinkWatch
from noid.state.contexts import ContextStore
from noid.state.files import DISK_TROUBLE, prepare_directory
from noid.state.identity import Birth, load_identity, take_back
from noid.state.restore import Found, Takeover

DEFAULT_MTU = 1500
DNS_PORT = 53
WRITE_AGAIN_S = 10.0
"""How long after a disk took nothing it is tried again."""
STARTING = "noid is starting; ask again in a second"
PROGRESS_S = 5.0
"""How often it is said how far the taking up of contexts is."""

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
        self.codepoints = config.code_points()
        self.network = HostNetwork()
        self.own = LocalLocators(config.host)
        self.connections = Connections()
        self.changed: set[int] = set()
        self.memories: ContextStore
        self.taking_up: Takeover | None = None
        self.is_open = False
        self.may_speak = False
        self.started_ns = time.monotonic_ns()
        self.stopping = asyncio.Event()
        self.timer: asyncio.TimerHandle | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.host: Host
        self.uplinks: UplinkWatch
        self.plane: DataPlane
        self.why_tun = ""
        self.descriptors = 0
        self.troubles: list[str] = []
        self.retry: asyncio.TimerHandle | None = None
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
            notify("READY=1")
            self._begin(ping_watchdog())
            await self.stopping.wait()
            notify("STOPPING=1")

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        config = self.config
        check_permission(config.plane.mark)
        for warning in warnings_of(config):
            logger.warning("%s", warning)
        self.descriptors = descriptors.raise_limit()
        if self.descriptors < descriptors.NEEDED:
            logger.warning(
                "descriptors: the limit is %d; raise it to %d (ulimit -n, LimitNOFILE=)",
                self.descriptors,
                descriptors.NEEDED,
            )
        directory = Path(config.state.directory)
        self.troubles += prepare_directory(directory)
        self.reporter.open(directory)
        stack.push_async_callback(self.reporter.close)
        self.memories = ContextStore(directory)
        stack.callback(self.memories.close)
        takeover = Takeover(self.memories, Path(config.plane.pins))
        stack.callback(takeover.close)
        goes_on = config.plane.kind != "tun" and takeover.is_worth_it()
        birth = load_identity(directory, goes_on=goes_on)
        stack.callback(lambda: None if self.may_speak else take_back(directory, birth))
        self.troubles += [birth.warning] * bool(birth.warning)
        for trouble in self.troubles:
            logger.warning("%s", trouble)
        survey = self._survey()
        mtu = survey.mtu or DEFAULT_MTU
        self.host = self._make_host(birth, mtu)
        self.uplinks = self._make_uplinks()
        stack.callback(self.uplinks.preferring.close)
        self.upstream = self._make_upstream()
        stack.push_async_callback(self.upstream.close)
        self.availability = Availability(self.upstream, self._servers)
        self.resolver_file = ResolverFile(
            RESOLV_CONF, config.dns.listen, self.availability.check_soon
        )
        self._take_locators(survey)
        await self._start_control()
        stack.push_async_callback(self.control.stop)
        self.plane = self._open_plane(mtu)
        stack.callback(self.plane.close)
        stack.callback(self._cancel)
        stack.callback(self._keep_memories)
        self._begin(self.availability.watch())
        if config.dns.port == DNS_PORT:
            self._begin(self.resolver_file.watch())
        self.stub = self._make_stub()
        self.is_open = True
        await self.stub.start(stub_sockets())
        stack.push_async_callback(self.stub.stop)
        if goes_on:
            await self._take_up(takeover)
        else:
            self.memories.forget_all()
        takeover.close()
        if self.stopping.is_set():
            return  # the kernel goes on as it did
        self.watching = watching = self._watching()
        stack.callback(watching.close)
        self.plane.start()
        self.may_speak = True
        watching.take(self._survey())
        if self.config.metrics.listen:
            await serve_metrics(self.config.metrics.listen, self.status, self.paths, stack)
        self._begin(watching.watch())
        self._begin(self.uplinks.watch())

    async def _start_control(self) -> None:
        """Opens the control socket; a disk that takes nothing is no reason not to run [D49]."""
        try:
            await self.control.start()
        except PlatformError as error:
            if error.errno not in DISK_TROUBLE:
                raise
            logger.warning("%s; noid runs without one", error)

    def _make_host(self, birth: Birth, mtu: int) -> Host:
        options = HostOptions(
            codepoints=self.codepoints,
            birthday=birth.birthday,
            reset_key=birth.reset_key,
            mtu=max(mtu, MTU_MIN),
            on_switch=self.config.host.encapsulation == "on-switch",
            never_looked_up=never_looked_up(self.config, self._resolvers()),
            contexts_max=self.config.plane.contexts,
            policy=policy_of(self.config),
            is_verifiable=self.config.host.verifiable,
        )
        return Host(options, secrets.token_bytes)

    def _make_uplinks(self) -> UplinkWatch:
        watch = UplinkWatch(
            self.host,
            self.own,
            handle=self.handle,
            compare=self._compare_soon,
            received_ns=lambda label: self.plane.received_ns(label),
            changed=self.reporter.uplink_changed,
            switched=self.reporter.switched,
        )
        watch.preferring.open(Path(self.config.state.directory))
        self.control.requests |= watch.requests
        return watch

    def _make_upstream(self) -> Upstream:
        dns = self.config.dns
        trusted = frozenset((address, DNS_PORT) for address in dns.trusted)
        return Upstream(
            self._servers(),
            self.codepoints,
            lambda: self.locators,
            self.config.plane.mark,
            trusted=trusted if dns.require_dnssec else None,
            sockets_max=descriptors.for_resolvers(self.descriptors),
        )

    def _make_stub(self) -> Stub:
        dns = self.config.dns
        return Stub(
            dns.listen,
            dns.port,
            self.upstream,
            self._on_peer,
            lambda: self.own.everything,
            policy=dns.policy,
            probe=dns.probe,
            working=self.host.working,
            answering=self.host.answering,
        )

    async def _take_up(self, takeover: Takeover) -> None:
        """Goes on with the contexts an earlier daemon left, doing everything else in between."""
        told_s = time.monotonic()
        self.taking_up = takeover
        gc.disable()  # it would look through all of them again and again, and find no garbage
        for page in takeover.pages():
            self._take_up_page(page)
            if time.monotonic() - told_s > PROGRESS_S:
                told_s = time.monotonic()
                so_far = f"{takeover.looked_at:,} of {takeover.total:,}"
                logger.info("taking up the contexts of an earlier daemon: %s", so_far)
                microseconds = round(2e6 * PROGRESS_S)
                notify(f"EXTEND_TIMEOUT_USEC={microseconds}\nSTATUS=taking up {so_far}")
            await asyncio.sleep(0)
            if self.stopping.is_set():
                break
        gc.freeze()
        gc.enable()
        self.taking_up = None
        logger.info("took up %d contexts of an earlier daemon", len(self.host.contexts))

    def _take_up_page(self, page: list[Found]) -> None:
        flows: list[Flow] = []
        clocks: list[FlowClock] = []
        aids: list[Locator] = []
        for memory, clock in page:
            for output in self.host.handle(ContextRestored(memory), time.monotonic_ns()):
                match output:
                    case InstallFlow():
                        flows.append(output.flow)
                        clocks.append(clock)
                    case WatchPeer():
                        aids.append(output.aid)
                    case StateChanged():
                        pass  # a line for all of them will do
                    case _:
                        self._carry_out(output)
        self.plane.take_up(flows, clocks, aids)
        labels = [memory.local_label for memory, _ in page]
        self.memories.keep((label, self.host.memory_of(label)) for label in labels)
        self._arm()

    def _keep_memories(self) -> None:
        """Writes down what has changed of the contexts since the last time."""
        changed, self.changed = self.changed, set()
        self.memories.keep((label, self.host.memory_of(label)) for label in changed)
        if self.memories.owes and self.retry is None and not self.stopping.is_set():
            self.retry = asyncio.get_running_loop().call_later(WRITE_AGAIN_S, self._write_again)

    def _write_again(self) -> None:
        self.retry = None
        self._keep_memories()

    def _changes(self, local_label: int) -> None:
        if not self.changed:
            asyncio.get_running_loop().call_soon(self._keep_memories)
        self.changed.add(local_label)

    def _open_plane(self, mtu: int) -> DataPlane:
        """The plane that is wanted; where any is welcome, that in the kernel if it can be had."""
        config = self.config
        surroundings = PlaneDependencies(
            section=config.plane,
            codepoints=self.codepoints,
            network=self.network,
            mtu=mtu,
            notify=self.handle,
            locators=lambda: self.locators,
            sources=lambda: self.own.sources,
        )
        if config.plane.kind != "tun":
            in_kernel = BpfPlane(
                surroundings,
                interfaces=config.host.interfaces,
                directory=Path(config.state.directory),
                referrals=True,
            )
            try:
                in_kernel.open()
                return in_kernel
            except ShimError as error:
                if config.plane.kind == "bpf":
                    raise
                self.why_tun = str(error)
                logger.warning("no data plane in the kernel, so in user space: %s", error)
        plane = TunPlane(surroundings)
        plane.open()
        return plane

    def _resolvers(self) -> tuple[str, ...]:
        """Those of the configuration, else those of before ``noid resolver on``."""
        return upstream_resolvers(self.config, resolvers_before(RESOLV_CONF))

    def _servers(self) -> tuple[Server, ...]:
        """The same, as they are asked; those asked until now where none is named any more."""
        try:
            return tuple((address, DNS_PORT) for address in self._resolvers())
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
        applied, restart = (" ".join(keys) or "nothing" for keys in (found.applied, found.restart))
        logger.info("reloaded: applied %s; a restart is needed for %s", applied, restart)
        return {"applied": found.applied, "restart": found.restart, "warnings": warnings}

    def _apply(self, config: Config) -> None:
        """Goes by another configuration from now on, as far as a running daemon can."""
        self.config = config
        self.own.host = config.host
        self.stub.policy, self.stub.probe = config.dns.policy, config.dns.probe
        self.handle(PolicyChanged(policy_of(config)))
        self._compare_soon()
        self.availability.check_soon()

    def _compare_soon(self) -> None:
        if self.watching is not None:
            self.watching.compare_soon()

    def _cancel(self) -> None:
        for timer in (self.timer, self.retry):
            if timer is not None:
                timer.cancel()
        for task in self.tasks:
            task.cancel()

    # --- events in, orders out ----------------------------------------------------------------

    def handle(self, event: Input) -> None:
        """Gives the engine an event and carries out what it says, in order."""
        for output in self.host.handle(event, time.monotonic_ns()):
            self._carry_out(output)
        self._arm()

    def _carry_out(self, output: Output) -> None:
        match output:
            case SendControl():
                self.plane.send(output.packet)
            case DeliverToUlp():
                self.plane.deliver(output.packet)
            case InstallFlow():
                self.plane.install(output.flow)
                self._changes(output.flow.local_label)
            case RemoveFlow():
                self.plane.remove(output.local_label)
                self._changes(output.local_label)
            case WatchPeer():
                self.plane.watch(output.aid)
            case UnwatchPeer():
                self.plane.unwatch(output.aid)
            case SendAgain():
                self.plane.send_again(output.local_label, output.packet)
            case NoteHeard():
                self.plane.heard(output.local_label, unasked=output.unasked)
            case CheckIdle():
                self._begin(self._check_idle(self.host.core.labels[output.local_label]))
            case AskDns():
                self._begin(self._inquire(output.question))
            case PairMeasured():
                self.uplinks.take(output)
            case _:
                self.reporter.report(output)
                if isinstance(output, Switched | ProbeStarted):
                    self.uplinks.take(output)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Does something that takes a while beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _check_idle(self, context: Context) -> None:
        """Tells when a context last received something, and whether a program needs it [D19]."""
        in_use = await self.connections.exist(context.local_aid, context.peer_aid)
        label = context.local_label
        if self.host.core.labels.get(label) is context:
            self.handle(IdleChecked(label, self.plane.received_ns(label), in_use))

    def _arm(self) -> None:
        """Sets the loop's timer to the engine's deadline, if that is earlier.

        A timer that is due is left alone: where events never end it would be set anew for ever.
        """
        deadline = self.host.deadline()
        if deadline is None:
            return
        loop = asyncio.get_running_loop()
        at_s = loop.time() + max(0, deadline.at_ns - time.monotonic_ns()) / 1e9
        if self.timer is not None:
            if self.timer.when() <= at_s:
                return
            self.timer.cancel()
        self.timer = loop.call_at(at_s, self._wake)

    def _wake(self) -> None:
        """The engine's time has come, or an earlier one of which it thought before."""
        self.timer = None
        self.handle(TimePassed())

    async def _inquire(self, question: Question) -> None:
        self.handle(AnswerArrived(question, await self.upstream.ask(question)))

    def _on_peer(
        self, name: str, aid: Locator, locators: tuple[Locator, ...], ttl_seconds: int
    ) -> bool:
        if self.host.belongs_to_another(name, aid):
            return False
        self.handle(PeerResolved(name, aid, locators))
        return not self.host.bypasses(name, aid)

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
            self.handle(event)
            self.availability.check_soon()
        self.uplinks.surveyed(survey)

    def _watching(self) -> Watching:
        return Watching(
            self.network,
            self.plane,
            self.own,
            survey=self._survey,
            handle=self.handle,
            told=self.availability.check_soon,
            uplinks=self.uplinks,
            in_use=lambda: {context.local_aid for context in self.host.contexts},
        )

    # --- answers on the control socket --------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What ``noid status`` shows."""
        if not self.is_open:
            return {"error": STARTING}
        states = Counter(context.state for context in self.host.contexts)
        return {
            "version": __version__,
            "name": self.config.host.name,
            "pid": os.getpid(),
            "uptime_seconds": (time.monotonic_ns() - self.started_ns) // 1_000_000_000,
            "birthday": self.host.core.options.birthday,
            "descriptors_max": self.descriptors,
            "state": {
                "directory": self.config.state.directory,
                "trouble": [*self.troubles, *filter(None, [self.memories.trouble])],
            },
            "locators": [format_locator(locator) for locator in self.locators],
            "sources_not_covered": [format_locator(one) for one in self.host.uncovered],
            "plane": {
                "kind": self.plane.kind,
                "why": self.why_tun or f"plane.kind is {self.config.plane.kind}",
                "uplinks": self.plane.modes(),
                "device": self.config.plane.device,
                "counters": counter_report(PlaneCounter, self.plane.counters()),
            },
            "uplinks_down": self.uplinks.down,
            "preferences": self.uplinks.preferring.describe(),
            "contexts": {state.value: count for state, count in states.items()},
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
        """What ``noid contexts`` shows: those there are now, each as it is when its turn comes."""
        return map(context_report, self.host.contexts)

    def paths(self) -> dict[str, Any]:
        """What ``noid paths`` shows."""
        return self.uplinks.report(interface_octets()) if self.is_open else {"error": STARTING}
