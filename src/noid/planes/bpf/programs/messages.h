/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Control messages: those that name a flow have a share of their own, and do not wait behind those
 * of strangers [D46].
 */
#pragma once
#include "tables.h"

#define CONTROLS_PER_SECOND 16000 /* of strangers, to the daemon */
#define NAMED_PER_SECOND 128	  /* of one flow from one of its peer's locators, besides */
#define NAMING_AT 16		  /* in a message: the sender's AID, then the receiver's */
#define NAMING_OCTETS 44	  /* up to the receiver's label in the context option */
#define CONTEXT_OPTION 0x8001
#define CONTEXT_OCTETS 16
#define WHOLE 0x10000 /* octets that a socket takes of a packet: all */

enum { NOWHERE = 0xff };

/* The place of a locator in the set of a flow, or NOWHERE; of those near, every other is the other
 * end's.
 */
static __always_inline u8 place(const struct address *near, u8 near_count,
				const struct address *rest, u8 far_count,
				const struct address *wanted)
{
	u8 at;

#pragma unroll
	for (at = 0; at < LOCATORS_NEAR; at++)
		if (at < near_count && same(&near[2 * at], wanted))
			return at;
	if (!rest)
		return NOWHERE;
#pragma unroll
	for (at = 0; at < LOCATORS_FAR; at++)
		if (at < far_count && same(&rest[at], wanted))
			return LOCATORS_NEAR + at;
	return NOWHERE;
}

/* Whom a message counts for that names a flow by its label, its AIDs and locators of both ends: the
 * flow, and the peer's locator. 0 if it names none. Nothing is authenticated here.
 */
static __attribute__((noinline)) u64 named(const struct naming *said, const struct address *source,
					   const struct address *destination)
{
	struct far *rest = 0;
	struct inbound *flow;
	u32 label;
	u8 from;

	if (!said || !source || !destination)
		return 0;
	label = said->receiver_label & LABEL_MASK;
	flow = bpf_map_lookup_elem(&inbound, &label);
	if (!flow || said->option != bpf_htons(CONTEXT_OPTION) ||
	    said->octets != bpf_htons(CONTEXT_OCTETS) ||
	    !same(&said->sender, &flow->near[0].peer) ||
	    !same(&said->receiver, &flow->near[0].local))
		return 0;
	if (flow->flags & IN_FAR)
		rest = bpf_map_lookup_elem(&far, &label);
	from = place(&flow->near[0].peer, flow->peer_count, rest ? rest->peer : 0,
		     rest ? rest->peer_count : 0, source);
	if (from == NOWHERE ||
	    place(&flow->near[0].local, flow->local_count, rest ? rest->local : 0,
		  rest ? rest->local_count : 0, destination) == NOWHERE)
		return 0;
	return (u64)from << 32 | label;
}

/* How many messages that name a flow came in this second; no stranger takes a place here. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, NAMED_MAX);
	__type(key, struct user);
	__type(value, struct window);
} namings SEC(".maps");

/* Whether one more message that names a flow may pass in this second by the share of that. Where it
 * cannot be counted it does.
 */
static __attribute__((noinline)) int has_share(u64 who, u64 kind)
{
	struct user user = {.who = who, .kind = kind};
	struct window first = {0}, *window = bpf_map_lookup_elem(&namings, &user);

	if (!window) {
		bpf_map_update_elem(&namings, &user, &first, 0);
		window = bpf_map_lookup_elem(&namings, &user);
	}
	return !window || use_window(window, bpf_ktime_get_ns()) <= NAMED_PER_SECOND;
}

/* A control message in a slot, at `at` in the packet, for the daemon [D6]. */
static __attribute__((noinline)) int message_in_slot(struct __sk_buff *packet, u32 at,
						     const struct address *source,
						     const struct address *destination)
{
	struct naming said = {0};
	struct report *report;
	u64 who = 0;

	if (!bpf_skb_load_bytes(packet, at + IPV6_OCTETS + NAMING_AT, &said, NAMING_OCTETS))
		who = named(&said, source, destination);
	if (!who || packet->len - at > REPORT_OCTETS || !has_share(who, MESSAGE_SEEN))
		return may_do(CONTROL_SEEN, source, CONTROLS_PER_SECOND) ? to_slow_path()
									 : drop(REFUSED_OVER_SHARE);
	report = bpf_ringbuf_reserve(&reports, sizeof(*report), 0);
	if (!report)
		return to_slow_path();
	fill_report(report, packet, MESSAGE_SEEN, 0, at);
	bpf_ringbuf_submit(report, 0);
	count(PACKETS_TO_SLOW_PATH);
	return TCX_DROP;
}

static __always_inline long load_from_header(struct __sk_buff *packet, u32 at, void *to, u32 octets)
{
	return bpf_skb_load_bytes_relative(packet, at, to, octets, BPF_HDR_START_NET);
}

/* Where a packet has its ICMPv6 message: right behind its header, or behind hop-by-hop options and
 * with its length in its header; else 0. A raw socket gets it behind any chain of headers.
 */
static __always_inline u32 plain_icmpv6_at(struct __sk_buff *packet, const struct ipv6 *ip)
{
	u8 options[2]; /* the next header, and the length */

	if (ip->next_header == ICMPV6)
		return IPV6_OCTETS;
	if (ip->next_header != HOP_BY_HOP || !ip->payload_octets ||
	    load_from_header(packet, IPV6_OCTETS, options, sizeof(options)) || options[0] != ICMPV6)
		return 0;
	return IPV6_OCTETS + 8 + 8 * options[1];
}

/* What a raw socket of the daemon takes of an ICMPv6 packet: one socket has what names flows,
 * within their shares, and the other the rest, within the shares of its sources.
 */
static __always_inline u32 taken(struct __sk_buff *packet, int of_flows)
{
	struct naming said = {0};
	struct address source, destination;
	struct ipv6 ip;
	u64 who = 0;
	u32 at;
	u8 type;

	if (load_from_header(packet, 0, &ip, IPV6_OCTETS))
		return 0;
	at = plain_icmpv6_at(packet, &ip);
	if (!at || load_from_header(packet, at, &type, 1))
		return 0;
	source = ip.source;
	destination = ip.destination;
	if (type == settings.control_type &&
	    !load_from_header(packet, at + NAMING_AT, &said, NAMING_OCTETS))
		who = named(&said, &source, &destination);
	/* Each socket counts for itself: which of them is asked first is not known. */
	if (who && has_share(who, of_flows ? TAKEN_AS_NAMED : TAKEN_AS_OTHER))
		return of_flows ? WHOLE : 0;
	return !of_flows && may_do(CONTROL_SEEN, &source, CONTROLS_PER_SECOND) ? WHOLE : 0;
}
