# SPDX-License-Identifier: MIT
"""The daemon of a border: monitors its uplinks, and sets the uplink that the programs use.

Forwarding does not need it: programs, routes and rules stay active when it has ended [D36]. A
switch is one update of one entry, made before any other work.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from noid import __version__
from noid.border_config import AUTOMATIC, EVENTS_MAX, BorderConfig
from noid.constants import NEVER
from noid.control.schema import Handler
from noid.control.server import ControlServer
from noid.counters import BorderCounter, counter_report
from noid.errors import ShimError
from noid.flows.border import NOWHERE, Choice, Site, choose, prefix_text
from noid.host import gateways, source_routes
from noid.host.changes import NetworkChanges
from noid.host.gateways import Link
from noid.host.links import LINK_CARRIES
from noid.host.netlink import HostNetwork
from noid.host.notify import notify
from noid.locators import format_locator
from noid.planes.bpf.border import BorderPlane
from noid.planes.bpf.border_tables import SIGNS, Left
from noid.planes.delayed import Delayed
from noid.roles import border_host
from noid.roles.border_placed import former_places, settle
from noid.roles.border_prefixes import KnownPrefixes
from noid.roles.border_providers import NO_CARRIER, ProviderState, facts, facts_handed_over
from noid.roles.border_record import Record
from noid.roles.checking import Check
from noid.roles.detecting import Detection
from noid.roles.serving import serve_metrics

SETTLE_S: Final = 0.03
"""After the first of several changes the host is looked at as a whole."""
POLL_S: Final = 1.0
"""So often it is looked at without a change, and gateways are asked for."""
KEEP_EVERY: Final = 10
"""In so many of these the rule of nftables is compared once with what is wanted."""
PRIORITY: Final = -10
"""Of its process ("nice"): it has little to do, and BFD and a switch must not wait for others."""
FORWARDING: Final = Path("/proc/sys/net/ipv6/conf/all/forwarding")
HISTORY_SHOWN: Final = 50

logger = logging.getLogger("noid")


class Border:
    """One router's border, from start to stop.

    Args:
        config: what the operator wants.
        read: reads what the operator wants now.
        record: what has happened before, with another configuration.
        left_out: what is wrong with lines of files that the configuration is without.
    """

    def __init__(
        self,
        config: BorderConfig,
        read: Callable[[], BorderConfig],
        record: Record,
        left_out: Iterable[str] = (),
    ) -> None:
        self.config = config
        self.record = record
        self._read = read
        self._next: BorderConfig | None = None
        section = config.border
        self.network = HostNetwork()
        self.providers = [ProviderState(one, config) for one in section.providers]
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
            {"history": self.history},
        )
        self.record.keep(self._names())
        self.record.publish = self.control.publish
        self.stopping = asyncio.Event()
        self.manual = ""
        self.prefixes = KnownPrefixes(config)
        self.site: Site = self.prefixes.site({}, 0)
        self.choice = Choice((), 0)
        self.switches = 0
        self.switched_ns = NEVER
        self.restored = 0
        self.troubles: dict[str, str] = {text: text for text in left_out}
        self._told: tuple[Choice, str] | None = None
        self._settling = Delayed(self._survey_again, SETTLE_S)

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
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.network.close)
            await self.control.start()
            stack.push_async_callback(self.control.stop)
            with contextlib.suppress(ShimError):
                if self._read() != self.config:  # written when no socket was open to say so
                    self.reload()
            source_routes.check_support(self.config.border.table)  # before anything is changed
            stack.callback(self.plane.close)
            former = former_places(self.config.border, self.record.place)
            self._take_over(self.plane.open(Path(one.pins) for one in former))
            changes = NetworkChanges(None)
            stack.callback(changes.close)
            stack.callback(self._settling.cancel)
            self.survey()
            self.record.place = settle(self.config.border, former, self.network)
            loop.add_reader(changes.fileno(), self._heard, changes)
            stack.callback(loop.remove_reader, changes.fileno())
            logger.info("ready: %s", self._said())
            for task in map(asyncio.create_task, (self._poll(), *self._checks())):
                stack.callback(task.cancel)
            if self.config.metrics.listen:
                await serve_metrics(self.config.metrics.listen, self.status, None, stack)
            notify("READY=1")
            await self.stopping.wait()
            self.record.liveness = {one.table.name: one.liveness for one in self.providers}
            notify("STOPPING=1" if self._next is None else "RELOADING=1")
        return self._next

    def _take_over(self, left: Left) -> None:
        """Goes on with what an earlier daemon knew: no one else says which uplinks are dead."""
        self.manual = left.manual if left.manual in self._names() else ""
        indexes = {name: link.index for name, link in gateways.links().items()}
        self.prefixes.take_over(left, indexes, border_host.seconds_since_boot())
        for one in self.providers:
            one.inherit(left, self.record.liveness.get(one.table.name), time.monotonic_ns())

    def reload(self) -> dict[str, Any]:
        """Reads the configuration again; a rejected one changes nothing.

        The programs of before work until the new ones are in their place, as at a start.
        """
        try:
            self._next = self._read()
        except ShimError as error:
            self._trouble("reload", str(error))
            return {"reloaded": False, "why": str(error)}
        self.stopping.set()
        return {"reloaded": True, "why": ""}

    async def _poll(self) -> None:
        while True:
            await self._keep_answer()
            for _ in range(KEEP_EVERY):
                await asyncio.sleep(POLL_S)
                self._survey_again()

    def _checks(self) -> Iterator[Coroutine[None, None, None]]:
        for one in self.providers:
            if one.table.check:
                told = partial(self._checked, one, "check")
                failed = "check" in one.liveness.bad
                yield Check(one.table, one.check_target, told, failed=failed).run()
            if one.table.bfd:
                told = partial(self._checked, one, "bfd")
                failed = "bfd" in one.liveness.bad
                yield Detection(one.table, one.bfd_target, told, failed=failed).run()

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
        if any(map(self._is_bare, found.links)):
            self._survey_again()  # the filter of a new uplink does not wait
        elif found.matters:
            self._settling.request()

    def _is_bare(self, index: int) -> bool:
        """Whether a device is a LAN or an uplink, and has none of the programs yet."""
        if self.plane.is_attached(index):
            return False
        with contextlib.suppress(OSError):
            name = socket.if_indextoname(index)
            return name in {*self.config.border.lans, *(one.table.uplink for one in self.providers)}
        return False

    def _survey_again(self) -> None:
        self._settling.cancel()
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
            one.look(links.get(one.table.uplink), time.monotonic_ns())
        self.plane.tables.put_others(
            {(one.index, one.other) for one in self.providers if one.other}
        )
        indexes = {one.table.uplink: one.index for one in self.providers}
        site = self.prefixes.site(indexes, border_host.seconds_since_boot())
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

    def _keep(self, links: dict[str, Link]) -> None:
        """Keeps everything else: the filter of an uplink is there before packets use that."""
        is_first = self._told is None
        if is_first:
            self.decide()  # before the first packet meets the programs
            self._trouble("answer", border_host.begin_answer(self.config.border, self.record.mark))
        lans = [links[name] for name in self.config.border.lans if name in links]
        uplinks = [one.link for one in self.providers if one.link is not None]
        self.plane.attach(lans, uplinks)
        if self.record.mark not in (0, self.config.border.mark):
            self._trouble("answer", border_host.begin_answer(self.config.border))
        self.record.mark = self.config.border.mark
        border_host.keep_routes(self.config, {one.table.name: one.route for one in self.providers})
        missing = [name for name in self.config.border.lans if name not in links]
        self._trouble("lans", f"there is no device {' '.join(missing)}" if missing else "")
        changed = border_host.keep_rules(self.config, self.site)
        if not is_first:
            self._say_restored(changed)
        forwards = FORWARDING.read_text(encoding="ascii").strip() == "1"
        self._trouble(
            "forwarding",
            "" if forwards else "this host forwards nothing: sysctl net.ipv6.conf.all.forwarding=1",
        )

    async def _keep_answer(self) -> None:
        """Keeps the rule of nftables, by a program: no switch waits for that."""
        try:
            is_missing = "answer" not in self.troubles and await asyncio.to_thread(
                border_host.keep_answer, self.config.border
            )
        except ShimError as error:
            self._trouble("filter", str(error))
        else:
            self._trouble("filter", "")
            self._say_restored(int(is_missing))

    def _say_restored(self, rules: int) -> None:
        if rules:
            self.restored += rules
            logger.warning("restored %d rules that others had changed", rules)

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
        choice = choose(self.site, facts(self.site, self.providers, now_ns), self.manual)
        handed = facts_handed_over(self.site, self.providers, now_ns)
        own = choose(self.site, handed, self.manual, handed_over=True)
        self.plane.tables.put_choice(
            self.site,
            choice,
            handed_over=own if any(one.is_beyond for one in self.providers) else None,
            manual=self.manual,
            failed={
                sign: [one.table.name for one in self.providers if sign in one.liveness.bad]
                for sign in SIGNS
            },
        )
        told = (self.site.without_former(choice), self.manual)
        if self._told != told:
            old, is_first = self._leaves_by(), self._told is None
            self._told, self.choice = told, told[0]
            if not is_first:
                self.switches += 1
                self.switched_ns = time.monotonic_ns()
                self.record.switched(old, self._leaves_by(), self.manual or AUTOMATIC, time.time())
                logger.info("switched: %s", self._said())
        states = {
            one.table.name: (one.liveness.works(now_ns), one.liveness.why(now_ns))
            for one in self.providers
        }
        self.record.see(states, time.time())

    def _user(self, name: str) -> Handler:
        return lambda: self.use(name)

    def use(self, name: str) -> dict[str, Any]:
        """Sends rewritable packets through a provider while it works, or selects automatically."""
        self.manual = "" if name == AUTOMATIC else name
        self.decide()
        return {"use": name, "providers": self._provider_rows()}

    # --- what is said ---------------------------------------------------------------------------

    def _leaves_by(self) -> dict[str, str]:
        """By prefix, the provider by which rewritable packets leave; empty: by none."""
        rows = zip(self.site.own, self.choice.rows, strict=False)  # none before the first
        return {
            prefix_text(self.site, prefix): ""
            if row == NOWHERE
            else self.site.prefixes[row].provider
            for prefix, row in rows
        }

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
        return [
            {
                "prefix": text,
                "provider": prefix.provider,
                "leaves_by": leaves_by,
                "is_new": prefix.is_new,
                "why": why[prefix.provider],
            }
            for prefix, (text, leaves_by) in zip(
                self.site.own, self._leaves_by().items(), strict=False
            )
        ]

    def _provider_rows(self) -> list[dict[str, Any]]:
        now_ns = time.monotonic_ns()
        return [
            {
                "provider": one.table.name,
                "uplink": one.table.uplink,
                "works": one.liveness.works(now_ns),
                "why": one.liveness.why(now_ns),
                "since": round(self.record.providers[one.table.name].since_s, 3),
                "gateway": format_locator(one.gateway_address) if one.gateway_address else "",
                "priority": one.table.priority,
                "weight": one.table.weight,
            }
            for one in self.providers
        ]

    async def history(self, request: dict[str, Any]) -> dict[str, Any]:
        """What ``noid border history`` shows: the newest event first."""
        count = request.get("count", HISTORY_SHOWN)
        if not isinstance(count, int) or not 0 < count <= EVENTS_MAX:
            return {"error": f"count must be 1 to {EVENTS_MAX}"}
        return {"now": round(time.time(), 3), "events": list(self.record.last(count))}

    def status(self) -> dict[str, Any]:
        """What ``noid border status`` shows."""
        return {
            "version": __version__,
            "name": socket.gethostname(),
            "now": round(time.time(), 3),
            "use": self.manual or AUTOMATIC,
            "providers": self._provider_rows(),
            "prefixes": self._prefix_rows(),
            "former": [prefix_text(self.site, one) for one in self.site.prefixes if one.gone_s],
            "lans": list(self.config.border.lans),
            "switches": self.switches,
            "switched_ns": self.switched_ns if self.switches else None,
            "restored": self.restored,
            "troubles": sorted(self.troubles.values()),
            "counters": counter_report(BorderCounter, self.plane.tables.counters()),
        }
