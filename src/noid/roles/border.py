# SPDX-License-Identifier: MIT
"""The daemon of a border: monitors its uplinks, and sets the uplink that the programs use.

Forwarding does not need it: programs, routes and rules stay active when it has ended [D36]. A
switch is one update of one entry, made before any other work.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from noid import __version__
from noid.border_config import AUTOMATIC, BorderConfig, ProviderTable
from noid.constants import NEVER, SECOND
from noid.control.schema import Handler
from noid.control.server import ControlServer
from noid.counters import BorderCounter, counter_report
from noid.errors import ShimError
from noid.flows.border import NOWHERE, Choice, Provider, Site, choose
from noid.flows.liveness import Liveness
from noid.host import gateways
from noid.host.changes import NetworkChanges
from noid.host.gateways import Gateway, Link
from noid.host.links import LINK_CARRIES
from noid.host.netlink import HostNetwork
from noid.host.notify import notify
from noid.locators import UNSPECIFIED, Locator, format_locator
from noid.planes.bpf.border import BorderPlane
from noid.roles import border_host
from noid.roles.checking import Check, Target
from noid.roles.detecting import Detection
from noid.roles.serving import serve_metrics

SETTLE_S: Final = 0.03
"""After the first of several changes the host is looked at as a whole."""
POLL_S: Final = 1.0
"""So often it is looked at without a change, and gateways are asked for."""
KEEP_S: Final = 10.0
"""So often rules, filters and attachments are compared with what is wanted."""
GATEWAY_PATIENCE_NS: Final = 3 * SECOND
"""A gateway may stay unknown for so long: the kernel asks three times, a second apart."""
FORWARDING: Final = Path("/proc/sys/net/ipv6/conf/all/forwarding")
NO_DEVICE, NO_CARRIER = "there is no such device", "no carrier"
NO_ROUTE, NO_ANSWER = "no default route", "the gateway does not answer"
NOT_HERE: Final = "another router has its uplink"

logger = logging.getLogger("noid")


class ProviderState:
    """The state of a provider.

    Args:
        number: its place in the configuration.
        table: its entry there.
        hold_ns: how long its uplink has to be good before it is used again.
    """

    def __init__(self, number: int, table: ProviderTable, hold_ns: int) -> None:
        self.number = number
        self.table = table
        self.liveness = Liveness(hold_ns)
        self.link: Link | None = None
        self.gateway: Gateway | None = None
        self.silent_since_ns = NEVER

    @property
    def index(self) -> int:
        """That of the uplink; 0: it is not there."""
        return self.link.index if self.link is not None else 0


class Border:
    """One router's border, from start to stop.

    Args:
        config: what the operator wants.
        read: reads what the operator wants now.
    """

    def __init__(self, config: BorderConfig, read: Callable[[], BorderConfig]) -> None:
        self.config = config
        self._read = read
        self._next: BorderConfig | None = None
        section = config.border
        self.network = HostNetwork()
        self.providers = [
            ProviderState(number, one, round(section.hold_s * SECOND))
            for number, one in enumerate(section.providers)
        ]
        self.plane = BorderPlane(
            self.network,
            Path(section.pins),
            directory=Path(section.socket).parent,
            hook=section.hook,
            codepoints=config.code_points(),
            mark=section.mark,
            inside=config.inside(),
        )
        self.control = ControlServer(
            Path(section.socket),
            {
                "status": self.status,
                "reload": self.reload,
                **{f"use {name}": self._user(name) for name in self._names()},
            },
        )
        self.stopping = asyncio.Event()
        self.manual = ""
        self.site: Site = config.site({})
        self.choice = Choice((), 0)
        self.switches = 0
        self.switched_ns = NEVER
        self.restored = 0
        self.troubles: dict[str, str] = {}
        self._kept_s = 0.0
        self._told: tuple[Choice, str] | None = None
        self._settling: asyncio.TimerHandle | None = None

    def _names(self) -> list[str]:
        return [AUTOMATIC, *(one.table.name for one in self.providers)]

    async def run(self) -> BorderConfig | None:
        """Starts, serves until SIGINT or SIGTERM, and leaves the programs in the kernel running.

        Returns:
            The configuration to go on with; None if this is the end.

        Raises:
            ShimError: something is missing or refused.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.network.close)
            await self.control.start()
            stack.push_async_callback(self.control.stop)
            stack.callback(self.plane.close)
            manual = self.plane.open()
            self.manual = manual if manual in self._names() else ""
            changes = NetworkChanges(UNSPECIFIED)
            stack.callback(changes.close)
            border_host.clear_tables(self.config.border)
            stack.callback(self._settle)
            self.survey()
            loop.add_reader(changes.fileno(), self._heard, changes)
            stack.callback(loop.remove_reader, changes.fileno())
            logger.info("ready: %s", self._said())
            for task in map(asyncio.create_task, (self._poll(), *self._checks())):
                stack.callback(task.cancel)
            if self.config.metrics.listen:
                await serve_metrics(self.config.metrics.listen, self.status, None, stack)
            notify("READY=1")
            await self.stopping.wait()
            notify("STOPPING=1" if self._next is None else "RELOADING=1")
        return self._next

    def reload(self) -> dict[str, Any]:
        """Reads the configuration again; a rejected one changes nothing.

        The programs of before do their work until those of the new configuration are in their
        place, as when the daemon starts again.
        """
        try:
            self._next = self._read()
        except ShimError as error:
            logger.warning("reload: %s", error)
            return {"reloaded": False, "why": str(error)}
        self.stopping.set()
        return {"reloaded": True, "why": ""}

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            self._survey_again()

    def _checks(self) -> Iterator[Coroutine[None, None, None]]:
        for one in self.providers:
            if one.table.check:
                where, told = partial(self._target, one), partial(self._checked, one, "check")
                yield Check(one.table, where, told).run()
            if one.table.bfd:
                router, told = partial(self._router, one), partial(self._checked, one, "bfd")
                yield Detection(one.table, router, told).run()

    def _router(self, one: ProviderState) -> tuple[Locator, int] | None:
        known = one.gateway.address if one.gateway is not None else None
        return None if known is None else (known, one.index)

    def _target(self, one: ProviderState) -> Target | None:
        known = one.gateway.address if one.gateway is not None else None
        address = self.config.check_of(one.table, known)
        if address is None:
            return None
        source = None
        if self.config.is_behind_lan(one.table):
            # The other border lets nothing out that has another source.
            with contextlib.suppress(ShimError):
                source = border_host.source_in(one.index, one.table.prefixes)
        return Target(address, one.index, source)

    def _checked(self, one: ProviderState, sign: str, why: str) -> None:
        one.liveness.take(sign, why, time.monotonic_ns())
        self.decide()
        self._survey_again()

    def _heard(self, changes: NetworkChanges) -> None:
        """Acts on a lost link by the kernel's message itself, and soon looks at everything."""
        found = changes.read()
        now_ns = time.monotonic_ns()
        for one in self.providers:
            flags = found.links.get(one.index, LINK_CARRIES)
            if one.link is not None and flags & LINK_CARRIES != LINK_CARRIES:
                one.liveness.take("carrier", NO_CARRIER, now_ns)
        self.decide()
        if found.matters and self._settling is None:
            loop = asyncio.get_running_loop()
            self._settling = loop.call_later(SETTLE_S, self._survey_again)

    def _settle(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None

    def _survey_again(self) -> None:
        self._settle()
        try:
            self.survey()
        except ShimError as error:
            self.troubles["survey"] = str(error)
            logger.warning("looking at the uplinks: %s", error)
        else:
            self.troubles.pop("survey", None)

    # --- what there is --------------------------------------------------------------------------

    def survey(self) -> None:
        """Reads the state of the host, and updates rules, routes, programs and the choice.

        Raises:
            ShimError: the kernel does not say, or refuses.
        """
        links = gateways.links()
        for one in self.providers:
            self._look_at(one, links.get(one.table.uplink))
        site = self.config.site({one.table.uplink: one.index for one in self.providers})
        if site != self.site or self._told is None:
            self.site = site
            self.plane.tables.put_site(site)
        elif any(self._told[0].works >> row & 1 for row in self._failed_rows()):
            self.decide()  # before anything else
        self._keep(links)
        self.decide()

    def _failed_rows(self) -> Iterator[int]:
        works = {one.table.name: one.liveness.works(time.monotonic_ns()) for one in self.providers}
        for row, prefix in enumerate(self.site.prefixes):
            if not works[prefix.provider]:
                yield row

    def _look_at(self, one: ProviderState, link: Link | None) -> None:
        now_ns = time.monotonic_ns()
        one.link = link
        one.gateway = None
        if link is None:
            why = NO_DEVICE if one.table.uplink else NOT_HERE
            one.liveness.take("carrier", why, now_ns)
            return
        configured = self.config.gateway_of(one.table)
        one.gateway = Gateway(configured) if configured else gateways.gateway_of(link.index)
        one.liveness.take("route", "" if one.gateway else NO_ROUTE, now_ns)
        if link.carries and one.gateway is not None and one.gateway.address is not None:
            why = self._ask_gateway(one, link.index, one.gateway.address, now_ns)
            one.liveness.take("gateway", why, now_ns)
        else:
            one.silent_since_ns = NEVER
            one.liveness.take("gateway", "", now_ns)
        one.liveness.take("carrier", "" if link.carries else NO_CARRIER, now_ns)

    def _ask_gateway(self, one: ProviderState, device: int, address: Locator, now_ns: int) -> str:
        """What is wrong with a gateway; it is asked for, so that the next time it is known.

        The state FAILED of a neighbour is short: the next packet starts a new resolution.
        """
        answers = gateways.answers(device, address)
        gateways.ask_for(device, address)
        if answers:
            one.silent_since_ns = NEVER
            return ""
        one.silent_since_ns = min(one.silent_since_ns, now_ns)
        is_silent = answers is False or now_ns - one.silent_since_ns >= GATEWAY_PATIENCE_NS
        return NO_ANSWER if is_silent or "gateway" in one.liveness.bad else ""

    def _keep(self, links: dict[str, Link]) -> None:
        """Keeps the routes of the providers, and now and then everything else."""
        border_host.keep_routes(
            self.config.border,
            {
                one.number: (one.index, one.gateway)
                for one in self.providers
                if one.gateway is not None and self._may_carry(one)
            },
        )
        lans = [links[name] for name in self.config.border.lans if name in links]
        uplinks = [one.link for one in self.providers if one.link is not None]
        missing = [name for name in self.config.border.lans if name not in links]
        self._trouble("lans", f"there is no device {' '.join(missing)}" if missing else "")
        is_first = self._told is None
        changed = border_host.keep_rules(self.config)
        if is_first:
            self.decide()  # before the first packet meets the programs
            self._trouble("answer", border_host.begin_answer(self.config.border.mark))
        self.plane.attach(lans, uplinks)
        if not is_first:
            self._say_restored(changed)
        if time.monotonic() - self._kept_s >= KEEP_S:
            self._kept_s = time.monotonic()
            self._keep_others()

    def _keep_others(self) -> None:
        if "answer" not in self.troubles and border_host.keep_answer(self.config.border.mark):
            self._say_restored(1)
        forwards = FORWARDING.read_text(encoding="ascii").strip() == "1"
        self._trouble(
            "forwarding",
            "" if forwards else "this host forwards nothing: sysctl net.ipv6.conf.all.forwarding=1",
        )

    def _say_restored(self, rules: int) -> None:
        if rules:
            self.restored += rules
            logger.warning("restored %d rules that others had changed", rules)

    def _may_carry(self, one: ProviderState) -> bool:
        """Whether a provider's route is wanted; behind a LAN its check itself goes by that."""
        behind = {"check"} if self.config.is_behind_lan(one.table) else set()
        return not one.liveness.bad.keys() - behind

    def _trouble(self, about: str, text: str) -> None:
        """Notes and says once what is wrong; an empty text: nothing is."""
        if text and self.troubles.get(about) != text:
            logger.warning("%s: %s", about, text)
        if text:
            self.troubles[about] = text
        else:
            self.troubles.pop(about, None)

    # --- the choice -----------------------------------------------------------------------------

    def decide(self) -> None:
        """Chooses the uplinks, and tells the programs if that changes anything."""
        now_ns = time.monotonic_ns()
        choice = choose(
            self.site,
            {
                one.table.name: Provider(
                    one.liveness.works(now_ns), one.table.priority, one.table.weight
                )
                for one in self.providers
            },
            self.manual,
        )
        if self._told == (choice, self.manual):
            return
        self.plane.tables.put_choice(self.site, choice, self.manual)
        is_first, self._told, self.choice = self._told is None, (choice, self.manual), choice
        if not is_first:
            self.switches += 1
            self.switched_ns = time.monotonic_ns()
            logger.info("switched: %s", self._said())

    def _user(self, name: str) -> Handler:
        return lambda: self.use(name)

    def use(self, name: str) -> dict[str, Any]:
        """Sends rewritable packets through a provider while it works, or selects automatically."""
        self.manual = "" if name == AUTOMATIC else name
        self.decide()
        return {"use": name, "providers": self._provider_rows()}

    # --- what is said ---------------------------------------------------------------------------

    def _said(self) -> str:
        """One line about all prefixes."""
        return ", ".join(
            f"{row['prefix']} leaves by {row['leaves_by'] or 'none'}"
            + (f" ({row['provider']}: {row['why']})" if row["why"] else "")
            for row in self._prefix_rows()
        )

    def _prefix_rows(self) -> list[dict[str, Any]]:
        now_ns = time.monotonic_ns()
        why = {one.table.name: one.liveness.why(now_ns) for one in self.providers}
        rows = []
        for row, prefix in zip(self.choice.rows, self.site.prefixes, strict=True):
            address = format_locator(Locator(prefix.high + bytes(8)))
            leaves_by = "" if row == NOWHERE else self.site.prefixes[row].provider
            rows.append(
                {
                    "prefix": f"{address}/{self.site.bits}",
                    "provider": prefix.provider,
                    "leaves_by": leaves_by,
                    "why": why[prefix.provider],
                }
            )
        return rows

    def _provider_rows(self) -> list[dict[str, Any]]:
        now_ns = time.monotonic_ns()
        return [
            {
                "provider": one.table.name,
                "uplink": one.table.uplink,
                "works": one.liveness.works(now_ns),
                "why": one.liveness.why(now_ns),
                "gateway": format_locator(one.gateway.address)
                if one.gateway is not None and one.gateway.address is not None
                else "",
                "priority": one.table.priority,
                "weight": one.table.weight,
            }
            for one in self.providers
        ]

    def status(self) -> dict[str, Any]:
        """What ``noid border status`` shows."""
        return {
            "version": __version__,
            "use": self.manual or AUTOMATIC,
            "providers": self._provider_rows(),
            "prefixes": self._prefix_rows(),
            "lans": list(self.config.border.lans),
            "switches": self.switches,
            "switched_ns": self.switched_ns if self.switches else None,
            "restored": self.restored,
            "troubles": sorted(self.troubles.values()),
            "counters": counter_report(BorderCounter, self.plane.tables.counters()),
        }
