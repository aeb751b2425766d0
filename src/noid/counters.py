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
        """The name of the counter as a metric of Prometheus."""
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
    SUPERS_NOT_ARRIVED = "times that super-packets of a context did not arrive", IN_KERNEL

    REFUSED_BAD_ESCAPE = "packets refused: malformed escape header"
    REFUSED_FRAGMENT = "packets refused: fragments below M6"
    INITS_ELSEWHERE = "INITs refused: they came over a device that is no uplink"
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
    FILTERS_REFUSED = "filters of our sockets that the kernel refused"
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


@enum.unique
class Drop(CounterName, part="dropped", path="dropped"):
    """Why something from the network has no effect, in the engine [draft §7; D9, D40]."""

    TRUNCATED = "truncated"
    WRONG_CHECKSUM = "wrong checksum"
    NOT_AN_ICMPV6_ERROR = "not an ICMPv6 error"
    MTU_TOO_SMALL = "Packet Too Big with an MTU below 1280"
    UNKNOWN_CODE = "unknown code"
    UNKNOWN_VERSION = "unknown version"
    HEADER_LENGTH_OUT_OF_RANGE = "header length out of range"
    OCTETS_AFTER_MESSAGE = "octets after the message"
    OPTION_TWICE = "option stands twice"
    UNKNOWN_CRITICAL_OPTION = "unknown critical option"
    TOO_MANY_UNKNOWN_OPTIONS = "too many unknown options"
    NO_CONTEXT_OPTION = "no context option"
    NOT_IPV6 = "not IPv6"
    PAYLOAD_LENGTH_WRONG = "IPv6 payload length differs from the packet"
    LOCATOR_COUNT_OUT_OF_RANGE = "locator count out of range"
    LOCATOR_TWICE = "locator listed twice"
    INVALID_MESSAGE = "message without an option that it needs, or with the AIDs of another"

    INIT_FOR_AID_NOT_OURS = "INIT for an AID that is not ours"
    INIT_WITHOUT_LABEL_OR_AID = "INIT without label or AID"
    INIT_FROM_UNKNOWN_LOCATOR = "INIT from outside Lsl(peer)"
    INIT_WHILE_CCR_SENT = "INIT while CCR is sent"
    INIT_OVER_RATE = "INIT over the rate"
    BYPASSED_BY_POLICY = "INIT or CCR of a peer that bypasses the shim by policy"
    INIT_KEY_REFUSED = "INIT with a bad key, or too many"
    CC_WITHOUT_INIT = "CC without INIT"
    CC_WITH_OTHER_NONCE = "CC with another nonce"
    CC_WITH_OTHER_LABEL = "CC with another label"
    CC_WITH_BAD_KEY = "CC with a bad key"
    SET_UP_DISOWNED_AT_AID = "set-up that the host at the AID has disowned"
    CCR_WITH_BAD_COOKIE = "CCR with a bad or old cookie"
    CCR_FOR_AID_NOT_OURS = "CCR for an AID that is not ours"
    CCR_OF_DELETED_CONTEXT = "CCR of a context that was deleted since its cookie was made"
    CCR_OVER_RATE = "CCR over the rate"
    CCR_WOULD_REPLACE_UNPROVEN = "CCR would replace a context, unproven"
    CCR_WITH_BAD_KEY_OR_LABEL = "CCR with a bad key or label"
    CCR_IN_ANOTHER_STATE = "CCR in another state"
    CCR_WOULD_COMPLETE_UNPROVEN = "CCR would complete a context, unproven"
    CCR_KEY_REFUSED = "CCR with a bad key, or too many"
    CCR_WITH_BAD_KEY = "CCR with a bad key"
    CONF_WITHOUT_INIT = "CONF without INIT"
    CONF_WITH_OTHER_NONCE = "CONF with another nonce"
    CONF_WITH_OTHER_LABEL = "CONF with another label"
    CONF_NOT_AUTHENTIC = "CONF not authentic"
    UR_FOR_NO_CONTEXT = "UR for no context of ours"
    UR_BETWEEN_UNKNOWN_LOCATORS = "UR between unknown locators"
    UR_NOT_AUTHENTIC = "UR not authentic"
    UR_OVER_RATE = "UR over the rate"
    UR_WHILE_DOUBTED = "UR of a peer that has to answer first"
    UA_WITHOUT_UR = "UA without UR"
    UA_FOR_NO_CONTEXT = "UA for no context of ours"
    UA_BETWEEN_UNKNOWN_LOCATORS = "UA between unknown locators"
    UA_NOT_AUTHENTIC = "UA not authentic"
    UA_OVER_RATE = "UA over the rate"
    UA_WHILE_DOUBTED = "UA of a peer that has to answer first"
    KEEPALIVE_OLDER_THAN_ANOTHER = "KEEPALIVE older than another"
    KEEPALIVE_FOR_NO_CONTEXT = "KEEPALIVE for no context of ours"
    KEEPALIVE_BETWEEN_UNKNOWN_LOCATORS = "KEEPALIVE between unknown locators"
    KEEPALIVE_NOT_AUTHENTIC = "KEEPALIVE not authentic"
    KEEPALIVE_OVER_RATE = "KEEPALIVE over the rate"
    KEEPALIVE_WHILE_DOUBTED = "KEEPALIVE of a peer that has to answer first"
    UC_WITHOUT_ITS_PACKET = "UC without the packet that caused it"
    UC_ABOUT_NO_PACKET_OF_OURS = "UC about no packet of ours"
    UC_FROM_UNKNOWN_LOCATOR = "UC from elsewhere"
    UC_WHILE_STARTING_OVER = "UC while starting over"
    CLOSE_FOR_NO_CONTEXT = "CLOSE for no context of ours"
    CLOSE_WHILE_STARTING_OVER = "CLOSE while starting over"
    CLOSE_BETWEEN_UNKNOWN_LOCATORS = "CLOSE between unknown locators"
    CLOSE_NOT_AUTHENTIC = "CLOSE not authentic"
    CLOSE_FOR_ANOTHER_HOST = "CLOSE for another host"
    CLOSE_OVER_RATE = "CLOSE over the rate"
    CLOSEACK_WITHOUT_CLOSE = "CLOSEACK without CLOSE"
    CLOSEACK_FROM_UNKNOWN_LOCATOR = "CLOSEACK from unknown locator"
    CLOSEACK_NOT_AUTHENTIC = "CLOSEACK not authentic"
    UNKNOWN_FLOW_LABEL = "unknown flow label"
    LABEL_OF_TOO_MANY_PEERS = "label that too many peers have"
    PACKET_OF_NO_ULP = (
        "packet on a message that is padding, or M6 itself, or has hop-by-hop options"
    )
    TOO_MANY_PACKETS_HELD = "too many packets held"
    TOO_MANY_CONTEXTS = "too many contexts"
    TOO_MANY_PROVISIONAL_CONTEXTS = "too many provisional contexts"
    SOURCE_OF_NO_OTHER_HOST = "source that no other host can have"
    CONTEXT_RESTORED_TWICE = "context found that is there already"
    CONTEXT_TESTED_LATELY = "the context was tested lately"


@enum.unique
class BorderCounter(CounterName, part="border", path="counters"):
    """What the programs of a border count, in the order of ``enum border_count``."""

    PACKETS_REWRITTEN = "packets rewritten", IN_KERNEL
    REFUSED_NO_UPLINK = "packets refused: no uplink works for them", IN_KERNEL
    PACKETS_FORWARDED = "packets forwarded by their uplink", IN_KERNEL
    DROPPED_SOURCE_OUTSIDE = "packets dropped: source outside the site", IN_KERNEL
    DROPPED_SOURCE_OF_OTHER_UPLINK = "packets dropped: source of another uplink", IN_KERNEL
    DROPPED_SOURCE_OF_SITE = "packets dropped: the site's source from outside", IN_KERNEL


COUNTERS: tuple[type[CounterName], ...] = (PlaneCounter, StubCounter, UpstreamCounter, Drop)
"""Every enumeration of counters in ``noid status``; a border has its own."""

One = TypeVar("One", bound=CounterName)


def counter_report(kind: type[One], counts: Mapping[One, int]) -> dict[str, int]:
    """Every counter of a kind under its identifier, those that are 0 too."""
    return {one.identifier: counts.get(one, 0) for one in kind}


def counters_of(kind: type[One], report: Mapping[str, int]) -> Counter[One]:
    """The reverse of ``counter_report``."""
    return Counter({kind[identifier.upper()]: count for identifier, count in report.items()})
