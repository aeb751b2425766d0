# SPDX-License-Identifier: MIT
"""What noid counts: each counter once. Pure.

A counter is added as one line here, and counted as ``counts[PlaneCounter.NAME] += 1``. Its
identifier, the key in ``noid status --json``, is its name in lower case; its metric and its line in
``noid status`` follow from the declaration. One that the programs in the kernel count is IN_KERNEL
and also a line of ``enum count`` in ``planes/bpf/programs/shim.h``, in the same order; a test
compares the two.
"""

import enum
from collections import Counter
from collections.abc import Mapping
from typing import TypeVar

IN_KERNEL = True


class Described(enum.Enum):
    """A fact that programs and people read.

    Attributes:
        description: for people, a noun phrase.
    """

    def __init__(self, description: str, in_kernel: bool = False) -> None:
        self.description = description
        self.in_kernel = in_kernel

    __hash__ = object.__hash__  # that of Enum is slow, and members are counted for each packet

    @property
    def identifier(self) -> str:
        """For programs: a key of JSON."""
        return self.name.lower()


class CounterName(Described):
    """A counter; it only increases while the daemon runs."""

    part: str
    path: tuple[str, ...]

    def __init_subclass__(cls, *, part: str, path: str) -> None:
        """Says what counts, and where in ``noid status --json`` the counters are."""
        cls.part, cls.path = part, tuple(path.split("."))

    @property
    def metric(self) -> str:
        """Its name as a metric of Prometheus."""
        return f"noid_{self.part}_{self.identifier}_total"


@enum.unique
class PlaneCounter(CounterName, part="plane", path="plane.counters"):
    """What a data plane counts; those IN_KERNEL in the order of ``enum count``."""

    PACKETS_SENT = "packets sent by flows", IN_KERNEL
    PACKETS_SENT_PLAINLY = "packets to watched peers sent without a flow", IN_KERNEL
    PACKETS_RECEIVED = "packets received by flows", IN_KERNEL
    PACKETS_RECEIVED_ELSEWHERE = "packets received at another locator than Lp(local)", IN_KERNEL
    REFUSED_DESTINATION = "packets refused: destination not in Lsl(local)", IN_KERNEL
    REFUSED_SOURCE = "packets refused: source not in Lsl(peer)", IN_KERNEL
    REFUSED_RESERVED_SLOT = "packets refused: reserved slot", IN_KERNEL
    REFUSED_UNKNOWN_LABEL = "packets refused: unknown flow label", IN_KERNEL
    PACKETS_TO_SLOW_PATH = "packets handed to the daemon", IN_KERNEL
    PACKETS_CUT = "super-packets cut before the uplink", IN_KERNEL
    REPORTS_LOST = "reports of the programs in the kernel lost", IN_KERNEL
    PACKETS_OF_OTHER_VLAN = "packets of another VLAN", IN_KERNEL
    PACKETS_WITHOUT_UPLINK = "packets dropped: their uplink is not there", IN_KERNEL
    PACKETS_DELIVERED_AT_HOME = "packets delivered on the uplink of their AID", IN_KERNEL
    REFUSED_MALFORMED = "packets refused: malformed", IN_KERNEL
    REFUSED_SOURCE_OF_NO_HOST = "packets refused: source that no host has", IN_KERNEL
    REFUSED_CONTROL_AS_DATA = "packets refused: control message as data", IN_KERNEL
    REFUSED_OVER_SHARE = "packets refused: over the share of their source /48", IN_KERNEL

    REFUSED_BAD_ESCAPE = "packets refused: malformed escape header"
    REFUSED_FRAGMENT = "packets refused: fragments below M6"
    UNANSWERED_PACKETS = "packets reported as unanswered"
    PACKETS_ON_LINK = "packets dropped on our device: they stay on their link"
    PACKETS_TOO_BIG = "packets larger than the MTU of their path"
    CONTROL_TOO_BIG = "control messages larger than the MTU of their path"
    DELIVERIES_REFUSED = "packets that the device did not take"
    DEVICE_ERRORS = "errors in reading the device"
    SENDS_NOT_PERMITTED = "sends refused by a rule of the host (EPERM, EACCES)"
    SENDS_WITHOUT_ROUTE = "sends refused: no route, device or source (ENETUNREACH and the like)"
    SENDS_WITHOUT_ROOM = "sends refused: queue or memory full (ENOBUFS, EAGAIN, ENOMEM)"
    SENDS_REFUSED = "sends refused for another reason"

    OBJECTS_RESTORED = "routes, rules, devices and programs restored that others had removed"
    RESTORATIONS_DEFERRED = "restorations deferred because others remove the same again and again"
    ROUTES_REFUSED = "routes that the kernel refused"
    RULES_REFUSED = "routing rules that the kernel refused"
    DEVICES_REFUSED = "changes of our devices that the kernel refused"
    ADDRESSES_REFUSED = "changes of addresses that the kernel refused"
    QUEUES_REFUSED = "queues that the kernel did not empty"
    QUERIES_REFUSED = "queries that the kernel refused"
    SURVEYS_REFUSED = "surveys of the host that the kernel refused"
    COMPARISONS_REFUSED = "comparisons of routing tables that the kernel refused"
    GATEWAYS_REFUSED = "verifications of gateways that the kernel refused"
    NETLINK_OVERFLOWS = "times that messages of the kernel were lost for want of room"
    UPLINKS_REFUSED = "uplinks that refused the programs"
    PINS_REFUSED = "pins that the kernel refused"
    HEARD_REFUSED = "authentic messages that the kernel did not note"
    FLOWS_WITHOUT_ROOM = "flows that the kernel has no room for"
    PEERS_WITHOUT_ROOM = "peers that the kernel has no room to watch"
    ADDRESSES_WITHOUT_ROOM = "addresses of this host that the kernel has no room for"
    UPLINKS_WITHOUT_ROOM = "uplinks that the kernel's table has no row for"


KERNEL_COUNTERS = tuple(one for one in PlaneCounter if one.in_kernel)
"""What the programs count, by the index in their table."""


@enum.unique
class StubCounter(CounterName, part="stub", path="dns.stub"):
    """What the DNS stub counts."""

    QUERIES = "queries that came in and could be read"
    PEERS = "AAAA answers reduced to an AID, after the shim was told"
    UNTRIED = "AAAA answers given whole because the peer has not answered by M6 yet"
    UNAUTHENTIC = "AAAA answers given whole because no trusted resolver vouches for them"
    CAPABILITY_UNKNOWN = "AAAA answers given whole because the M6 query had no answer in time"
    FAILED = "queries answered SERVFAIL because no resolver answered"
    TRUNCATED = "UDP responses cut because the client takes no more"
    MALFORMED = "messages that were not a query, or not one that can be answered"
    OVERFLOW = "queries and clients turned away because there were too many"
    STRANGERS = "queries and clients of no program on this host, which get no answer"


@enum.unique
class UpstreamCounter(CounterName, part="upstream", path="dns.upstream"):
    """What is counted of queries to the resolvers."""

    ASKED = "queries begun, those passed through for programs included"
    ANSWERED = "queries that ended with a usable response"
    TIMED_OUT = "queries that ended with none in time"
    REFUSED = "responses that say SERVFAIL, NOTIMP or REFUSED"
    FAILED = "tries that the network or the system refused"
    MALFORMED = "messages that were not DNS or answered something else"
    UNAUTHENTIC = "answers refused because no resolver vouched for their signatures"
    COALESCED = "queries that joined an equal one on its way"
    CACHE_HITS = "queries answered from the cache"
    OVERFLOW = "queries given up because too many were on their way or waiting"
    SILENT = "queries about peers not sent because the zone's servers do not answer"
    RECORD_UNANSWERED = "names whose M6 record had no answer although their TXT record had one"


COUNTERS: tuple[type[CounterName], ...] = (PlaneCounter, StubCounter, UpstreamCounter)
"""Every enumeration of counters."""

One = TypeVar("One", bound=CounterName)


def counter_report(kind: type[One], counts: Mapping[One, int]) -> dict[str, int]:
    """Every counter of a kind under its identifier, those that are 0 too."""
    return {one.identifier: counts.get(one, 0) for one in kind}


def counters_of(kind: type[One], report: Mapping[str, int]) -> Counter[One]:
    """The reverse of ``counter_report``."""
    return Counter({kind[identifier.upper()]: count for identifier, count in report.items()})
