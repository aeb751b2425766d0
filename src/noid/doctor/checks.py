# SPDX-License-Identifier: MIT
"""Checks of what a host needs to be reached by M6, as a peer sees it [D25].

Each check reports success, or a problem and the command or record that fixes it. Unless ``fix`` is
set, the checks make no permanent change. The only packets that leave the host are queries to the
resolvers.
"""

import errno
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from noid.config import RESOLV_CONF, Config, Plane, upstream_resolvers
from noid.constants import MTU_MIN, SOURCES_MAX
from noid.control.client import ask
from noid.control.uplink_reports import reason_text
from noid.control.uplinks import Reason
from noid.dns.records import Kind, Question, Status, canonical_name, reverse_name
from noid.dns.zone import ZoneRecord, forward_records, reverse_records
from noid.doctor import remedies
from noid.doctor.attempt import PORT
from noid.doctor.findings import Finding, Health
from noid.doctor.firewall import Firewall, Fix
from noid.doctor.losses import Loss, describe
from noid.doctor.programs import resolver_finding
from noid.errors import ConfigError, PlatformError, ShimError
from noid.host.netlink import HostNetwork
from noid.host.resolvconf import resolvers_before
from noid.host.scripts import daemons_user, scripts_in
from noid.host.survey import OwnAddress, Survey
from noid.locators import SUBNET_OCTETS, Locator, chosen, format_locator, parse_locator
from noid.planes.bpf.pins import our_pins, own_devices
from noid.planes.bpf.prospects import prospects
from noid.resolver.upstream import Upstream

DaemonStatus = dict[str, Any]
TTL_SECONDS: Final = 300
DNS_PORT: Final = 53
TUN: Final = Path("/dev/net/tun")
SOMEWHERE: Final = parse_locator("2000::1")
"""A destination that only a default route leads to."""
AS_ROOT: Final = "run it as root"
RESTART: Final = "correct that, and restart the daemon"
_HELPED: Final = "inserted, and the same test passes now; add it to the file of your rules"
_USELESS: Final = "inserted, did not help, and deleted again"


@dataclass(frozen=True, slots=True)
class Away:
    """What this host has lost.

    Attributes:
        locators: the last locators of uplinks that have none now.
        unknown: uplinks that are down and whose locators are not known.
    """

    locators: Collection[str]
    unknown: Sequence[str]

    @classmethod
    def of(cls, paths: DaemonStatus | ShimError, present: Iterable[Locator]) -> "Away":
        """What the daemon says."""
        uplinks = [] if isinstance(paths, ShimError) else paths["uplinks"]
        unknown = [one["uplink"] for one in uplinks if not one["locators"]]
        return cls(_locators_of(paths) - set(map(format_locator, present)), unknown)


class Doctor:
    """Checks one host.

    Args:
        config: the configuration of the daemon.
        name: FQDN of the host.
        servers: the resolvers to ask; those of the configuration if None.
        resolv_conf: the file that names the resolvers of programs.
        fix: whether to insert the missing rules of the firewall, and keep those that help.
        options: options of this command that suggested noid commands need too.
    """

    def __init__(
        self,
        config: Config,
        name: str,
        *,
        servers: list[tuple[str, int]] | None = None,
        resolv_conf: Path = RESOLV_CONF,
        fix: bool = False,
        options: str = "",
    ) -> None:
        self.config = config
        self.name = canonical_name(name)
        self.servers = servers
        self.resolv_conf = resolv_conf
        self.fix = fix
        self.options = options

    async def examine(self) -> list[Finding]:
        """Does every check; findings are in the order in which problems are best fixed."""
        network = HostNetwork()
        try:
            host = self.config.host
            survey = network.survey(host.interfaces, excluded=own_devices(self.config.plane.device))
            own = survey.locators
            if host.locators:
                wanted = [parse_locator(text) for text in host.locators]
                own = tuple(address for address in own if address.locator in wanted)
            findings = [*self._addresses(own), *self._routes(network, survey)]
            planes = self._plane(survey)
            status = self._status("status")
            # One that does not answer is not waited for again.
            paths = status if isinstance(status, ShimError) else self._status("paths")
            known = frozenset(map(parse_locator, _locators_of(paths)))
            locators = chosen({one.locator: one.interface for one in own}, known)
            rules = self._firewall(network, own, self._kind(status, planes))
            if self.config.plane.may_be_in_kernel and not isinstance(status, ShimError):
                planes = of_plane(status["plane"], planes)
        finally:
            network.close()
        names = await self._names(locators, Away.of(paths, locators))
        findings += [self._mtu(survey), self._identifiers(own), *names]
        return [
            *findings,
            resolver_finding(
                self.resolv_conf, self.config, self.options, runs=not isinstance(status, ShimError)
            ),
            *rules,
            self._kernel(),
            *planes,
            *_of_scripts(self.config),
            *of_daemon(status, paths, self.options),
        ]

    def _addresses(self, own: tuple[OwnAddress, ...]) -> list[Finding]:
        good = [one for one in own if not one.deprecated and not one.broken]
        text = " ".join(format_locator(one.locator) for one in own) or "none"
        if len({(one.interface, one.locator[:SUBNET_OCTETS]) for one in good}) >= 2:
            return [Finding("addresses", Health.OK, text)]
        why = "an address from each of two providers is needed"
        fix = "ip -6 address add ADDRESS/64 dev DEVICE"
        return [Finding("addresses", Health.WRONG, f"{text}: {why}", fix)]

    def _routes(self, network: HostNetwork, survey: Survey) -> list[Finding]:
        """A packet has to leave through the device that has its source locator."""
        devices = survey.devices
        place = {address: device.name for device in devices for address in device.addresses}
        index = {device.name: device.index for device in devices}
        tables = remedies.free_tables(survey.rules)
        findings = []
        for address in survey.locators:
            text, device = format_locator(address.locator), place.get(address.locator, "")
            uplink = network.uplink(address.locator, SOMEWHERE)
            if uplink is not None and uplink == device:
                findings.append(Finding(f"route from {text}", Health.OK, f"by {uplink}"))
                continue
            found = "none" if uplink is None else f"by {uplink}, not {device}"
            priority = remedies.priority_of(
                address.locator, survey.rules, self.config.plane.rule_priority
            )
            fix = remedies.of_route(
                address.locator, device, index.get(device, 0), next(tables), priority
            )
            findings.append(Finding(f"route from {text}", Health.WRONG, found, fix))
        return findings

    def _mtu(self, survey: Survey) -> Finding:
        mtu = survey.mtu or MTU_MIN
        if mtu >= MTU_MIN:
            return Finding("mtu", Health.OK, f"at least {mtu} octets")
        return Finding("mtu", Health.WRONG, f"{mtu} octets", remedies.of_mtu(survey.devices))

    def _identifiers(self, own: tuple[OwnAddress, ...]) -> Finding:
        """Routers that rewrite replace the prefix and keep the interface identifier."""
        if len({one.locator[remedies.INTERFACE_IDENTIFIER] for one in own}) <= 1:
            return Finding("interface identifier", Health.OK, "the same under every prefix")
        text = "differs between prefixes; this matters only if routers rewrite"
        return Finding("interface identifier", Health.UNKNOWN, text, remedies.of_identifiers(own))

    # --- the DNS, as a peer asks it ---

    async def _names(self, locators: tuple[Locator, ...], away: Away) -> list[Finding]:
        if not self.name:
            fix = '[host] name = "a.example", or noid doctor --name a.example'
            return [Finding("name", Health.WRONG, "this host has none", fix)]
        try:
            servers = self.servers or [
                (address, DNS_PORT)
                for address in upstream_resolvers(self.config, resolvers_before(self.resolv_conf))
            ]
        except ConfigError as error:
            return [Finding("resolvers", Health.WRONG, str(error), '[dns] upstream = ["ADDRESS"]')]
        upstream = Upstream(servers, self.config.code_points(), lambda: locators, 0)
        try:
            return [
                Finding("name", Health.OK, self.name),
                Finding("resolvers", Health.OK, " ".join(address for address, _ in servers)),
                *await self._forward(upstream, locators, away),
                *[await self._reverse(upstream, locator) for locator in locators],
            ]
        finally:
            await upstream.close()

    async def _forward(
        self, upstream: Upstream, locators: tuple[Locator, ...], away: Away
    ) -> list[Finding]:
        answer = await upstream.ask(Question(Kind.LOCATORS, self.name))
        *addresses, m6 = forward_records(self.name, locators, self.config.codepoints.m6_rrtype)
        findings = [
            _of_record(f"forward {record.data}", locator in answer.locators, answer.status, record)
            for locator, record in zip(locators, addresses, strict=True)
        ]
        for other in answer.locators:
            check = f"forward {format_locator(other)}"
            if format_locator(other) in away.locators:
                findings.append(Finding(check, Health.UNKNOWN, "its uplink has lost it"))
            elif other not in locators and away.unknown:
                text = f"{self.name} lists it; it may be of {' '.join(away.unknown)}, which is down"
                findings.append(Finding(check, Health.UNKNOWN, text))
            elif other not in locators:
                text = f"{self.name} lists it, but it is not a locator of this host"
                findings.append(Finding(check, Health.WRONG, text, "remove its AAAA record"))
        capability = await upstream.ask(Question(Kind.CAPABILITY, self.name))
        found = capability.status is Status.FOUND
        return [*findings, _of_record("m6 record", found, capability.status, m6)]

    async def _reverse(self, upstream: Upstream, locator: Locator) -> Finding:
        answer = await upstream.ask(Question(Kind.NAMES, reverse_name(locator)))
        (record,) = reverse_records(self.name, (locator,))
        found = self.name in answer.names
        return _of_record(f"reverse {format_locator(locator)}", found, answer.status, record)

    # --- this host ---

    def _firewall(
        self, network: HostNetwork, own: tuple[OwnAddress, ...], kind: Plane
    ) -> list[Finding]:
        """Whether M6 packets pass the rules of this host, in both directions."""
        places = {one.locator: one.interface for one in own if not one.broken}
        if not places:
            return [Finding("firewall", Health.UNKNOWN, "not tested: this host has no locator")]
        points = self.config.code_points()
        firewall = Firewall(network, self.config.plane, points, places, kind)
        helped: list[Fix] = []
        useless: list[Fix] = []
        try:
            if self.fix:
                helped, useless, outcome = firewall.fix()
            else:
                outcome = firewall.try_out()
        except (ShimError, OSError) as error:
            return [_untried(error)]
        changes = [
            *(_of_fix(fix, Health.OK, _HELPED) for fix in helped),
            *(_of_fix(fix, Health.UNKNOWN, _USELESS) for fix in useless),
        ]
        findings = [
            _of_loss(one, describe(one, points), useless={fix.loss.rule for fix in useless})
            for one in outcome.lost
        ]
        if outcome.untried:
            what = f"{', '.join(outcome.untried)} to port {PORT}"
            text = f"restored packets are not tested: the rules of this host drop outbound {what}"
            findings.append(Finding("firewall", Health.UNKNOWN, text))
        if any(one.health is Health.WRONG for one in findings):
            return [*changes, *findings]
        uplinks = " ".join(sorted(set(places.values())))
        text = f"M6 packets pass the rules of this host on {uplinks}, in both directions"
        text += f" (plane {kind})"
        return [*changes, Finding("firewall", Health.OK, text), *findings]

    def _kind(self, status: DaemonStatus | ShimError, planes: list[Finding]) -> Plane:
        """The data plane that carries packets now, or that this host would get.

        The kernel plane keeps running when its daemon has stopped.
        """
        if not isinstance(status, ShimError):
            kind: Plane = status["plane"]["kind"]
            return kind
        section = self.config.plane
        pins = Path(section.pins)
        if pins.is_dir() and our_pins(pins):
            return "bpf"
        if section.kind != "auto":
            return section.kind
        return "bpf" if planes[0].health is Health.OK else "tun"

    def _kernel(self) -> Finding:
        if TUN.exists():
            return Finding("kernel", Health.OK, f"{TUN} exists")
        return Finding("kernel", Health.WRONG, f"{TUN} is missing", remedies.of_tun(TUN))

    def _plane(self, survey: Survey) -> list[Finding]:
        """Which plane this host would get, and how packets would pass each uplink."""
        section = self.config.plane
        directory = Path(self.config.state.directory)
        health = {True: Health.OK, False: Health.WRONG, None: Health.UNKNOWN}
        return [
            Finding(one.what, health[one.good], one.text, one.fix)
            for one in prospects(section, self.config.code_points(), survey.devices, directory)
        ]

    def _status(self, command: str) -> DaemonStatus | ShimError:
        """The answer of the daemon to a command, or the error if it does not answer."""
        try:
            status: DaemonStatus = ask(Path(self.config.control.socket), command)
            return status
        except ShimError as error:
            return error


def of_plane(plane: Mapping[str, Any], planes: list[Finding]) -> list[Finding]:
    """The findings about the data plane, where a daemon runs.

    Args:
        plane: ``plane`` of its status.
        planes: what a daemon that may use the kernel plane and starts now would get.
    """
    if plane["kind"] == "bpf" or planes[0].health is not Health.OK:
        return planes
    text = f"in user space: {plane['why']}; the kernel accepts the programs"
    return [Finding("plane", Health.UNKNOWN, text, RESTART)]


def of_daemon(
    status: DaemonStatus | ShimError, paths: DaemonStatus | ShimError, options: str = ""
) -> list[Finding]:
    """The findings from the status of the daemon, or the finding that it is not running.

    Args:
        status: the answer to ``noid status --json``.
        paths: the answer to ``noid paths --json``.
        options: options that ``noid run`` needs.
    """
    if isinstance(status, ShimError):
        if isinstance(status, PlatformError) and status.errno == errno.EACCES:
            return [Finding("daemon", Health.UNKNOWN, str(status), AS_ROOT)]
        fix = remedies.with_words("noid run", options)
        if isinstance(status, PlatformError) and status.errno == errno.ETIMEDOUT:
            fix = f"the daemon is stopped or stuck: systemctl restart noid, or kill it, then: {fix}"
        return [Finding("daemon", Health.WRONG, str(status), fix)]
    findings = [Finding("daemon", Health.OK, f"noid {status['version']} is running")]
    uplinks = [] if isinstance(paths, ShimError) else paths["uplinks"]
    findings += _of_uplinks(uplinks) or [Finding("uplinks", Health.OK, "none is down")]
    sources = list(status.get("sources_not_covered", ()))
    if sources:
        text = f"programs send to M6 peers from {' '.join(sources)}: no locator, so not protected"
        if len(sources) >= SOURCES_MAX:
            text += f" (the first {SOURCES_MAX})"
        fix = remedies.of_sources(sources, status["locators"])
        findings.append(Finding("sources", Health.WRONG, text, fix))
    else:
        findings.append(Finding("sources", Health.OK, "programs send from locators"))
    troubles = status["state"]["trouble"]
    return findings + [Finding("state", Health.WRONG, one, RESTART) for one in troubles]


def _locators_of(paths: DaemonStatus | ShimError) -> set[str]:
    """The locators that the uplinks have, or had before they were down."""
    uplinks = [] if isinstance(paths, ShimError) else paths["uplinks"]
    return {locator for one in uplinks for locator in one["locators"]}


def _of_uplinks(uplinks: list[Mapping[str, Any]]) -> list[Finding]:
    """The uplinks that are down, each with a remedy."""
    findings = []
    for one in uplinks:
        if one["state"] != "down":
            continue
        device, address = one["interface"], next(iter(one["locators"]), "ADDRESS")
        fixes = {
            Reason.INTERFACE_DOWN: f"ip link set {device} up",
            Reason.NO_CARRIER: f"plug in the cable of {device}, or ask the provider",
            Reason.NO_ADDRESS: f"ip -6 address add {address}/64 dev {device}",
            Reason.NO_ROUTE: "",  # the check of the route from its address has it
            Reason.SILENT: "noid paths; noid history; ask the provider",
        }
        text = f"{one['uplink']} is down: {reason_text(one['reason'])}; connections use the others"
        fix = fixes.get(one["reason"], "noid paths; noid history")
        findings.append(Finding("uplinks", Health.WRONG, text, fix))
    return findings


def _of_scripts(config: Config) -> Iterator[Finding]:
    """The scripts for events that the daemon does not run; nothing if there is none at all."""
    directory = Path(config.events.directory)
    scripts, refused = scripts_in(directory, daemons_user(Path(config.control.socket)))
    for one in refused:
        yield Finding("events", Health.WRONG, f"{directory}: {one.what}: {one.why}", one.fix)
    if scripts and not refused:
        yield Finding("events", Health.OK, f"{directory}: scripts that are run: {len(scripts)}")


def _of_record(check: str, found: bool, status: Status, record: ZoneRecord) -> Finding:
    if found:
        return Finding(check, Health.OK, f"{record.kind} record exists")
    if status is Status.UNREACHABLE:
        return Finding(check, Health.UNKNOWN, "the DNS gives no answer", "ask again later")
    return Finding(check, Health.WRONG, f"no such {record.kind} record", record.line(TTL_SECONDS))


def _untried(error: ShimError | OSError) -> Finding:
    """Why the firewall was not tested."""
    if isinstance(error, OSError):
        advice = AS_ROOT * isinstance(error, PermissionError)
        return Finding("firewall", Health.UNKNOWN, str(error.strerror), advice)
    return Finding("firewall", Health.UNKNOWN, f"not tested: {error}", AS_ROOT)


def _of_fix(fix: Fix, health: Health, end: str) -> Finding:
    return Finding("firewall fix", health, f"{fix.loss.command}: {end}")


def _of_loss(loss: Loss, text: str, *, useless: set[str]) -> Finding:
    """A rule that drops packets; a fix that did not help is not suggested again."""
    if loss.rule in useless:
        return Finding("firewall", Health.WRONG, f"{text}; accepting it there does not help", "")
    return Finding("firewall", Health.WRONG, text, loss.command)
