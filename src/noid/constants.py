# SPDX-License-Identifier: MIT
"""Every number with a meaning: the protocol's first, then the limits we set ourselves.

Each limit on a buffer, table, retry, rate or set has its name here, and a test that reaches it.
Times are integer nanoseconds, sizes are octets unless the name says otherwise.
"""

from dataclasses import dataclass
from typing import Final

MICROSECOND: Final = 1_000
MILLISECOND: Final = 1_000 * MICROSECOND
SECOND: Final = 1_000 * MILLISECOND
MINUTE: Final = 60 * SECOND
NEVER: Final = 1 << 62
"""Later than any time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codepoints:
    """The numbers the draft leaves to IANA [draft §3.3, §6; D1, D2, D3].

    Attributes:
        icmpv6_type: ICMPv6 type of the control messages.
        rewritable_first: P1, the first of the eight next headers that say "rewrite ok".
        fixed_first: P2, the first of the eight next headers that say "no rewrite".
        m6_rrtype: DNS type of the record whose existence says "this host speaks M6".
    """

    icmpv6_type: int = 200
    rewritable_first: int = 224
    fixed_first: int = 232
    m6_rrtype: int = 65286


# --- the protocol ---------------------------------------------------------------------------------

FLOW_LABEL_BITS: Final = 20
FLOW_LABEL_MASK: Final = (1 << FLOW_LABEL_BITS) - 1
CONTROL_FLOW_LABEL: Final = 0
"""A packet in the ICMPv6 slot with this label is control; any other label is data [D6]."""

LOCATORS_MAX: Final = 16
"""Locators in one set [D5]."""
MTU_MIN: Final = 1280
"""What every IPv6 link carries (RFC 8200 §5)."""
CONTROL_OCTETS_MAX: Final = MTU_MIN
"""A control message with its IPv6 header, without its piggyback [D5]."""

COOKIE_LIFETIME: Final = 30 * SECOND
"""How old a CC may be when its CCR arrives [D8]."""
KEYS_LIFETIME: Final = 10 * MINUTE
"""How long new exchanges use a key pair, and new cookies a key of the keyed hash [D8, D40]."""
KEYS_KEPT: Final = COOKIE_LIFETIME + 30 * SECOND
"""How much longer a responder keeps them: 30 s longer than a cookie may take to come back."""

RETRANSMIT_FIRST: Final = 4 * SECOND
"""First retransmission, doubled each time, times a random factor 0.5 to 1.5 [draft §7.10, D16]."""
RETRANSMIT_WAITING: Final = 250 * MILLISECOND
"""Instead, while a ULP packet waits: before INIT goes to the next pair, and at least before CCR is
repeated, doubled each time [D16]."""
MEASURED_MAX: Final = RETRANSMIT_WAITING
"""A CCR that comes later than this after its CC may be a repetition, which measures no round trip:
this is the shortest time after which a CCR is repeated [D43]."""
MEASURE_AFTER: Final = SECOND // 2
"""The round trip of a new context is measured once more after this, times 0.5 to 1.5: during set-up
both hosts install flows and routes before they answer [D20]."""
CONTEXT_IDLE_TIME: Final = 15 * MINUTE
"""Retransmission of anything ends after this [draft §7.10, D16]. Also the X of [draft App. A]: a
context that has received nothing for so long is closed [D19]."""
SEGMENT_LIFETIME: Final = 2 * MINUTE
"""MSL: how long the network may sit on a packet [D19]."""
CLOSE_TIME: Final = CONTEXT_IDLE_TIME + SEGMENT_LIFETIME
"""CLOSE is repeated, and a label that is free again not used, for so long [draft App. A, D19]."""
INIT_ROUNDS_MAX: Final = 4
"""Rounds of INIT over the locators before the peer is held unable [D16]."""
CCR_TRIES_MAX: Final = 2
"""Unanswered CCRs before starting over with INIT [D16]."""
UPDATE_RETRANSMIT_FIRST: Final = 250 * MILLISECOND
UPDATE_RETRANSMIT_MAX: Final = 120 * SECOND
"""An Update Request with new sets is repeated after the one, or two round trips if those are
longer; then after twice as long each time up to the other; times 0.5 to 1.5 [D16]."""
UPDATE_RETRANSMIT_HEARD: Final = SECOND
"""While the peer is heard it is repeated no later than this."""
PEER_UNABLE_TIME: Final = 60 * SECOND
PEER_UNABLE_MAX: Final = 10 * MINUTE
"""How long a peer that does not answer by M6 is reached as a plain IPv6 host: the one at first,
then twice as long each time up to the other, as long as programs send [D15, D45]."""

REJECTED_TIME: Final = 2 * SECOND
"""The first of these where the peer says that it does not know M6: a host that starts says so until
its shim runs [D47]."""

DATA_LOST_REPORTS: Final = 4
DATA_LOST_REPORTS_AGAIN: Final = 2
"""So many reports of unanswered data in a row mean that data is lost, if requests are answered; and
so many if data was lost over another pair lately."""
DATA_LOST_TIME: Final = 800 * MILLISECOND
"""They span this time at least, and a request has been answered since the first of them."""
DATA_LOST_GAPS: Final = 3
DATA_LOST_PACKETS: Final = 6
"""The lesser number is also enough if they span so many of the usual gaps between signs of life of
the peer, and are about so many packets, of which each tells of UNANSWERED_MANY at most; unless a
request over the pair stayed unanswered lately."""

DATA_UNSEEN: Final = 6
DATA_UNSEEN_AGAIN: Final = 2
"""Data is lost, too, if the peer has seen none after so many answered requests for a proof in a
row, one each UNPROVEN_TIME; twice as many where requests are lost; or so many if data was lost over
another pair lately."""

LONG_LOST_TIME: Final = 10 * SECOND
"""Data that is lost again in this time, after its program was told to send shorter packets, is not
lost because it is long."""
LONGER_ASKED_MAX: Final = 6
"""Whether longer packets pass now is asked so many times over a pair: after LONG_LOST_TIME, then
after twice as long each time. By then the stack has forgotten the size."""
LONGER_ASKED_TIME: Final = 10 * MINUTE
"""A stack keeps a size that an error says for this long; after that the count starts anew."""
LONGER_AFTER_SWITCH: Final = SECOND
"""Over another pair it is asked this soon."""
LONGER_SPREAD: Final = MILLISECOND
"""Each time it is asked later by so much for each context of the host, times 0.5 to 1.5: so they
ask 1,000 times a second if all begin at once."""

EMPTY_PACKETS: Final = 8
"""After a time in which data went plainly since it was lost over all pairs, so many packets without
content go in its form: data follows if they are answered."""
DATA_ASKED_TIME: Final = 150 * MILLISECOND
"""A host that is asked whether data has come says so if some has come since so long before."""
DATA_ASKED_WAIT: Final = 50 * MILLISECOND
"""Before it says so it waits this long, because a packet may be slower than the question."""
LOOK_TIME: Final = 5 * MILLISECOND
"""How long it may take until the data plane has said whether data has come."""
EMPTY_OCTETS: Final = 4
"""Of such a packet, after the IPv6 header: fewer than any ULP's header has, so that stacks discard
it."""

SILENCE_MIN: Final = 5 * MILLISECOND
SILENCE_MAX: Final = 3 * SECOND
"""Bounds of T, the silence after a packet that makes a context probe [D20]. An answer is waited for
no longer than SILENCE_MAX either [D43]."""
SILENCE_UNMEASURED: Final = 250 * MILLISECOND
"""T while no round trip of the context has been measured."""
LATE_MIN: Final = 100 * MILLISECOND
LATE_MIN_UNMEASURED: Final = SECOND
"""An answer that takes longer, and longer than it is waited for, measures a pair only if the next
takes about as long; the second where no round trip is known of any pair [D43]."""
LATE_TIME: Final = 10 * SECOND
"""How long after a late answer the next one counts as such; a pair is asked more often [D41]."""
UNANSWERED_MANY: Final = 4
UNANSWERED_PATIENCE: Final = SECOND // 16
"""Fewer unanswered TCP segments than so many are silence no sooner than this: receivers delay the
answer to few."""
LOSSY_GAPS: Final = 3
"""Where requests stayed unanswered lately, silence of the peer is suspicious after so many of its
usual gaps."""
LOSSY_TCP_MAX: Final = 2 * SECOND
"""The silence of a peer that a TCP segment makes suspicious in any case."""
KEEPALIVE_PACKETS: Final = 2
KEEPALIVE_INTERVAL: Final = 40 * MILLISECOND
"""A host that received so many packets on a context and has sent none for so long owes a keepalive:
at most 25 a second [D42]."""
MANY_PATIENCE: Final = UNANSWERED_MANY * KEEPALIVE_INTERVAL
"""More than UNANSWERED_MANY packets that are not TCP are silence after this time at the latest,
for any usual gap of the peer: two keepalives are missing [D42]."""
GAP_MAX: Final = 4 * SECOND
GAPS_USUAL: Final = 2
"""A longer gap between two signs of life of the peer counts as so long; one that is longer than so
many usual gaps as so many, or as UNANSWERED_PATIENCE: an outage is no habit."""
ASK_WAIT_MIN: Final = MILLISECOND
"""The first UR over a pair that is suspected may stay unanswered for so long, at the least."""
QUESTION_WAIT: Final = 250 * MILLISECOND
"""And for so long where nothing speaks against the pair, which is asked for a proof [D41]."""
VERDICT_WAIT_MIN: Final = 10 * MILLISECOND
"""The last UR over it stays unanswered for so long, at the least, before it is silent [D43]."""
ASKS: Final = 8
ASKS_AFTER_ALARM: Final = 12
"""URs that stay unanswered before a pair is silent; more where it was suspected without reason
lately. With a fifth of all packets lost each is answered in 64 of 100 cases."""
ASKS_APART: Final = 30 * MILLISECOND
"""Where one was lost lately, the first ROUTINE_ASKS are no further apart than this."""
PROBES_AT_FIRST: Final = 16
"""Pairs probed in the first second of a search [D43]."""
PROBE_INTERVAL: Final = 60 * MILLISECOND
"""Between rounds of these."""
PROBE_INTERVAL_LARGE: Final = SECOND // 16
"""Between the rounds that follow in the first cycle, which makes 64 probes a second [D43]."""
CYCLE_TIME: Final = 500 * MILLISECOND
CYCLE_TIME_LARGE: Final = 4 * SECOND
"""Time in which a search that has found nothing tries all pairs again while programs send, up to
PROBES_AT_FIRST of them and more."""
PROBE_INTERVAL_MAX: Final = 10 * SECOND
"""While they do not, rounds back off to this, doubling with each cycle [D20]."""
WANTED_TIME: Final = 5 * SECOND
"""Programs send if they have within this time."""
BETTER_PAIR_FIRST: Final = 1 * SECOND
BETTER_PAIR_INTERVAL: Final = 30 * SECOND
"""While a pair is in use that its owners call worse than another, that one is tried after the first
and then every so often, times 0.5 to 1.5 [D20, D22]."""
BETTER_PAIR_INTERVAL_MAX: Final = 10 * MINUTE
"""A pair that was left because of marks, and is not worse now, is tried ever less often, doubling
up to this."""
BETTER_PAIR_PATIENCE: Final = 200 * MILLISECOND
"""How long such a try may take to be answered before it is not repeated."""
REPEATS_MAX: Final = 3
"""After a switch an unanswered packet goes once, and so many times more."""
REPEATED_PIGGYBACK_TIME: Final = 1 * SECOND
"""The same packet on several probes within this time is delivered once."""
SEARCH_INTERVAL_MIN: Final = 100 * MILLISECOND
SEARCH_INTERVAL_MAX: Final = SECOND
"""A pair that was suspected without reason is not suspected again sooner than the one, and as much
later with each false alarm, up to the other: at most one question a second."""
TOLERANCE_MAX: Final = SECOND // 2
"""T grows to twice a silence that proved harmless, but by that no further than this: a failure must
be noticed and answered within a second and a few round trips."""
TOLERANCE_TIME: Final = 60 * SECOND
"""What false alarms taught is halved each time so long has passed."""
PLAIN_CHECK_FIRST: Final = SECOND // 2
PLAIN_CHECK_INTERVAL: Final = 2 * SECOND
PLAIN_ANSWER_WAIT: Final = SECOND // 4
"""While data travels plain, a UR in the plain form asks so often whether that passes: in the first
PEER_UNABLE_TIME of a search, in which more may fail, and later. It is repeated; if none is answered
for the other time, the search goes on [D47]."""
UNPROVEN_TIME: Final = 5 * SECOND
"""A context that sends, but receives no authentic message for this time, sends a UR over the pair
in use: data may be forged [D41]."""
QUESTION_LASTS: Final = 6 * UNPROVEN_TIME
"""Such a UR of the peer is authentic, too, but counts only for so long after the last answer of the
peer; other URs for UNPROVEN_TIME after it: they do not say whether data comes."""
ROUTINE_ASKS: Final = 3
"""URs that it leaves unanswered then, or where one was lost lately, before others are
probed; twice as many where both hold. If it was asked for a proof and no pair answers, it stays:
the peer's daemon may have stopped, and its kernel goes on [D36]."""
UNPROVEN_REST: Final = 20 * SECOND
"""After that it is not asked for so long."""
FOLLOW_ASKS: Final = 3
"""URs over each of two pairs when the peer's data comes from another locator [D41]."""
FOLLOW_SILENCE_MIN: Final = 5 * MILLISECOND
"""Data from another locator moves Lp(peer) after a silence of twice the mean gap between packets
heard, at least so long and at most T [D41]."""
FOLLOW_AGAIN: Final = 30 * SECOND
"""Without a move, these pairs are asked at most this often."""
FOLLOW_REST: Final = 60 * SECOND
"""After a move that was reverted, data moves Lp(peer) no sooner than this."""
TRIAL_INTERVAL: Final = 250 * MILLISECOND
TRIAL_ROUNDS: Final = 4
TRIAL_PAIRS_MAX: Final = 4
"""A context that a UC puts in doubt is tested by so many rounds of URs, over the pair in use and so
many others [D39]."""
TRIAL_SILENCE: Final = 1 * SECOND
"""The least silence after which such a context is set aside."""
TRIAL_REST: Final = 2 * SECOND
"""One context is tested so at most once in this time."""
CONTESTED_TIME: Final = 60 * SECOND
"""If two hosts answer a test, data is plain for so long, while the AIDs are in use [D49]."""
CHALLENGE_TIME: Final = 5 * SECOND
"""An answer to an unpredictable nonce counts for this time; then there is another nonce [D39]."""
AID_ASKS_MAX: Final = 8
"""URs to an AID that the peer has not proven, after 250 ms and then twice as long each time."""
AID_ASKED_MAX: Final = 4_096
"""Contexts whose AID is asked so; the oldest is forgotten."""
DISOWNED_TIME: Final = 10 * SECOND
DISOWNED_MAX: Final = 65_536
"""For so long, and for so many pairs of AIDs, a set-up has to prove the AID after the host there
said that it does not have the context; the oldest is forgotten. Short, since a peer that restarts
may be reached by another provider alone."""
FOLLOW_INTERVAL: Final = 1 * SECOND
"""Data moves Lp(peer) at most this often; if it moves nothing, it is reported so often [D21]."""
PLAIN_SILENCE_MAX: Final = 3 * SECOND
"""With encapsulation "on-switch", programs send plainly for no longer than this without a word of
the peer's: no plane sees the answers [D28]."""
HEARD_TOGETHER: Final = 1 * SECOND
"""Pairs heard from within the same such time are ranked by their round-trip times [D20]."""
SUSPICION_TIME: Final = 60 * SECOND
"""Probing ends this long after the last sign that it is needed."""

# --- limits of this implementation ----------------------------------------------------------------

CONTEXTS_MAX: Final = 1_000_000
"""Contexts of one host; the 20-bit label allows no more than 2**20 - 1 [draft §3.2]."""
ALIKE_MAX: Final = 64
"""Contexts whose peers chose the same label; of a million random ones hardly ever ten do."""
NO_USER: Final = 0xFFFF_FFFF
"""The user of a packet whose user the plane does not know; no user of a system has this number."""
KNOWN_PEERS_MAX: Final = 65_536
"""M6 hosts the resolver has told us of and that no context uses yet; the oldest goes first."""
UNABLE_PEERS_MAX: Final = 65_536
"""Entries of the negative cache [D15]; the oldest goes first."""
LOOKUPS_MAX: Final = 64
"""Strangers that are looked up at one time; about one more nothing is asked [D34]."""
STRANGERS_MAX: Final = 65_536
"""Strangers that are known to speak no M6; the oldest goes first."""
STRANGER_TIME: Final = 10 * MINUTE
"""For how long that is believed, and nothing asked about them [D34]."""
PROVISIONAL_CONTEXTS_MAX: Final = 1_024
"""Contexts whose CC was not sent to the AID, at one time [D37]."""
PROVISIONAL_LIFETIME: Final = 30 * SECOND
"""How long DNS may take to prove such a context [D37]."""
HELD_PACKETS_MAX: Final = 4
"""Packets held undelivered by a provisional context [D37]."""
TIMERS_PER_TURN: Final = 50
"""Timers processed at one event; other events come before the rest."""
CONTEXTS_PER_TURN: Final = 20
"""Contexts that hear of new locators of the host at one event; the same."""
PROBES_PER_ROUND_MAX: Final = 4
"""Pairs probed at one time [D20]."""
NONCES_KEPT_MAX: Final = 64
"""Nonces of a peer's URs below the greatest of which is known whether they came: one that came
proves nothing when it comes again, and the URs of one burst may come in another order."""
LOST_PAIRS_KEPT_MAX: Final = 16
"""Pairs of a context that lost data, of which the next daemon is told; the latest ones."""
MEASURED_TOGETHER: Final = 90 * MILLISECOND
"""A peer whose requests come twice over one pair within this time has missed an answer: it measures
the pair in both ways, and usual measurements are further apart."""
MEASURED_PAIRS_MAX: Final = 1_024
"""Measurements of pairs that wait for their answer; the oldest is given up for one more."""
PROBES_KEPT_MAX: Final = 512
"""Probes of one search whose answers are still taken; the oldest is forgotten."""
PIGGYBACK_OCTETS_MAX: Final = 65_535
"""A quoted or piggybacked packet as read from the wire; what is sent must fit the MTU [D7]."""
CC_AMPLIFICATION_MAX: Final = 3
"""A CC is at most this many times the INIT that caused it [D9]."""
ERROR_RATE_PER_SECOND: Final = 100
"""UCs and CLOSEACKs without a context, in total [D9]."""
PREFIX_ERROR_RATE_PER_SECOND: Final = 10
"""The same to one source /48 [D41]."""
CC_RATE_PER_SECOND: Final = 50_000
"""CCs in total: what a processor core can make in addition to other work [D9]."""
PREFIX_RATE_PER_SECOND: Final = 200
"""CCs to one source /48: what a spoofer can reflect at it [D9]."""
PREFIX_OCTETS: Final = 6
"""A source prefix is a /48."""
IN_USE_TIME: Final = 5 * MINUTE
"""A context is in use for so long after data in either direction [D46]."""
QUARANTINED_LABELS_MAX: Final = 262_144
"""Labels that are free but not used again yet; a quarter of them all, the oldest goes first."""
ENDED_MAX: Final = 65_536
"""Set-ups of deleted contexts that are remembered while their cookies are valid; the oldest goes
first. There are fewer, since each costs a key agreement."""
NAMES_PER_LOCATOR_MAX: Final = 4
"""PTR records of one locator that are looked at [draft §16.2, D29]."""
LOOK_AGAIN_MIN: Final = 30 * SECOND
"""The least time between two inquiries about a peer, also if the TTL is shorter [D31]."""
VERIFY_AGAIN_MIN: Final = 5 * MINUTE
"""A peer in use is looked up again after this, or the TTL if that is longer, times 1 to 2 [D31]."""
TTL_BELIEVED_MAX: Final = 86_400
"""Seconds; a longer TTL counts as this one. What was in the DNS for a moment is not proven for
years, and what has left it is not used for as long [D44]."""
VERIFY_AGAIN_QUESTIONS_MAX: Final = 256
"""Outstanding queries from which on repeated look-ups wait [D31]."""
VERIFY_AGAIN_WAITING: Final = 1 * SECOND
"""How long, times 0.5 to 1.5."""
VERIFY_USED_TIME: Final = 5 * MINUTE
"""Questions about a peer are asked while its context has received something within this time, or a
connection between the AIDs is open [D46]."""
VERIFY_FOUND_INTERVAL: Final = 4 * MILLISECOND
"""Peers of contexts that an earlier daemon left are looked up one after another, so far apart."""
DNS_RETRY_FIRST: Final = 1 * SECOND
DNS_RETRY_MAX: Final = 10 * MINUTE
"""Backoff of a verification that met a transient error [D30]."""
SOURCES_MAX: Final = 64
"""Addresses that programs sent to M6 peers from and that are no locators: reported once each; more
are not recorded."""
TRIAL_SUFFIX: Final = "-try"
"""Behind the name of the shim's device: the one by which ``noid doctor`` tries the firewall."""

# --- a border -------------------------------------------------------------------------------------

BORDER_PREFIX_BITS_MIN: Final = 48
BORDER_PREFIX_BITS_MAX: Final = 64
"""Lengths of the prefixes of a site with a border; all of one site have the same."""
BORDER_PREFIXES_MAX: Final = 64
"""Prefixes of one site."""
BORDER_INSIDE_MAX: Final = 8
"""Further prefixes that need no uplink."""
BORDER_PROVIDERS_MAX: Final = 16
"""Providers of one site; each has a routing table."""
BORDER_LANS_MAX: Final = 64
"""Devices with hosts behind them."""
