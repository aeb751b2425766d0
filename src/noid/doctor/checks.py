# SPDX-License-Identifier: MIT
"""What a host needs to be reached by M6, looked at as a peer would see it [D25].

Each check says that a thing is well, or what is wrong and the command or record that corrects it.
Unless it is asked to fix the firewall, it changes nothing that stays. The only packets that leave
are questions to the resolvers.
"""

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from noid.config import RESOLV_CONF, Config, upstream_resolvers
from noid.constants import SOURCES_MAX
from noid.control.client import ask
from noid.dns.records import Kind, Question, Status, canonical_name, reverse_name
from noid.dns.zone import ZoneRecord, forward_records, reverse_records
from noid.doctor.attempt import PORT
from noid.doctor.firewall import Firewall, Fix
from noid.doctor.losses import Loss, describe
from noid.doctor.trial import PlaneKind
from noid.errors import ConfigError, ShimError
from noid.host.netlink import HostNetwork
from noid.host.resolvconf import asked, resolvers_before
from noid.host.survey import OwnAddress, Survey
from noid.locators import Locator, format_locator, parse_locator
from noid.planes.bpf.pins import our_pins, own_devices
from noid.planes.bpf.prospects import prospects
from noid.resolver.upstream import Upstream

DaemonStatus = dict[str, Any]
MTU_MIN: Final = 1280
TTL_SECONDS: Final = 300
DNS_PORT: Final = 53
TUN: Final = Path("/dev/net/tun")
SOMEWHERE: Final = parse_locator("2000::1")
"""A destination that only a default route leads to."""
INTERFACE_IDENTIFIER: Final = slice(8, 16)
_HELPED: Final = "inserted, and the same test passes now; add it to the file your rules come from"
_USELESS: Final = "inserted, did not help, and deleted again"
_COVER: Final = (
    "bind to a locator, or list the address in host.locators; against temporary addresses: "
    "sysctl net.ipv6.conf.DEVICE.use_tempaddr=0"
)


class Health(enum.Enum):
    """How a check ended."""

    OK = "ok"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """It could not be found out; that alone is no reason to fail."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The end of one check.

    Attributes:
        check: what was looked at.
        health: how it is.
        text: what was found.
        mend: the command or record that puts it right; empty where there is nothing to do.
    """

    check: str
    health: Health
    text: str
    mend: str = ""


class Doctor:
    """Looks at one host.

    Args:
        config: as the daemon has it.
        name: FQDN of the host.
        servers: the resolvers to ask; those of the configuration if None.
        resolv_conf: the file that says where programs ask.
        fix: whether to insert the rules that the firewall lacks, and keep those that help.
    """

    def __init__(
        self,
        config: Config,
        name: str,
        *,
        servers: list[tuple[str, int]] | None = None,
        resolv_conf: Path = RESOLV_CONF,
        fix: bool = False,
    ) -> None:
        self.config = config
        self.name = canonical_name(name)
        self.servers = servers
        self.resolv_conf = resolv_conf
        self.fix = fix

    async def examine(self) -> list[Finding]:
        """Everything there is to look at, in the order in which it is best mended."""
        network = HostNetwork()
        try:
            host = self.config.host
            survey = network.survey(host.interfaces, excluded=own_devices(self.config.plane.device))
            own = survey.locators
            if host.locators:
                wanted = [parse_locator(text) for text in host.locators]
                own = tuple(address for address in own if address.locator in wanted)
            findings = [*self._addresses(own), *self._routes(network, survey)]
            mtu = survey.mtu or MTU_MIN
            planes = self._plane(survey)
            locators = tuple(address.locator for address in own)
            status = self._status()
            rules = self._firewall(network, own, self._kind(status, planes))
        finally:
            network.close()
        findings += [self._mtu(mtu), self._identifiers(locators), *await self._names(locators)]
        return [
            *findings,
            self._resolver(),
            *rules,
            self._kernel(),
            *planes,
            *of_daemon(status),
        ]

    def _addresses(self, own: tuple[OwnAddress, ...]) -> list[Finding]:
        good = [one for one in own if not one.deprecated and not one.broken]
        text = " ".join(format_locator(one.locator) for one in own) or "none"
        if len(good) >= 2:
            return [Finding("addresses", Health.OK, text)]
        why = "an address from each of two providers is needed"
        mend = "ip -6 address add ADDRESS/64 dev DEVICE"
        return [Finding("addresses", Health.WRONG, f"{text}: {why}", mend)]

    def _routes(self, network: HostNetwork, survey: Survey) -> list[Finding]:
        """Each locator has to leave by the device it stands on."""
        own, devices = survey.locators, survey.devices
        place = {address: device.name for device in devices for address in device.addresses}
        findings = []
        for address in own:
            text, device = format_locator(address.locator), place.get(address.locator, "")
            uplink = network.uplink(address.locator, SOMEWHERE)
            if uplink is not None and uplink == device:
                findings.append(Finding(f"route from {text}", Health.OK, f"by {uplink}"))
                continue
            found = "none" if uplink is None else f"by {uplink}, not {device}"
            mend = (
                f"ip -6 rule add from {text} lookup TABLE; "
                f"ip -6 route add default via ROUTER dev {device or 'DEVICE'} table TABLE"
            )
            findings.append(Finding(f"route from {text}", Health.WRONG, found, mend))
        return findings

    def _mtu(self, mtu: int) -> Finding:
        if mtu >= MTU_MIN:
            return Finding("mtu", Health.OK, f"{mtu} octets at the least")
        return Finding(
            "mtu", Health.WRONG, f"{mtu} octets", f"ip link set DEVICE mtu {MTU_MIN} or more"
        )

    def _identifiers(self, locators: tuple[Locator, ...]) -> Finding:
        """Routers that rewrite replace the prefix and keep what is behind it."""
        if len({locator[INTERFACE_IDENTIFIER] for locator in locators}) <= 1:
            return Finding("interface identifier", Health.OK, "the same under every prefix")
        text = "differs between prefixes, which only matters where routers rewrite"
        return Finding("interface identifier", Health.UNKNOWN, text, "ip token set ::1 dev DEVICE")

    # --- the DNS, as a peer asks it ---

    async def _names(self, locators: tuple[Locator, ...]) -> list[Finding]:
        if not self.name:
            mend = '[host] name = "a.example", or noid doctor --name a.example'
            return [Finding("name", Health.WRONG, "this host has none", mend)]
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
                *await self._forward(upstream, locators),
                *[await self._reverse(upstream, locator) for locator in locators],
            ]
        finally:
            await upstream.close()

    async def _forward(self, upstream: Upstream, locators: tuple[Locator, ...]) -> list[Finding]:
        answer = await upstream.ask(Question(Kind.LOCATORS, self.name))
        *addresses, m6 = forward_records(self.name, locators, self.config.codepoints.m6_rrtype)
        findings = [
            _of_record(f"forward {record.data}", locator in answer.locators, answer.status, record)
            for locator, record in zip(locators, addresses, strict=True)
        ]
        for other in answer.locators:
            if other not in locators:
                text = f"{self.name} lists it, but it is no locator of this host"
                check = f"forward {format_locator(other)}"
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

    def _resolver(self) -> Finding:
        try:
            servers = asked(self.resolv_conf)
        except OSError as error:
            return Finding("resolver", Health.UNKNOWN, f"{self.resolv_conf}: {error.strerror}")
        if servers[:1] == [self.config.dns.listen]:
            return Finding("resolver", Health.OK, "programs ask noid")
        found = f"programs ask {' '.join(servers) or 'nobody'}"
        return Finding("resolver", Health.WRONG, found, "noid resolver on")

    def _firewall(
        self, network: HostNetwork, own: tuple[OwnAddress, ...], kind: PlaneKind
    ) -> list[Finding]:
        """Whether packets of M6 pass this host's own rules, in both directions."""
        places = {one.locator: one.interface for one in own if not one.broken}
        if not places:
            return [Finding("firewall", Health.UNKNOWN, "no address to try it with")]
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
            text = f"restored packets are not tried: this host's rules let no {what} out"
            findings.append(Finding("firewall", Health.UNKNOWN, text))
        if any(one.health is Health.WRONG for one in findings):
            return [*changes, *findings]
        uplinks = " ".join(sorted(set(places.values())))
        text = f"packets of M6 pass this host's own rules on {uplinks}, in both directions"
        text += f" (plane {kind})"
        return [*changes, Finding("firewall", Health.OK, text), *findings]

    def _kind(self, status: DaemonStatus | ShimError, planes: list[Finding]) -> PlaneKind:
        """The data plane that carries packets now, or that this host would get.

        The one in the kernel outlives its daemon.
        """
        if not isinstance(status, ShimError):
            return "bpf" if status["plane"]["kind"] == "bpf" else "tun"
        section = self.config.plane
        pins = Path(section.pins)
        if pins.is_dir() and our_pins(pins):
            return "bpf"
        if section.kind != "auto":
            return "bpf" if section.kind == "bpf" else "tun"
        return "bpf" if planes[0].health is Health.OK else "tun"

    def _kernel(self) -> Finding:
        if TUN.exists():
            return Finding("kernel", Health.OK, f"{TUN} is there")
        return Finding("kernel", Health.WRONG, f"{TUN} is missing", "modprobe tun")

    def _plane(self, survey: Survey) -> list[Finding]:
        """Which plane this host would get, and how packets would pass each uplink."""
        section = self.config.plane
        directory = Path(self.config.state.directory)
        health = {True: Health.OK, False: Health.WRONG, None: Health.UNKNOWN}
        return [
            Finding(one.what, health[one.good], one.text, one.mend)
            for one in prospects(section, self.config.code_points(), survey.devices, directory)
        ]

    def _status(self) -> DaemonStatus | ShimError:
        """What the daemon says, or why it says nothing."""
        try:
            status: DaemonStatus = ask(Path(self.config.control.socket), "status")
            return status
        except ShimError as error:
            return error


def of_daemon(status: DaemonStatus | ShimError) -> list[Finding]:
    """What the status of the daemon says, or that it has none."""
    if isinstance(status, ShimError):
        return [Finding("daemon", Health.WRONG, str(status), "noid run")]
    findings = [Finding("daemon", Health.OK, f"noid {status['version']} is running")]
    for name in status.get("uplinks_down", ()):
        text = f"{name} is down: connections use the others"
        findings.append(Finding("uplinks", Health.WRONG, text, "noid paths; noid history"))
    sources = list(status.get("sources_not_covered", ()))
    if sources:
        text = f"programs send to M6 peers from {' '.join(sources)}, no locator: not protected"
        if len(sources) >= SOURCES_MAX:
            text += f" (the first {SOURCES_MAX})"
        findings.append(Finding("sources", Health.WRONG, text, _COVER))
    return findings


def _of_record(check: str, found: bool, status: Status, record: ZoneRecord) -> Finding:
    if found:
        return Finding(check, Health.OK, f"{record.kind} record is there")
    if status is Status.UNREACHABLE:
        return Finding(check, Health.UNKNOWN, "the DNS gives no answer", "ask again later")
    return Finding(check, Health.WRONG, f"no such {record.kind} record", record.line(TTL_SECONDS))


def _untried(error: ShimError | OSError) -> Finding:
    """Why the firewall could not be tried."""
    if isinstance(error, OSError):
        advice = "run it as root" * isinstance(error, PermissionError)
        return Finding("firewall", Health.UNKNOWN, str(error.strerror), advice)
    return Finding("firewall", Health.UNKNOWN, f"not tried: {error}", "run it as root")


def _of_fix(fix: Fix, health: Health, end: str) -> Finding:
    return Finding("firewall fix", health, f"{fix.loss.command}: {end}")


def _of_loss(loss: Loss, text: str, *, useless: set[str]) -> Finding:
    """A rule that drops; a command that was tried in vain is not suggested again."""
    if loss.rule in useless:
        return Finding("firewall", Health.WRONG, f"{text}; accepting it there does not help", "")
    return Finding("firewall", Health.WRONG, text, loss.command)
